"""Tutoring in rooms: the `tutorium` contract."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.state import Features, Participant, Presence, Session, State
from actors.session.state import Status as Ours
from server.api.dialect import PLAIN, AskRoute, CreateRoute, Dialect, FetchRoute, LookRoute, detailed, under
from server.api.provider_webhooks import DAILY
from server.http.problems import Problem
from server.http.timestamps import rfc3339
from server.settings.sections import Settings
from server.usecases import accounts, room_access, sessions
from server.usecases.call import Call
from server.usecases.room_access import Met
from server.usecases.session_creation import CreationOptions, room_name

Status = Literal["scheduled", "active", "ended", "cancelled"]
ConnectionStatus = Literal["invited", "joined", "left", "kicked"]
Title = Annotated[str, Meta(max_length=200, pattern=r"\S")]
Description = Annotated[str, Meta(max_length=5_000)]

STATUSES: Mapping[Ours, Status] = {
    "scheduled": "scheduled", "live": "active", "ended": "ended", "cancelled": "cancelled",
}  # fmt: skip
OURS: Mapping[Status, Ours] = {theirs: ours for ours, theirs in STATUSES.items()}
CONNECTIONS: Mapping[Presence, ConnectionStatus] = {
    "invited": "invited", "waiting": "invited", "joined": "joined", "left": "left", "kicked": "kicked",
    "denied": "kicked",
}  # fmt: skip
TURNS: Mapping[Status, type[c.Command]] = {"active": c.Start, "ended": c.End, "cancelled": c.Cancel}
"""What a status is reached by."""
PAGE = 1_000


# Bodies. What clients send besides is ignored.


class SessionCreate(Struct, frozen=True, kw_only=True):
    title: Title
    description: Description | None = None
    scheduled_start: datetime | None = None
    max_participants: Annotated[int, Meta(ge=1, le=100)] = 50
    enable_recording: bool = False
    enable_chat: bool = True


class SessionUpdate(Struct, frozen=True, kw_only=True):
    """Only what is sent counts."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    scheduled_start: datetime | UnsetType | None = UNSET


class SessionQuery(Struct, frozen=True, kw_only=True):
    status: Status | None = None
    skip: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 100


class JoinByCode(Struct, frozen=True):
    room_code: Annotated[str, Meta(min_length=1, max_length=64)]


class Login(Struct, frozen=True, kw_only=True):
    """Logs in by `email`, or by `username` as OAuth2's form says it."""

    password: Annotated[str, Meta(max_length=200)]
    email: Annotated[str, Meta(max_length=254)] | None = None
    username: Annotated[str, Meta(max_length=254)] | None = None


