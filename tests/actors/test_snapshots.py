"""When a snapshot is due."""

from actors.messages import (
    Fenced,
    Passivate,
    Snapshot,
    Unavailable,
)
from actors.session import commands as c
from actors.session import machine
from actors.session.ids import MessageId, Millis
from actors.snapshots import SnapshotLimits, SnapshotSchedule
from tests.support.stage import ANN, BEN, SESSION, Process, process, says, texts, turns

OPEN = 5
"""Rows in the log of `room`."""


def schedule(seq: int = 100, at: int = 1_000) -> SnapshotSchedule:
    made = SnapshotSchedule(SnapshotLimits(events=10, ms=60_000))
    made.saved(seq, Millis(at))
    return made


def test_after_so_many_events() -> None:
    snapshots = schedule()
    assert not snapshots.due(109, Millis(1_000))
    assert snapshots.due(110, Millis(1_000))


def test_after_so_long_if_there_was_an_event() -> None:
    snapshots = schedule()
    assert not snapshots.due(101, Millis(60_999))
    assert snapshots.due(101, Millis(61_000))
    assert not snapshots.due(100, Millis(10**9)), "nothing is missing in it"


def test_a_saved_snapshot_starts_both_counts_again() -> None:
    snapshots = schedule()
    snapshots.saved(110, Millis(70_000))
    assert snapshots.behind(110) == 0
    assert not snapshots.due(119, Millis(129_999))
    assert snapshots.due(111, Millis(130_000))


def test_a_session_without_a_snapshot_is_behind_by_all_its_events() -> None:
    assert SnapshotSchedule(SnapshotLimits(10, 60_000)).behind(7) == 7


# In a session


async def test_a_snapshot_every_so_many_events() -> None:
    async with process(snapshot_events=10) as one:
        await one.open()
        for number in range(14):
            await one.do(says(f"message {number}"))
        await one.written()
        saved = one.log.stored(SESSION).snapshot
        assert saved is not None
        assert saved[0] in (10, 11)
        assert one.log.calls["save_snapshot"] == 1
        state = machine.restored(saved[1])
        assert machine.replay(one.log.recorded(SESSION)[: saved[0]]) == state
        for number in range(10):
            await one.do(says(f"more {number}"))
        await one.written()
        assert one.log.calls["save_snapshot"] == 2


async def test_a_snapshot_every_so_often(room: Process) -> None:
    room.clock.passes(59_999)
    await room.do(says("not yet"))
    await room.written()
    assert room.log.stored(SESSION).snapshot is None
    room.clock.passes(1)
    await room.do(says("now"))
    await room.written()
    saved = room.log.stored(SESSION).snapshot
    assert saved is not None
    assert saved[0] == OPEN + 2


async def test_a_snapshot_follows_every_redaction(room: Process) -> None:
    await room.do(says("a secret"))
    await room.do(c.DeleteMessage(message_id=MessageId(1)))
    await room.written()
    saved = room.log.stored(SESSION).snapshot
    assert saved is not None
    assert b"a secret" not in saved[1]
    assert texts(room.rows) == [""]


async def test_a_snapshot_is_saved_after_the_commit_of_its_events() -> None:
    async with process(snapshot_events=OPEN + 1) as room:
        await room.open()
        await room.written()
        room.log.fail("append")
        with room.log.held():
            said = room.send(says("never written"))
            await turns()
        assert isinstance(await said.came(), Unavailable)
        await room.written()
        assert room.log.stored(SESSION).snapshot is None
        await room.do(says("written"))
        await room.written()
        assert room.log.stored(SESSION).snapshot is not None


async def test_leaving_memory_keeps_a_snapshot_and_coming_back_gives_the_same_state(room: Process) -> None:
    await room.do(says("Hello"))
    await room.do(c.RaiseHand(), BEN)
    await room.written()
    before = await room.read(lambda state: machine.restored(machine.snapshot(state))).came()
    await room.passivate()
    saved = room.log.stored(SESSION).snapshot
    assert saved is not None
    assert saved[0] == OPEN + 2
    assert SESSION in room.released
    assert await room.read(lambda state: machine.restored(machine.snapshot(state))).came() == before
    assert isinstance(before, Snapshot)
    assert before.value == machine.replay(room.log.recorded(SESSION))


async def test_a_busy_session_does_not_leave_memory(room: Process) -> None:
    async def told_to_leave() -> bool:
        room.actor.actor_ref.tell(Passivate(float("inf")))
        await turns()
        return len(room.directory) == 0

    with room.log.held():
        room.send(says("Hello"))
        await turns()
        assert not await told_to_leave(), "a commit is on its way"
    await room.written()
    await room.watched(ANN)
    assert not await told_to_leave(), "somebody watches"
    room.streams.watchers.clear()
    room.actor.actor_ref.tell(Passivate(room.actor.active_at - 1))
    await turns()
    assert len(room.directory) == 1, "something has happened since"
    assert await told_to_leave()


async def test_a_session_does_not_leave_memory_with_an_uncommitted_batch(room: Process) -> None:
    await room.written()
    waiting = [room.send(says("Hello")), room.send(c.LowerAll(), ANN), room.read(), room.subscribe(BEN)[1]]
    room.actor.actor_ref.tell(Passivate(float("inf")))
    for one in waiting:
        await one.came()
    await room.written()
    assert texts(room.rows) == ["Hello"]
    saved = room.log.stored(SESSION).snapshot
    assert saved is None or saved[0] <= room.log.stored(SESSION).head.last_seq


async def test_fenced_says_that_nothing_was_done(room: Process) -> None:
    """`Directory.ask` sends fenced commands again (test_directory.py); the actor only reports it."""
    await room.written()
    async with process(beside=room, owner="two") as two:
        await two.read().came()
        said = room.send(says("Hello"))
        assert await said.came() == Fenced()
        assert texts(room.rows) == []
