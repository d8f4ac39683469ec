"""Who has a stream open, and who is gone: after a grace time without one, a participant leaves.

**Law:** whoever only lost theirs is back in without asking, as long as nobody has put them out.
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
    """Note that a stream is open. Whoever only lost theirs is back in without asking; others have to join."""
    place = state.participants.get(by.user_id)
    if state.session.status in CLOSED:
        if not may(Ask.STATE, membership(state, by.user_id)):
            raise not_in(state, by.user_id)
        return []
    if place and place.status in ("joined", "waiting"):
        return [] if place.online else [e.ParticipantOnline(user_id=by.user_id)]
    if command.join or (place and place.status == "left" and place.gone):
        return [*join(state, c.Join(), by, now), e.ParticipantOnline(user_id=by.user_id)]
    if by.user_id == state.session.owner_id:
        return []
    raise not_in(state, by.user_id)


def disconnect(state: State, command: c.Disconnect, by: c.Caller, now: Millis) -> list[e.Event]:
    place = state.participants.get(by.user_id)
    return [e.ParticipantOffline(user_id=by.user_id)] if place and place.online else []


def lose_connections(state: State, command: c.LoseConnections, by: c.Caller, now: Millis) -> list[e.Event]:
    lost = [u for u in command.user_ids if (place := state.participants.get(u)) and place.online]
    # Apart, as not everybody is told of those in the lobby.
    sides = ([u for u in lost if known_to_all(state, u) is told] for told in (True, False))
    return [e.ConnectionsLost(user_ids=user_ids) for user_ids in sides if user_ids]


def gone(state: State, now: Millis) -> list[e.Event]:
    """Give the departures of those whose grace time is over."""
    latest = now - state.session.grace_ms
    due = takewhile(lambda item: item[1] <= latest, state.away.items())
    return [e.ParticipantLeft(user_id=user_id, reason="gone", last_seen=since) for user_id, since in due]


def grace_end(state: State) -> Millis | None:
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
