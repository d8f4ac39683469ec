"""The answers of `live`: one Struct per shape, and one function that makes it. Instants are RFC 3339 in UTC."""

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
from server.http.refusals import refuses
from server.http.timestamps import rfc3339, when
from server.usecases.call import Call
from server.usecases.room_access import LatestRecording

Status = Literal["scheduled", "live", "ended"]


STATUSES: Mapping[Ours, Status] = {"scheduled": "scheduled", "live": "live", "ended": "ended", "cancelled": "ended"}


NEVER = Millis(0)
"""Earlier than any instant."""


class LiveSession(Struct, frozen=True, kw_only=True, rename="camel"):
    """A session. `endsAt` is the planned end, or the actual one once the session is over."""

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
    """A recording that has started."""

    recording_id: str
    started_at: str


class Stopped(Struct, frozen=True, rename="camel"):
    """A recording that has stopped. `duration` is in seconds."""

    recording_id: str
    stopped_at: str
    duration: float


class AccessLink(Struct, frozen=True, rename="camel"):
    """A URL that needs no credential until `expiresAt`."""

    url: str
    expires_at: str


class RecordingView(Struct, frozen=True, kw_only=True, rename="camel"):
    """A recording. `duration` is in seconds, null while the recording runs. The links are null until it is finished."""

    recording_id: str
    started_at: str
    stopped_at: str | None
    duration: float | None
    status: Literal["in-progress", "processing", "finished", "failed"]
    download_link: str | None
    access_link: AccessLink | None


class Token(Struct, frozen=True):
    """A token for the session's room."""

    token: str


class ParticipantView(Struct, frozen=True, kw_only=True, rename="camel"):
    """A participant, with their permissions for microphone and camera."""

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
    """Return the view of a session."""
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


def session_view(state: State, call: Call) -> LiveSession:
    """Return the session."""
    return live_session(state.session)


def derived_id(session_id: str, key: object) -> str:
    """Return a UUID for a recording or participant, which `key` identifies within the session: always the same."""
    return str(uuid5(UUID(session_id), str(key)))


def recording_started(state: State, call: Call) -> Started:
    """Return the recording that the command started."""
    recording = state.recordings[-1]
    return Started(derived_id(state.session.id, recording.recording_id), rfc3339(recording.started_at))


@refuses(not_recording=409)
def recording_stopped(state: State, call: Call) -> Stopped:
    """Return the recording that the command stopped. Raise Rejected if none was running."""
    for visible in call.made:
        if isinstance(visible.event, e.RecordingStopped):
            stopped = visible.event
            recording_id = derived_id(state.session.id, stopped.recording_id)
            return Stopped(recording_id, rfc3339(visible.at), stopped.duration_ms / 1000)
    raise Rejected(Reason.NOT_RECORDING, "No recording is running.")


def recording_view(taped: LatestRecording, call: Call) -> RecordingView:
    """Return the view of a recording, with its links if it is finished."""
    recording, links = taped.recording, taped.links
    stopped_at = recording.stopped_at
    return RecordingView(
        recording_id=derived_id(taped.session_id, recording.recording_id),
        started_at=rfc3339(recording.started_at),
        stopped_at=when(stopped_at),
        duration=None if stopped_at is None else (stopped_at - recording.started_at) / 1000,
        status=taped.status,
        download_link=None if links is None else links.download_url,
        access_link=None if links is None else AccessLink(links.access_url, rfc3339(links.expires_at)),
    )


def participant_list(state: State, call: Call) -> list[ParticipantView]:
    """Return all participants, with those invited, waiting, gone and removed."""
    return [participant_view(state, participant) for participant in state.participants.values()]


def participant_view(state: State, participant: Participant) -> ParticipantView:
    """Return the view of a participant. `createdAt` and `updatedAt` are the first and last change of their status."""
    allowed = effective(state, participant)
    instants = (participant.invited_at, participant.joined_at, participant.left_at, participant.kicked_at)
    moments = [at for at in instants if at is not None]
    leads = participant.user_id == state.session.owner_id or participant.role != "member"
    return ParticipantView(
        id=derived_id(state.session.id, participant.user_id),
        user_id=participant.user_id,
        session_id=state.session.id,
        role="instructor" if leads else "student",
        joined_at=when(participant.joined_at),
        left_at=when(participant.left_at),
        was_kicked=participant.status in ("kicked", "denied"),
        mic_allowed="speak" in allowed,
        camera_allowed="video" in allowed,
        created_at=rfc3339(min(moments, default=state.session.created_at)),
        updated_at=rfc3339(max(moments, default=state.session.updated_at)),
    )


@refuses(unknown_participant=404)
def path_participant_view(state: State, call: Call) -> ParticipantView:
    """Return the participant whom the path names. Raise Rejected if there is none."""
    return participant_view(state, path_participant(state, call))


def own_view(state: State, call: Call) -> ParticipantView:
    """Return the caller as a participant."""
    return participant_view(state, state.participants[call.principal.user_id])


@refuses(unknown_participant=404)
def path_participant(state: State, call: Call) -> Participant:
    """Return the participant whom the path names. Raise Rejected if there is none."""
    participant = state.participants.get(UserId(call.params.get("user_id", "")))
    if participant is None:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, "There is no such participant in this session.")
    return participant
