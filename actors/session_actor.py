"""The mailbox around the machine: one actor per live session.

**Law:** what a turn decides is flushed as one `Append`; its replies and its events go out when that has been
committed, replies first, in the order of the log. State runs ahead of the log by what is in flight, so everything
that shows state waits for the commit of what it shows.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from msgspec import Raw, Struct

from actors.commit import JSON, Turn, notification_rows, outgoing
from actors.messages import (
    SYSTEM,
    Answer,
    Execute,
    Fenced,
    Key,
    Outcome,
    Passivate,
    ReadState,
    Reply,
    Snapshot,
    Start,
    StartFailed,
    Subscribe,
    Unavailable,
    UnknownSession,
    Wake,
)
from actors.persistence import CommitFailed, Committed, SaveSnapshot, tell
from actors.ports import Channel, KeyRow, Published, Redaction
from actors.runtime import LoopActor, LoopScheduler
from actors.session import audience, machine, notifications
from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects import chat
from actors.session.errors import Rejected
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Room, State, Status
from actors.yjs import CodeDocument

logger = logging.getLogger(__name__)

FANOUT_COOLDOWN = 0.5
FANOUT_COOLDOWN_MAX_S = 0.02
"""How long a session rests after a fan-out, as a share of the time that took, and at most
(`SessionActor._publish_committed`)."""
KEYS_KEPT = 1_000
"""Idempotency-Keys an actor remembers; older ones are in the log, which refuses to take one twice."""


class Shared(Struct, frozen=True):
    """What every session actor of a process shares: settings, the clock, and whom to tell."""

    persistence: Any
    deferred: LoopScheduler
    full: Callable[[], bool]
    clock: Callable[[], Millis]
    stopped: Callable[["SessionActor"], None]
    snapshot_events: int
    snapshot_ms: int
    commands_per_s: float
    wanted: Callable[[UserId], Collection[str]] = lambda owner_id: ()
    """Types of events of a user's sessions that an endpoint of theirs may want; the commit itself looks closer."""
    told: Callable[[Collection[UserId]], None] = lambda users: None
    """There are notifications for these users, committed."""
    pass_on: Callable[[SessionId, Room, e.Event], None] = lambda session_id, room, event: None
    """Told of what concerns a session's room (`projection.CONCERNS_ROOM`), once it is committed."""


