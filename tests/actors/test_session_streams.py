"""Streams of a session: they start from a committed state and miss nothing, whatever becomes of the actor."""

import pytest

from actors.messages import (
    Answer,
    Snapshot,
    Unavailable,
)
from actors.persistence import CommitFailed
from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from storage.testing import Trouble
from tests.support.stage import ANN, BEN, START, TEACHER, Process, says, texts, turns

OPEN = 5
"""Rows in the log of `room`."""


async def test_a_new_stream_starts_from_a_committed_state_and_misses_nothing(room: Process) -> None:
    with room.log.held():
        room.send(says("before"))
        watcher, subscribed = room.subscribe(ANN)
        room.send(says("with"))
        await turns()
        room.send(says("after"))
        await turns()
        assert not watcher.is_in
        assert not subscribed.done()
    # online, before and with: one turn, one state.
    await room.streams.reaches(OPEN + 4)
    assert watcher.first == OPEN + 3
    assert watcher.seen == [OPEN + 4]
    assert isinstance(await subscribed.came(), Answer)


async def test_a_new_stream_while_nothing_happens(room: Process) -> None:
    first, second = await room.watched(ANN), await room.watched(ANN)
    assert [first.first, second.first] == [OPEN + 1, OPEN + 1], "online once, however many streams"
    assert first.seen == []


async def test_a_stranger_gets_no_stream(room: Process) -> None:
    stranger = c.Caller(START, "Nobody")  # type: ignore[arg-type]
    watcher, subscribed = room.subscribe(stranger, join=False)
    assert isinstance(await subscribed.came(), Rejected)
    assert watcher.first is None


async def test_a_participant_who_is_removed_in_the_same_drain_gets_no_stream(room: Process) -> None:
    """The event of the removal ends their streams. A stream that opened after it would stay."""
    before, _ = room.subscribe(BEN, join=False), room.send(c.Kick(user_id=BEN.user_id), TEACHER)
    after = room.subscribe(BEN, join=False)
    for watcher, subscribed in (before, after):
        outcome = await subscribed.came()
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.KICKED
        await room.written()
        assert not watcher.is_in


async def test_a_stream_that_closes_while_another_opens_leaves_its_user_online(room: Process) -> None:
    first = await room.watched(BEN)
    with room.log.held():
        room.send(says("in flight"))
        await turns()
        second, _ = room.subscribe(BEN)
        await turns()
        # No stream is open between the two; the commit that the second one waits for takes its time.
        room.streams.watchers.remove(first)
        closed = room.send(c.Disconnect(), BEN)
        await turns()
    assert await closed.came() == Answer(OPEN + 2, [])
    await room.diary.until(lambda: second.is_in)
    assert await room.read(lambda state: state.participants[BEN.user_id].online).came() == Snapshot(True)
    # Word of a stream that had gone before it was in may come when the next one is in already.
    await room.do(c.Disconnect(), BEN)
    assert await room.read(lambda state: state.participants[BEN.user_id].online).came() == Snapshot(True)
    room.streams.watchers.remove(second)
    await room.do(c.Disconnect(), BEN)
    assert await room.read(lambda state: state.participants[BEN.user_id].online).came() == Snapshot(False)


async def test_presence_is_brought_in_line_after_restoring(room: Process) -> None:
    for caller in (ANN, BEN):
        await room.watched(caller)
    await room.written()
    # Ben's stream closes while there is nobody to tell; Ann's stays. The actor fails.
    room.streams.watchers.pop()
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    await room.diary.until(lambda: isinstance(room.streams.events[-1], e.ConnectionsLost))
    assert room.streams.events[-1] == e.ConnectionsLost(user_ids=[BEN.user_id])
    online = await room.read(lambda state: {p.name for p in state.participants.values() if p.online}).came()
    assert online == Snapshot({"Ann"})


async def test_a_user_whose_stream_opened_in_the_meantime_is_online_after_a_restore(room: Process) -> None:
    watcher = await room.watched(ANN)
    room.streams.watchers.append(type(watcher)(BEN))
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    await room.diary.until(lambda: bool(room.streams.events[-1] == e.ParticipantOnline(user_id=BEN.user_id)))


@pytest.mark.parametrize("trouble", ["before", "after"])
async def test_a_channel_that_outlives_its_actor_gets_missed_events_once(room: Process, trouble: Trouble) -> None:
    watcher = await room.watched(ANN)
    room.log.fail("append", trouble)
    with room.log.held():
        first = room.send(says("lost on the way"))
        await turns()
        room.send(says("behind it"))
        await turns()
    assert isinstance(await first.came(), Unavailable)
    await room.do(says("afterwards"))
    expected = [*(["lost on the way"] if trouble == "after" else []), "afterwards"]
    await room.diary.until(lambda: texts(room.streams.events) == expected)
    assert texts(room.rows) == expected
    assert watcher.seen == list(range(watcher.seen[0], len(room.rows) + 1)), "dense: nothing lost, nothing twice"
    assert watcher.seen[0] == OPEN + 2


async def test_committed_batches_are_published_before_those_of_a_successor(room: Process) -> None:
    """A fan-out that waits must not attach a stream at a seq that the channel has gone past."""
    await room.watched(ANN)
    await room.written()
    actor = room.actor
    room.scheduler.paused = True
    watcher, subscribed = room.subscribe(BEN)
    await subscribed.came()
    assert not watcher.is_in, "the fan-out waits"
    room.scheduler.paused = False
    actor.actor_ref.tell(CommitFailed(fenced=False))
    await turns(2)
    await room.do(says("afterwards"))
    assert room.actor is not actor
    await room.written()
    assert watcher.first == OPEN + 2
    assert watcher.seen == [OPEN + 3]
