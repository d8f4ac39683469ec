"""Presence: who has a stream open. A participant without one leaves when the grace time is over.

**Law:** a participant who left only because their stream was lost rejoins by opening one, unless they were removed.
"""

from itertools import takewhile

from actors.session import commands as c
from actors.session import events as e
from actors.session.access import CLOSED, Ask, may, membership
from actors.session.aspects.roster import join, set_online
from actors.session.ids import Millis, UserId
from actors.session.permissions import known_to_all, not_in
from actors.session.state import State


def connect(state: State, command: c.Connect, by: c.Caller, now: Millis) -> list[e.Event]:
    """Record that a stream opens. A participant whose stream was lost rejoins by it; others have to join first."""
    participant = state.participants.get(by.user_id)
    if state.session.status in CLOSED:
        if not may(Ask.STATE, membership(state, by.user_id)):
            raise not_in(state, by.user_id)
        return []
    if participant and participant.status in ("joined", "waiting"):
        return [] if participant.online else [e.ParticipantOnline(user_id=by.user_id)]
    if command.join or (participant and participant.status == "left" and participant.gone):
        return [*join(state, c.Join(), by, now), e.ParticipantOnline(user_id=by.user_id)]
    if by.user_id == state.session.owner_id:
        return []
    raise not_in(state, by.user_id)


def disconnect(state: State, command: c.Disconnect, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = state.participants.get(by.user_id)
    return [e.ParticipantOffline(user_id=by.user_id)] if participant and participant.online else []


def lose_connections(state: State, command: c.LoseConnections, by: c.Caller, now: Millis) -> list[e.Event]:
    lost = [u for u in command.user_ids if (participant := state.participants.get(u)) and participant.online]
    # Two events: members do not learn of participants in the lobby.
    groups = ([u for u in lost if known_to_all(state, u) is known] for known in (True, False))
    return [e.ConnectionsLost(user_ids=user_ids) for user_ids in groups if user_ids]


def gone(state: State, now: Millis) -> list[e.Event]:
    """Return the departures of the participants whose grace time is over."""
    latest = now - state.session.grace_ms
    due = takewhile(lambda item: item[1] <= latest, state.away.items())
    return [e.ParticipantLeft(user_id=user_id, reason="gone", last_seen=since) for user_id, since in due]


def grace_end(state: State) -> Millis | None:
    """Return when the next grace time is over; None if no participant is away."""
    for since in state.away.values():
        return Millis(since + state.session.grace_ms)
    return None


# Appliers


def on_online(state: State, event: e.ParticipantOnline, recorded: e.Recorded) -> None:
    set_online(state, state.participants[event.user_id], True)
    state.away.pop(event.user_id, None)


def on_offline(state: State, event: e.ParticipantOffline, recorded: e.Recorded) -> None:
    go_away(state, event.user_id, recorded.at)


def on_connections_lost(state: State, event: e.ConnectionsLost, recorded: e.Recorded) -> None:
    for user_id in event.user_ids:
        go_away(state, user_id, recorded.at)


def go_away(state: State, user_id: UserId, at: Millis) -> None:
    """Record that a participant has no stream open since `at`."""
    set_online(state, state.participants[user_id], False)
    state.away[user_id] = at


HANDLERS = {
    c.Connect: connect,
    c.Disconnect: disconnect,
    c.LoseConnections: lose_connections,
}
APPLIERS = {
    e.ParticipantOnline: on_online,
    e.ParticipantOffline: on_offline,
    e.ConnectionsLost: on_connections_lost,
}
