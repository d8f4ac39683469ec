"""The request bodies and messages of `interview`, and the commands that they become.

Unknown fields are ignored: the products' clients send more than the contract says.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.errors import Reason, Rejected
from actors.session.ids import Name, UserId
from actors.session.state import Participant, State
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases.call import Call
from server.usecases.guest_identity import Newcomer
from server.usecases.session_creation import CreationOptions, hex_name

Uuid = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$(?!\n)", description="a UUID")]
# A colour as CSS writes it: `#f80`, `teal`, `hsl(120, 80%, 40%)`.
Color = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9#(),.% -]{1,64}$(?!\n)", description="a colour of at most 64 characters, such as `#f80`"),
]
Language = Literal["javascript", "python", "html"]
Version = Annotated[int, Meta(ge=0, lt=1 << 31)]
FEATURES = c.NewFeatures(guests=True)
LISTED = ("joined", "left")
"""The statuses of participants in this API: those who have joined, and those who have left and may return."""


class Person(Struct, frozen=True):
    """A user without an account. Their own client chooses the `id`. The server chooses a `color` if none is sent."""

    id: Uuid
    name: Name
    color: Color | None = None


class NewSession(Struct, frozen=True):
    """A session to create."""

    creator: Person
    code: str = ""
    language: Language = "javascript"


class Change(Struct, frozen=True):
    """A change of the code, its language or both. Omitted fields stay as they are."""

    code: str | UnsetType = UNSET
    language: Language | UnsetType = UNSET


class Replacement(Struct, frozen=True):
    """The whole code. With `base_version` it is rejected unless that is the latest version."""

    code: str
    language: Language
    base_version: Version | None = None


class Join(Struct, frozen=True):
    """The user who joins."""

    user: Person


class Presence(Struct, frozen=True):
    """Whether a participant is present. An absent one stays in the list of participants."""

    is_online: bool


class Position(Struct, frozen=True, rename="camel"):
    """A cursor's position in the code, as the editor counts it."""

    line_number: int
    column: int


# Messages on the socket


class ClientMessage(Struct, frozen=True, rename="camel", kw_only=True):
    """A message's `userId` is read only if the caller has no token and the dialect is open. Otherwise the message is
    from the token's user, and any value is accepted."""

    # Any: JSON of any shape, from clients.
    user_id: Any = None


class CodeChange(ClientMessage, frozen=True, kw_only=True):
    """The whole code."""

    code: str


class LanguageChange(ClientMessage, frozen=True, kw_only=True):
    """The language of the code."""

    language: Language


class CursorPosition(ClientMessage, frozen=True, kw_only=True):
    """The sender's cursor. It is relayed, and not stored."""

    position: Position


class UserJoin(Struct, frozen=True):
    """The user who joins."""

    user: Person


class UserLeave(ClientMessage, frozen=True, kw_only=True):
    """The sender leaves."""


# Identity


def newcomer(person: Person) -> Newcomer:
    """Return the identity that a client claims for its user."""
    return Newcomer(person.id, person.name, person.color)


def creator(call: Call) -> Newcomer:
    """Return the identity claimed by the user who creates a session."""
    return newcomer(call.body.creator)


def joiner(call: Call) -> Newcomer:
    """Return the identity claimed by the user who joins a session."""
    return newcomer(call.body.user)


def sender(call: Call) -> Newcomer | str | None:
    """Return the identity or id that a message claims for its sender; None if it claims none."""
    match call.body:
        case UserJoin(user=user):
            return newcomer(user)
        case ClientMessage(user_id=str(user_id)) | {"userId": str(user_id)}:
            return user_id
        case _:
            return None


def id_of(state: State, user_id: UserId) -> str:
    """Return the id by which clients know a user: the one that the user's client chose, or that of their account."""
    participant = state.participants.get(user_id)
    return user_id if participant is None or participant.alias is None else participant.alias


def listed(state: State) -> list[Participant]:
    """Return the participants whom this API lists."""
    return [participant for participant in state.participants.values() if participant.status in LISTED]


def participant_by_id(state: State, public_id: str) -> Participant:
    """Return the listed participant with this `id_of`, in upper or lower case. Raise Rejected if there is none."""
    for participant in listed(state):
        if id_of(state, participant.user_id).lower() == public_id.lower():
            return participant
    raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {public_id!r}.")


# Checks and look-ups before a command


@refuses(not_open=403, over=410)
def readable(state: State, call: Call) -> None:
    """Raise Problem 410 if the session is over, and 403 if it admits no guests by link and the caller is not in it."""
    session = state.session
    if session.status in CLOSED:
        how = "expired" if session.end_reason == "expired" else "ended"
        raise Problem(410, "over", f"Session has {how}")
    caller = call.caller and call.caller.user_id
    inside = caller == session.owner_id or any(participant.user_id == caller for participant in listed(state))
    if not inside and (session.features.lobby or not session.features.guests):
        raise Problem(403, "not_open", "A link is not enough to enter this session. Ask its owner to admit you.")


@refuses(not_open=403, over=410, unknown_participant=404)
def path_participant(state: State, call: Call) -> UserId:
    """Return the user whom the path names. Raise Problem 410 or 403 as `readable` does, Rejected if there is none."""
    readable(state, call)
    return participant_by_id(state, call.params["participant_id"]).user_id


# Commands


def new_session(call: Call, ttl_s: int) -> c.NewSession:
    """Return the session to create; it expires after `ttl_s` seconds."""
    return c.NewSession(title="Interview", kind="interview", features=FEATURES, ttl=ttl_s)


def creation_options(call: Call) -> CreationOptions:
    """Return how to create the session: live, with its creator in it, and with the code that the body has."""
    body: NewSession = call.body
    return CreationOptions(
        live=True, owner_status="joined", named=hex_name, session_id=call.principal.scope, text=body.code,
        text_language=body.language,
    )  # fmt: skip


@refuses(invalid=422)
def change(call: Call) -> c.Command:
    """Return the command for a change. Raise Problem 422 if the body changes nothing."""
    body: Change = call.body
    if body.code is UNSET and body.language is UNSET:
        raise Problem(422, "invalid", "Send `code` or `language`, or both.", field="code")
    edits: list[c.Command] = [] if body.code is UNSET else [c.EditCode(text=body.code)]
    if body.language is not UNSET:
        edits.append(c.SetLanguage(body.language))
    return edits[0] if len(edits) == 1 else c.Together(edits)


def replace(call: Call) -> c.Command:
    """Return the command that replaces the code and its language."""
    body: Replacement = call.body
    return c.Together([c.EditCode(text=body.code, base_version=body.base_version), c.SetLanguage(body.language)])


def set_present(call: Call) -> c.Command:
    """Return the command that sets a participant's presence. `call.found` is their user id."""
    return c.SetPresent(call.found, call.body.is_online)


def remove(call: Call) -> c.Command:
    """Return the command to leave if the path names the caller, or else to remove the participant whom it names."""
    return c.Leave() if call.found == call.principal.user_id else c.Kick(call.found)
