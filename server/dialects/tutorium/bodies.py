"""The request bodies of `tutorium`, and the commands that they become. Unknown fields are ignored."""

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
from server.http.refusals import refuses
from server.usecases import accounts, sessions
from server.usecases.call import Call

Title = Annotated[str, Meta(max_length=200, pattern=VISIBLE, description=VISIBLE_TEXT)]


Description = Annotated[str, Meta(max_length=5_000)]


OURS: Mapping[Status, Ours] = {product: ours for ours, product in STATUSES.items()}
"""Homeroom's status for each of the product's."""


PAGE = 1_000
"""The maximum number of sessions in an answer."""

TRANSITIONS: Mapping[Status, type[c.Command]] = {"active": c.Start, "ended": c.End, "cancelled": c.Cancel}
"""The command that leads to a status."""


class SessionCreate(Struct, frozen=True, kw_only=True):
    """A session to create."""

    title: Title
    description: Description | None = None
    scheduled_start: datetime | None = None
    max_participants: Annotated[int, Meta(ge=1, le=100)] = 50
    enable_recording: bool = False
    enable_chat: bool = True


class SessionUpdate(Struct, frozen=True, kw_only=True):
    """Changes to a session. Omitted fields stay as they are."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    status: Status | UnsetType = UNSET
    scheduled_start: datetime | UnsetType | None = UNSET


class SessionQuery(Struct, frozen=True, kw_only=True):
    """Selects sessions by status, and a section of the list."""

    status: Status | None = None
    skip: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 100


class JoinByCode(Struct, frozen=True):
    """The join code of a session."""

    room_code: Annotated[str, Meta(min_length=1, max_length=64)]


class Login(Struct, frozen=True, kw_only=True):
    """Credentials. OAuth2 forms send the email address as `username`."""

    password: Annotated[str, Meta(max_length=200)]
    email: Annotated[str, Meta(max_length=254)] | None = None
    username: Annotated[str, Meta(max_length=254)] | None = None


class Register(Struct, frozen=True, kw_only=True):
    """An account to create."""

    name: Name
    email: accounts.Email
    password: accounts.Password
    role: Literal["teacher", "student"] = "student"


def utc(moment: datetime) -> datetime:
    """Return the time with an offset: UTC if it has none."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def new_session(call: Call) -> c.NewSession:
    """Return the session to create."""
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


@refuses(not_scheduled=409)
def update(call: Call) -> c.Command:
    """Return the commands for an update, which are executed together or not at all. `call.found` is the session's
    status. Raise Problem 409 if no command leads to the new status."""
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
        if body.status not in TRANSITIONS:
            raise Problem(409, "not_scheduled", f"A session cannot go back to {body.status}.", field="status")
        commands.append(TRANSITIONS[body.status]())
    return c.Together(commands)


@refuses(kicked=403)
def may_join(state: State, call: Call) -> None:
    """Raise Rejected if the caller was removed or denied: in this product a removed participant cannot return."""
    participant = state.participants.get(call.principal.user_id)
    if participant is not None and CONNECTIONS[participant.status] == "kicked":
        raise Rejected(Reason.KICKED, "You were removed from this session.")


def listed(call: Call) -> sessions.Slice:
    """Return the query for a teacher's own sessions, or for those in which a student takes part."""
    query, caller = call.query, call.principal
    member = {"owner" if caller.role == "teacher" else "participant": caller.user_id}
    status = None if query.status is None else OURS[query.status]
    return sessions.Slice(
        kind="tutoring", dialect="tutorium", skip=query.skip, limit=query.limit, status=status, **member
    )
