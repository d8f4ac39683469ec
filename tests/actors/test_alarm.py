"""The timer of a session."""

import asyncio

from actors.alarm import Alarm
from actors.messages import Wake
from actors.runtime import LoopActor
from actors.session.ids import Millis
from tests.support.stage import PATIENCE_S, turns

NOW, HOUR = Millis(1_000), Millis(3_600_000)


class Sleeper(LoopActor):
    """Notes that it was woken."""

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
