"""Presence and streams in random histories: streams open and close, participants leave or are removed, and commits are
slow or fail. Actors, hub and channels are the real ones; the log is in memory.

**Law:** when nothing is under way any more, the users with a stream are those who are online, and all of them may have
one. Every stream has received the events after its snapshot, each once and in order.
"""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from actors.directory import Directory
from actors.messages import SYSTEM, Answer, Snapshot, Subscribe
from actors.session import commands as c
from actors.session.ids import UserId
from server.settings.sections import StreamsSettings
from server.streams.hub import Hub
from server.streams.subscriber import Subscriber
from server.v1.frames import FRAMES
from storage.testing import Call, Tables, Trouble
from tests.support.stage import ANN, PATIENCE_S, SESSION, TEACHER, Clock, Log, Process, says, turns

T = TypeVar("T")
PEOPLE = [
    structs.replace(ANN, user_id=UserId(f"01990000-0000-7000-8000-0000000000{number}"), name=f"Number {number}")
    for number in range(10, 16)
]
ROUNDS, STEPS = 3, 10


class Wire(asyncio.WriteTransport):
    """A connection that accepts all bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    @property
    def seqs(self) -> list[int]:
        """The numbers of the events received, the snapshot's first. All events in these sessions are for everyone."""
        return [int(seq) for seq in re.findall(rb"^id: \d+-(\d+)$", self.written, re.MULTILINE)]

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None: ...


class Unsteady(Log):
    """A log that takes a random number of turns of the loop."""

    lot: random.Random

    async def _do(self, call: Call, work: Callable[[], T], trouble: Trouble | None = None) -> T:
        await turns(self.lot.choice([0, 1, 3, 10, 25]))
        return await super()._do(call, work, trouble)


class Busy(Process):
    """A process with a hub for its streams."""

    def __init__(self, log: Log, clock: Clock) -> None:
        super().__init__(log, clock)
        self.hub = Hub(StreamsSettings(), streams_per_user=1_000, clock=clock)
        self.directory = Directory(
            log,
            channel=self.hub.channel,
            release=self.hub.forget,
            shared=self.shared,
            mailbox=10_000,
            passivate_after_s=3_600.0,
        )
        self.streams_open: list[Subscriber] = []
        self.wires: list[Wire] = []

    async def stream(self, by: c.Caller) -> None:
        """Open a stream as its handler does, and wait until it closes."""
        subscriber = Subscriber(by.user_id, "login", FRAMES, cursor=None, expires_at=1e18, limit=1 << 20)
        self.hub.register(subscriber)
        try:
            outcome = await self.directory.ask(SESSION, Subscribe(subscriber, by, join=False))
            if isinstance(outcome, Answer):
                await subscriber.attached
                self.wires.append(Wire())
                subscriber.open(self.wires[-1])
                self.streams_open.append(subscriber)
                await asyncio.shield(subscriber.closed)
        finally:
            self.hub.unregister(subscriber)

    async def still(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(PATIENCE_S):
            while (
                not all(actor.settled for actor in self.directory)
                or self.writer.queued_rows
                or not self.directory.settled
            ):
                await turns()

    async def wrong(self) -> list[tuple[str, str, bool, bool]]:
        """Return participants whose presence disagrees with their streams: name, status, online, has a stream."""
        await self.still()
        await self.do(says("still"), TEACHER)
        await self.still()
        outcome, users = (
            await self.read(lambda state: state).came(),
            self.hub.channel(SESSION, self.directory.tell).users(),
        )
        assert isinstance(outcome, Snapshot)
        state = outcome.value
        return [
            (participant.name, participant.status, participant.online, user_id in users)
            for user_id, participant in state.participants.items()
            if participant.online != (user_id in users) or (user_id in users and participant.status != "joined")
        ]


@contextlib.asynccontextmanager
async def busy(lot: random.Random) -> AsyncIterator[Busy]:
    clock = Clock()
    log = Unsteady(Tables(lambda: clock() / 1000), "one")
    log.lot = lot
    process = Busy(log, clock)
    try:
        await process.create(grace_ms=2_000)
        for caller in (TEACHER, *PEOPLE):
            await process.do(c.Join(), caller)
        yield process
    finally:
        await process.close()


def happens(process: Busy, lot: random.Random, opening: list[asyncio.Task[None]]) -> None:
    """Do something at random, on behalf of a random participant."""
    by, chance = lot.choice(PEOPLE), lot.random()
    if chance < 0.4:
        opening.append(asyncio.create_task(process.stream(by)))
    elif chance < 0.58 and process.streams_open:
        process.hub.unregister(process.streams_open.pop(lot.randrange(len(process.streams_open))))
    elif chance < 0.62 and opening:
        lot.choice(opening).cancel()
    elif chance < 0.7:
        process.send(c.Kick(user_id=by.user_id), TEACHER)
    elif chance < 0.72:
        process.send(c.Leave(), by)
    elif chance < 0.8:
        process.clock.passes(lot.choice([1, 500, 2_500]))
        process.send(c.Tick(), SYSTEM)
    elif chance < 0.81:
        process.log.fail("append", lot.choice(["before", "after"]))
    else:
        process.send(says("Hello"), TEACHER)


@pytest.mark.timeout(400)  # Hypothesis shrinks a failure for up to 300 s
@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(lot=st.randoms(use_true_random=False))
async def test_users_with_a_stream_are_online_and_may_have_one(lot: random.Random) -> None:
    async with busy(lot) as process:
        opening: list[asyncio.Task[None]] = []
        for _ in range(ROUNDS):
            for _ in range(STEPS):
                happens(process, lot, opening)
                await turns(lot.choice([0, 0, 0, 1, 1, 2, 5]))
            process.log.recover()
            assert await process.wrong() == []
            for by in PEOPLE:
                await process.ask(c.Join(), by)
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for wire in process.wires:
            assert wire.seqs == list(range(wire.seqs[0], wire.seqs[0] + len(wire.seqs)))
