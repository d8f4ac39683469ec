"""What goes out after a commit: joined, in order, at rest after a long write, and never lost with its actor."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec import structs

from actors.messages import Answer, Execute, Outcome, Unavailable
from actors.ports import Published
from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import UserId
from actors.session.state import State
from tests.support.stage import ANN, SESSION, TEACHER, Process, Streams, process, says, turns


class SlowStreams(Streams):
    """Streams that take their time to be written to."""

    def publish(self, batch: Sequence[Published]) -> None:
        super().publish(batch)
        end = time.perf_counter() + 0.1
        while time.perf_counter() < end:
            pass


async def test_a_turn_is_one_append_and_one_write(room: Process) -> None:
    await room.written()
    before = room.log.calls["append"]
    sent = [room.send(says(f"message {number}")) for number in range(5)]
    for one in sent:
        await one.came()
    await room.streams.reaches(10)
    assert room.log.calls["append"] == before + 1
    assert room.streams.batches[-1] == [6, 7, 8, 9, 10]


async def test_after_a_long_fan_out_a_session_rests_and_the_next_one_carries_more() -> None:
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


async def test_what_was_committed_is_shown_before_the_actor_goes() -> None:
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


class BrokenDoor(Streams):
    """Streams that let nobody in: what should fails."""

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        def attach() -> None:
            raise ZeroDivisionError

        return attach


async def test_what_fails_after_a_commit_costs_nothing_else_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    async with process() as one:
        await one.create()
        streams = one.channels[SESSION] = BrokenDoor(one.diary)
        await one.do(c.Join(), TEACHER)
        cat = UserId("01990000-0000-7000-8000-00000000000c")
        one.subscribe(TEACHER)
        one.send(c.Invite(cat), structs.replace(TEACHER, people={cat: c.Person("Cat")}))
        with one.log.held():
            await turns()
            one.send(says("in the next turn"), TEACHER)
            await turns()
        await one.diary.until(lambda: ("told", cat) in one.diary.entries)
        await streams.reaches(6)
        assert [record.message for record in caplog.records] == [
            f"showing what session {SESSION} has committed went wrong"
        ]
        await one.do(says("and goes on"), TEACHER)


class BrokenEar:
    """A reply that cannot be given."""

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome, /) -> None:
        raise ZeroDivisionError


async def test_a_reply_that_cannot_be_given_costs_nobody_else_theirs(room: Process) -> None:
    room.tell(Execute(says("one"), ANN, BrokenEar()))
    assert isinstance(await room.ask(says("two")), Answer)
    await room.streams.reaches(7)
    assert isinstance(await room.ask(says("three")), Answer)
    # Nor when all hear that it has failed: the session is there for the next.
    room.log.fail("append")
    room.tell(Execute(says("lost"), ANN, BrokenEar()))
    assert isinstance(await room.ask(says("lost, too")), Unavailable)
    assert isinstance(await room.ask(says("four")), Answer)
