"""Muting: by participants themselves, or by moderators. Participants may unmute themselves while they may speak.

A participant who loses the right to speak is muted without an event (`roles.drop_rights`).
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis
from actors.session.permissions import RANKS, moderated, require, role_of, self_or_moderated
from actors.session.state import Participant, State


def mute(state: State, command: c.Mute, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = self_or_moderated(state, by, command.user_id)
    return [] if participant.muted else [e.ParticipantMuted(user_id=participant.user_id)]


def unmute(state: State, command: c.Unmute, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = self_or_moderated(state, by, command.user_id)
    if participant.user_id == by.user_id:
        require(state, by, "speak")
    return [e.ParticipantUnmuted(user_id=participant.user_id)] if participant.muted else []


def mute_all(state: State, command: c.MuteAll, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    spared = {by.user_id, state.session.owner_id, *command.except_}
    rank = RANKS[role_of(state, by.user_id) or "observer"]
    loud = (p for p in state.participants.values() if p.status == "joined" and not p.muted)
    user_ids = [p.user_id for p in loud if p.user_id not in spared and RANKS[p.role] <= rank]
    return [e.AllMuted(user_ids=user_ids)] if user_ids else []


def request_unmute(state: State, command: c.RequestUnmute, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = moderated(state, by, command.user_id)
    return [e.UnmuteRequested(user_id=participant.user_id)] if participant.muted else []


# Appliers


def on_muted(state: State, event: e.ParticipantMuted, recorded: e.Recorded) -> None:
    mute_audio(state.participants[event.user_id])


def mute_audio(participant: Participant) -> None:
    """Mute a participant and stop their audio."""
    participant.muted = True
    participant.audio = False


def on_unmuted(state: State, event: e.ParticipantUnmuted, recorded: e.Recorded) -> None:
    state.participants[event.user_id].muted = False


def on_all_muted(state: State, event: e.AllMuted, recorded: e.Recorded) -> None:
    for user_id in event.user_ids:
        mute_audio(state.participants[user_id])


def on_unmute_requested(state: State, event: e.UnmuteRequested, recorded: e.Recorded) -> None:
    """Change nothing: the participant decides, and answers by unmuting."""


HANDLERS = {
    c.Mute: mute,
    c.Unmute: unmute,
    c.MuteAll: mute_all,
    c.RequestUnmute: request_unmute,
}
APPLIERS = {
    e.ParticipantMuted: on_muted,
    e.ParticipantUnmuted: on_unmuted,
    e.AllMuted: on_all_muted,
    e.UnmuteRequested: on_unmute_requested,
}
