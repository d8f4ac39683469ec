"""What clients of `interview` send, and the commands that it makes. What they send besides is ignored."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.errors import Reason, Rejected
from actors.session.ids import Name, UserId
from actors.session.state import Participant, State
from server.http.problems import Problem
from server.usecases.call import Call
from server.usecases.guest_identity import Newcomer
from server.usecases.session_creation import CreationOptions, hex_name

Uuid = Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$(?!\n)", description="a UUID")]
# What CSS takes for a colour: `#f80`, `teal`, `hsl(120, 80%, 40%)`.
Color = Annotated[
    str,
    Meta(pattern=r"^[A-Za-z0-9#(),.% -]{1,64}$(?!\n)", description="a colour of at most 64 characters, such as `#f80`"),
]
Language = Literal["javascript", "python", "html"]
Version = Annotated[int, Meta(ge=0, lt=1 << 31)]
FEATURES = c.NewFeatures(guests=True)
LISTED = ("joined", "left")
"""Who is a participant: who is in it, or was and may come back."""


class Person(Struct, frozen=True):
    """Somebody as their own client calls them, by an id that it has made up. Without a `color` they get one."""

    id: Uuid
    name: Name
    color: Color | None = None


class NewSession(Struct, frozen=True):
    creator: Person
    code: str = ""
    language: Language = "javascript"


class Change(Struct, frozen=True):
    """Only what is sent counts."""

    code: str | UnsetType = UNSET
    language: Language | UnsetType = UNSET


class Replacement(Struct, frozen=True):
    """The whole code. With `base_version` only if that is still the latest version."""

    code: str
    language: Language
    base_version: Version | None = None


class Join(Struct, frozen=True):
    user: Person


class Presence(Struct, frozen=True):
    is_online: bool


class Position(Struct, frozen=True, rename="camel"):
    line_number: int
    column: int


# On the socket. `user_id` counts only from those who are believed without a token: it is the sender's own otherwise.


class Said(Struct, frozen=True, rename="camel", kw_only=True):
    user_id: Any = None


class CodeChange(Said, frozen=True, kw_only=True):
    code: str


class LanguageChange(Said, frozen=True, kw_only=True):
    language: Language


class CursorPosition(Said, frozen=True, kw_only=True):
    position: Position


class UserJoin(Struct, frozen=True):
    user: Person


class UserLeave(Said, frozen=True, kw_only=True):
    pass


# Who it is


def newcomer(person: Person) -> Newcomer:
    return Newcomer(person.id, person.name, person.color)


def creator(call: Call) -> Newcomer:
    return newcomer(call.body.creator)


def joiner(call: Call) -> Newcomer:
    return newcomer(call.body.user)


def speaker(call: Call) -> Newcomer | str | None:
    """Give whom a message says it is from."""
    match call.body:
        case UserJoin(user=user):
            return newcomer(user)
        case Said(user_id=str(user_id)) | {"userId": str(user_id)}:
            return user_id
        case _:
            return None


def id_of(state: State, user_id: UserId) -> str:
    """Give the id that clients know somebody by: their own client's, or that of their account."""
    place = state.participants.get(user_id)
    return user_id if place is None or place.alias is None else place.alias


def listed(state: State) -> list[Participant]:
    return [place for place in state.participants.values() if place.status in LISTED]


def known_as(state: State, shown: str) -> Participant:
    """Find a participant by that id. Raises: Rejected."""
    for place in listed(state):
        if id_of(state, place.user_id).lower() == shown.lower():
            return place
    raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {shown!r}.")


# What is looked up before


def readable(state: State, call: Call) -> None:
    """Refuse what is over, and where the owner has shut the door, those who have no place. Raises: Problem 410, 403."""
    session = state.session
    if session.status in CLOSED:
        how = "expired" if session.end_reason == "expired" else "ended"
        raise Problem(410, "over", f"Session has {how}")
    caller = call.caller and call.caller.user_id
    inside = caller == session.owner_id or any(place.user_id == caller for place in listed(state))
    if not inside and (session.features.lobby or not session.features.guests):
        raise Problem(403, "not_open", "This session is not open to everybody who has its link.")


def named(state: State, call: Call) -> UserId:
    """Find whom the path names. Raises: Problem, Rejected."""
    readable(state, call)
    return known_as(state, call.params["participant_id"]).user_id


# Commands


def new_session(call: Call, ttl_s: int) -> c.NewSession:
    return c.NewSession(title="Interview", kind="interview", features=FEATURES, ttl=ttl_s)


def opening(call: Call) -> CreationOptions:
    body: NewSession = call.body
    return CreationOptions(
        live=True, seat="joined", named=hex_name, session_id=call.principal.scope, text=body.code,
        text_language=body.language,
    )  # fmt: skip


def change(call: Call) -> c.Command:
    body: Change = call.body
    if body.code is UNSET and body.language is UNSET:
        raise Problem(422, "invalid", "Send `code` or `language`, or both.", field="code")
    edits: list[c.Command] = [] if body.code is UNSET else [c.EditCode(text=body.code)]
    if body.language is not UNSET:
        edits.append(c.SetLanguage(body.language))
    return edits[0] if len(edits) == 1 else c.Together(edits)


def replace(call: Call) -> c.Command:
    body: Replacement = call.body
    return c.Together([c.EditCode(text=body.code, base_version=body.base_version), c.SetLanguage(body.language)])


def set_present(call: Call) -> c.Command:
    return c.SetPresent(call.found, call.body.is_online)


def remove(call: Call) -> c.Command:
    """Leave, if the path names oneself; or else remove them."""
    return c.Leave() if call.found == call.principal.user_id else c.Kick(call.found)
