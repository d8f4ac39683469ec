"""The mailbox around the machine: one actor per live session.

**Law:** a batch is sent to the log as one `Append`. Once that is committed, its replies and then its events go out, in
the order of the log. The state runs ahead of the log by the batches in flight, so everything that shows state waits for
the commit of that state.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from actors.alarm import Alarm
from actors.batch import Batch
from actors.code_merging import CODE_COMMANDS, CodeMerging
from actors.command_rate import CommandRate
from actors.commit import outgoing
from actors.fan_out import FanOut
from actors.idempotency import IdempotencyKeys
from actors.messages import (
    SYSTEM,
    Answer,
    Claimed,
    ClaimFailed,
    Execute,
    Fenced,
    Outcome,
    Passivate,
    ReadState,
    ReplyFuture,
    Snapshot,
    Subscribe,
    Unavailable,
    UnknownSession,
    Wake,
)
from actors.persistence import AppendsCommitted, CommitFailed, SaveSnapshot
from actors.ports import KeyRow, SessionChannel
from actors.replies import settle
from actors.runtime import LoopActor
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.errors import Rejected
from actors.session.event_rules import audience
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State, Status
from actors.session.visibility import Published
from actors.shared import Shared
from actors.snapshots import SnapshotSchedule


class SessionActor(LoopActor):
    """One live session."""

    # There may be 100,000 actors, and a dict of so many names takes 1.3 KB.
    __slots__ = (
        "_alarm", "_batch", "_code", "_current_reply", "_deadline_unchecked", "_early", "_fan_out", "_in_flight",
        "_keys", "_on_stop", "_rate", "_shared", "_snapshots", "_state", "_unanswered", "active_at", "channel",
        "epoch", "session_id",
    )  # fmt: skip

    def __init__(
        self,
        session_id: SessionId,
        channel: SessionChannel,
        shared: Shared,
        on_stop: Callable[["SessionActor"], None] = lambda actor: None,
    ) -> None:
        super().__init__()
        self.session_id = session_id
        self.channel = channel
        self._shared = shared
        self._on_stop = on_stop
        self._state: State | None = None
        self._code = CodeMerging()
        self.epoch = 0
        """Of the claim by which this actor owns the session; 0 while the session is being restored."""
        self._early: list[Execute | Subscribe | ReadState] = []
        """Messages that arrived before the session was restored."""
        self._current_reply: ReplyFuture | None = None
        self._batch: Batch | None = None
        self._in_flight: list[Batch] = []
        self._unanswered = 0
        self._fan_out = FanOut(session_id, channel, shared.scheduler)
        self._keys = IdempotencyKeys(shared.keys_kept)
        self._rate = CommandRate(shared.commands_per_s)
        self._snapshots = SnapshotSchedule(shared.snapshots)
        self._alarm = Alarm()
        self._deadline_unchecked = True
        """The alarm may have to be set, even if this drain decides nothing."""
        self.active_at = time.monotonic()

    @property
    def status(self) -> Status | None:
        """The session's status, perhaps before its commit; None while the session is being restored."""
        return None if self._state is None else self._state.session.status

    @property
    def backlog(self) -> int:
        """Commands that have arrived and are not answered yet."""
        return len(self.actor_inbox) + len(self._early) + self._unanswered

    @property
    def settled(self) -> bool:
        """Whether everything that has arrived is answered and published."""
        undone = self._batch or self._early or self._in_flight or self._fan_out.waiting or len(self.actor_inbox)
        return not undone

    @property
    def idle(self) -> bool:
        """Whether the actor may leave memory: it is settled and no stream is open."""
        return self.settled and not self.channel.users()

    @property
    def wakes_at(self) -> Millis | None:
        """When the actor acts by itself (`machine.deadline`); None: never."""
        return self._alarm.due

    def on_receive(self, message: object) -> None:
        match message:
            case AppendsCommitted(appends=appends):
                self._committed(appends)
            case Execute() | Subscribe() | ReadState():
                if self._state is None:
                    self._early.append(message)
                else:
                    self._handle(self._state, message)
            case Wake():
                self._alarm.cancel()
                self._deadline_unchecked = True
                if self._state is not None:
                    self._execute(self._state, Execute(c.Tick(), SYSTEM))
            case Claimed():
                self._restore(message)
            case ClaimFailed(detail=detail):
                self._give_up(Unavailable(detail))
            case CommitFailed(fenced=True):
                self._give_up(Fenced())
            case CommitFailed():
                self._give_up(Unavailable("the log did not answer; your command may have been carried out"))
            case Passivate(idle_since=idle_since):
                if self.idle and self.active_at <= idle_since:
                    self._leave_memory()
            case _:
                raise TypeError(f"SessionActor does not understand {type(message).__name__}")

    # Decide, apply, gather

    def _handle(self, state: State, message: Execute | Subscribe | ReadState) -> None:
        self._current_reply = message.reply
        match message:
            case Execute():
                self._execute(state, message)
            case Subscribe():
                # Decided at the end of the drain, by the state that the stream starts from: a later message of the
                # same drain may remove this participant.
                self.active_at = time.monotonic()
                self._gathering().arrivals.append(message)
            case ReadState():
                self._answer(message.reply, Snapshot(message.view(state)))
        self._current_reply = None

    def _execute(self, state: State, message: Execute) -> None:
        self.active_at = time.monotonic()
        by, reply, key = message.by, message.reply, message.key
        if key is not None and (used := self._keys.outcome(by.user_id, key)):
            self._answer(reply, used)
            return
        # The server's own commands are few, and no client would send them again.
        if by is not SYSTEM and (refusal := self._overload()):
            self._answer(reply, refusal)
            return
        if type(message.command) is c.Disconnect and self._has_stream(by.user_id):
            # Another stream of the same user has opened meanwhile. Its own end sends another Disconnect.
            self._answer(reply, Answer(state.seq, []))
            return
        decide = self._code.decide if type(message.command) in CODE_COMMANDS else machine.decide
        now = self._shared.clock()
        try:
            events = decide(state, message.command, by, now)
        except Rejected as rejected:
            self._answer(reply, rejected)
            return
        published = self._record(state, events, by, now)
        if key is not None:
            row = KeyRow(by.user_id, key.key, key.digest, state.seq - len(published) + 1, state.seq, now)
            self._gathering().keys.append(row)
            self._keys.add(row)
        self._answer(reply, Answer(state.seq, published, ephemeral=bool(events) and not published))

    def _overload(self) -> Unavailable | None:
        """Return why no command is accepted now, if so. Counts the command against the session's rate."""
        if not self._rate.allow(self.active_at):
            return Unavailable("this session receives more commands than it accepts", busy=True)
        if self._shared.log_behind():
            return Unavailable("the log is behind")
        return None

    def _answer(self, reply: ReplyFuture | None, outcome: Outcome) -> None:
        if reply is not None:
            self._gathering().replies.append((reply, outcome))
            self._unanswered += 1

    def _gathering(self) -> Batch:
        batch = self._batch
        if batch is None:
            assert self._state is not None
            batch = self._batch = Batch(self._state.seq)
        return batch

    def _record(self, state: State, events: Sequence[e.Event], by: c.Caller, now: Millis) -> list[Published]:
        """Apply durable events and gather them for this drain's commit; relay ephemeral ones at once."""
        published = []
        for event in events:
            if type(event) in e.EPHEMERAL:
                whom = audience(state, event, by.user_id or None)
                self.channel.relay(event, by.user_id, now, whom, state)
            else:
                published.append(self._gathering().record(state, event, self.epoch, by, now))
        return published

    def _has_stream(self, user_id: UserId) -> bool:
        """Return whether a user has a stream open, or one that is accepted and waits for its commit."""
        batches = (*self._in_flight, *self._fan_out.waiting)
        awaited = any(one.by is not None and one.by.user_id == user_id for batch in batches for one in batch.arrivals)
        return awaited or user_id in self.channel.users()

    def _connect_arrivals(self, batch: Batch, state: State) -> None:
        """Connect the streams that want to open with a batch. Those that may not are answered and left out."""
        connected = []
        for arrival in batch.arrivals:
            refusal = self._connect(state, arrival)
            if refusal is None:
                connected.append(arrival)
            else:
                self._answer(arrival.reply, refusal)
        batch.arrivals = connected

    def _connect(self, state: State, arrival: Subscribe) -> Outcome | None:
        """Record that a stream opens. Return why it may not, if so."""
        if self._shared.log_behind():
            return Unavailable("the log is behind")
        if (by := arrival.by) is not None:
            now = self._shared.clock()
            try:
                events = machine.decide(state, c.Connect(join=arrival.join), by, now)
            except Rejected as rejected:
                return rejected
            self._record(state, events, by, now)
        return None

    # Flush, commit, publish

    def on_drained(self) -> None:
        state, batch = self._state, self._batch
        if state is None or (batch is None and not self._deadline_unchecked):
            return
        self._deadline_unchecked = False
        if batch is not None and batch.arrivals:
            self._connect_arrivals(batch, state)
        due = machine.deadline(state)
        if batch is not None:
            self._flush(batch, state, due)
        if due != self._alarm.due:
            self._alarm.set(due, self._shared.clock(), self.actor_ref)

    def _flush(self, batch: Batch, state: State, due: Millis | None) -> None:
        if batch.changed_views:
            earlier = (*self._in_flight, *self._fan_out.waiting)
            arriving = [one.subscriber for other in earlier for one in other.arrivals]
            if refresh := self.channel.refresh(batch.changed_views, arriving, state):
                batch.effects.append(refresh)
        if batch.arrivals:
            batch.effects.append(self.channel.admit([arrival.subscriber for arrival in batch.arrivals], state))
            for arrival in batch.arrivals:
                self._answer(arrival.reply, Answer(state.seq, []))
        if batch.published or batch.keys:
            batch.appended = True
            webhook_types = self._shared.webhook_types(state.session.owner_id)
            append = batch.append(self.actor_ref, self.session_id, self.epoch, state, due, webhook_types)
            if batch.redactions or self._snapshots.due(state.seq, self._shared.clock()):
                batch.effects.append(self._snapshot(state))
            if batch.notifications:
                batch.effects.append(partial(self._shared.notify, [row.user_id for row in batch.notifications]))
            self._in_flight.append(batch)
            self._shared.persistence.tell(append)
        elif self._in_flight:
            self._in_flight.append(batch)
        else:
            self._on_committed([batch])
        self._batch = None

    def _committed(self, appends: int) -> None:
        # Counted, not compared by `seq`: an append that has a key and no rows ends where the one before it ends.
        batches = []
        while self._in_flight and (appends := appends - self._in_flight[0].appended) >= 0:
            batches.append(self._in_flight.pop(0))
        self._on_committed(batches)

    def _on_committed(self, batches: Sequence[Batch]) -> None:
        """Answer, then hand over to the fan-out, for which no answer waits."""
        for batch in batches:
            if batch.room_events:
                self._report_room_events(batch.room_events)
            settle(batch.replies)
            self._unanswered -= len(batch.replies)
        self._fan_out.add(batches)

    def _report_room_events(self, events: Sequence[e.Event]) -> None:
        # Before the answers: a caller who has one may ask for the result at the room's provider.
        room = None if self._state is None else self._state.session.room
        if room is not None:
            for event in events:
                self._fan_out.attempt(partial(self._shared.on_room_event, self.session_id, room, event))

    def _snapshot(self, state: State) -> Callable[[], None]:
        """Encode a snapshot now; calling the result saves it."""
        message = SaveSnapshot(self.session_id, state.seq, machine.snapshot(state))
        self._snapshots.saved(state.seq, self._shared.clock())
        return lambda: self._shared.persistence.tell(message)

    # Restore and stop

    def _restore(self, message: Claimed) -> None:
        claim = message.claim
        if claim is None:
            self._give_up(UnknownSession())
            return
        snapshot = None if claim.snapshot is None else machine.restored(claim.snapshot)
        self._snapshots.saved(0 if snapshot is None else snapshot.seq, self._shared.clock())
        state = self._state = machine.replay(claim.tail, snapshot)
        self.epoch = claim.epoch
        for key in claim.keys:
            self._keys.add(key)
        # Read after the claim: rows that another owner has written since then are for the next actor to publish.
        if missed := [row for row in message.missed if row.seq <= state.seq]:
            self.channel.publish([outgoing(row, state) for row in missed])
        self.channel.restored(state)
        self._reconcile(state)
        due = machine.deadline(state)
        if due is not None and due <= self._shared.clock():
            # A deadline that passed while no server had the session comes before the messages that wait for it.
            self._execute(state, Execute(c.Tick(), SYSTEM))
        while self._early:
            self._handle(state, self._early.pop(0))

    def _reconcile(self, state: State) -> None:
        """Bring presence in line with the streams that are really open."""
        connected = self.channel.users()
        lost = [one.user_id for one in state.participants.values() if one.online and one.user_id not in connected]
        if lost:
            self._execute(state, Execute(c.LoseConnections(user_ids=lost), SYSTEM))
        for user_id in connected:
            if (participant := state.participants.get(user_id)) and not participant.online:
                by, now = c.Caller(user_id, participant.name), self._shared.clock()
                with contextlib.suppress(Rejected):
                    self._record(state, machine.decide(state, c.Connect(), by, now), by, now)

    def _give_up(self, outcome: Outcome) -> None:
        """Stop with work undone, and give this outcome to everyone who waits."""
        waiting: list[ReplyFuture | None] = [reply for batch in self._in_flight for reply, _ in batch.replies]
        if self._batch is not None:
            waiting += [reply for reply, _ in self._batch.replies]
            waiting += [arrival.reply for arrival in self._batch.arrivals]
        waiting += [message.reply for message in self._early]
        waiting.append(self._current_reply)
        while not self.actor_inbox.empty():
            message = self.actor_inbox.get().message
            if isinstance(message, Execute | Subscribe | ReadState):
                waiting.append(message.reply)
        settle((reply, outcome) for reply in waiting if reply is not None)
        self._batch = None
        self._in_flight.clear()
        self._unanswered = 0
        self._early.clear()
        # These are committed, and the next actor does not repeat their effects.
        self._fan_out.publish_committed()
        self._stop()

    def _leave_memory(self) -> None:
        state = self._state
        if state is not None and self._snapshots.behind(state.seq) > 0:
            self._snapshot(state)()
        self._stop()

    def on_stop(self) -> None:
        self._alarm.cancel()
        self._on_stop(self)

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        """Stop. The next command restores the session from the log."""
        self._give_up(Unavailable("this session failed; your command may have been carried out"))
