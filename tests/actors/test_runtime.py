"""The actor type that runs on the event loop."""

import asyncio
import gc
from functools import partial
from typing import Any

import pykka
import pytest

from actors.runtime import LoopActor, LoopScheduler
from tests.support.stage import turns


class Notes(LoopActor):
    """Records its messages and the end of each drain. Calls messages that are callable."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[object] = []
        self.fail_on_drained = False

    def on_receive(self, message: Any) -> object:
        self.notes.append(message)
        if callable(message):
            return message(self)
        return message

    def on_drained(self) -> None:
        self.notes.append("drained")
        if self.fail_on_drained:
            raise ValueError("in on_drained")

    def on_stop(self) -> None:
        self.notes.append("stopped")

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.notes.append(f"failed: {exception_value}")


def boom(actor: Notes) -> None:
    raise ValueError("boom")


async def test_messages_are_handled_in_order_in_one_drain() -> None:
    actor = Notes().begin()
    for number in range(5):
        actor.actor_ref.tell(number)
    assert actor.notes == [], "not before its turn"
    await turns(1)
    assert actor.notes == [0, 1, 2, 3, 4, "drained"]
    await turns()
    assert actor.notes[-1:] == ["drained"]
    assert len(actor.notes) == 6, "no turn without a message"


async def test_messages_that_arrive_in_a_drain_wait_for_the_next() -> None:
    actor = Notes().begin()

    def tell_more(actor: Notes) -> None:
        actor.actor_ref.tell("more")

    actor.actor_ref.tell(tell_more)
    actor.actor_ref.tell("first")
    await turns(1)
    assert actor.notes == [tell_more, "first", "drained"]
    assert len(actor.actor_inbox) == 1
    await turns(1)
    assert actor.notes[3:] == ["more", "drained"]


async def test_other_actors_run_between_two_drains_of_one() -> None:
    order: list[str] = []

    def again(name: str) -> Any:
        def tell(actor: Notes) -> None:
            order.append(name)
            if order.count(name) < 3:
                actor.actor_ref.tell(tell)

        return tell

    first, second = Notes().begin(), Notes().begin()
    first.actor_ref.tell(again("a"))
    second.actor_ref.tell(again("b"))
    await turns()
    assert order == ["a", "b", "a", "b", "a", "b"]


async def test_ask_gives_the_answer_and_never_blocks() -> None:
    ref = Notes.start()
    future = ref.ask("hello", block=False)
    with pytest.raises(asyncio.InvalidStateError):
        future.get()
    assert await future == "hello"
    assert future.get() == "hello"


async def test_messages_sent_before_the_start_are_handled_first() -> None:
    actor = Notes()
    actor.actor_ref.tell("early")
    actor.begin()
    actor.actor_ref.tell("late")
    await turns(1)
    assert actor.notes == ["early", "late", "drained"]


async def test_a_failure_stops_the_actor_and_tells_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    actor = Notes().begin()
    failed = actor.actor_ref.ask(boom, block=False)
    later = actor.actor_ref.ask("later", block=False)
    with pytest.raises(ValueError, match="boom"):
        await failed
    with pytest.raises(pykka.ActorDeadError):
        await later
    assert actor.notes == [boom, "failed: boom"]
    assert not actor.actor_ref.is_alive()
    with pytest.raises(pykka.ActorDeadError):
        actor.actor_ref.tell("too late")
    assert caplog.messages == ["unhandled exception in Notes"]


async def test_a_failure_at_the_end_of_a_drain_stops_the_actor_too(caplog: pytest.LogCaptureFixture) -> None:
    actor = Notes().begin()
    actor.fail_on_drained = True
    actor.actor_ref.tell("last")
    await turns()
    assert actor.notes == ["last", "drained", "failed: in on_drained"]
    assert not actor.actor_ref.is_alive()
    assert caplog.messages == ["unhandled exception in Notes"]


async def test_stop_comes_after_earlier_messages() -> None:
    actor = Notes().begin()
    actor.actor_ref.tell("before")
    actor.actor_ref.stop(block=False)
    actor.actor_ref.tell("after")
    await turns(1)
    assert actor.notes == ["before", "stopped"]
    await turns()
    assert actor.notes == ["before", "stopped"]


async def test_actors_are_not_registered_and_leave_nothing_behind() -> None:
    before = len(pykka.ActorRegistry.get_all())
    actor = Notes().begin()
    assert len(pykka.ActorRegistry.get_all()) == before
    gc.collect()
    gc.disable()  # the next collection may be hours away
    try:
        actor.actor_ref.tell("x")
        actor.actor_ref.stop(block=False)
        await turns()
        del actor
        assert not [found for found in gc.get_objects() if isinstance(found, Notes)]
    finally:
        gc.enable()


def test_both_are_needed_on_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        Notes.start()


async def test_scheduled_work_runs_in_order_a_quarter_at_a_time() -> None:
    deferred, done = LoopScheduler(), list[int]()
    for number in range(8):
        deferred.add(partial(done.append, number))
    assert done == [], "not before its turn"
    seen = []
    while len(done) < 8:
        await turns(1)
        seen.append(len(done))
    assert seen == [2, 4, 5, 6, 7, 8]
    assert done == list(range(8))
    deferred.add(partial(done.append, 8))
    await turns(1)
    assert done[8:] == [8], "again, after there was nothing"


async def test_deferred_work_that_fails_takes_nothing_else_with_it() -> None:
    deferred, done, failures = LoopScheduler(), list[str](), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(str(context["exception"])))

    def fail() -> None:
        deferred.add(partial(done.append, "added meanwhile"))
        raise ValueError("boom")

    deferred.add(fail)
    deferred.add(partial(done.append, "next"))
    await turns()
    assert done == ["next", "added meanwhile"]
    assert failures == ["boom"]
