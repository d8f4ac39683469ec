"""The stream of `seeds`: the first frames that a client receives, and frames from events.

Participants and users appear by number. The product has no direct messages, so that none gets a frame.
"""

from collections.abc import Mapping
from typing import Any, get_args

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import Participant, State
from actors.session.visibility import VisibleEvent
from server.api.dialect import Relayed, Told
from server.dialects.seeds.audio_views import playback_fields
from server.dialects.seeds.bodies import REMOVED
from server.dialects.seeds.views import joined, naive, number_of, teaches
from server.streams.format import Bye

Data = dict[str, Any]  # Any: JSON values
"""The data of a frame: a JSON object."""


def numbers(state: State, user_id: UserId) -> Data:
    """Return a participant's numbers: within the session, and as a user."""
    participant = state.participants[user_id]
    return {"participant_id": participant.number, "user_id": participant.user_number}


def event_user(visible: VisibleEvent, state: State) -> Data:
    """Return the participant whom an event concerns."""
    event: Any = visible.event
    return numbers(state, event.user_id)


def event_users(visible: VisibleEvent, state: State) -> list[Data]:
    """Return the participants whom an event concerns, one frame each."""
    event: Any = visible.event
    return [numbers(state, user_id) for user_id in event.user_ids]


def participant_joined(visible: VisibleEvent, state: State) -> Data:
    """Return the participant who joined."""
    event: Any = visible.event
    participant = state.participants[event.user_id]
    return {
        **numbers(state, event.user_id), "name": participant.name, "is_muted": event.muted,
        "is_teacher": teaches(state, participant),
    }  # fmt: skip


def participant_left(visible: VisibleEvent, state: State) -> Data | None:
    """Return the participant who left; None if they left the lobby, because they had not joined."""
    event: Any = visible.event
    joined_at = state.participants[event.user_id].joined_at
    return None if joined_at is None or joined_at > visible.at else numbers(state, event.user_id)


def muting(state: State, user_id: UserId, muted: bool) -> Data:
    """Return whether a participant is muted."""
    return {"participant_id": number_of(state, user_id), "is_muted": muted}


def muted(visible: VisibleEvent, state: State) -> Data:
    """Return the participant who was muted or unmuted."""
    event: Any = visible.event
    return muting(state, event.user_id, isinstance(event, e.ParticipantMuted))


def all_muted(visible: VisibleEvent, state: State) -> list[Data]:
    """Return the participants who were muted, one frame each."""
    event: Any = visible.event
    return [muting(state, user_id, True) for user_id in event.user_ids]


def muted_by_rights(visible: VisibleEvent, state: State) -> Data | None:
    """Return a participant who is muted after a change of their rights: they may have lost the right to speak."""
    event: Any = visible.event
    participant = state.participants[event.user_id]
    return muting(state, event.user_id, True) if participant.status == "joined" and participant.muted else None


def chat(visible: VisibleEvent, state: State) -> Data | None:
    """Return a message to everyone; None for a direct message."""
    event: Any = visible.event
    if event.to is not None:
        return None
    sender = state.participants.get(visible.actor_id or UserId(""))
    data = {
        "from": sender and sender.number,
        "sender_name": sender.name if sender is not None else state.session.owner_name,
        "text": event.text,
        "timestamp": naive(visible.at),
    }
    return data if event.voice is None else data | {"audio_id": event.voice.number, "duration": event.voice.duration_s}


def ended(visible: VisibleEvent, state: State) -> Data:
    """Return the session and when it ended."""
    return {"session_id": state.session.number, "ended_at": naive(visible.at)}


def invitation(visible: VisibleEvent, state: State) -> Data:
    """Return the session and the student who was invited."""
    event: Any = visible.event
    return {"session_id": state.session.number, "title": state.session.title, "student_id": event.user_number}


def selected(visible: VisibleEvent, state: State) -> Data:
    """Return the track that was selected."""
    event: Any = visible.event
    return {"audio_id": event.number, "title": event.title}


