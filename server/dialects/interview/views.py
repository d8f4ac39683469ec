"""What clients of `interview` get."""

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType, structs

from actors.session.ids import Millis, UserId
from actors.session.state import Participant, State
from server.dialects.interview.bodies import id_of, known_as, listed, readable
from server.http.problems import Problem
from server.usecases.call import Call
from server.usecases.code import Version

T = TypeVar("T")
COLORS = ("#e6194b", "#4363d8", "#3cb44b", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")
"""For those whose clients have chosen none, in the order in which people come."""


class Success(Struct, Generic[T], frozen=True, kw_only=True):
    success: bool = True
    data: T


class Because(Struct, frozen=True):
    success: bool
    error: str


class Failure(Struct, frozen=True):
    success: bool
    error: str
    code: str
    detail: Because


class ParticipantView(Struct, frozen=True):
    id: str
    name: str
    role: str
    color: str
    joined_at: Millis | None
    is_online: bool


class People(Struct, frozen=True):
    participants: list[ParticipantView]


class SessionView(Struct, frozen=True, kw_only=True):
    id: str
    created_at: Millis
    updated_at: Millis
    expires_at: Millis | None
    code: str
    language: str
    participants: list[ParticipantView]
    creator_id: str


class Entered(SessionView, frozen=True, kw_only=True):
    """`token` is the caller's, for this session alone."""

    token: str | UnsetType = UNSET


class Snapshot(Struct, frozen=True):
    version: int
    code: str
    user_id: str
    created_at: Millis


class Snapshots(Struct, frozen=True):
    snapshots: list[Snapshot]


class Health(Struct, frozen=True):
    status: str
    timestamp: Millis


def participant(state: State, place: Participant) -> ParticipantView:
    interviewer = place.role == "host" or place.user_id == state.session.owner_id
    return ParticipantView(
        id=id_of(state, place.user_id),
        name=place.name,
        role="interviewer" if interviewer else "candidate",
        color=place.colour or COLORS[(place.number - 1) % len(COLORS)],
        joined_at=place.joined_at,
        is_online=place.status == "joined" and place.user_id not in state.away,
    )


def view(state: State) -> SessionView:
    session = state.session
    return SessionView(
        id=session.name,
        created_at=session.created_at,
        updated_at=max(session.updated_at, state.at),
        expires_at=session.expires_at,
        code=state.code.text,
        language=state.code.language,
        participants=[participant(state, place) for place in listed(state)],
        creator_id=id_of(state, session.owner_id),
    )


def session(state: State, call: Call) -> Success[SessionView]:
    readable(state, call)
    return Success(data=view(state))


def unveiled(state: State, call: Call) -> SessionView:
    """Give a session to one whom it has just let in."""
    return view(state)


def entered(token: str | None, call: Call) -> Success[Entered]:
    return Success(data=Entered(**structs.asdict(call.seen), token=UNSET if token is None else token))


def people(state: State, call: Call) -> People:
    readable(state, call)
    return People(view(state).participants)


def one(state: State, call: Call) -> Success[ParticipantView]:
    return Success(data=participant(state, known_as(state, call.params["participant_id"])))


def ids(state: State, call: Call) -> Mapping[UserId, str]:
    """Give what clients call everybody who has ever been in a session."""
    readable(state, call)
    return {user_id: id_of(state, user_id) for user_id in state.participants}


def snapshots(edits: Sequence[Version], call: Call) -> Success[Snapshots]:
    names: Mapping[UserId, str] = call.seen
    authors = [edit.author or UserId("") for edit in edits]
    shown = [
        Snapshot(edit.version, edit.text or "", names.get(author, author), edit.at)
        for edit, author in zip(edits, authors, strict=True)
    ]
    return Success(data=Snapshots(shown))


# Refusals

CODES = {
    401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND", 409: "CONFLICT", 410: "SESSION_EXPIRED",
    429: "RATE_LIMITED", 500: "INTERNAL_ERROR", 503: "UNAVAILABLE",
}  # fmt: skip
NOT_FOUND = {"unknown_session": "SESSION_NOT_FOUND", "unknown_participant": "PARTICIPANT_NOT_FOUND"}


def failure(status: int, text: str, problem: Problem) -> Failure:
    code = NOT_FOUND.get(problem.reason) or CODES.get(status, "INVALID_REQUEST")
    return Failure(False, text, code, Because(False, text))
