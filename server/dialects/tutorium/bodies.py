"""What clients of `tutorium` send, and the commands it becomes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.errors import Reason, Rejected
from actors.session.ids import VISIBLE, VISIBLE_TEXT, Name
from actors.session.state import State
from actors.session.state import Status as Ours
from server.dialects.tutorium.views import CONNECTIONS, STATUSES, Status
from server.http.problems import Problem
from server.usecases import accounts, sessions
from server.usecases.call import Call

Title = Annotated[str, Meta(max_length=200, pattern=VISIBLE, description=VISIBLE_TEXT)]


Description = Annotated[str, Meta(max_length=5_000)]


OURS: Mapping[Status, Ours] = {theirs: ours for ours, theirs in STATUSES.items()}


PAGE = 1_000

TURNS: Mapping[Status, type[c.Command]] = {"active": c.Start, "ended": c.End, "cancelled": c.Cancel}
"""What a status is reached by."""


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
    name: Name
    email: accounts.Email
    password: accounts.Password
    role: Literal["teacher", "student"] = "student"


def utc(moment: datetime) -> datetime:
    """Read a time without an offset as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def new_session(call: Call) -> c.NewSession:
    body: SessionCreate = call.body
    return c.NewSession(
        title=body.title,
        kind="tutoring",
        description=body.description or "",
        starts_at=body.scheduled_start and utc(body.scheduled_start),
        capacity=body.max_participants,
        features=c.NewFeatures(recording=body.enable_recording, chat=body.enable_chat),
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


def listed(call: Call) -> sessions.Slice:
    """Ask for a teacher's own sessions, or those that a student takes part in."""
    query, caller = call.query, call.principal
    whose = {"owner" if caller.role == "teacher" else "participant": caller.user_id}
    status = None if query.status is None else OURS[query.status]
    return sessions.Slice(
        kind="tutoring", dialect="tutorium", skip=query.skip, limit=query.limit, status=status, **whose
    )
