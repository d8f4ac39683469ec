"""A stage for actors: a log in memory, channels that record what they receive, and a clock that tests set.

**Law:** nothing here waits for time; `turns` lets the loop run, and everything else waits for its condition.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

from actors.commit import creation
from actors.directory import Directory
from actors.messages import Answer, Execute, Key, Outcome, Passivate, ReadState, Subscribe
from actors.persistence import Persistence, WhenIdle
from actors.ports import Append
from actors.runtime import LoopScheduler
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State
from actors.session.visibility import Published
from actors.session_actor import SessionActor
from actors.shared import Shared
from actors.snapshots import SnapshotLimits
from storage.errors import StorageError
from storage.testing import Call, MemoryEventLog, Stored, Tables, Trouble

START = Millis(1_700_000_000_000)
PATIENCE_S = 8.0
SESSION = SessionId("01990000-0000-7000-8000-000000000001")
TEACHER, ANN, BEN = (
    c.Caller(UserId(f"01990000-0000-7000-8000-00000000000{n}"), name, has_invitation=True)
    for n, name in enumerate(("Teacher", "Ann", "Ben"), 2)
)


async def turns(count: int = 30) -> None:
    """Run the loop for some turns; in each, every ready task makes one step."""
    for _ in range(count):
        await asyncio.sleep(0)


T = TypeVar("T")


class Log(MemoryEventLog):
    """The log in memory; tests can block any call."""

    def __init__(self, tables: Tables | None = None, owner: str = "memory:1") -> None:
        super().__init__(tables, owner)
        self.rival: MemoryEventLog | None = None
        """Another owner, who claims every session of a batch just before it is written."""
        self.poisoned: SessionId | None = None
        """The session whose rows the log refuses, and every batch that they are in."""
        self._gates: dict[Call, asyncio.Event] = {}

    async def _do(self, call: Call, work: Callable[[], T], trouble: Trouble | None = None) -> T:
        if gate := self._gates.get(call):
            await gate.wait()
        return await super()._do(call, work, trouble)

    def _append(self, batch: Sequence[Append]) -> Collection[SessionId]:
        if any(append.session_id == self.poisoned for append in batch):
            raise StorageError("told to refuse")
        if self.rival is not None:
            for append in batch:
                self.rival.seize(append.session_id)
        return super()._append(batch)

    @contextlib.contextmanager
    def held(self, call: Call = "append") -> Iterator[Callable[[], None]]:
        """Block calls of a kind until the block ends or the yielded function is called."""
        gate = self._gates[call] = asyncio.Event()
        try:
            yield gate.set
        finally:
            gate.set()
            self._gates.pop(call, None)

    def stored(self, session_id: SessionId) -> Stored:
        return self.tables.sessions[session_id]


class Clock:
    """A clock that moves only when a test says so."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> Millis:
        return self.now

    def passes(self, ms: int) -> None:
        self.now = Millis(self.now + ms)


class Diary:
    """The entries so far, in order, and a way to wait for more."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._changed = asyncio.Event()

    def add(self, entry: object) -> None:
        self.entries.append(entry)
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


class Watcher:
    """A stream as a channel sees it: the `seq` of its snapshot and every event since."""

    def __init__(self, caller: c.Caller) -> None:
        self.user_id = caller.user_id
        self.first: int | None = None
        """The `seq` of the state that it started from."""
        self.seen: list[int] = []

    @property
    def is_in(self) -> bool:
        return self.first is not None


class Streams:
    """A session's channel, which records and checks what it publishes."""

    def __init__(self, diary: Diary) -> None:
        self.last_seq = 0
        self.diary = diary
        self.watchers: list[Watcher] = []
        self.published: list[Published] = []
        self.batches: list[list[int]] = []
        self.relayed: list[tuple[e.Event, UserId]] = []
        self.released = 0

    def publish(self, batch: Sequence[Published]) -> None:
        batch = [out for out in batch if out.recorded.seq > self.last_seq]
        if not batch:
            return
        seqs = [out.recorded.seq for out in batch]
        self.last_seq = seqs[-1]
        self.published += batch
        self.batches.append(seqs)
        for watcher in self.watchers:
            watcher.seen += seqs
        for out in batch:
            self.diary.add(("published", out.recorded.seq))

    def restored(self, state: State) -> None:
        self.last_seq = state.seq

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        self.relayed.append((event, by))
        self.diary.add(("relayed", type(event).__name__))

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        seq = state.seq

        def attach() -> None:
            for watcher in subscribers:
                watcher.first = seq
                self.watchers.append(watcher)
                self.diary.add(("attached", seq))

        return attach

    def refresh(self, user_ids: Collection[UserId], arriving: Sequence[Any], state: State) -> Callable[[], None] | None:
        return None

    def users(self) -> Collection[UserId]:
        return {watcher.user_id for watcher in self.watchers}

    @property
    def seqs(self) -> list[int]:
        return [out.recorded.seq for out in self.published]

    @property
    def events(self) -> list[Any]:
        return [out.recorded.event for out in self.published]

    async def reaches(self, seq: int) -> None:
        await self.diary.until(lambda: self.last_seq >= seq)


