"""Which actor a session has: one at most, restored when needed, gone when idle."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from actors.messages import Answer, Execute, Fenced, Key, Passivate, ReadState, Repeated, Snapshot, Unavailable
from actors.persistence import CommitFailed
from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import SessionId
from storage.testing import Trouble
from tests.support.stage import ANN, BEN, PATIENCE_S, SESSION, TEACHER, Noted, Process, process, says, texts, turns

OTHER = SessionId("01990000-0000-7000-8000-000000000002")


@contextlib.asynccontextmanager
async def running(one: Process) -> AsyncIterator[None]:
    """Run the directory's maintenance during the block."""
    task = asyncio.create_task(one.directory.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(one: Process, holds: str) -> None:
    """Wait for a session's log to hold an event of this type."""
    await one.diary.until(lambda: any(type(event).__name__ == holds for event in one.rows))


# One actor


async def test_a_session_has_one_actor(one: Process) -> None:
    await one.create()
    with one.log.held("claim"):
        sent = [one.send(c.Join(), TEACHER), one.read(), one.subscribe(TEACHER)[1]]
        await turns()
        assert len(one.directory) == 1
    for noted in sent:
        await noted.came()
    await one.do(says("Hello"), TEACHER)
    assert one.log.calls["claim"] == 1


async def test_every_session_has_its_own(one: Process) -> None:
    for session_id in (SESSION, OTHER):
        await one.create(session_id)
        await one.do(c.Join(), TEACHER, session_id=session_id)
    assert {actor.session_id for actor in one.directory} == {SESSION, OTHER}


async def test_a_mailbox_is_bounded() -> None:
    async with process(mailbox=5) as one:
        await one.open()
        await one.create(OTHER)
        with one.log.held():
            accepted = [one.send(says(f"message {number}")) for number in range(2)]
            await turns()
            accepted += [one.send(says(f"message {number}")) for number in range(2, 5)]
            refused = [one.send(says("too many")), one.read()]
            for noted in refused:
                outcome = await noted.came()
                assert isinstance(outcome, Unavailable)
                assert outcome.busy
            other = one.send(c.Join(), TEACHER, session_id=OTHER)
            await turns()
            assert not other.done(), "only its commit waits"
        for noted in (*accepted, other):
            assert isinstance(await noted.came(), Answer)
        assert isinstance(await one.ask(says("again")), Answer)


async def test_a_mailbox_is_bounded_while_its_session_is_restored_too() -> None:
    async with process(mailbox=3) as one:
        await one.create()
        with one.log.held("claim"):
            accepted = [one.send(c.Join(), TEACHER) for _ in range(3)]
            await turns()
            assert isinstance(await one.ask(c.Join(), TEACHER), Unavailable)
        for noted in accepted:
            assert isinstance(await noted.came(), Answer)


async def test_a_dropped_actor_is_forgotten_at_once(room: Process) -> None:
    await room.written()
    actor = room.actor
    actor.actor_ref.tell(CommitFailed(fenced=False))
    await turns(1)
    assert len(room.directory) == 0
    await room.do(says("Hello"))
    assert room.actor is not actor
    assert room.actor.epoch == actor.epoch + 1


# Fenced: somebody else claimed the session


async def ask(one: Process, command: c.Command, by: c.Caller = ANN, key: str = "") -> object:
    async with asyncio.timeout(PATIENCE_S):
        return await one.directory.ask(SESSION, Execute(command, by, key=Key(key, "digest") if key else None))


async def test_a_fenced_command_is_sent_again_and_carried_out_once(room: Process) -> None:
    await room.written()
    async with process(beside=room, owner="two") as two:
        assert isinstance(await ask(two, says("over there")), Answer)
        outcome = await ask(room, says("and back"))
        assert isinstance(outcome, Answer)
        assert [out.recorded.epoch for out in outcome.published] == [room.actor.epoch]
        assert texts(room.rows) == ["over there", "and back"]


async def test_reading_a_session_that_another_server_has_claimed(room: Process) -> None:
    """An actor that has not noticed the claim may read an old state. It never writes from one."""
    await room.written()
    async with process(beside=room, owner="two") as two:
        await ask(two, says("over there"))
        reply: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        with room.log.held():
            said = asyncio.create_task(ask(room, says("and back")))
            await turns()
            read = asyncio.create_task(
                room.directory.ask(SESSION, ReadState(lambda state: [m.text for m in state.messages.values()], reply))
            )
            await turns()
        assert isinstance(await said, Answer)
        assert await read == Snapshot(["over there", "and back"])


async def test_streams_here_get_each_event_once_however_often_a_session_goes_there_and_back(room: Process) -> None:
    """Rows that another server writes after the claim are published by the next actor, not as missed rows."""
    watcher = await room.watched(ANN)
    await room.written()
    async with process(beside=room, owner="two") as two:
        await ask(two, says("before it is restored here"))
        with room.log.held("read"):
            said = asyncio.create_task(ask(room, says("and back")))
            await turns()
            await ask(two, says("while it is"))
        await said
        await ask(room, says("once more"))
        await room.streams.reaches(len(room.rows))
    assert watcher.seen == list(range(watcher.seen[0], len(room.rows) + 1))


async def test_a_fenced_command_whose_key_another_server_used_is_not_repeated(room: Process) -> None:
    await room.written()
    async with process(beside=room, owner="two") as two:
        first = await ask(two, says("Hello"), key="k")
        assert isinstance(first, Answer)
        assert await ask(room, says("Hello"), key="k") == Repeated(first.seq, first.seq)
        assert texts(room.rows) == ["Hello"]


async def test_two_servers_that_fence_one_another_give_up(room: Process) -> None:
    async with process(beside=room, owner="two") as two:
        room.log.rival = two.log
        outcome = await ask(room, says("Hello"))
        assert isinstance(outcome, Unavailable)
        assert texts(room.rows) == []


async def test_tell_passes_fenced_on(room: Process) -> None:
    await room.written()
    async with process(beside=room, owner="two") as two:
        await ask(two, says("over there"))
        assert await room.ask(says("Hello")) == Fenced()


# Revived, recovered, woken


async def test_a_dropped_session_with_streams_comes_back_by_itself(room: Process) -> None:
    watcher = await room.watched(ANN)
    room.log.fail("append", "after")
    said = room.send(says("Hello"))
    assert isinstance(await said.came(), Unavailable)
    await room.diary.until(lambda: texts(room.streams.events) == ["Hello"])
    assert watcher.seen == [len(room.rows)]
    assert len(room.directory) == 1


async def test_a_dropped_session_without_streams_does_not(room: Process) -> None:
    await room.written()
    claims = room.log.calls["claim"]
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    await turns()
    assert len(room.directory) == 0
    assert room.log.calls["claim"] == claims
    assert room.released == [SESSION]


@pytest.mark.parametrize("trouble", ["before", "refused"])
async def test_reviving_goes_on_until_the_log_is_back_and_not_all_the_time(room: Process, trouble: Trouble) -> None:
    watcher = await room.watched(ANN)
    await room.written()
    claims = room.log.calls["claim"]
    room.log.fail("claim", trouble, times=3)
    room.log.fail("append", "after")
    assert isinstance(await room.send(says("Hello")).came(), Unavailable)
    await turns(500)
    assert room.log.calls["claim"] == claims + 1, "then it waits a little"
    await room.diary.until(lambda: texts(room.streams.events) == ["Hello"])
    assert room.log.calls["claim"] == claims + 4
    assert len(watcher.seen) == 1


async def test_the_sessions_of_a_server_that_died_are_recovered(room: Process) -> None:
    await room.watched(ANN)
    await room.written()
    async with process(beside=room, owner="two") as two, running(two):
        await until(two, "ConnectionsLost")
        await two.do(says("Hello"), BEN)
        assert [event for event in two.rows if isinstance(event, e.ConnectionsLost)] == [
            e.ConnectionsLost(user_ids=[ANN.user_id])
        ]


async def test_a_server_that_was_killed_just_now_is_recovered_a_little_later(room: Process) -> None:
    await room.watched(ANN)
    await room.written()
    await room.log.heartbeat()
    async with process(beside=room, owner="two", wake_every_s=0.001) as two, running(two):
        await turns(50)
        assert not any(isinstance(event, e.ConnectionsLost) for event in two.rows), "it may be alive"
        room.clock.passes(7_000)
        await until(two, "ConnectionsLost")


@pytest.mark.parametrize("trouble", ["before", "refused"])
async def test_recovering_is_tried_again(room: Process, trouble: Trouble) -> None:
    await room.watched(ANN)
    await room.written()
    async with process(beside=room, owner="two", wake_every_s=0.001) as two:
        two.log.fail("interrupted", trouble, times=2)
        two.log.fail("due", trouble, times=2)
        async with running(two):
            await until(two, "ConnectionsLost")


async def test_a_due_session_is_woken_wherever_it_is(one: Process) -> None:
    await one.create(ttl=60)
    one.clock.passes(60_000)
    async with process(beside=one, owner="two", wake_every_s=0.001) as two, running(two):
        await until(two, "SessionEnded")
        assert two.rows[-1] == e.SessionEnded(reason="expired")


async def test_many_are_recovered_a_few_at_a_time(one: Process) -> None:
    ids = [SessionId(f"01990000-0000-7000-8000-0000000001{number:02}") for number in range(40)]
    for session_id in ids:
        await one.create(session_id)
        await one.do(c.Join(), TEACHER, session_id=session_id)
        noted = one.subscribe(TEACHER, session_id=session_id)[1]
        assert isinstance(await noted.came(), Answer)
    await one.written()
    async with process(beside=one, owner="two") as two, running(two):
        with two.log.held("claim"):
            await turns(50)
            assert len(two.directory) == 16
        await two.diary.until(lambda: all(two.channel(session_id).last_seq > 0 for session_id in ids))


# Leaving


async def test_idle_sessions_leave_memory() -> None:
    async with process(passivate_after_s=0.0, wake_every_s=0.001) as one:
        await one.open()
        await one.create(OTHER)
        await one.do(c.Join(), TEACHER, session_id=OTHER)
        await one.watched(ANN)
        async with running(one):
            await one.diary.until(lambda: OTHER in one.released)
        assert [actor.session_id for actor in one.directory] == [SESSION], "somebody watches"
        await one.written()
        assert one.log.stored(OTHER).snapshot is not None


async def test_draining_takes_no_more_and_keeps_snapshots(room: Process) -> None:
    await room.written()
    await room.directory.drain()
    outcome = await room.ask(says("Hello"))
    assert isinstance(outcome, Unavailable)
    assert outcome.retry_s > 1
    await room.written()
    assert len(room.directory) == 0
    saved = room.log.stored(SESSION).snapshot
    assert saved is not None
    assert saved[0] == 5


async def test_draining_answers_earlier_messages(room: Process) -> None:
    await room.written()
    waiting: list[Noted] = [room.send(says("Hello")), room.read(), room.send(c.LowerAll(), ANN)]
    await room.directory.drain()
    for noted in waiting:
        await noted.came()
    await room.written()
    assert texts(room.rows) == ["Hello"]
    async with process(beside=room, owner="two") as two:
        assert isinstance(await ask(two, says("afterwards")), Answer)


async def test_draining_waits_for_restores_that_are_under_way(one: Process) -> None:
    await one.create()
    with one.log.held("claim") as release:
        joined = one.send(c.Join(), TEACHER)
        await turns()
        draining = asyncio.create_task(one.directory.drain())
        await turns()
        assert not draining.done()
        release()
        async with asyncio.timeout(PATIENCE_S):
            await draining
    await joined.came()


async def test_a_dropped_session_is_not_revived_while_draining(room: Process) -> None:
    await room.watched(ANN)
    await room.written()
    claims = room.log.calls["claim"]
    actor = room.actor
    await room.directory.drain()
    actor.actor_ref.tell(CommitFailed(fenced=False))
    await turns()
    assert len(room.directory) == 0
    assert room.log.calls["claim"] == claims


async def test_passivating_one_that_is_being_restored(one: Process) -> None:
    await one.create()
    with one.log.held("claim"):
        joined = one.send(c.Join(), TEACHER)
        await turns()
        one.actor.actor_ref.tell(Passivate(float("inf")))
        await turns()
    assert isinstance(await joined.came(), Answer)
