"""The socket of `lesson`: what is told of a session as it goes on, and what may be said."""

from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from server.api import dialect_frames as frames
from server.api.dialect import Frame, Told
from server.dialects.lesson.bodies import (
    EventType,
    Media,
    NewEvent,
    PermissionMessage,
    Whom,
    is_muted,
    kick,
    log_event,
    set_media,
    set_permissions,
    status,
    terminate,
)
from server.dialects.lesson.views import (
    Changed,
    MediaState,
    changed,
    media_state,
    moment,
    role_of,
    session_state,
    session_view,
)
from server.http.problems import Problem
from server.streams.format import Bye


def plain(recorded: e.Recorded, state: State) -> dict[str, Any]:
    """Print an event with all it says, whose it is, and when it was."""
    return {"user_id": recorded.actor_id, **structs.asdict(recorded.event), "at": moment(recorded.at)}


def joined(recorded: e.Recorded, state: State) -> dict[str, Any]:
    event: Any = recorded.event
    return {
        "user_id": event.user_id, "name": event.name, "role": role_of(state, event.user_id), "at": moment(recorded.at),
    }  # fmt: skip


def left(recorded: e.Recorded, state: State) -> dict[str, Any]:
    event: Any = recorded.event
    return {"user_id": event.user_id, "reason": event.reason, "at": moment(recorded.at)}


def kicked(recorded: e.Recorded, state: State) -> dict[str, Any]:
    event: Any = recorded.event
    return {
        "user_id": event.user_id, "banned": event.banned, "reason": event.reason, "at": moment(recorded.at),
    }  # fmt: skip


def offline(recorded: e.Recorded, state: State) -> list[dict[str, Any]]:
    event: Any = recorded.event
    return [{"user_id": user_id, "at": moment(recorded.at)} for user_id in event.user_ids]


def rights_changed(recorded: e.Recorded, state: State) -> Changed:
    event: Any = recorded.event
    return changed(state, event.user_id)


def media_changed(recorded: e.Recorded, state: State) -> MediaState:
    event: Any = recorded.event
    return MediaState(
        user_id=event.user_id, video_enabled=event.video, audio_enabled=event.audio, screen_sharing=event.screen
    )


def media_after(recorded: e.Recorded, state: State) -> list[MediaState]:
    """Give the media states of those whom an event has perhaps silenced, as they are now."""
    event: Any = recorded.event
    user_ids = event.user_ids if isinstance(event, e.AllMuted) else [event.user_id]
    return [media_state(place) for user_id in user_ids if (place := state.participants[user_id]).status == "joined"]


def named(*kinds: type[e.Event]) -> dict[type[e.Event], Told]:
    return {kind: (str(kind.__struct_config__.tag), plain) for kind in kinds}


MEDIA = "media_state_update"
EVENTS: dict[type[e.Event], Told] = {
    **named(
        e.SessionStarted, e.SessionEnded, e.SessionCancelled, e.SessionLocked, e.SessionUnlocked,
        e.ParticipantOnline, e.ParticipantOffline, e.UnmuteRequested,
        e.HandRaised, e.HandLowered, e.HandsLowered, e.HandCalled,
        e.ChatMessage, e.MessageDeleted, e.MessageReacted,
        e.BoardDrawn, e.BoardErased, e.BoardCleared, e.BoardRestored, e.EventLogged,
    ),
    e.SessionUpdated: ("session_updated", lambda recorded, state: session_view(state.session)),
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
"""What a lesson's room has no place for: it is other APIs' business."""


def first(state: State, viewer: UserId, now: Millis) -> list[tuple[str, Any]]:
    return [("session_state", session_state(state, viewer, now))]


def failed(problem: Problem, kind: str) -> bytes:
    """Say what is wrong with a message of the client's; `type` is the message's own."""
    said = {"detail": problem.detail, "reason": problem.reason, "field": problem.field, "type": kind or None}
    return frames.typed("error", msgspec.json.encode(said), None)


def noting(kind: EventType) -> Frame:
    return Frame(dict[str, Any], lambda call: c.LogEvent(event_type=kind, data=call.body))


SET_MEDIA = Frame(Media, set_media, is_muted)
MESSAGES: Mapping[str, Frame] = {
    "media_state": SET_MEDIA,
    "media_state_update": SET_MEDIA,
    "event": Frame(NewEvent, log_event),
    "permissions": Frame(PermissionMessage, set_permissions),
    "kick": Frame(Whom, kick),
    "terminate": Frame(dict[str, Any], terminate, status),
    **{kind: noting(kind) for kind in get_args(EventType)},
}
CLOSES: Mapping[Bye, int] = {
    "left": 1000, "admitted": 1012, "expired": 4401, "kicked": 4403, "slow": 4408, "ended": 4410, "draining": 1012,
}  # fmt: skip
REFUSALS = {401: 4401, 403: 4403, 404: 4403, 409: 4403, 410: 4410, 429: 1013, 503: 1013}