class PausableScheduler(LoopScheduler):
    """The actors' scheduler, which can be paused."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        """Work that is added meanwhile is never run."""

    def add(self, work: Callable[[], None]) -> None:
        if not self.paused:
            super().add(work)


class Noted:
    """A reply that records its outcome in the diary."""

    def __init__(self, diary: Diary, name: str) -> None:
        self._diary = diary
        self._name = name
        self.outcome: Outcome | None = None

    def done(self) -> bool:
        return self.outcome is not None

    def set_result(self, outcome: Outcome, /) -> None:
        self.outcome = outcome
        self._diary.add((self._name, type(outcome).__name__))

    async def came(self) -> Outcome:
        await self._diary.until(self.done)
        assert self.outcome is not None
        return self.outcome


class Process:
    """The parts of one server between its log and its streams."""

    def __init__(self, log: Log, clock: Clock, **changed: Any) -> None:
        self.log = log
        self.clock = clock
        self.diary = Diary()
        self.channels: dict[SessionId, Streams] = {}
        self.released: list[SessionId] = []
        self.full = False
        settings = {
            "mailbox": 1_000, "passivate_after_s": 300.0, "snapshot_events": 500, "snapshot_ms": 60_000,
            "commands_per_s": 1e9, "keys_kept": 1_000, "commit_rows": 256, "commit_bytes": 1 << 20,
            "queue_rows": 10_000, "wake_every_s": 3_600.0, **changed,
        }  # fmt: skip
        self.writer = Persistence(
            log,
            commit_rows=settings["commit_rows"],
            commit_bytes=settings["commit_bytes"],
            queue_rows=settings["queue_rows"],
        ).begin()

        self.scheduler = PausableScheduler()
        self.shared = Shared(
            persistence=self.writer.actor_ref,
            scheduler=self.scheduler,
            log_behind=lambda: self.full or self.writer.full,
            clock=clock,
            snapshots=SnapshotLimits(settings["snapshot_events"], settings["snapshot_ms"]),
            commands_per_s=settings["commands_per_s"],
            keys_kept=settings["keys_kept"],
            notify=lambda users: self.diary.add(("notified", *users)),
        )

        self.directory = Directory(
            log,
            channel=self.channel,
            release=self.release,
            shared=self.shared,
            mailbox=settings["mailbox"],
            passivate_after_s=settings["passivate_after_s"],
            wake_every_s=settings["wake_every_s"],
        )

    def channel(self, session_id: SessionId, tell: object = None) -> Streams:
        return self.channels.setdefault(session_id, Streams(self.diary))

    def release(self, session_id: SessionId) -> None:
        """Forget a channel without subscribers, as the hub does."""
        self.released.append(session_id)
        self.diary.add(("released", session_id))
        if session_id in self.channels and not self.channels[session_id].watchers:
            del self.channels[session_id]

    @property
    def streams(self) -> Streams:
        return self.channel(SESSION)

    @property
    def actor(self) -> SessionActor:
        [actor] = [actor for actor in self.directory if actor.session_id == SESSION]
        return actor

    async def create(self, session_id: SessionId = SESSION, **fields: Any) -> None:
        """Create a session whose log has one row."""
        number, grace_ms = int(session_id[-12:]), fields.pop("grace_ms", 10_000)
        create = c.Create(
            session_id=session_id,
            number=number,
            name=f"session-{number}",
            code=f"A{number:05}",
            default_capacity=100,
            grace_ms=grace_ms,
            new=c.NewSession(**{"title": "Physics", **fields}),
        )
        events = lifecycle.create(create, TEACHER, self.clock())
        await self.log.create(creation(machine.record(session_id, 1, 0, self.clock(), TEACHER.user_id, events))[1])

    def send(
        self, command: c.Command, by: c.Caller = ANN, *, name: str = "", key: str = "", session_id: SessionId = SESSION
    ) -> Noted:
        """Send a command to a session without waiting. `key`: an Idempotency-Key, `name:digest`."""
        noted = Noted(self.diary, name or type(command).__name__)
        word, _, digest = key.partition(":")
        self.tell(Execute(command, by, noted, Key(word, digest) if key else None), session_id)
        return noted

    def tell(self, message: Execute | ReadState | Subscribe, session_id: SessionId = SESSION) -> None:
        refusal = self.directory.tell(session_id, message)
        if refusal is not None and message.reply is not None:
            message.reply.set_result(refusal)

    def read(self, view: Callable[[State], Any] = lambda state: state.seq, *, name: str = "read") -> Noted:
        noted = Noted(self.diary, name)
        self.tell(ReadState(view, noted))
        return noted

    def subscribe(self, by: c.Caller, *, join: bool = True, session_id: SessionId = SESSION) -> tuple[Watcher, Noted]:
        watcher, noted = Watcher(by), Noted(self.diary, "subscribed")
        self.tell(Subscribe(watcher, by, join, noted), session_id)
        return watcher, noted

    async def ask(self, command: c.Command, by: c.Caller = ANN, **how: Any) -> Outcome:
        return await self.send(command, by, **how).came()

    async def do(self, command: c.Command, by: c.Caller = ANN, **how: Any) -> Answer:
        """Execute a command that must succeed."""
        outcome = await self.ask(command, by, **how)
        assert isinstance(outcome, Answer), outcome
        return outcome

    async def open(self) -> None:
        """Create a live session with the teacher, Ann and Ben; its log then has 5 rows."""
        await self.create()
        for caller in (TEACHER, ANN, BEN):
            await self.do(c.Join(), caller)

    async def watched(self, by: c.Caller) -> Watcher:
        watcher, noted = self.subscribe(by)
        outcome = await noted.came()
        assert isinstance(outcome, Answer), outcome
        await self.diary.until(lambda: watcher.first is not None)
        return watcher

    async def written(self) -> None:
        """Wait until everything decided is in the log, snapshots too."""
        for _ in range(2):
            reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.writer.actor_ref.tell(WhenIdle(reply))
            async with asyncio.timeout(PATIENCE_S):
                await reply
            await turns()

    async def passivate(self) -> None:
        """Have the session leave memory."""
        await self.written()
        self.actor.actor_ref.tell(Passivate(float("inf")))
        await turns()
        assert len(self.directory) == 0
        await self.written()

    @property
    def rows(self) -> list[e.Event]:
        """The log, as it was committed."""
        return [row.event for row in self.log.recorded(SESSION)]

    async def close(self) -> None:
        """Let every session leave memory, as a server does that shuts down."""
        async with asyncio.timeout(PATIENCE_S):
            await self.directory.drain()


@contextlib.asynccontextmanager
async def process(beside: Process | None = None, *, owner: str = "one", **changed: Any) -> AsyncIterator[Process]:
    """A server's actors; `beside` another's on the same database."""
    clock = beside.clock if beside else Clock()
    tables = beside.log.tables if beside else Tables(lambda: clock() / 1000)
    started = Process(Log(tables, owner), clock, **changed)
    try:
        yield started
    finally:
        await started.close()


def says(text: str) -> c.SendMessage:
    return c.SendMessage(text=text)


def texts(events: Sequence[e.Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, e.ChatMessage)]
