"""Who hears of a failure, and what a restored session finds: streams that are gone, streams that are open."""

import asyncio

import pytest

from actors.messages import Execute, Outcome, ReadState, Snapshot, Unavailable
from actors.session import commands as c
from actors.session import events as e
from storage.testing import Held, Trouble
from tests.support.stage import ANN, BEN, PATIENCE_S, SESSION, TEACHER, Noted, Process, process, says, texts, turns

EVE = c.Caller(BEN.user_id[:-1] + "e", "Eve")  # type: ignore[arg-type]


async def held(room: Process) -> Held:
    """Wait for the next commit, which the test then decides."""
    async with asyncio.timeout(PATIENCE_S):
        return await room.log.waiting.get()


def divide(state: object) -> float:
    return 1 / 0


async def test_everyone_who_waits_is_answered_after_a_failure(room: Process, caplog: pytest.LogCaptureFixture) -> None:
    room.log.holding = True
    flying = room.send(says("in flight"))
    await held(room)
    undone = room.send(says("decided in the same turn"))
    subscribed = room.subscribe(BEN)[1]
    failing = room.read(divide)
    behind = room.send(says("behind it in the mailbox"))
    for one in (flying, undone, subscribed, failing, behind):
        assert isinstance(await one.came(), Unavailable)
    assert caplog.messages == ["unhandled exception in SessionActor"]
    assert len(room.directory) == 0


class RecordingReply:
    """A reply that records every outcome, and is never done."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome, /) -> None:
        self.outcomes.append(outcome)


@pytest.mark.parametrize("trouble", ["before", "refused", None])
async def test_no_reply_is_set_twice(room: Process, trouble: Trouble | None) -> None:
    room.log.holding = True
    replies = [RecordingReply() for _ in range(4)]
    room.tell(Execute(says("Hello"), ANN, replies[0]))
    commit = await held(room)
    room.tell(Execute(says("Hello"), ANN, replies[1]))
    room.tell(ReadState(lambda state: state.seq, replies[2]))
    await turns()
    if trouble is not None:
        commit.fail(trouble)
    else:
        room.tell(ReadState(divide, replies[3]))
    await turns()
    assert [[type(one) for one in reply.outcomes] for reply in replies[:3]] == [[Unavailable]] * 3
    assert len(replies[3].outcomes) == (trouble is None)


async def test_the_next_message_after_a_failure_restores(room: Process) -> None:
    await room.do(says("before"))
    assert isinstance(await room.read(divide).came(), Unavailable)
    create = c.Create(
        new=c.NewSession(title="No"), session_id=SESSION, number=1, name="a", code="b", default_capacity=1, grace_ms=1
    )
    assert isinstance(await room.ask(create), Unavailable), "the machine does not know that one"
    await room.do(says("after"))
    assert texts(room.rows) == ["before", "after"]


async def test_a_failure_during_the_restore_answers_every_early_message() -> None:
    async with process() as one:
        await one.create()
        early = [one.read(divide), one.read(), one.send(c.Join(), TEACHER)]
        for noted in early:
            assert isinstance(await noted.came(), Unavailable)
        await one.do(c.Join(), TEACHER)


@pytest.mark.parametrize("full", [False, True])
async def test_open_streams_after_a_restore_are_recorded_however_many(full: bool) -> None:
    async with process() as one:
        await one.open()
        for by in (TEACHER, ANN, BEN):
            await one.watched(by)
        async with process(one, owner="two", commands_per_s=1) as two:
            # Its streams are open, and the session does not know: the other process has just said they are lost.
            async with process(one, owner="three") as three:
                await three.do(says("Hello"))
            two.streams.watchers += one.streams.watchers
            two.full = full
            online = await two.read(lambda state: [place.online for place in state.participants.values()]).came()
            assert online == Snapshot([True, True, True])
            await two.written()
            assert [type(event) for event in two.rows[-3:]] == [e.ParticipantOnline] * 3


async def test_lost_streams_are_recorded_while_the_log_is_behind(room: Process) -> None:
    await room.watched(ANN)
    async with process(room, owner="two") as two:
        two.full = True
        online = await two.read(lambda state: state.session.online).came()
        assert online == Snapshot(0)


async def test_the_backlog_counts_unanswered_messages(room: Process) -> None:
    await room.written()
    assert room.actor.backlog == 0
    room.log.holding = True
    room.send(says("one"))
    room.send(says("two"))
    assert room.actor.backlog == 2, "in the mailbox"
    commit = await held(room)
    assert room.actor.backlog == 2, "in flight"
    refused: list[Noted] = [room.send(says("refused"), EVE), room.read()]
    await turns()
    assert room.actor.backlog == 4, "waiting for what they show"
    commit.release()
    for one in refused:
        await one.came()
    assert room.actor.backlog == 0
