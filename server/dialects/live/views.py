"""What clients of `live` are answered."""

from collections.abc import Mapping
from typing import Literal
from uuid import UUID, uuid5

from msgspec import Struct, field

from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.permissions import effective
from actors.session.state import Participant, Session, State
from actors.session.state import Status as Ours
from server.http.timestamps import rfc3339, when
from server.usecases.call import Call
from server.usecases.room_access import Taped

Status = Literal["scheduled", "live", "ended"]


STATUSES: Mapping[Ours, Status] = {"scheduled": "scheduled", "live": "live", "ended": "ended", "cancelled": "ended"}


NEVER = Millis(0)


class LiveSession(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str = field(name="_id")
    course_id: str | None
    room_name: str
    status: Status
    starts_at: str | None
    ends_at: str | None
    created_by: str
    recording_enabled: bool
    max_participants: int
    created_at: str
    updated_at: str


class Started(Struct, frozen=True, rename="camel"):
    recording_id: str
    started_at: str


class Stopped(Struct, frozen=True, rename="camel"):
    """`duration` in seconds."""

    recording_id: str
    stopped_at: str
    duration: float


class AccessLink(Struct, frozen=True, rename="camel"):
    url: str
    expires_at: str


class RecordingView(Struct, frozen=True, kw_only=True, rename="camel"):
    """`duration` in seconds, once it has been stopped; links once it is finished."""

    recording_id: str
    started_at: str
    stopped_at: str | None
    duration: float | None
    status: Literal["in-progress", "processing", "finished", "failed"]
    download_link: str | None
    access_link: AccessLink | None


class Token(Struct, frozen=True):
    token: str


class ParticipantView(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str = field(name="_id")
    user_id: UserId
    session_id: str
    role: Literal["instructor", "student"]
    joined_at: str | None
    left_at: str | None
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool
    created_at: str
    updated_at: str


def live_session(session: Session) -> LiveSession:
    return LiveSession(
        id=session.id,
        course_id=session.course_id,
        room_name=session.name,
        status=STATUSES[session.status],
        starts_at=when(session.starts_at),
        ends_at=when(session.ended_at or session.ends_at),
        created_by=session.owner_id,
        recording_enabled=session.features.recording,
        max_participants=session.capacity,
        created_at=rfc3339(session.created_at),
        updated_at=rfc3339(max(session.updated_at, session.started_at or NEVER, session.ended_at or NEVER)),
    )


def seen(state: State, call: Call) -> LiveSession:
    return live_session(state.session)


def named(session_id: str, what: object) -> str:
    """Give what is numbered within a session an id of its own, always the same."""
    return str(uuid5(UUID(session_id), str(what)))


def recording_started(state: State, call: Call) -> Started:
    recording = state.recordings[-1]
    return Started(named(state.session.id, recording.recording_id), rfc3339(recording.started_at))


def recording_stopped(state: State, call: Call) -> Stopped:
    for recorded in call.made:
        if isinstance(recorded.event, e.RecordingStopped):
            stopped = recorded.event
            name = named(state.session.id, stopped.recording_id)
            return Stopped(name, rfc3339(recorded.at), stopped.duration_ms / 1000)
    raise Rejected(Reason.NOT_RECORDING, "No recording is running.")


def recording(taped: Taped, call: Call) -> RecordingView:
    found = taped.recording
    links = taped.links
    return RecordingView(
        recording_id=named(taped.session_id, found.recording_id),
        started_at=rfc3339(found.started_at),
        stopped_at=when(found.stopped_at),
        duration=None if found.stopped_at is None else (found.stopped_at - found.started_at) / 1000,
        status=taped.status,
        download_link=None if links is None else links.download_url,
        access_link=None if links is None else AccessLink(links.access_url, rfc3339(links.expires_at)),
    )


def participants(state: State, call: Call) -> list[ParticipantView]:
    return [participant(state, place) for place in state.participants.values()]


def participant(state: State, place: Participant) -> ParticipantView:
    allowed = effective(state, place)
    moments = [at for at in (place.invited_at, place.joined_at, place.left_at, place.kicked_at) if at is not None]
    return ParticipantView(
        id=named(state.session.id, place.user_id),
        user_id=place.user_id,
        session_id=state.session.id,
        role="instructor" if place.user_id == state.session.owner_id or place.role != "member" else "student",
        joined_at=when(place.joined_at),
        left_at=when(place.left_at),
        was_kicked=place.status in ("kicked", "denied"),
        mic_allowed="speak" in allowed,
        camera_allowed="video" in allowed,
        created_at=rfc3339(min(moments, default=state.session.created_at)),
        updated_at=rfc3339(max(moments, default=state.session.updated_at)),
    )


def one(state: State, call: Call) -> ParticipantView:
    return participant(state, place_of(state, call))


def mine(state: State, call: Call) -> ParticipantView:
    return participant(state, state.participants[call.principal.user_id])


def place_of(state: State, call: Call) -> Participant:
    """Find whom the path names. Raises: unknown_participant."""
    place = state.participants.get(UserId(call.params.get("user_id", "")))
    if place is None:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, "There is no such participant in this session.")
    return place
