"""The machine: command in, events out; events in, state out. See `decide`, `apply`, `replay`, `deadline`.

**Law:** `decide` changes nothing and `apply` decides nothing. `apply` never raises on what `decide` gave.
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
    return lifecycle.by_time(state, now) or [*playback.ended(state, now), *presence.gone(state, now)]


HANDLERS: dict[type, Handler] = {c.Tick: tick}
APPLIERS: dict[type, Applier] = {}
for aspect in ASPECTS:
    HANDLERS.update(aspect.HANDLERS)
    APPLIERS.update(aspect.APPLIERS)


def together(state: State, command: c.Together, by: c.Caller, now: Millis) -> list[e.Event]:
    """Decide one command after the other, each on what those before it made of a copy: all or none."""
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
WHEN: dict[type, frozenset[Status]] = {
    **dict.fromkeys(HANDLERS, LIVE),
    **dict.fromkeys((c.SelectAudio, c.EditCode, c.SetLanguage, c.RestoreCode, c.MergeCode, c.Merge), OPEN),
    **dict.fromkeys((c.Start, c.Cancel, c.Update, c.Lock, c.Unlock), OPEN),
    **dict.fromkeys((c.Join, c.Leave, c.Invite, c.Admit, c.Deny, c.Kick, c.SetRole, c.SetPermissions), OPEN),
    **dict.fromkeys((c.Connect, c.Disconnect, c.LoseConnections, c.Tick, c.Delete, c.DeleteMessage, c.Compact), ANY),
    c.NoteAudio: ANY,
    c.ReportRecording: ANY,
    c.Together: ANY,
}
"""In which status each command makes sense."""


def decide(state: State, command: c.Command, by: c.Caller, now: Millis) -> list[e.Event]:
    """Say what a command makes happen. [] means that it is so already. Raises: Rejected."""
    kind = type(command)
    session = state.session
    require_current(state, by)
    if session.status not in WHEN[kind]:
        if session.status in CLOSED:
            raise lifecycle.closed(session)
        raise Rejected(Reason.NOT_LIVE, "The session has not started yet; a host has to `start` it.")
    return HANDLERS[kind](state, command, by, now)


def apply(state: State, recorded: e.Recorded) -> None:
    """Take an event into the state, in place."""
    APPLIERS[type(recorded.event)](state, recorded.event, recorded)
    state.seq = recorded.seq
    state.epoch = recorded.epoch
    state.at = recorded.at


def record(
    session_id: SessionId, epoch: int, seq: int, at: Millis, actor_id: UserId | None, events: Iterable[e.Event]
) -> list[e.Recorded]:
    """Put events, ephemeral ones left out, into their envelopes, numbered on from `seq`."""
    durable = (event for event in events if type(event) not in e.EPHEMERAL)
    return [
        e.Recorded(session_id, epoch, number, at, actor_id, event)  # type: ignore[arg-type]
        for number, event in enumerate(durable, seq + 1)
    ]


def replay(log: Iterable[e.Recorded], state: State | None = None) -> State:
    """Rebuild a state from its log: from the first row, or on from a snapshot."""
    for recorded in log:
        if state is None:
            state = lifecycle.created(recorded)
        else:
            apply(state, recorded)
    if state is None:
        raise ValueError("a log with no rows describes no session")
    return state


def deadline(state: State) -> Millis | None:
    """Say when the next Tick is due; None: time alone changes nothing."""
    due = [at for at, _ in lifecycle.deadlines(state)]
    due += [at for at in (playback.track_end(state), presence.grace_end(state)) if at is not None]
    return min(due, default=None)


def snapshot(state: State) -> bytes:
    """Encode a state; `restored` gives it back equal."""
    return SNAPSHOTS.encode(state)


def restored(snapshot: bytes) -> State:
    return STATES.decode(snapshot)


SNAPSHOTS = msgspec.msgpack.Encoder()
STATES = msgspec.msgpack.Decoder(State)
