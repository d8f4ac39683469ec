"""The mailbox around the machine: one actor per live session.

**Law:** what a turn decides is flushed as one `Append`; its replies and its events go out when that has been
committed, replies first, in the order of the log. State runs ahead of the log by what is in flight, so everything
that shows state waits for the commit of what it shows.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from actors import persistence as p
from actors.code_document import CodeDocument
from actors.runtime import Deferred, LoopActor
from actors.session import audience, chat, machine, notifications, projection
from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Rejected
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Participant, Room, State, Status

logger = logging.getLogger(__name__)

JSON = msgspec.json.Encoder()
SYSTEM = c.Caller(user_id=UserId(""), name="")
REST = 0.5
REST_S = 0.02
"""How long a session rests after a fan-out, as a share of the time that took, and at most (`SessionActor._show`)."""
KEYS_KEPT = 1_000
"""Idempotency-Keys an actor remembers; older ones are in the log, which refuses to take one twice."""


# What a session actor answers. Values, not exceptions: raising in `on_receive` would stop the actor.


class Answer(Struct, frozen=True):
    """Committed: what the command made happen, [] when it was so already."""

    seq: int
    published: "list[Published]"
    ephemeral: bool = False


class Repeated(Struct, frozen=True):
    """This Idempotency-Key has been used for the same body: its answer is in the log, first_seq..last_seq."""

    first_seq: int
    last_seq: int


class KeyReused(Struct, frozen=True):
    """This Idempotency-Key has been used for another body."""


class Unavailable(Struct, frozen=True):
    """Not done, or not known to be done; try again after `retry_s`."""

    why: str
    retry_s: float = 1.0
    busy: bool = False
    """The caller's own pace is the cause, not the server's state."""


class Fenced(Struct, frozen=True):
    """Not done: this actor no longer speaks for the session. Send it again."""


class UnknownSession(Struct, frozen=True):
    """There is no such session."""


class Snapshot(Struct, frozen=True):
    """What a `Look` saw."""

    value: Any


Outcome = Answer | Repeated | KeyReused | Rejected | Unavailable | Fenced | UnknownSession | Snapshot


class Key(Struct, frozen=True):
    """An Idempotency-Key, and a digest of the body that it came with."""

    key: str
    digest: str

    def outcome(self, used: p.KeyRow) -> Repeated | KeyReused:
        """Say what using it once more gives."""
        return Repeated(used.first_seq, used.last_seq) if used.digest == self.digest else KeyReused()


# What a session actor is told


class Reply(Protocol):
    """Where an outcome goes: a future, or anything that takes a result as one does."""

    def done(self) -> bool: ...

    def set_result(self, result: Outcome, /) -> None: ...


class Execute(Struct):
    """Decide a command; the reply is set after its commit."""

    command: c.Command
    by: c.Caller
    reply: Reply | None = None
    key: Key | None = None


class Subscribe(Struct):
    """Open a stream: `Connect`, then a snapshot and everything after it, in one step.

    `by` is None for an onlooker, of whose stream the session knows nothing."""

    subscriber: Any
    by: c.Caller | None
    join: bool
    reply: Reply


class Look(Struct):
    """Read the state: `view` must take what it needs and keep nothing."""

    view: Callable[[State], Any]
    reply: Reply


class Start(Struct, frozen=True):
    """The session as it was restored, or None when there is none. `missed`: what its channel has yet to show."""

    claim: p.Claim | None
    missed: Sequence[e.Recorded] = ()


class StartFailed(Struct, frozen=True):
    why: str


class Wake(Struct, frozen=True):
    """A deadline has come."""


class Passivate(Struct, frozen=True):
    """Leave memory, if nothing has happened since `idle_since`."""

    idle_since: float


class Published(Struct, gc=False):
    """A committed event on its way out: its JSON as the log has it, and whom it concerns (None: everyone).

    `state` is for looking up what never changes, such as names and numbers: it may be ahead of the event."""

    recorded: e.Recorded
    event: bytes
    audience: frozenset[UserId] | None
    state: State
    printed: dict[str, bytes] = {}
    """The same as an API prints it, by the API's name: made once for the answer and the streams."""


class Channel(Protocol):
    """The streams of one session, as its actor sees them. They outlive the actor."""

    last_seq: int
    """The last event that went out; 0: none yet."""

    def publish(self, batch: Sequence[Published]) -> None:
        """Write committed events, in order, to those concerned."""

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        """Write an ephemeral event."""

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        """Encode what newcomers get first from the state as it is now; calling the result attaches them."""

    def users(self) -> Collection[UserId]:
        """Name who has a stream open."""


