"""What clients of `live` send, and the commands it becomes."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.ids import Id, Title, UserId
from actors.session.state import FeaturesUpdate, Permission
from server.dialects.live.views import STATUSES
from server.http.problems import Problem
from server.usecases import sessions
from server.usecases.call import Call

Capacity = Annotated[int, Meta(ge=1, le=10_000)]


LISTED = 1_000
"""Sessions of one instructor at most."""


class NewSession(Struct, frozen=True, kw_only=True, rename="camel"):
    """`courseId` and `startsAt` are required."""

    course_id: Id | None = None
    starts_at: datetime | None = None
    recording_enabled: bool = False
    max_participants: Capacity | None = None


class SessionChange(Struct, frozen=True, kw_only=True, rename="camel"):
    """Only what is sent counts."""

    title: Title | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=5_000)] | UnsetType = UNSET
    starts_at: datetime | UnsetType = UNSET
    recording_enabled: bool | UnsetType = UNSET
    max_participants: Capacity | UnsetType = UNSET


class Allowed(Struct, frozen=True, kw_only=True, rename="camel"):
    """Only what is sent counts."""

    mic_allowed: bool | UnsetType = UNSET
    camera_allowed: bool | UnsetType = UNSET


def utc(moment: datetime) -> datetime:
    """Read a time without an offset as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def new_session(call: Call) -> c.NewSession:
    body: NewSession = call.body
    if body.course_id is None or body.starts_at is None:
        raise Problem(400, "required", "courseId and startsAt are required")
    return c.NewSession(
        title=f"Course {body.course_id}",
        kind="course",
        course_id=body.course_id,
        starts_at=utc(body.starts_at),
        capacity=body.max_participants,
        features=c.NewFeatures(recording=body.recording_enabled),
        room=True,
    )


def change(call: Call) -> c.Command:
    body: SessionChange = call.body
    recording = body.recording_enabled
    return c.Update(
        title=body.title,
        description=body.description,
        starts_at=utc(body.starts_at) if isinstance(body.starts_at, datetime) else UNSET,
        capacity=body.max_participants,
        features=UNSET if recording is UNSET else FeaturesUpdate(recording=recording),
    )


def begun(call: Call, *commands: c.Command) -> c.Command:
    """Do it in a session that is live, or begins by this. `call.found`: the status as it is."""
    return c.Together([*([c.Start()] if call.found == "scheduled" else []), *commands])


def end(call: Call) -> c.Command:
    return c.Together([]) if STATUSES[call.found] == "ended" else begun(call, c.End())


def allow(call: Call) -> c.Command:
    body: Allowed = call.body
    sent: dict[Permission, bool | UnsetType] = {"speak": body.mic_allowed, "video": body.camera_allowed}
    return c.SetPermissions(
        call.found.user_id,
        grant=[permission for permission, allowed in sent.items() if allowed is True],
        revoke=[permission for permission, allowed in sent.items() if allowed is False],
    )


def by_instructor(call: Call) -> sessions.Slice:
    return sessions.Slice(kind="course", dialect="live", limit=LISTED, owner=UserId(call.params["instructor_id"]))