class Register(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
    email: accounts.Email
    password: accounts.Password
    role: Literal["teacher", "student"] = "student"


# Answers


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


def utc(moment: datetime) -> datetime:
    """Read a time without an offset as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


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


# From bodies to commands


def new_session(call: Call) -> c.NewSession:
    body: SessionCreate = call.body
    return c.NewSession(
        title=body.title,
        kind="tutoring",
        description=body.description or "",
        starts_at=body.scheduled_start and utc(body.scheduled_start),
        capacity=body.max_participants,
        features=Features(recording=body.enable_recording, chat=body.enable_chat),
        room=True,
    )


def update(call: Call) -> c.Command:
    """Make the commands of an update, which come about together or not at all. `call.found`: the status as it is."""
    body: SessionUpdate = call.body
    start = body.scheduled_start
    changes = c.Update(
        title=body.title,
        description="" if body.description is None else body.description,
        starts_at=utc(start) if isinstance(start, datetime) else start,
    )
    commands: list[c.Command] = []
    if (body.title, body.description, body.scheduled_start) != (UNSET, UNSET, UNSET):
        commands.append(changes)
    if body.status is not UNSET and OURS[body.status] != call.found:
        if body.status not in TURNS:
            raise Problem(409, "not_scheduled", f"A session cannot go back to {body.status}.", field="status")
        commands.append(TURNS[body.status]())
    return c.Together(commands)


def may_join(state: State, call: Call) -> None:
    """Refuse those who were removed: here they do not come back."""
    place = state.participants.get(call.principal.user_id)
    if place is not None and CONNECTIONS[place.status] == "kicked":
        raise Rejected(Reason.KICKED, "You were removed from this session.")


def joined(met: Met, call: Call) -> Joined:
    meeting = met.pass_
    return Joined(meeting.join_url, meeting.room_name, meeting.token)


def joined_by_code(met: Met, call: Call) -> JoinedByCode:
    meeting = met.pass_
    return JoinedByCode(met.session.number, meeting.join_url, meeting.room_name, meeting.token)


def listed(call: Call) -> sessions.Slice:
    """Ask for a teacher's own sessions, or those that a student takes part in."""
    query, caller = call.query, call.principal
    whose = {"owner" if caller.role == "teacher" else "participant": caller.user_id}
    status = None if query.status is None else OURS[query.status]
    return sessions.Slice(
        kind="tutoring", dialect="tutorium", skip=query.skip, limit=query.limit, status=status, **whose
    )


def account(user: Any, call: Call) -> UserView:
    return UserView(user.number, user.name, user.email, user.role)


# Refusals

ERRORS: Mapping[Reason, tuple[int, str]] = {
    **PLAIN,
    Reason.ENDED: (410, "Session has ended"),
    Reason.CANCELLED: (410, "Session was cancelled"),
    Reason.FULL: (409, "Session is full"),
    Reason.KICKED: (403, "You were removed from this session"),
    Reason.NOT_JOINED: (403, "Not a participant of this session"),
    Reason.NOT_PERMITTED: (403, "Not authorized"),
    Reason.UNKNOWN_PARTICIPANT: (404, "Participant not found"),
}
PROBLEMS = {
    "unknown_session": (404, "Session not found"),
    "unauthenticated": (401, "Not authenticated"),
    "bad_credentials": (401, "Incorrect email or password"),
    "not_a_teacher": (403, "Only teachers can create sessions"),
    "not_owner": (403, "Not authorized"),
    "taken": (409, "Email already registered"),
    "malformed": (422, ""),
    "not_found": (404, "Not Found"),
    "method_not_allowed": (405, "Method Not Allowed"),
}
STATUS_ERRORS = {reason.value: (409, "") for reason in (Reason.ENDED, Reason.CANCELLED, Reason.NOT_LIVE)}


ACCOUNTS = (
    FetchRoute(
        method="POST", path="/auth/register", summary="Make an account", public=True, body=Register, status=201,
        into=lambda call: accounts.Register(
            name=call.body.name, password=call.body.password, role=call.body.role, email=call.body.email
        ),
        act=accounts.register, out=lambda login, call: account(login.user, call), answer=UserView,
    ),
    FetchRoute(
        method="POST", path="/auth/login", summary="Log in", public=True, body=Login, forms=True,
        into=lambda call: accounts.Login(password=call.body.password, email=call.body.email or call.body.username),
        act=accounts.login, out=lambda login, call: Token(login.access_token), answer=Token,
    ),
    FetchRoute(path="/users/me", summary="Read one's account", act=accounts.me, out=account, answer=UserView),
)  # fmt: skip
SESSIONS = (
    CreateRoute(
        path="/sessions", summary="Create a session, and its room", teachers=True, body=SessionCreate,
        new=new_session, opening=lambda call: CreationOptions(seat="invited", named=room_name),
        then=room_access.met_at_creation, out=detail, answer=SessionDetail,
    ),
    FetchRoute(
        path="/sessions", summary="List one's sessions, newest first", query=SessionQuery, into=listed,
        act=sessions.sliced, answer=SessionList,
        out=lambda found, call: SessionList([response(one, call) for one in found[0]], found[1]),
    ),
    FetchRoute(
        path="/sessions/{ref}", summary="Read a session", whose="participant", act=room_access.met_as_owner, out=detail,
        answer=SessionDetail,
    ),
    AskRoute(
        method="PATCH", path="/sessions/{ref}", summary="Change a session", whose="owner", body=SessionUpdate,
        find=lambda state, call: state.session.status, ask=update,
        see=lambda state, call: response(state.session, call), errors=STATUS_ERRORS, answer=SessionResponse,
    ),
    AskRoute(
        method="DELETE", path="/sessions/{ref}", summary="Delete a session, and its room", whose="owner",
        ask=lambda call: c.Delete(), then=sessions.deleted, status=204,
    ),
    AskRoute(
        path="/sessions/{ref}/join", summary="Join", has_invitation=True, find=may_join, ask=lambda call: c.Join(),
        then=room_access.met, out=joined, answer=Joined,
    ),
    AskRoute(
        path="/sessions/{ref}/leave", summary="Leave", ask=lambda call: c.Leave(), see=lambda state, call: Left(),
        answer=Left,
    ),
    AskRoute(
        path="/sessions/join-by-code", summary="Join by code", body=JoinByCode, ref=lambda body: body.room_code,
        has_invitation=True, find=may_join, ask=lambda call: c.Join(), then=room_access.met, out=joined_by_code,
        errors={"unknown_session": (404, "Invalid room code")}, answer=JoinedByCode,
    ),
    LookRoute(
        path="/sessions/{ref}/participants", summary="List who takes part", see=participants,
        answer=list[ParticipantView],
    ),
)  # fmt: skip


def table(settings: Settings) -> Dialect:
    """Give the dialect as the settings have it."""
    mine = settings.dialects.tutorium
    return Dialect(
        name="tutorium",
        title="Tutorium",
        prefix=mine.prefix,
        rows=under("/api/v1", *ACCOUNTS, *SESSIONS, DAILY),
        cors_origins=mine.cors_origins,
        kind="tutoring",
        named="number",
        errors=ERRORS,
        problems=PROBLEMS,
        error_body=detailed,
        silent=frozenset(get_args(e.DurableEvent)),
        redoc=True,
    )