class Shared(Struct, frozen=True):
    """What every session actor of a process shares: settings, the clock, and whom to tell."""

    persistence: Any
    deferred: Deferred
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


class Turn(Struct):
    """What a turn decides: being gathered, then on its way through the log, then shown.

    `appended`: it is in an append of its own; else it waits for those before it."""

    old_seq: int
    """Where the log ended before it."""
    published: list[Published] = []
    replies: list[tuple[Reply, Outcome]] = []
    arrivals: list[Subscribe] = []
    keys: list[p.KeyRow] = []
    redactions: list[p.Redaction] = []
    notifications: list[p.NotificationRow] = []
    passed_on: list[e.Event] = []
    """What concerns the session's room."""
    changed: dict[UserId, None] = {}
    """Whose rows in lists it changes."""
    session_changed: bool = False
    appended: bool = False
    after: list[Callable[[], None]] = []
    """What else happens once it has been committed, when what was published before has been shown."""


class SessionActor(LoopActor):
    """One live session."""

    # There may be 100,000, and a dict of so many names is 1.3 KB.
    __slots__ = (
        "_allowance_at", "_code", "_early", "_epoch", "_flights", "_in_hand", "_keys", "_rest_until", "_shared",
        "_snapshot_at", "_snapshot_seq", "_state", "_timer", "_timer_at", "_turn", "_unanswered", "_unshown", "_woken",
        "active_at", "channel", "session_id",
    )  # fmt: skip

    def __init__(self, session_id: SessionId, channel: Channel, shared: Shared) -> None:
        super().__init__()
        self.session_id = session_id
        self.channel = channel
        self._shared = shared
        self._state: State | None = None
        self._code = CodeDocument()
        self._epoch = 0
        self._early: list[Execute | Subscribe | Look] = []
        self._in_hand: Reply | None = None
        self._turn: Turn | None = None
        self._flights: list[Turn] = []
        self._unanswered = 0
        self._unshown: list[Turn] = []
        self._rest_until = 0.0
        self._keys: dict[tuple[UserId, str], p.KeyRow] = {}
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
        undone = self._turn or self._early or self._flights or self._unshown or len(self.actor_inbox)
        return not (undone or self.channel.users())

    def on_receive(self, message: object) -> None:
        match message:
            case p.Committed(appends=appends):
                self._committed(appends)
            case Execute() | Subscribe() | Look():
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
            case p.CommitFailed(fenced=fenced):
                self._give_up(Fenced() if fenced else Unavailable("the log did not answer; it may have been done"))
            case Passivate(idle_since=idle_since):
                if self.idle and self.active_at <= idle_since:
                    self._leave_memory()
            case _:
                raise TypeError(f"SessionActor takes no {type(message).__name__}")

    # One turn: decide, apply, flush

    def _take(self, state: State, message: "Execute | Subscribe | Look") -> None:
        self._in_hand = message.reply
        match message:
            case Execute():
                self._execute(state, message)
            case Subscribe():
                self._subscribe(state, message)
            case Look():
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
                turn.redactions.append(p.Redaction(redacted[0], Raw(JSON.encode(redacted[1]))))
            if type(event) in notifications.TELLING:
                turn.notifications += notification_rows(state, event, by, now)
            recorded = e.Recorded(self.session_id, self._epoch, state.seq + 1, now, actor_id, event)  # type: ignore[arg-type]
            machine.apply(state, recorded)
            out = Published(recorded, JSON.encode(event), audience.audience(state, event, actor_id), state)
            published.append(out)
            turn.published.append(out)
            self._project(event, turn, state)
        return published

    @staticmethod
    def _project(event: e.Event, turn: Turn, state: State) -> None:
        kind = type(event)
        if kind in projection.CHANGES_SESSION:
            turn.session_changed = True
        if user_id := projection.changed_participant(event):
            turn.changed[user_id] = None
        if kind in projection.CHANGES_EVERYONE:
            turn.changed.update(dict.fromkeys(state.participants))
        if kind in projection.CONCERNS_ROOM:
            turn.passed_on.append(event)

    def _remember(self, user_id: UserId, key: Key, first_seq: int, last_seq: int, now: Millis) -> None:
        row = p.KeyRow(user_id, key.key, key.digest, first_seq, last_seq, now)
        self._gathering().keys.append(row)
        self._keep_key(row)

    def _keep_key(self, row: p.KeyRow) -> None:
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

    def _subscribe(self, state: State, message: Subscribe) -> None:
        self.active_at = time.monotonic()
        now = self._shared.clock()
        if self._shared.full():
            self._answer(message.reply, Unavailable("the log is behind"))
            return
        if message.by is not None:
            try:
                events = machine.decide(state, c.Connect(join=message.join), message.by, now)
            except Rejected as rejected:
                self._answer(message.reply, rejected)
                return
            self._record(state, events, message.by, now)
        self._gathering().arrivals.append(message)

    def on_drained(self) -> None:
        state, turn = self._state, self._turn
        if state is None or (turn is None and not self._woken):
            return
        self._woken = False
        due = machine.deadline(state)
        if turn is not None:
            self._flush(turn, state, due)
        if due != self._timer_at:
            self._set_timer(due)

    def _flush(self, turn: Turn, state: State, due: Millis | None) -> None:
        if turn.arrivals:
            turn.after.append(self.channel.admit([arrival.subscriber for arrival in turn.arrivals], state))
            for arrival in turn.arrivals:
                self._answer(arrival.reply, Answer(state.seq, []))
        if turn.published or turn.keys:
            turn.appended = True
            append = self._append(turn, state, due)
            if turn.redactions or self._snapshot_due(state):
                turn.after.append(self._snapshot(state))
            if turn.notifications:
                turn.after.append(partial(self._shared.told, [row.user_id for row in turn.notifications]))
            self._flights.append(turn)
            self._shared.persistence.tell(append)
        elif self._flights:
            self._flights.append(turn)
        else:
            self._land([turn])
        self._turn = None

    def _append(self, turn: Turn, state: State, due: Millis | None) -> p.Append:
        rows = [log_row(out.recorded, out.event) for out in turn.published]
        owner_id = state.session.owner_id
        wanted = self._shared.wanted(owner_id)
        # Whoever is invited is changed.
        told = notices([out.recorded for out in turn.published], owner_id, wanted) if wanted or turn.changed else []
        return p.Append(
            actor=self.actor_ref,
            session_id=self.session_id,
            epoch=self._epoch,
            old_seq=turn.old_seq,
            new_seq=state.seq,
            rows=rows,
            keys=turn.keys,
            redactions=turn.redactions,
            session=Raw(JSON.encode(state.session)) if turn.session_changed else None,
            participants=[participant_row(state.participants[user_id]) for user_id in turn.changed],
            uses=[use for out in turn.published if (use := audio_use(out.recorded))],
            notices=told,
            notifications=turn.notifications,
            # With streams open an actor lives, and has its own timer; after it, the next start comes first.
            wake_at=Millis(0) if state.session.online else due,
            size=sum([200 + len(out.event) for out in turn.published]),
        )

    def _committed(self, appends: int) -> None:
        # Not told by `seq`: an append that holds a key and no rows ends where the one before it does.
        landed = []
        while self._flights and (appends := appends - self._flights[0].appended) >= 0:
            landed.append(self._flights.pop(0))
        self._land(landed)

    def _land(self, turns: Sequence[Turn]) -> None:
        """Answer, then show: the answers' tasks are woken before the fan-out takes its time."""
        for turn in turns:
            if turn.passed_on:
                self._pass_on(turn.passed_on)
            for reply, outcome in turn.replies:
                if not reply.done():
                    reply.set_result(outcome)
            self._unanswered -= len(turn.replies)
        shown = [turn for turn in turns if turn.published or turn.after]
        if not shown:
            return
        if not self._unshown:
            if (rest := self._rest_until - time.perf_counter()) > 0:
                self.actor_inbox.loop.call_later(rest, self._show)
            else:
                self._shared.deferred.add(self._show)
        self._unshown += shown

    def _pass_on(self, events: Sequence[e.Event]) -> None:
        # Before the answers: who has one may ask what the room's provider said to it.
        room = None if self._state is None else self._state.session.room
        if room is not None:
            for event in events:
                self._shared.pass_on(self.session_id, room, event)

    def _show(self) -> None:
        """Join what goes out in one write, up to where somebody new comes in; then rest for half as long as that took.

        In a large session the fan-out is what everything waits for. While it rests, commits go on and the next fan-out
        grows, so that there are fewer: four times the deliveries, at half the delay. A small session never rests."""
        # Not the loop's own clock: uvloop's stands still within a turn.
        started = time.perf_counter()
        turns, self._unshown = self._unshown, []
        joined: list[Published] = []
        for turn in turns:
            joined += turn.published
            if turn.after:
                if joined:
                    self.channel.publish(joined)
                    joined = []
                for effect in turn.after:
                    effect()
        if joined:
            self.channel.publish(joined)
        ended = time.perf_counter()
        self._rest_until = ended + min((ended - started) * REST, REST_S)

    # Snapshots, time and the end of an actor

    def _snapshot_due(self, state: State) -> bool:
        behind = state.seq - self._snapshot_seq
        return behind >= self._shared.snapshot_events or (
            behind > 0 and self._shared.clock() - self._snapshot_at >= self._shared.snapshot_ms
        )

    def _snapshot(self, state: State) -> Callable[[], None]:
        message = p.SaveSnapshot(self.session_id, state.seq, machine.snapshot(state))
        self._snapshot_seq, self._snapshot_at = state.seq, self._shared.clock()
        return lambda: self._shared.persistence.tell(message)

    def _set_timer(self, due: Millis | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, due
        if due is not None:
            delay = max(0, due - self._shared.clock()) / 1000
            self._timer = asyncio.get_running_loop().call_later(delay, p.tell, self.actor_ref, Wake())

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
        if message.missed:
            self.channel.publish(
                [
                    Published(r, JSON.encode(r.event), audience.audience(state, r.event, r.actor_id), state)
                    for r in message.missed
                ]
            )
        self.channel.last_seq = state.seq
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
        waiting = [pair[0] for flight in self._flights for pair in flight.replies]
        if self._turn is not None:
            waiting += [pair[0] for pair in self._turn.replies]
            waiting += [arrival.reply for arrival in self._turn.arrivals]
        waiting += [message.reply for message in self._early if message.reply is not None]
        if self._in_hand is not None:
            waiting.append(self._in_hand)
        while not self.actor_inbox.empty():
            message = self.actor_inbox.get().message
            if isinstance(message, Execute | Subscribe | Look) and message.reply is not None:
                waiting.append(message.reply)
        for reply in waiting:
            if not reply.done():
                reply.set_result(outcome)
        self._turn = None
        self._flights.clear()
        self._unanswered = 0
        self._early.clear()
        try:
            # Committed: the actor that comes after this one takes it for shown.
            self._show()
        finally:
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


def creation(log: Sequence[e.Recorded]) -> tuple[State, p.Creation]:
    """Give a new session's state after its first rows, and the commit of them."""
    state = machine.replay(log)
    rows = [log_row(recorded, JSON.encode(recorded.event)) for recorded in log]
    people = [participant_row(one) for one in state.participants.values()]
    told = notices(log, state.session.owner_id, {row.type for row in rows})
    by = c.Caller(state.session.owner_id, state.session.owner_name)
    notified = [row for recorded in log for row in notification_rows(state, recorded.event, by, recorded.at)]
    return state, p.Creation(state.session, rows, people, machine.deadline(state), told, notified)


def log_row(r: e.Recorded, encoded: bytes) -> p.LogRow:
    return p.LogRow(r.session_id, r.epoch, r.seq, r.at, r.actor_id, type_of(r.event), Raw(encoded))


def participant_row(one: Participant) -> p.ParticipantRow:
    return p.ParticipantRow(one.user_id, one.number, one.name, one.role, one.status, one.joined_at, one.left_at)


def notification_rows(state: State, event: e.Event, by: c.Caller, at: Millis) -> list[p.NotificationRow]:
    """Give what users are told of an event, in the state just before it."""
    return [
        p.NotificationRow(user_id, at, Raw(JSON.encode(notification)))
        for user_id, notification in notifications.notifications(state, event, by)
    ]


def audio_use(recorded: e.Recorded) -> p.AudioUse | None:
    """Say which piece of audio an event gives its hearers to read."""
    event = recorded.event
    if type(event) is e.AudioSelected:
        return p.AudioUse(recorded.seq, event.audio_id, True, recorded.actor_id, None)
    if type(event) is e.ChatMessage and event.voice is not None:
        return p.AudioUse(recorded.seq, event.voice.audio_id, False, recorded.actor_id, event.to)
    return None


def notices(log: Sequence[e.Recorded], owner_id: UserId, wanted: Collection[str]) -> list[p.Notice]:
    """Say who outside is to hear of events: an invitation's devices always, the owner's endpoints of what is wanted."""
    told = [
        p.Notice(recorded.seq, "push", type_of(recorded.event), recorded.event.user_id)
        for recorded in log
        if isinstance(recorded.event, e.ParticipantInvited) and recorded.event.user_id != recorded.actor_id
    ]
    if wanted:
        types = ((recorded.seq, type_of(recorded.event)) for recorded in log)
        told += [p.Notice(seq, "webhook", kind, owner_id) for seq, kind in types if kind in wanted]
    return told


def type_of(event: e.AnyEvent) -> str:
    """Name an event's type as the log does."""
    return e.TYPES[type(event)]
