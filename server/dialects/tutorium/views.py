"""The answers of `tutorium`: one Struct per shape, and one function that makes it.

Users and sessions have numbers instead of ids. Instants are in UTC without an offset, as the product prints them.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct, structs

from actors.session.ids import Millis
from actors.session.state import Participant, Presence, Session, State
from actors.session.state import Status as Ours
from server.http.timestamps import rfc3339
from server.usecases.accounts import Account
from server.usecases.call import Call
from server.usecases.room_access import Met

Status = Literal["scheduled", "active", "ended", "cancelled"]


ConnectionStatus = Literal["invited", "joined", "left", "kicked"]


STATUSES: Mapping[Ours, Status] = {
    "scheduled": "scheduled", "live": "active", "ended": "ended", "cancelled": "cancelled",
}  # fmt: skip


CONNECTIONS: Mapping[Presence, ConnectionStatus] = {
    "invited": "invited", "waiting": "invited", "joined": "joined", "left": "left", "kicked": "kicked",
    "denied": "kicked",
}  # fmt: skip


class SessionResponse(Struct, frozen=True, kw_only=True):
    """A session, with the URL of its room."""

    title: str
    description: str | None
    scheduled_start: str | None
    max_participants: int
    enable_recording: bool
    enable_chat: bool
    id: int
    teacher_id: int
    status: Status
    daily_room_url: str | None
    room_code: str
    actual_start: str | None
    ended_at: str | None
    created_at: str
    updated_at: str


class SessionDetail(SessionResponse, frozen=True, kw_only=True):
    """A session. For its teacher, `teacher_join_url` enters the room as its owner; others get the room's own URL."""

    teacher_join_url: str | None
    participant_count: int


class SessionList(Struct, frozen=True):
    """A section of a list of sessions. `total` is the length of the whole list."""

    sessions: list[SessionResponse]
    total: int


class ParticipantView(Struct, frozen=True, kw_only=True):
    """A participant. `id` is their number within the session."""

    id: int
    session_id: int
    user_id: int
    role: Literal["teacher", "student"]
    connection_status: ConnectionStatus
    joined_at: str | None
    left_at: str | None


class Joined(Struct, frozen=True):
    """The caller's access to the session's room."""

    join_url: str
    room_name: str
    token: str


class JoinedByCode(Struct, frozen=True):
    """The session that the code belongs to, and the caller's access to its room."""

    session_id: int
    join_url: str
    room_name: str
    token: str


class Left(Struct, frozen=True):
    """The caller has left."""

    success: bool = True


class Token(Struct, frozen=True):
    """An access token."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - a kind of token, not one


class UserView(Struct, frozen=True):
    """An account."""

    id: int
    name: str
    email: str | None
    role: str


def naive(at: Millis) -> str:
    """Return an instant in UTC without an offset, with microseconds unless they are zero, as Python's `isoformat`."""
    text = rfc3339(at)
    return text[:19] if text[19:23] == ".000" else f"{text[:23]}000"


def naive_or_none(at: Millis | None) -> str | None:
    """Return an instant as `naive` does, or None if there is none."""
    return None if at is None else naive(at)


def room_url(session: Session, call: Call) -> str | None:
    """Return the URL of the session's room, absolute for a built-in room too; None if it has no room."""
    return None if session.room is None else session.room.url_at(call.origin)


def response(session: Session, call: Call) -> SessionResponse:
    """Return the view of a session."""
    return SessionResponse(
        title=session.title,
        description=session.description or None,
        scheduled_start=naive_or_none(session.starts_at),
        max_participants=session.capacity,
        enable_recording=session.features.recording,
        enable_chat=session.features.chat,
        id=session.number,
        teacher_id=session.owner_number,
        status=STATUSES[session.status],
        daily_room_url=room_url(session, call),
        room_code=session.code,
        actual_start=naive_or_none(session.started_at),
        ended_at=naive_or_none(session.ended_at) if session.status == "ended" else None,
        created_at=naive(session.created_at),
        updated_at=naive(session.updated_at),
    )


def detail(met: Met, call: Call) -> SessionDetail:
    """Return the view of a session, with the caller's way into its room and the number of participants."""
    session = met.session
    join_url = room_url(session, call) if met.meeting is None else met.meeting.join_url
    return SessionDetail(
        **structs.asdict(response(session, call)), teacher_join_url=join_url, participant_count=session.joined
    )


def participants(state: State, call: Call) -> list[ParticipantView]:
    """Return all participants, with those invited, gone and removed."""
    return [participant_view(state, participant) for participant in state.participants.values()]


def participant_view(state: State, participant: Participant) -> ParticipantView:
    """Return the view of a participant. The owner, hosts and cohosts are teachers."""
    teaches = participant.user_id == state.session.owner_id or participant.role in ("host", "cohost")
    return ParticipantView(
        id=participant.number,
        session_id=state.session.number,
        user_id=participant.user_number,
        role="teacher" if teaches else "student",
        connection_status=CONNECTIONS[participant.status],
        joined_at=naive_or_none(participant.joined_at),
        left_at=naive_or_none(participant.left_at),
    )


def joined(met: Met, call: Call) -> Joined:
    """Return the caller's access to the room. Raise Problem 409 if the session has no room."""
    meeting = met.pass_
    return Joined(meeting.join_url, meeting.room_name, meeting.token)


def joined_by_code(met: Met, call: Call) -> JoinedByCode:
    """Return the session and the caller's access to its room. Raise Problem 409 if it has no room."""
    meeting = met.pass_
    return JoinedByCode(met.session.number, meeting.join_url, meeting.room_name, meeting.token)


def account(user: Account, call: Call) -> UserView:
    """Return the view of an account."""
    return UserView(user.number, user.name, user.email, user.role)
