"""The stream of `seeds`: what a newcomer gets first, and what is told as a session goes on."""

from collections.abc import Mapping
from typing import Any, get_args

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import Participant, State
from server.api.dialect import Relayed, Told
from server.dialects.seeds.audio_views import standing
from server.dialects.seeds.bodies import REMOVED
from server.dialects.seeds.views import joined, naive, number_of, teaches
from server.streams.format import Bye

Data = dict[str, Any]


def who(state: State, user_id: UserId) -> Data:
    place = state.participants[user_id]
    return {"participant_id": place.number, "user_id": place.user_number}


def about(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return who(state, event.user_id)


def about_each(recorded: e.Recorded, state: State) -> list[Data]:
    event: Any = recorded.event
    return [who(state, user_id) for user_id in event.user_ids]


def arrived(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    place = state.participants[event.user_id]
    return {
        "participant_id": place.number, "user_id": place.user_number, "name": place.name, "is_muted": event.muted,
        "is_teacher": teaches(state, place),
    }  # fmt: skip


def left(recorded: e.Recorded, state: State) -> Data | None:
    """Say that somebody has left; whoever leaves the lobby has not been here."""
    event: Any = recorded.event
    joined_at = state.participants[event.user_id].joined_at
    return None if joined_at is None or joined_at > recorded.at else who(state, event.user_id)


def muting(state: State, user_id: UserId, muted: bool) -> Data:
    return {"participant_id": number_of(state, user_id), "is_muted": muted}


def muted(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return muting(state, event.user_id, isinstance(event, e.ParticipantMuted))


def all_muted(recorded: e.Recorded, state: State) -> list[Data]:
    event: Any = recorded.event
    return [muting(state, user_id, True) for user_id in event.user_ids]


def silenced(recorded: e.Recorded, state: State) -> Data | None:
    """Say that somebody is muted who has perhaps just lost the right to speak."""
    event: Any = recorded.event
    place = state.participants[event.user_id]
    return muting(state, event.user_id, True) if place.status == "joined" and place.muted else None


def chat(recorded: e.Recorded, state: State) -> Data | None:
    """Print a message to everyone; this product knows of no others."""
    event: Any = recorded.event
    if event.to is not None:
        return None
    place = state.participants.get(recorded.actor_id or UserId(""))
    said = {
        "from": place and place.number,
        "sender_name": place.name if place is not None else state.session.owner_name,
        "text": event.text,
        "timestamp": naive(recorded.at),
    }
    return said if event.voice is None else said | {"audio_id": event.voice.number, "duration": event.voice.duration_s}


def ended(recorded: e.Recorded, state: State) -> Data:
    return {"session_id": state.session.number, "ended_at": naive(recorded.at)}


def invitation(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return {"session_id": state.session.number, "title": state.session.title, "student_id": event.user_number}


def selected(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return {"audio_id": event.number, "title": event.title}


def played(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return {"audio_id": event.number, "speed": event.speed, "position": event.position}


def sped(recorded: e.Recorded, state: State) -> Data | None:
    """Another speed is heard only while it plays."""
    event: Any = recorded.event
    return played(recorded, state) if event.playing else None


def paused(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return {"position": 0.0 if isinstance(event, e.AudioStop) else event.position}


def sought(recorded: e.Recorded, state: State) -> Data:
    event: Any = recorded.event
    return {"audio_id": event.number, "position": event.position}


EVENTS: Mapping[type[e.Event], Told] = {
    e.ParticipantJoined: ("participant_joined", arrived),
    e.ParticipantLeft: ("participant_left", left),
    e.ParticipantKicked: ("participant_kicked", about),
    e.ParticipantInvited: ("session_invitation", invitation),
    e.ParticipantMuted: ("participant_muted", muted),
    e.ParticipantUnmuted: ("participant_muted", muted),
    e.AllMuted: ("participant_muted", all_muted),
    e.RoleChanged: ("participant_muted", silenced),
    e.PermissionsChanged: ("participant_muted", silenced),
    e.HandRaised: ("hand_raised", about),
    e.HandLowered: ("hand_lowered", about),
    e.HandCalled: ("hand_lowered", about),
    e.HandsLowered: ("hand_lowered", about_each),
    e.ChatMessage: ("chat", chat),
    e.SessionEnded: ("session_ended", ended),
    e.SessionCancelled: ("session_ended", ended),
    e.AudioSelected: ("audio_selected", selected),
    e.AudioPlay: ("audio_play", played),
    e.AudioSpeed: ("audio_play", sped),
    e.AudioPause: ("audio_pause", paused),
    e.AudioStop: ("audio_pause", paused),
    e.AudioSeek: ("audio_seek", sought),
}
SILENT: frozenset[type[e.Event]] = frozenset(get_args(e.DurableEvent)) - EVENTS.keys()


def signal(event: e.Signal, by: UserId, at: Millis, state: State) -> tuple[str, Data]:
    sides = {"from": number_of(state, by), "to": number_of(state, event.to)}
    return "webrtc_signal", {**sides, "payload": event.payload}


RELAYS: Mapping[type, Relayed] = {e.Signal: signal}


def first(state: State, viewer: UserId, now: Millis) -> list[tuple[str, Any]]:
    """Show a newcomer the session; from the lobby nobody but themselves."""
    own = state.participants.get(viewer)
    waiting = own is not None and own.status == "waiting"
    people = [own] if waiting and own is not None else joined(state)
    stands = standing(state, now)
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
                "participants": {str(place.number): person(state, place) for place in people},
                "playback": {name: stands[name] for name in ("audio_id", "status", "speed", "position")},
            },
        ),
    ]


def person(state: State, place: Participant) -> Data:
    return {
        "user_id": place.user_number, "name": place.name, "is_muted": place.muted,
        "raised_hand": place.user_id in state.hands, "is_teacher": teaches(state, place),
    }  # fmt: skip


def last(bye: Bye) -> tuple[str, Data] | None:
    return ("kicked", {"reason": REMOVED}) if bye == "kicked" else None