class SessionActor(LoopActor):
    """One live session."""

    # There may be 100,000, and a dict of so many names is 1.3 KB.
    __slots__ = (
        "_allowance_at",
        "_code",
        "_committed_batches",
        "_early",
        "_epoch",
        "_in_flight",
        "_in_hand",
        "_keys",
        "_rest_until",
        "_shared",
        "_snapshot_at",
        "_snapshot_seq",
        "_state",
        "_timer",
        "_timer_at",
        "_turn",
        "_unanswered",
        "_woken",
        "active_at",
        "channel",
        "session_id",
    )  # fmt: skip

    def __init__(self, session_id: SessionId, channel: Channel, shared: Shared) -> None:
        super().__init__()
        self.session_id = session_id
        self.channel = channel
        self._shared = shared
        self._state: State | None = None
        self._code = CodeDocument()
        self._epoch = 0
        self._early: list[Execute | Subscribe | ReadState] = []
        self._in_hand: Reply | None = None
        self._turn: Turn | None = None
        self._in_flight: list[Turn] = []
        self._unanswered = 0
        self._committed_batches: list[Turn] = []
        self._rest_until = 0.0
        self._keys: dict[tuple[UserId, str], KeyRow] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: Millis | None = None
        self._woken = True
        """A timer may have to be set, though nothing has been said."""
        self._snapshot_seq = 0
        self._snapshot_at = Millis(0)
        self._allowance_at = 0.0
        self.active_at = time.monotonic()

    @property
    def status(self) -> Status | None:
        """What the session's is, perhaps before its commit; None while it is being restored."""
        return None if self._state is None else self._state.session.status

    @property
    def backlog(self) -> int:
        """Commands that have come and are not answered yet."""
        return len(self.actor_inbox) + len(self._early) + self._unanswered

    @property
    def idle(self) -> bool:
        undone = self._turn or self._early or self._in_flight or self._committed_batches or len(self.actor_inbox)
        return not (undone or self.channel.users())

    def on_receive(self, message: object) -> None:
        match message:
            case Committed(appends=appends):
                self._committed(appends)
            case Execute() | Subscribe() | ReadState():
                if self._state is None:
                    self._early.append(message)
                else:
                    self._take(self._state, message)
            case Wake():
                self._timer = self._timer_at = None
                self._woken = True
                if self._state is not None:
                    self._execute(self._state, Execute(c.Tick(), SYSTEM))
            case Start():
                self._start(message)
            case StartFailed(why=why):
                self._give_up(Unavailable(why))
            case CommitFailed(fenced=fenced):
                self._give_up(Fenced() if fenced else Unavailable("the log did not answer; it may have been done"))
            case Passivate(idle_since=idle_since):
                if self.idle and self.active_at <= idle_since:
                    self._leave_memory()
            case _:
                raise TypeError(f"SessionActor takes no {type(message).__name__}")

    # One turn: decide, apply, flush

    def _take(self, state: State, message: Execute | Subscribe | ReadState) -> None:
        self._in_hand = message.reply
        match message:
            case Execute():
                self._execute(state, message)
            case Subscribe():
                # Decided at the end of the turn, in the state that they will see: they may just be being removed.
                self.active_at = time.monotonic()
                self._gathering().arrivals.append(message)
            case ReadState():
                self._answer(message.reply, Snapshot(message.view(state)))
        self._in_hand = None

    def _execute(self, state: State, message: Execute) -> None:
        self.active_at = time.monotonic()
        by, reply = message.by, message.reply
        if message.key is not None and (known := self._keys.get((by.user_id, message.key.key))):
            self._answer(reply, message.key.outcome(known))
            return
        # What the server does by itself is little, and nobody would ask for it again.
        if by is not SYSTEM and not self._allowance():
            self._answer(reply, Unavailable("this session gets more commands than it takes", busy=True))
            return
        if by is not SYSTEM and self._shared.full():
            self._answer(reply, Unavailable("the log is behind"))
            return
        if type(message.command) is c.Disconnect and self._listens(by.user_id):
            # Another stream of theirs has come meanwhile: when that closes, or does not come after all, we hear of it.
            self._answer(reply, Answer(state.seq, []))
            return
        now = self._shared.clock()
        try:
            events = self._code.decide(state, message.command, by, now)
        except Rejected as rejected:
            self._answer(reply, rejected)
            return
        published = self._record(state, events, by, now)
        if message.key is not None:
            self._remember(by.user_id, message.key, state.seq - len(published) + 1, state.seq, now)
        relayed = bool(events) and not published
        self._answer(reply, Answer(state.seq, published, ephemeral=relayed))

    def _answer(self, reply: Reply | None, outcome: Outcome) -> None:
        if reply is not None:
            self._gathering().replies.append((reply, outcome))
            self._unanswered += 1

    def _gathering(self) -> Turn:
        turn = self._turn
        if turn is None:
            assert self._state is not None
            turn = self._turn = Turn(self._state.seq)
        return turn

    def _record(self, state: State, events: Sequence[e.Event], by: c.Caller, now: Millis) -> list[Published]:
        """Apply events and queue them for this turn's flush; relay the ephemeral ones at once."""
        actor_id = by.user_id or None
        published = []
        for event in events:
            if type(event) in e.EPHEMERAL:
                self.channel.relay(event, by.user_id, now, audience.audience(state, event, actor_id), state)
                continue
            turn = self._gathering()
            if type(event) is e.MessageDeleted and (redacted := chat.redaction(state, event)):
                turn.redactions.append(Redaction(redacted[0], Raw(JSON.encode(redacted[1]))))
            if type(event) in notifications.TELLING:
                turn.notifications += notification_rows(state, event, by, now)
            recorded = e.Recorded(self.session_id, self._epoch, state.seq + 1, now, actor_id, event)  # type: ignore[arg-type]
            machine.apply(state, recorded)
            whom = audience.audience(state, event, actor_id)
            out = Published(recorded, JSON.encode(event), whom, state)
            if type(event) in audience.ANONYMOUS:
                out.confidants = audience.confidants(state, event, actor_id)
            published.append(out)
            turn.published.append(out)
            turn.project(event, state)
        return published

    def _remember(self, user_id: UserId, key: Key, first_seq: int, last_seq: int, now: Millis) -> None:
        row = KeyRow(user_id, key.key, key.digest, first_seq, last_seq, now)
        self._gathering().keys.append(row)
        self._keep_key(row)

    def _keep_key(self, row: KeyRow) -> None:
        self._keys[row.user_id, row.key] = row
        if len(self._keys) > KEYS_KEPT:
            del self._keys[next(iter(self._keys))]

    def _allowance(self) -> bool:
        """Take one command out of the session's rate (generic cell rate, one second's burst)."""
        now = self.active_at
        due = max(self._allowance_at, now) + 1 / self._shared.commands_per_s
        if due - now > 1:
            return False
        self._allowance_at = due
        return True

    def _listens(self, user_id: UserId) -> bool:
        """Say whether somebody has a stream open, or one that has been let in and waits for its commit."""
        turns = (*self._in_flight, *self._committed_batches)
        awaited = any(one.by is not None and one.by.user_id == user_id for turn in turns for one in turn.arrivals)
        return awaited or user_id in self.channel.users()

    def _let_in(self, turn: Turn, state: State) -> None:
        """Decide on those who want to watch: whoever may is among the turn's arrivals from now on."""
        admitted = []
        for arrival in turn.arrivals:
            refusal = self._connected(state, arrival)
            if refusal is None:
                admitted.append(arrival)
            else:
                self._answer(arrival.reply, refusal)
        turn.arrivals = admitted

    def _connected(self, state: State, arrival: Subscribe) -> Outcome | None:
        """Note that somebody's stream opens, or say why it may not."""
        if self._shared.full():
            return Unavailable("the log is behind")
        if (by := arrival.by) is not None:
            now = self._shared.clock()
            try:
                events = machine.decide(state, c.Connect(join=arrival.join), by, now)
            except Rejected as rejected:
                return rejected
            self._record(state, events, by, now)
        return None

    def on_drained(self) -> None:
        state, turn = self._state, self._turn
        if state is None or (turn is None and not self._woken):
            return
        self._woken = False
        if turn is not None and turn.arrivals:
            self._let_in(turn, state)
        due = machine.deadline(state)
        if turn is not None:
            self._flush(turn, state, due)
        if due != self._timer_at:
            self._set_timer(due)

    def _flush(self, turn: Turn, state: State, due: Millis | None) -> None:
        if turn.view_changed:
            earlier = (*self._in_flight, *self._committed_batches)
            arriving = [one.subscriber for other in earlier for one in other.arrivals]
            if refresh := self.channel.refresh(turn.view_changed, arriving, state):
                turn.after.append(refresh)
        if turn.arrivals:
            turn.after.append(self.channel.admit([arrival.subscriber for arrival in turn.arrivals], state))
            for arrival in turn.arrivals:
                self._answer(arrival.reply, Answer(state.seq, []))
        if turn.published or turn.keys:
            turn.appended = True
            wanted = self._shared.wanted(state.session.owner_id)
            append = turn.append(self.actor_ref, self.session_id, self._epoch, state, due, wanted)
            if turn.redactions or self._snapshot_due(state):
                turn.after.append(self._snapshot(state))
            if turn.notifications:
                turn.after.append(partial(self._shared.told, [row.user_id for row in turn.notifications]))
            self._in_flight.append(turn)
            self._shared.persistence.tell(append)
        elif self._in_flight:
            self._in_flight.append(turn)
        else:
            self._on_committed([turn])
        self._turn = None

    def _committed(self, appends: int) -> None:
        # Not told by `seq`: an append that holds a key and no rows ends where the one before it does.
        landed = []
        while self._in_flight and (appends := appends - self._in_flight[0].appended) >= 0:
            landed.append(self._in_flight.pop(0))
        self._on_committed(landed)

    def _on_committed(self, turns: Sequence[Turn]) -> None:
        """Answer, then show: no answer waits for the fan-out, which takes its time."""
        for turn in turns:
            if turn.passed_on:
                self._pass_on(turn.passed_on)
            settle(turn.replies)
            self._unanswered -= len(turn.replies)
        shown = [turn for turn in turns if turn.published or turn.after]
        if not shown:
            return
        if not self._committed_batches:
            if (rest := self._rest_until - time.perf_counter()) > 0:
                self.actor_inbox.loop.call_later(rest, self._publish_committed)
            else:
                self._shared.deferred.add(self._publish_committed)
        self._committed_batches += shown

    def _pass_on(self, events: Sequence[e.Event]) -> None:
        # Before the answers: who has one may ask what the room's provider said to it.
        room = None if self._state is None else self._state.session.room
        if room is not None:
            for event in events:
                self._attempt(partial(self._shared.pass_on, self.session_id, room, event))

    def _publish_committed(self) -> None:
        """Join what goes out in one write, up to where somebody new comes in; then rest for half as long as that took.

        In a large session the fan-out is what everything waits for. While it rests, commits go on and the next fan-out
        grows, so that there are fewer: four times the deliveries, at half the delay. A small session never rests."""
        # Not the loop's own clock: uvloop's stands still within a turn.
        started = time.perf_counter()
        turns, self._committed_batches = self._committed_batches, []
        joined: list[Published] = []
        for turn in turns:
            joined += turn.published
            if turn.after:
                self._publish(joined)
                joined = []
                for effect in turn.after:
                    self._attempt(effect)
        self._publish(joined)
        ended = time.perf_counter()
        self._rest_until = ended + min((ended - started) * FANOUT_COOLDOWN, FANOUT_COOLDOWN_MAX_S)

    def _publish(self, batch: Sequence[Published]) -> None:
        if batch:
            self._attempt(partial(self.channel.publish, batch))

    def _attempt(self, effect: Callable[[], None]) -> None:
        """Do what comes after a commit. What it fails at costs nothing else its turn: nobody would do that again."""
        try:
            effect()
        except Exception:
            logger.exception("showing what session %s has committed went wrong", self.session_id)

    # Snapshots, time and the end of an actor

    def _snapshot_due(self, state: State) -> bool:
        behind = state.seq - self._snapshot_seq
        return behind >= self._shared.snapshot_events or (
            behind > 0 and self._shared.clock() - self._snapshot_at >= self._shared.snapshot_ms
        )

    def _snapshot(self, state: State) -> Callable[[], None]:
        message = SaveSnapshot(self.session_id, state.seq, machine.snapshot(state))
        self._snapshot_seq, self._snapshot_at = state.seq, self._shared.clock()
        return lambda: self._shared.persistence.tell(message)

    def _set_timer(self, due: Millis | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, due
        if due is not None:
            delay = max(0, due - self._shared.clock()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, tell, self.actor_ref, Wake())

    def _start(self, message: Start) -> None:
        if message.claim is None:
            self._give_up(UnknownSession())
            return
        claim = message.claim
        snapshot = None if claim.snapshot is None else machine.restored(claim.snapshot)
        self._snapshot_seq = 0 if snapshot is None else snapshot.seq
        self._snapshot_at = self._shared.clock()
        state = self._state = machine.replay(claim.tail, snapshot)
        self._epoch = claim.epoch
        for key in claim.keys:
            self._keep_key(key)
        # Read after the claim: what another owner has written since then is for whoever restores the session next.
        if missed := [row for row in message.missed if row.seq <= state.seq]:
            self.channel.publish([outgoing(row, state) for row in missed])
        self.channel.restored(state)
        self._reconcile(state)
        due = machine.deadline(state)
        if due is not None and due <= self._shared.clock():
            # What fell due while nobody had the session comes before whoever asks for it now.
            self._execute(state, Execute(c.Tick(), SYSTEM))
        while self._early:
            self._take(state, self._early.pop(0))

    def _reconcile(self, state: State) -> None:
        """Bring presence back in line with the streams that are really open."""
        connected = self.channel.users()
        lost = [u for u, place in state.participants.items() if place.online and u not in connected]
        if lost:
            self._execute(state, Execute(c.LoseConnections(user_ids=lost), SYSTEM))
        for user_id in connected:
            if (place := state.participants.get(user_id)) and not place.online:
                by, now = c.Caller(user_id, place.name), self._shared.clock()
                with contextlib.suppress(Rejected):
                    self._record(state, machine.decide(state, c.Connect(), by, now), by, now)

    def _give_up(self, outcome: Outcome) -> None:
        """Stop without having done what is still in hand, and tell everyone who waits."""
        waiting: list[Reply | None] = [pair[0] for flight in self._in_flight for pair in flight.replies]
        if self._turn is not None:
            waiting += [pair[0] for pair in self._turn.replies]
            waiting += [arrival.reply for arrival in self._turn.arrivals]
        waiting += [message.reply for message in self._early]
        waiting.append(self._in_hand)
        while not self.actor_inbox.empty():
            message = self.actor_inbox.get().message
            if isinstance(message, Execute | Subscribe | ReadState):
                waiting.append(message.reply)
        settle((reply, outcome) for reply in waiting if reply is not None)
        self._turn = None
        self._in_flight.clear()
        self._unanswered = 0
        self._early.clear()
        # Committed: the actor that comes after this one takes it for shown.
        self._publish_committed()
        self._stop()

    def _leave_memory(self) -> None:
        state = self._state
        if state is not None and state.seq > self._snapshot_seq:
            self._snapshot(state)()
        self._stop()

    def on_stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._shared.stopped(self)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Drop out; the next command restores the session from the log."""
        self._give_up(Unavailable("something went wrong in this session; it may have been done"))


def settle(replies: Iterable[tuple[Reply, Outcome]]) -> None:
    """Give everyone who waits their outcome. Whoever fails to take theirs keeps nobody else's from them."""
    for reply, outcome in replies:
        try:
            if not reply.done():
                reply.set_result(outcome)
        except Exception:
            logger.exception("%s was not taken by whoever waited for it", type(outcome).__name__)
