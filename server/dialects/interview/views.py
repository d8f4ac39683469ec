"""The answers of `interview`: one Struct per shape, and one function that makes it from the session's state.

Instants are Unix milliseconds, and users have the ids that their own clients chose.
"""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType, structs

from actors.session.ids import Millis, UserId
from actors.session.state import Participant, State
from server.dialects.interview.bodies import id_of, listed, participant_by_id, readable
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases.call import Call
from server.usecases.code import Version

T = TypeVar("T")
COLORS = ("#e6194b", "#4363d8", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
"""The colours of participants whose clients chose none, in the order in which they join."""


class Success(Struct, Generic[T], frozen=True, kw_only=True):
    """The answer to a request that succeeded."""

    success: bool = True
    data: T


class FailureDetail(Struct, frozen=True):
    """The refusal again, for clients that read it from `detail`."""

    success: bool
    error: str


class Failure(Struct, frozen=True):
    """A refusal: a text, and a code in capitals."""

    success: bool
    error: str
    code: str
    detail: FailureDetail


class ParticipantView(Struct, frozen=True):
    """A participant. `role` is `interviewer` or `candidate`."""

    id: str
    name: str
    role: str
    color: str
    joined_at: Millis | None
    is_online: bool


class Participants(Struct, frozen=True):
    """The participants, with those who have left and may return."""

    participants: list[ParticipantView]


class SessionView(Struct, frozen=True, kw_only=True):
    """A session with its code and its participants."""

    id: str
    created_at: Millis
    updated_at: Millis
    expires_at: Millis | None
    code: str
    language: str
    participants: list[ParticipantView]
    creator_id: str


class Admitted(SessionView, frozen=True, kw_only=True):
    """The session that the caller created or joined. `token` is the caller's, for this session only; it is left out if
    the caller has one already."""

    token: str | UnsetType = UNSET


class Snapshot(Struct, frozen=True):
    """A version of the code, and the user who wrote it."""

    version: int
    code: str
    user_id: str
    created_at: Millis


class Snapshots(Struct, frozen=True):
    """Versions of the code, newest first."""

    snapshots: list[Snapshot]


class Health(Struct, frozen=True):
    """The server answers, and its time."""

    status: str
    timestamp: Millis


def participant_view(state: State, participant: Participant) -> ParticipantView:
    """Return the view of a participant. Hosts and the owner are interviewers."""
    interviewer = participant.role == "host" or participant.user_id == state.session.owner_id
    return ParticipantView(
        id=id_of(state, participant.user_id),
        name=participant.name,
        role="interviewer" if interviewer else "candidate",
        color=participant.colour or COLORS[(participant.number - 1) % len(COLORS)],
        joined_at=participant.joined_at,
        is_online=participant.status == "joined" and participant.user_id not in state.away,
    )


def view(state: State) -> SessionView:
    """Return the view of a session. `id` is the name in its links."""
    session = state.session
    return SessionView(
        id=session.name,
        created_at=session.created_at,
        updated_at=max(session.updated_at, state.at),
        expires_at=session.expires_at,
        code=state.code.text,
        language=state.code.language,
        participants=[participant_view(state, participant) for participant in listed(state)],
        creator_id=id_of(state, session.owner_id),
    )


@refuses(not_open=403, over=410)
def session(state: State, call: Call) -> Success[SessionView]:
    """Return a session. Raise Problem 410 or 403 as `readable` does."""
    readable(state, call)
    return Success(data=view(state))


@refuses(not_open=403, over=410)
def admitted_session(state: State, call: Call) -> SessionView:
    """Return the session that the caller has just created or joined: it needs no further check."""
    return view(state)


def admitted(token: str | None, call: Call) -> Success[Admitted]:
    """Return `admitted_session`, which is in `call.seen`, with the caller's token."""
    return Success(data=Admitted(**structs.asdict(call.seen), token=UNSET if token is None else token))


@refuses(not_open=403, over=410)
def participants(state: State, call: Call) -> Participants:
    """Return the participants. Raise Problem 410 or 403 as `readable` does."""
    readable(state, call)
    return Participants(view(state).participants)


@refuses(unknown_participant=404)
def path_participant_view(state: State, call: Call) -> Success[ParticipantView]:
    """Return the participant whom the path names. Raise Rejected if there is none."""
    return Success(data=participant_view(state, participant_by_id(state, call.params["participant_id"])))


@refuses(not_open=403, over=410)
def ids(state: State, call: Call) -> Mapping[UserId, str]:
    """Return the ids by which clients know every user who has ever been in the session. Raise Problem 410 or 403."""
    readable(state, call)
    return {user_id: id_of(state, user_id) for user_id in state.participants}


def snapshots(edits: Sequence[Version], call: Call) -> Success[Snapshots]:
    """Return versions of the code. `call.seen` has the `ids` of their authors."""
    author_ids: Mapping[UserId, str] = call.seen
    authors = [edit.author or UserId("") for edit in edits]
    views = [
        Snapshot(edit.version, edit.text or "", author_ids.get(author, author), edit.at)
        for edit, author in zip(edits, authors, strict=True)
    ]
    return Success(data=Snapshots(views))


# Refusals

CODES = {
    401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 409: "CONFLICT", 410: "SESSION_EXPIRED",
    429: "RATE_LIMITED", 500: "INTERNAL_ERROR", 503: "UNAVAILABLE",
}  # fmt: skip
NOT_FOUND = {"unknown_session": "SESSION_NOT_FOUND", "unknown_participant": "PARTICIPANT_NOT_FOUND"}


def failure(status: int, text: str, problem: Problem) -> Failure:
    """Return the body of a refusal."""
    code = NOT_FOUND.get(problem.reason) or CODES.get(status, "INVALID_REQUEST")
    return Failure(False, text, code, FailureDetail(False, text))
