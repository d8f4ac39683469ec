"""The machine: `decide` turns a command into events, `apply` turns events into state.

**Law:** `decide` changes nothing and `apply` decides nothing. `apply` never raises on events that `decide` returned.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from actors.session import commands as c
from actors.session import events as e
from actors.session.access import CLOSED
from actors.session.aspects import (
    board,
    chat,
    client_events,
    code,
    hands,
    lifecycle,
    media,
    mutes,
    playback,
    polls,
    presence,
    questions,
    recording,
    roles,
    roster,
)
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, SessionId, UserId
from actors.session.permissions import require_current
from actors.session.state import State, Status

Handler = Callable[[State, Any, c.Caller, Millis], list[e.Event]]
Applier = Callable[[State, Any, e.Recorded], None]

ASPECTS = (
    lifecycle, roster, presence, roles, mutes, hands, media, playback, chat, questions, polls, code, board, recording,
    client_events,
)  # fmt: skip


def tick(state: State, command: c.Tick, by: c.Caller, now: Millis) -> list[e.Event]:
    """Return everything that is due by now."""
    return lifecycle.due_events(state, now) or [*playback.track_ended(state, now), *presence.gone(state, now)]


HANDLERS: dict[type, Handler] = {c.Tick: tick}
APPLIERS: dict[type, Applier] = {}
for aspect in ASPECTS:
    HANDLERS.update(aspect.HANDLERS)
    APPLIERS.update(aspect.APPLIERS)


def together(state: State, command: c.Together, by: c.Caller, now: Millis) -> list[e.Event]:
    """Return the events of several commands, each decided on the state after those before it: all or none.

    Raise Rejected if one of them is refused."""
    copy = restored(snapshot(state))
    events: list[e.Event] = []
    for one in command.commands:
        decided = decide(copy, one, by, now)
        for recorded in record(copy.session.id, copy.epoch, copy.seq, now, by.user_id, decided):
            apply(copy, recorded)
        events += decided
    return events


HANDLERS[c.Together] = together

LIVE: frozenset[Status] = frozenset({"live"})
OPEN: frozenset[Status] = frozenset({"scheduled", "live"})
ANY: frozenset[Status] = frozenset({"scheduled", "live", "ended", "cancelled"})
ALLOWED_STATUS: dict[type, frozenset[Status]] = {
    **dict.fromkeys(HANDLERS, LIVE),
    **dict.fromkeys((c.SelectAudio, c.EditCode, c.SetLanguage, c.RestoreCode, c.MergeCode, c.Merge), OPEN),
    **dict.fromkeys((c.Start, c.Cancel, c.Update, c.Lock, c.Unlock), OPEN),
    **dict.fromkeys((c.Join, c.Leave, c.Invite, c.Admit, c.Deny, c.Kick, c.SetRole, c.SetPermissions), OPEN),
    **dict.fromkeys((c.Connect, c.Disconnect, c.LoseConnections, c.Tick, c.Delete, c.DeleteMessage, c.Compact), ANY),
    c.LogAudioUpload: ANY,
    c.ReportRecording: ANY,
    c.Together: ANY,
}
"""The statuses of the session in which each command is possible."""


def decide(state: State, command: c.Command, by: c.Caller, now: Millis) -> list[e.Event]:
    """Return the events of a command; [] if it would change nothing. Raise Rejected if it is refused."""
    kind = type(command)
    session = state.session
    require_current(state, by)
    if session.status not in ALLOWED_STATUS[kind]:
        if session.status in CLOSED:
            raise lifecycle.closed_rejection(session)
        raise Rejected(Reason.NOT_LIVE, "The session has not started yet; wait until a host starts it.")
    return HANDLERS[kind](state, command, by, now)


def apply(state: State, recorded: e.Recorded) -> None:
    """Change the state by an event, in place."""
    APPLIERS[type(recorded.event)](state, recorded.event, recorded)
    state.seq = recorded.seq
    state.epoch = recorded.epoch
    state.at = recorded.at


def record(
    session_id: SessionId, epoch: int, seq: int, at: Millis, actor_id: UserId | None, events: Iterable[e.Event]
) -> list[e.Recorded]:
    """Return the durable ones among events in their envelopes, numbered from `seq` + 1."""
    durable = (event for event in events if type(event) not in e.EPHEMERAL)
    return [
        e.Recorded(session_id, epoch, number, at, actor_id, event)  # type: ignore[arg-type]
        for number, event in enumerate(durable, seq + 1)
    ]


def replay(log: Iterable[e.Recorded], state: State | None = None) -> State:
    """Return the state after a log, which begins with its first row or continues from `state`, which is changed.

    Raise ValueError for a log without rows and state."""
    for recorded in log:
        if state is None:
            state = lifecycle.initial_state(recorded)
        else:
            apply(state, recorded)
    if state is None:
        raise ValueError("a log with no rows describes no session")
    return state


def deadline(state: State) -> Millis | None:
    """Return when the next Tick is due; None if time alone changes nothing."""
    due = [at for at, _ in lifecycle.deadlines(state)]
    due += [at for at in (playback.track_end(state), presence.grace_end(state)) if at is not None]
    return min(due, default=None)


def snapshot(state: State) -> bytes:
    """Encode a state as a snapshot."""
    return SNAPSHOTS.encode(state)


def restored(snapshot: bytes) -> State:
    """Decode a snapshot. The state equals the one that was encoded."""
    return STATES.decode(snapshot)


SNAPSHOTS = msgspec.msgpack.Encoder()
STATES = msgspec.msgpack.Decoder(State)
