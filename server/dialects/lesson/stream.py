"""The socket of `lesson`: frames from events, and commands from messages.

A frame that reports a state reports it as it is when the frame is made, not as the event left it.
"""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.api import dialect_frames as frames
from server.api.dialect import Told
from server.api.routes import Frame
from server.dialects.lesson.bodies import (
    EventType,
    Media,
    NewEvent,
    PermissionMessage,
    Target,
    is_muted,
    kick,
    log_event,
    set_media,
    set_permissions,
    status,
    terminate,
)
from server.dialects.lesson.views import (
    MediaState,
    Rights,
    SessionState,
    media_state,
    moment,
    rights,
    role_of,
    session_state,
    session_view,
)
from server.http.problems import Problem
from server.streams.format import Bye

Data = dict[str, Any]  # Any: JSON values
"""The data of a frame: a JSON object."""


def plain(visible: VisibleEvent, state: State) -> Data:
    """Return all fields of an event, its actor and its time."""
    return {"user_id": visible.actor_id, **structs.asdict(visible.event), "at": moment(visible.at)}


def joined(visible: VisibleEvent, state: State) -> Data:
    """Return the participant who joined."""
    event: Any = visible.event
    return {
        "user_id": event.user_id, "name": event.name, "role": role_of(state, event.user_id), "at": moment(visible.at),
    }  # fmt: skip


def left(visible: VisibleEvent, state: State) -> Data:
    """Return the participant who left."""
    event: Any = visible.event
    return {"user_id": event.user_id, "reason": event.reason, "at": moment(visible.at)}


def kicked(visible: VisibleEvent, state: State) -> Data:
    """Return the participant who was removed."""
    event: Any = visible.event
    return {
        "user_id": event.user_id, "banned": event.banned, "reason": event.reason, "at": moment(visible.at),
    }  # fmt: skip


def offline(visible: VisibleEvent, state: State) -> list[Data]:
    """Return the participants who lost their connection, one frame each."""
    event: Any = visible.event
    return [{"user_id": user_id, "at": moment(visible.at)} for user_id in event.user_ids]


def rights_changed(visible: VisibleEvent, state: State) -> Rights:
    """Return a participant's role and permissions as they are now."""
    event: Any = visible.event
    return rights(state, event.user_id)


def media_changed(visible: VisibleEvent, state: State) -> MediaState:
    """Return the media that the event reports."""
    event: Any = visible.event
    return MediaState(
        user_id=event.user_id, video_enabled=event.video, audio_enabled=event.audio, screen_sharing=event.screen
    )


def media_after(visible: VisibleEvent, state: State) -> list[MediaState]:
    """Return the present media of the participants whom an event may have muted, one frame each."""
    event: Any = visible.event
    user_ids = event.user_ids if isinstance(event, e.AllMuted) else [event.user_id]
    participants = [state.participants[user_id] for user_id in user_ids]
    return [media_state(participant) for participant in participants if participant.status == "joined"]


def unchanged(*kinds: type[e.Event]) -> dict[type[e.Event], Told]:
    """Return the entries of events that keep their names and fields."""
    return {kind: (str(kind.__struct_config__.tag), plain) for kind in kinds}


MEDIA = "media_state_update"
EVENTS: dict[type[e.Event], Told] = {
    **unchanged(
        e.SessionStarted, e.SessionEnded, e.SessionCancelled, e.SessionLocked, e.SessionUnlocked,
        e.ParticipantOnline, e.ParticipantOffline, e.UnmuteRequested,
        e.HandRaised, e.HandLowered, e.HandsLowered, e.HandCalled,
        e.ChatMessage, e.MessageDeleted, e.MessageReacted,
        e.BoardDrawn, e.BoardErased, e.BoardCleared, e.BoardRestored, e.EventLogged,
    ),
    e.SessionUpdated: ("session_updated", lambda visible, state: session_view(state.session)),
    e.ParticipantJoined: ("participant_joined", joined),
    e.ParticipantLeft: ("participant_left", left),
    e.ParticipantKicked: ("participant_kicked", kicked),
    e.ConnectionsLost: ("participant_offline", offline),
    e.RoleChanged: [("role_changed", rights_changed), (MEDIA, media_after)],
    e.PermissionsChanged: [("permissions_changed", rights_changed), (MEDIA, media_after)],
    e.MediaChanged: (MEDIA, media_changed),
    e.ParticipantMuted: (MEDIA, media_after),
    e.AllMuted: (MEDIA, media_after),
}  # fmt: skip
SILENT: frozenset[type[e.Event]] = frozenset({
    e.SessionCreated, e.SessionDeleted, e.ParticipantInvited, e.ParticipantWaiting, e.ParticipantDenied,
    e.ParticipantUnmuted,
    e.AudioSelected, e.AudioPlay, e.AudioPause, e.AudioSeek, e.AudioSpeed, e.AudioStop, e.AudioEnded,
    e.QuestionAsked, e.QuestionApproved, e.QuestionUpvoted, e.QuestionAnswered, e.QuestionDismissed,
    e.PollOpened, e.PollVoted, e.PollClosed,
    e.CodeEdited, e.CodeMerged, e.CodeCompacted, e.LanguageChanged, e.RecordingStarted, e.RecordingStopped,
    e.RecordingUpdated, e.AudioUploaded,
})  # fmt: skip
"""Events without a frame: they belong to features that this product does not have."""


def first(state: State, viewer: UserId, now: Millis) -> list[tuple[str, SessionState]]:
    """Return the first frame: the session as the viewer may see it."""
    return [("session_state", session_state(state, viewer, now))]


def failed(problem: Problem, kind: str) -> bytes:
    """Return the frame that tells a client why its message was rejected. `type` is the message's own."""
    error = {"detail": problem.detail, "reason": problem.reason, "field": problem.field, "type": kind or None}
    return frames.typed("error", msgspec.json.encode(error), None)


def logging(kind: EventType) -> Frame:
    """Return the message type that adds an event of this type to the log."""
    return Frame(dict[str, Any], lambda call: c.LogEvent(event_type=kind, data=call.body))


SET_MEDIA = Frame(Media, set_media, is_muted)
MESSAGES: Mapping[str, Frame] = {
    "media_state": SET_MEDIA,
    "media_state_update": SET_MEDIA,
    "event": Frame(NewEvent, log_event),
    "permissions": Frame(PermissionMessage, set_permissions),
    "kick": Frame(Target, kick),
    "terminate": Frame(dict[str, Any], terminate, status),
    **{kind: logging(kind) for kind in get_args(EventType)},
}
CLOSES: Mapping[Bye, int] = {
    "left": 1000, "admitted": 1012, "expired": 4401, "kicked": 4403, "slow": 4408, "ended": 4410, "draining": 1012,
}  # fmt: skip
REFUSALS = {401: 4401, 403: 4403, 404: 4403, 409: 4403, 410: 4410, 429: 1013, 503: 1013}
