"""The timer of a session."""

import asyncio

import pytest

from actors.alarm import Alarm
from actors.messages import (
    Snapshot,
    Wake,
)
from actors.runtime import LoopActor
from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Rejected
from actors.session.ids import Millis
from tests.support.stage import ANN, PATIENCE_S, SESSION, START, TEACHER, Process, process, says, turns

NOW, HOUR = Millis(1_000), Millis(3_600_000)


class Sleeper(LoopActor):
    """Records that it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = asyncio.Queue[object]()

    def on_receive(self, message: object) -> None:
        self.woken.put_nowait(message)


async def test_it_rings_when_it_is_due() -> None:
    sleeper, alarm = Sleeper().begin(), Alarm()
    alarm.set(Millis(NOW + 1), NOW, sleeper.actor_ref)
    assert alarm.due == NOW + 1
    async with asyncio.timeout(PATIENCE_S):
        assert await sleeper.woken.get() == Wake()


async def test_it_rings_at_once_if_the_moment_is_past() -> None:
    sleeper, alarm = Sleeper().begin(), Alarm()
    alarm.set(Millis(0), NOW, sleeper.actor_ref)
    async with asyncio.timeout(PATIENCE_S):
        assert await sleeper.woken.get() == Wake()


async def test_a_new_setting_replaces_the_old_one() -> None:
    sleeper, alarm = Sleeper().begin(), Alarm()
    alarm.set(Millis(0), NOW, sleeper.actor_ref)
    alarm.set(HOUR, NOW, sleeper.actor_ref)
    await turns()
    assert sleeper.woken.empty()
    alarm.set(None, NOW, sleeper.actor_ref)
    assert alarm.due is None
    alarm.cancel()


async def test_it_never_rings_after_it_is_cancelled() -> None:
    sleeper, alarm = Sleeper().begin(), Alarm()
    alarm.set(Millis(0), NOW, sleeper.actor_ref)
    alarm.cancel()
    await turns()
    assert sleeper.woken.empty()
    assert alarm.due is None


async def test_an_actor_that_has_stopped_is_not_woken() -> None:
    sleeper, alarm = Sleeper().begin(), Alarm()
    sleeper.actor_ref.stop(block=False)
    await turns()
    alarm.set(Millis(0), NOW, sleeper.actor_ref)
    await turns()
    assert sleeper.woken.empty()


# In a session


async def test_a_deadline_is_kept(one: Process) -> None:
    await one.create(ttl=60)
    one.clock.passes(59_999)
    # The timer runs in real time, a millisecond from here, and the clock stands still: nothing is due yet.
    await one.do(c.Join(), TEACHER)
    await one.do(says("last words"), TEACHER)
    one.clock.passes(1)
    await one.diary.until(lambda: isinstance(one.streams.events[-1], e.SessionEnded))
    assert one.streams.events[-1] == e.SessionEnded(reason="expired")
    assert one.streams.published[-1].recorded.actor_id is None
    await turns()
    assert one.actor.wakes_at is None


async def test_a_deadline_that_passed_in_the_meantime_comes_first(one: Process) -> None:
    await one.create(ttl=60)
    one.clock.passes(60_000)
    assert await one.read(lambda state: state.session.end_reason).came() == Snapshot("expired")
    assert isinstance(await one.ask(c.Join(), TEACHER), Rejected)
    assert one.rows[-1] == e.SessionEnded(reason="expired")


async def test_a_participant_without_a_stream_leaves_when_the_grace_time_is_over(one: Process) -> None:
    await one.create(grace_ms=1)
    for caller in (TEACHER, ANN):
        await one.do(c.Join(), caller)
    await one.watched(ANN)
    one.streams.watchers.clear()
    await one.do(c.Disconnect(), ANN)
    assert one.actor.wakes_at == START + 1
    one.clock.passes(1)
    await one.diary.until(lambda: isinstance(one.streams.events[-1], e.ParticipantLeft))
    assert one.streams.events[-1] == e.ParticipantLeft(ANN.user_id, reason="gone", last_seen=START)


async def test_coming_back_stops_the_timer(room: Process) -> None:
    await room.watched(ANN)
    room.streams.watchers.clear()
    await room.do(c.Disconnect(), ANN)
    assert room.actor.wakes_at is not None
    await room.watched(ANN)
    await turns()
    assert room.actor.wakes_at is None


async def test_a_deadline_is_kept_while_the_log_is_behind(one: Process) -> None:
    await one.create(ttl=60)
    one.clock.passes(59_999)
    await one.do(c.Join(), TEACHER)
    await one.streams.reaches(3)
    one.full = True
    one.clock.passes(1)
    await one.diary.until(lambda: isinstance(one.streams.events[-1], e.SessionEnded))


@pytest.mark.parametrize("ttl", [None, 3_600])
async def test_a_session_with_streams_open_is_woken_by_the_next_start(one: Process, ttl: int | None) -> None:
    await one.create(ttl=ttl)
    await one.do(c.Join(), TEACHER)
    await one.do(c.Join(), ANN)
    await one.watched(ANN)
    await one.written()
    async with process(beside=one, owner="two") as two:
        assert await two.log.interrupted() == [SESSION]


async def test_a_session_without_streams_is_woken_when_something_is_due(one: Process) -> None:
    await one.create(ttl=3_600)
    await one.do(c.Join(), TEACHER)
    await one.written()
    assert await one.log.due(Millis(START + 3_600_000 - 1), 10) == []
    assert await one.log.due(Millis(START + 3_600_000), 10) == [SESSION]
