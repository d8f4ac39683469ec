"""Media: who sends video, audio and their screen. One screen at a time, which a host or cohost may take over.

A soft mute is `mutes.mute`: the participant may unmute. A hard mute revokes the permission `speak` and stops the audio.
"""

from msgspec import UNSET

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import RANKS, joined, require
from actors.session.state import Participant, Permission, State

NEEDS: dict[str, Permission] = {"video": "video", "audio": "speak", "screen": "screen"}


def set_media(state: State, command: c.SetMedia, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = joined(state, by)
    wanted = {name: value for name in NEEDS if (value := getattr(command, name)) is not UNSET}
    for name, value in wanted.items():
        if value:
            require(state, by, NEEDS[name])
    if wanted.get("audio") and participant.muted:
        raise Rejected(Reason.NOT_PERMITTED, "You are muted; `unmute` first.", field="audio")
    events: list[e.Event] = []
    if wanted.get("screen") and state.sharer not in (None, by.user_id):
        sharer = state.participants[state.sharer]
        if RANKS[participant.role] < RANKS["cohost"] or RANKS[participant.role] < RANKS[sharer.role]:
            raise Rejected(Reason.SCREEN_TAKEN, f"{sharer.name} is sharing their screen.", field="screen")
        events.append(e.MediaChanged(sharer.user_id, sharer.video, sharer.audio, False))
    changed = e.MediaChanged(
        participant.user_id,
        wanted.get("video", participant.video),
        wanted.get("audio", participant.audio),
        wanted.get("screen", participant.screen),
    )
    if (changed.video, changed.audio, changed.screen) != (participant.video, participant.audio, participant.screen):
        events.append(changed)
    return events


def on_changed(state: State, event: e.MediaChanged, recorded: e.Recorded) -> None:
    participant = state.participants[event.user_id]
    participant.video, participant.audio, participant.screen = event.video, event.audio, event.screen
    if event.screen:
        state.sharer = event.user_id
    elif state.sharer == event.user_id:
        state.sharer = None


def stop_media(state: State, participant: Participant) -> None:
    """Stop everything that a participant sends."""
    participant.video = participant.audio = participant.screen = False
    if state.sharer == participant.user_id:
        state.sharer = None


HANDLERS = {c.SetMedia: set_media}
APPLIERS = {e.MediaChanged: on_changed}