def played(visible: VisibleEvent, state: State) -> Data:
    """Return the track that plays, its speed, and its position in seconds."""
    event: Any = visible.event
    return {"audio_id": event.number, "speed": event.speed, "position": event.position}


def speed_changed(visible: VisibleEvent, state: State) -> Data | None:
    """Return the track that plays at another speed; None while nothing plays."""
    event: Any = visible.event
    return played(visible, state) if event.playing else None


def paused(visible: VisibleEvent, state: State) -> Data:
    """Return the position at which playback paused, in seconds; stopping returns to the start."""
    event: Any = visible.event
    return {"position": 0.0 if isinstance(event, e.AudioStop) else event.position}


def position_changed(visible: VisibleEvent, state: State) -> Data:
    """Return the track and its new position in seconds."""
    event: Any = visible.event
    return {"audio_id": event.number, "position": event.position}


EVENTS: Mapping[type[e.Event], Told] = {
    e.ParticipantJoined: ("participant_joined", participant_joined),
    e.ParticipantLeft: ("participant_left", participant_left),
    e.ParticipantKicked: ("participant_kicked", event_user),
    e.ParticipantInvited: ("session_invitation", invitation),
    e.ParticipantMuted: ("participant_muted", muted),
    e.ParticipantUnmuted: ("participant_muted", muted),
    e.AllMuted: ("participant_muted", all_muted),
    e.RoleChanged: ("participant_muted", muted_by_rights),
    e.PermissionsChanged: ("participant_muted", muted_by_rights),
    e.HandRaised: ("hand_raised", event_user),
    e.HandLowered: ("hand_lowered", event_user),
    e.HandCalled: ("hand_lowered", event_user),
    e.HandsLowered: ("hand_lowered", event_users),
    e.ChatMessage: ("chat", chat),
    e.SessionEnded: ("session_ended", ended),
    e.SessionCancelled: ("session_ended", ended),
    e.AudioSelected: ("audio_selected", selected),
    e.AudioPlay: ("audio_play", played),
    e.AudioSpeed: ("audio_play", speed_changed),
    e.AudioPause: ("audio_pause", paused),
    e.AudioStop: ("audio_pause", paused),
    e.AudioSeek: ("audio_seek", position_changed),
}
SILENT: frozenset[type[e.Event]] = frozenset(get_args(e.DurableEvent)) - EVENTS.keys()


def signal(event: e.SignalSent, by: UserId, at: Millis, state: State) -> tuple[str, Data]:
    """Return the frame of a WebRTC signal from one participant to another."""
    sides = {"from": number_of(state, by), "to": number_of(state, event.to)}
    return "webrtc_signal", {**sides, "payload": event.payload}


RELAYS: Mapping[type, Relayed] = {e.SignalSent: signal}


def first(state: State, viewer: UserId, now: Millis) -> list[tuple[str, Data]]:
    """Return the first frames: the session as the viewer may see it. A viewer in the lobby sees nobody else."""
    own = state.participants.get(viewer)
    waiting = own is not None and own.status == "waiting"
    visible = [own] if waiting and own is not None else joined(state)
    playback = playback_fields(state, now)
    return [
        (
            "connected",
            {
                "session_id": state.session.number,
                "participant_id": own and own.number,
                "user_id": own.user_number if own is not None else state.session.owner_number,
            },
        ),
        (
            "session_state",
            {
                "participant_id": own and own.number,
                "participants": {str(one.number): participant_fields(state, one) for one in visible},
                "playback": {name: playback[name] for name in ("audio_id", "status", "speed", "position")},
            },
        ),
    ]


def participant_fields(state: State, participant: Participant) -> Data:
    """Return a participant as the first frames list them."""
    return {
        "user_id": participant.user_number, "name": participant.name, "is_muted": participant.muted,
        "raised_hand": participant.user_id in state.hands, "is_teacher": teaches(state, participant),
    }  # fmt: skip


def last(bye: Bye) -> tuple[str, Data] | None:
    """Return the last frame: the reason for a participant who was removed, none for the others."""
    return ("kicked", {"reason": REMOVED}) if bye == "kicked" else None
