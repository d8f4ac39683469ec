"""What clients of `tutorium` are answered."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

from actors.session.ids import Millis
from actors.session.state import Participant, Presence, Session, State
from actors.session.state import Status as Ours
from server.http.timestamps import rfc3339
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
    """`teacher_join_url` lets its reader in as the owner where they are; others get the room's own URL."""

    teacher_join_url: str | None
    participant_count: int


class SessionList(Struct, frozen=True):
    sessions: list[SessionResponse]
    total: int


class ParticipantView(Struct, frozen=True, kw_only=True):
    id: int
    session_id: int
    user_id: int
    role: Literal["teacher", "student"]
    connection_status: ConnectionStatus
    joined_at: str | None
    left_at: str | None


class Joined(Struct, frozen=True):
    join_url: str
    room_name: str
    token: str


class JoinedByCode(Struct, frozen=True):
    session_id: int
    join_url: str
    room_name: str
    token: str


class Left(Struct, frozen=True):
    success: bool = True


class Token(Struct, frozen=True):
    access_token: str
    token_type: str = "bearer"  # noqa: S105 - a kind of token, not one


class UserView(Struct, frozen=True):
    id: int
    name: str
    email: str | None
    role: str


def naive(at: Millis) -> str:
    text = rfc3339(at)
    return text[:19] if text[19:23] == ".000" else f"{text[:23]}000"


def naive_or_none(at: Millis | None) -> str | None:
    return None if at is None else naive(at)


def room_url(session: Session, call: Call) -> str | None:
    return None if session.room is None else session.room.at(call.origin)


def facts(session: Session, call: Call) -> dict[str, Any]:
    return {
        "title": session.title,
        "description": session.description or None,
        "scheduled_start": naive_or_none(session.starts_at),
        "max_participants": session.capacity,
        "enable_recording": session.features.recording,
        "enable_chat": session.features.chat,
        "id": session.number,
        "teacher_id": session.owner_number,
        "status": STATUSES[session.status],
        "daily_room_url": room_url(session, call),
        "room_code": session.code,
        "actual_start": naive_or_none(session.started_at),
        "ended_at": naive_or_none(session.ended_at) if session.status == "ended" else None,
        "created_at": naive(session.created_at),
        "updated_at": naive(session.updated_at),
    }


def response(session: Session, call: Call) -> SessionResponse:
    return SessionResponse(**facts(session, call))


def detail(met: Met, call: Call) -> SessionDetail:
    join_url = room_url(met.session, call) if met.meeting is None else met.meeting.join_url
    return SessionDetail(**facts(met.session, call), teacher_join_url=join_url, participant_count=met.session.joined)


def participants(state: State, call: Call) -> list[ParticipantView]:
    return [participant(state, place) for place in state.participants.values()]


def participant(state: State, place: Participant) -> ParticipantView:
    teaches = place.user_id == state.session.owner_id or place.role in ("host", "cohost")
    return ParticipantView(
        id=place.number,
        session_id=state.session.number,
        user_id=place.user_number,
        role="teacher" if teaches else "student",
        connection_status=CONNECTIONS[place.status],
        joined_at=naive_or_none(place.joined_at),
        left_at=naive_or_none(place.left_at),
    )


def joined(met: Met, call: Call) -> Joined:
    meeting = met.pass_
    return Joined(meeting.join_url, meeting.room_name, meeting.token)


def joined_by_code(met: Met, call: Call) -> JoinedByCode:
    meeting = met.pass_
    return JoinedByCode(met.session.number, meeting.join_url, meeting.room_name, meeting.token)


def account(user: Any, call: Call) -> UserView:
    return UserView(user.number, user.name, user.email, user.role)
