"""The request bodies of `live`, and the commands that they become. Unknown fields are ignored."""

from datetime import UTC, datetime
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.ids import Id, Title, UserId
from actors.session.state import FeaturesUpdate, Permission
from server.dialects.live.views import STATUSES
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases import sessions
from server.usecases.call import Call

Capacity = Annotated[int, Meta(ge=1, le=10_000)]


LISTED = 1_000
"""The maximum number of sessions in an instructor's list."""


class NewSession(Struct, frozen=True, kw_only=True, rename="camel"):
    """A session to create. `courseId` and `startsAt` are required."""

    course_id: Id | None = None
    starts_at: datetime | None = None
    recording_enabled: bool = False
    max_participants: Capacity | None = None


class SessionChange(Struct, frozen=True, kw_only=True, rename="camel"):
    """Changes to a session. Omitted fields stay as they are."""

    title: Title | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=5_000)] | UnsetType = UNSET
    starts_at: datetime | UnsetType = UNSET
    recording_enabled: bool | UnsetType = UNSET
    max_participants: Capacity | UnsetType = UNSET


class Allowed(Struct, frozen=True, kw_only=True, rename="camel"):
    """A participant's permission to use microphone and camera. Omitted fields stay as they are."""

    mic_allowed: bool | UnsetType = UNSET
    camera_allowed: bool | UnsetType = UNSET


def utc(moment: datetime) -> datetime:
    """Return the time with an offset: UTC if it has none."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


@refuses(required=400)
def new_session(call: Call) -> c.NewSession:
    """Return the session to create. Raise Problem 400 without `courseId` or `startsAt`."""
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
    """Return the command for changes to a session."""
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
    """Return the commands, after the one that starts a scheduled session. `call.found` is the session's status."""
    return c.Together([*([c.Start()] if call.found == "scheduled" else []), *commands])


def end(call: Call) -> c.Command:
    """Return the command to end the session, which does nothing if it is over. `call.found` is its status."""
    return c.Together([]) if STATUSES[call.found] == "ended" else begun(call, c.End())


def allow(call: Call) -> c.Command:
    """Return the command for a change of permissions. `call.found` is the participant."""
    body: Allowed = call.body
    sent: dict[Permission, bool | UnsetType] = {"speak": body.mic_allowed, "video": body.camera_allowed}
    return c.SetPermissions(
        call.found.user_id,
        grant=[permission for permission, allowed in sent.items() if allowed is True],
        revoke=[permission for permission, allowed in sent.items() if allowed is False],
    )


def by_instructor(call: Call) -> sessions.Slice:
    """Return the query for the sessions of the instructor whom the path names."""
    return sessions.Slice(kind="course", dialect="live", limit=LISTED, owner=UserId(call.params["instructor_id"]))
