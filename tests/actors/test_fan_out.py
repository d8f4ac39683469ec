"""The fan-out after a commit: joined, in order, with a cooldown after a long write, and never lost with its actor."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from actors.batch import Batch
from actors.fan_out import FANOUT_COOLDOWN_MAX_S, FanOut
from actors.messages import Answer, Execute, Outcome, Unavailable
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.ids import UserId
from actors.session.state import State
from actors.session.visibility import Published, published_event
from tests.support.stage import ANN, SESSION, START, TEACHER, Diary, Process, Streams, process, says, turns


class SlowStreams(Streams):
    """Streams whose writes take long."""

    def publish(self, batch: Sequence[Published]) -> None:
        super().publish(batch)
        end = time.perf_counter() + 0.1
        while time.perf_counter() < end:
            pass


class ManualScheduler:
    """Runs nothing by itself. Its clock moves only when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.added: list[tuple[float, Callable[[], None]]] = []

    def add(self, work: Callable[[], None]) -> None:
        self.added.append((0.0, work))

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        self.added.append((delay_s, work))

    def time(self) -> float:
        return self.now

    def run(self) -> float:
        """Run the oldest work, and return the delay it was added with."""
        delay_s, work = self.added.pop(0)
        work()
        return delay_s


class TimedStreams(Streams):
    """Streams whose writes take a given time."""

    def __init__(self, scheduler: ManualScheduler) -> None:
        super().__init__(Diary())
        self.scheduler = scheduler
        self.takes_s = 0.0

    def publish(self, batch: Sequence[Published]) -> None:
        super().publish(batch)
        self.scheduler.now += self.takes_s


def committed(*seqs: int, effects: Sequence[Callable[[], None]] = ()) -> Batch:
    """A batch with these rows."""
    state = machine.replay([recorded(1)])
    published = [published_event(recorded(seq), b"", state) for seq in seqs]
    return Batch(old_seq=0, published=published, effects=list(effects))


def recorded(seq: int) -> e.Recorded:
    event = e.SessionStarted() if seq > 1 else lifecycle.create(CREATE, TEACHER, START)[0]
    return e.Recorded(SESSION, 1, seq, START, TEACHER.user_id, event)  # type: ignore[arg-type]


CREATE = c.Create(
    new=c.NewSession(title="Physics"), session_id=SESSION, number=1, name="a", code="b", default_capacity=1, grace_ms=1
)


def fan_out() -> tuple[FanOut, TimedStreams, ManualScheduler]:
    scheduler = ManualScheduler()
    streams = TimedStreams(scheduler)
    return FanOut(SESSION, streams, scheduler), streams, scheduler


def test_batches_that_wait_together_are_one_write() -> None:
    fan, streams, scheduler = fan_out()
    fan.add([committed(2), committed(3, 4)])
    fan.add([committed(5)])
    assert len(scheduler.added) == 1, "one fan-out is scheduled"
    assert scheduler.run() == 0
    assert streams.batches == [[2, 3, 4, 5]]
    assert fan.waiting == []


def test_effects_run_between_the_events_before_and_after_them() -> None:
    fan, streams, scheduler = fan_out()
    reached: list[int] = []
    fan.add([committed(2), committed(3, effects=[lambda: reached.append(streams.last_seq)]), committed(4)])
    scheduler.run()
    assert reached == [3]
    assert streams.batches == [[2, 3], [4]]


def test_a_batch_without_events_and_effects_is_not_published() -> None:
    fan, _, scheduler = fan_out()
    fan.add([committed()])
    assert scheduler.added == []


@pytest.mark.parametrize(("takes_s", "cooldown_s"), [(0.01, 0.005), (10.0, FANOUT_COOLDOWN_MAX_S)])
def test_the_cooldown_is_a_share_of_the_time_of_the_fan_out(takes_s: float, cooldown_s: float) -> None:
    fan, streams, scheduler = fan_out()
    streams.takes_s = takes_s
    fan.add([committed(2)])
    scheduler.run()
    fan.add([committed(3)])
    assert scheduler.run() == pytest.approx(cooldown_s)
    scheduler.now += 1
    fan.add([committed(4)])
    assert scheduler.run() == 0, "the cooldown is over"


async def test_a_drain_is_one_append_and_one_write(room: Process) -> None:
    await room.written()
    before = room.log.calls["append"]
    sent = [room.send(says(f"message {number}")) for number in range(5)]
    for one in sent:
        await one.came()
    await room.streams.reaches(10)
    assert room.log.calls["append"] == before + 1
    assert room.streams.batches[-1] == [6, 7, 8, 9, 10]


async def test_after_a_long_fan_out_a_session_cools_down_and_the_next_one_carries_more() -> None:
    async with process() as one:
        await one.create()
        streams = one.channels[SESSION] = SlowStreams(one.diary)
        await one.do(c.Join(), TEACHER)
        await streams.reaches(3)
        # Commits and answers go on meanwhile.
        await one.do(says("one"), TEACHER)
        await one.do(says("two"), TEACHER)
        assert streams.last_seq == 3
        assert not one.actor.idle
        await streams.reaches(5)
        assert streams.batches == [[2, 3], [4, 5]]


async def test_committed_events_are_published_before_the_actor_stops() -> None:
    async with process() as one:
        await one.create()
        streams = one.channels[SESSION] = SlowStreams(one.diary)
        await one.do(c.Join(), TEACHER)
        await streams.reaches(3)
        # In the rest after that: committed, and not shown yet.
        watcher, subscribed = one.subscribe(TEACHER)
        assert isinstance(await subscribed.came(), Answer)
        assert watcher not in streams.watchers
        one.log.fail("append", "after")
        assert isinstance(await one.ask(says("lost, or not"), TEACHER), Unavailable)
        done = await one.do(says("next"), TEACHER)
        await streams.reaches(done.seq)
        assert watcher.first == 4
        assert watcher.seen == list(range(5, done.seq + 1))
        assert not [event for event in one.rows if isinstance(event, e.ConnectionsLost)], "nobody had gone"


class FailingAdmission(Streams):
    """Streams where attaching a subscriber fails."""

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        def attach() -> None:
            raise ZeroDivisionError

        return attach


async def test_a_failed_effect_stops_no_other_effect(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as one:
        await one.create()
        streams = one.channels[SESSION] = FailingAdmission(one.diary)
        await one.do(c.Join(), TEACHER)
        cat = UserId("01990000-0000-7000-8000-00000000000c")
        one.subscribe(TEACHER)
        one.send(c.Invite(cat), structs.replace(TEACHER, people={cat: c.Person("Cat")}))
        with one.log.held():
            await turns()
            one.send(says("in the next turn"), TEACHER)
            await turns()
        await one.diary.until(lambda: ("notified", cat) in one.diary.entries)
        await streams.reaches(6)
        assert [record.message for record in caplog.records] == [f"a post-commit effect of session {SESSION} failed"]
        await one.do(says("and goes on"), TEACHER)


class FailingReply:
    """A reply that cannot be set."""

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome, /) -> None:
        raise ZeroDivisionError


async def test_a_reply_that_fails_stops_no_other_reply(room: Process) -> None:
    room.tell(Execute(says("one"), ANN, FailingReply()))
    assert isinstance(await room.ask(says("two")), Answer)
    await room.streams.reaches(7)
    assert isinstance(await room.ask(says("three")), Answer)
    # Nor when all hear that it has failed: the session is there for the next.
    room.log.fail("append")
    room.tell(Execute(says("lost"), ANN, FailingReply()))
    assert isinstance(await room.ask(says("lost, too")), Unavailable)
    assert isinstance(await room.ask(says("four")), Answer)
