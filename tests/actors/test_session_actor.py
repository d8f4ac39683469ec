"""The mailbox around the machine: answers follow commits, failures reach all who wait, the log restores a session."""

from typing import Any

import pytest
from msgspec import structs

from actors.messages import (
    Answer,
    KeyReused,
    Repeated,
    Snapshot,
    Unavailable,
    UnknownSession,
)
from actors.persistence import CommitFailed
from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.errors import Reason, Rejected
from actors.session.ids import MessageId, UserId
from actors.session.state import State
from storage.testing import Trouble
from tests.support.stage import ANN, BEN, SESSION, TEACHER, Noted, Process, process, says, texts, turns

OPEN = 5
"""Rows in the log of `room`."""


# Answers come after the commit


async def test_answers_and_events_wait_for_the_commit(room: Process) -> None:
    with room.log.held():
        said = room.send(says("Hello"))
        await turns()
        assert not said.done()
        assert room.streams.last_seq == OPEN
    outcome = await said.came()
    assert isinstance(outcome, Answer)
    assert outcome.seq == OPEN + 1
    assert [out.recorded.event for out in outcome.published] == [e.ChatMessage(message_id=MessageId(1), text="Hello")]
    await room.streams.reaches(OPEN + 1)
    assert texts(room.rows) == texts(room.streams.events) == ["Hello"]


async def test_a_notification_follows_the_commit_that_stores_it(room: Process) -> None:
    cat = UserId("01990000-0000-7000-8000-00000000000c")
    by = structs.replace(TEACHER, people={cat: c.Person("Cat")})
    notified = ("notified", cat)
    with room.log.held():
        invited = room.send(c.Invite(cat), by)
        room.send(says("Hello"))
        await turns()
        assert notified not in room.diary.entries
        assert room.log.stored(SESSION).notifications == []
    await invited.came()
    await room.diary.until(lambda: notified in room.diary.entries)
    (row,) = room.log.stored(SESSION).notifications
    assert row.user_id == cat
    assert b'"session_invitation"' in bytes(row.body)
    await room.do(c.End(), TEACHER)
    await room.diary.until(lambda: room.diary.entries.count(notified) == 2)
    assert b'"over"' in bytes(room.log.stored(SESSION).notifications[1].body)


async def test_there_is_no_notification_without_a_commit(room: Process) -> None:
    cat = UserId("01990000-0000-7000-8000-00000000000c")
    room.log.fail("append")
    outcome = await room.ask(c.Invite(cat), structs.replace(TEACHER, people={cat: c.Person("Cat")}))
    assert isinstance(outcome, Unavailable)
    await turns()
    assert room.log.stored(SESSION).notifications == []
    assert ("notified", cat) not in room.diary.entries


async def test_a_batch_is_one_append_and_answers_come_first_in_order(room: Process) -> None:
    await room.streams.reaches(OPEN)
    room.diary.entries.clear()
    for text in ("one", "two", "three"):
        room.send(says(text), name=text)
    await room.streams.reaches(OPEN + 3)
    assert room.diary.entries == [
        ("one", "Answer"),
        ("two", "Answer"),
        ("three", "Answer"),
        *(("published", OPEN + n) for n in (1, 2, 3)),
    ]
    assert room.streams.batches[-1] == [OPEN + 1, OPEN + 2, OPEN + 3], "one write for one commit"
    assert [len(part.rows) for part in room.log.commits[-1]] == [3]


async def test_batches_during_a_commit_are_written_together_and_published_in_order(room: Process) -> None:
    before = len(room.log.commits)
    with room.log.held():
        sent = []
        for text in ("one", "two", "three"):
            sent.append(room.send(says(text)))
            await turns()
    assert [(await one.came()).seq for one in sent] == [OPEN + 1, OPEN + 2, OPEN + 3]  # type: ignore[union-attr]
    await room.streams.reaches(OPEN + 3)
    assert [len(batch) for batch in room.log.commits[before:]] == [1, 2]
    assert texts(room.streams.events) == ["one", "two", "three"]
    assert room.streams.seqs == list(range(room.streams.seqs[0], OPEN + 4))


async def test_a_read_waits_for_the_commit_of_the_state_that_it_reads(room: Process) -> None:
    with room.log.held():
        room.send(says("Hello"))
        read = room.read(lambda state: [message.text for message in state.messages.values()])
        nothing = room.send(c.Join(), ANN, name="already in")
        rejected = room.send(c.LowerAll(), ANN, name="rejected")
        later = room.send(c.Join(), ANN, name="later")
        await turns()
        assert not any(one.done() for one in (read, nothing, rejected, later))
    assert await read.came() == Snapshot(["Hello"])
    assert await nothing.came() == Answer(OPEN + 1, [])
    assert isinstance(await rejected.came(), Rejected)
    await later.came()
    order = [name for name, _ in room.diary.entries if name in ("SendMessage", "read", "already in", "rejected")]
    assert order == ["SendMessage", "read", "already in", "rejected"]


async def test_nothing_in_flight_is_answered_at_once(room: Process) -> None:
    await room.written()
    calls = room.log.calls["append"]
    assert await room.read().came() == Snapshot(OPEN)
    assert await room.do(c.Join(), ANN) == Answer(OPEN, [])
    assert room.log.calls["append"] == calls


async def test_a_rejected_command_leaves_nothing(room: Process) -> None:
    await room.written()
    calls = room.log.calls["append"]
    before = await room.read(machine.snapshot).came()
    outcome = await room.ask(c.Kick(user_id=BEN.user_id), ANN, key="k:digest")
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.NOT_PERMITTED
    assert await room.read(machine.snapshot).came() == before
    assert room.log.calls["append"] == calls
    assert room.streams.last_seq == OPEN
    assert isinstance(await room.ask(c.RaiseHand(), ANN, key="k:another"), Answer), "a refusal uses no key up"


async def test_a_rejection_beside_a_success(room: Process) -> None:
    refused, said = room.send(c.LowerAll(), ANN), room.send(says("Hello"), BEN)
    assert isinstance(await refused.came(), Rejected)
    assert isinstance(await said.came(), Answer)
    assert texts(room.rows) == ["Hello"]


async def test_ephemeral_events_go_out_at_once_and_are_not_stored(room: Process) -> None:
    with room.log.held():
        room.send(says("Hello"))
        relayed = room.send(c.Typing(), BEN)
        await turns()
        assert room.streams.relayed == [(e.TypingChanged(), BEN.user_id)]
        assert room.streams.last_seq == OPEN
    outcome = await relayed.came()
    assert isinstance(outcome, Answer)
    assert outcome.ephemeral
    await room.written()
    assert len(room.rows) == OPEN + 1


# Failures


@pytest.mark.parametrize("trouble", ["before", "after", "refused"])
async def test_a_failed_commit_answers_everyone_who_waits(room: Process, trouble: Trouble) -> None:
    room.log.fail("append", trouble)
    with room.log.held():
        first = room.send(says("first"), key="k:digest")
        await turns()
        watcher, subscribed = room.subscribe(BEN)
        waiting: list[Noted] = [first, subscribed, room.read(), room.send(c.LowerAll(), ANN)]
        await turns()
        waiting.append(room.send(says("second")))
    for one in waiting:
        outcome = await one.came()
        assert isinstance(outcome, Unavailable), outcome
        assert not outcome.busy
    # The next message restores the session from the log, and what was asked is done once.
    outcome = await room.ask(says("first"), key="k:digest")
    assert outcome == Repeated(OPEN + 1, OPEN + 1) if trouble == "after" else isinstance(outcome, Answer)
    await room.written()
    assert texts(room.rows) == ["first"]
    assert watcher.first is None, "who was told no is not let in"


async def test_a_failure_answers_the_messages_behind_it_in_the_inbox(room: Process) -> None:
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    behind = [room.send(says("Hello")), room.read()]
    for one in behind:
        assert isinstance(await one.came(), Unavailable)
    assert isinstance(await room.ask(says("Hello")), Answer)


async def test_a_bug_drops_the_actor_and_the_log_restores_the_session(
    room: Process, caplog: pytest.LogCaptureFixture
) -> None:
    def bug(state: State) -> Any:
        raise ValueError("a bug")

    with room.log.held():
        said = room.send(says("Hello"))
        await turns()
        read, behind = room.read(bug), room.read()
        await turns()
        assert isinstance(await read.came(), Unavailable) if read.done() else True
    for one in (said, behind):
        assert isinstance(await one.came(), Unavailable)
    assert caplog.messages == ["unhandled exception in SessionActor"]
    outcome = await room.read(lambda state: [message.text for message in state.messages.values()]).came()
    assert outcome == Snapshot(["Hello"]), "its commit was on the way"


async def test_there_is_no_such_session(one: Process) -> None:
    outcomes = [one.send(says("Hello")), one.read(), one.subscribe(ANN)[1]]
    for noted in outcomes:
        assert await noted.came() == UnknownSession()
    assert len(one.directory) == 0
    assert one.released == [SESSION]


async def test_the_log_is_behind(room: Process) -> None:
    room.full = True
    assert await room.ask(says("Hello")) == Unavailable("the log is behind")
    assert await room.subscribe(BEN)[1].came() == Unavailable("the log is behind")
    assert isinstance(await room.read().came(), Snapshot), "looking writes nothing"
    room.full = False
    assert isinstance(await room.ask(says("Hello")), Answer)


async def test_a_session_takes_only_so_many_commands_a_second() -> None:
    async with process(commands_per_s=5.0) as one:
        await one.create()
        await one.do(c.Join(), TEACHER)
        outcomes = [await one.ask(says("Hello"), TEACHER) for _ in range(8)]
        busy = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
        assert len(busy) in (3, 4), outcomes
        assert all(outcome.busy for outcome in busy)


# Restoring


async def test_messages_that_come_before_it_is_restored_wait_in_order(one: Process) -> None:
    await one.create()
    with one.log.held("claim"):
        joined, said, read = one.send(c.Join(), TEACHER), one.send(says("Hello"), TEACHER), one.read()
        await turns()
        assert not joined.done()
        assert one.actor.backlog == 3
    assert isinstance(await joined.came(), Answer)
    assert isinstance(await said.came(), Answer)
    assert await read.came() == Snapshot(4)


@pytest.mark.parametrize("call", ["claim", "read"])
async def test_a_session_that_cannot_be_restored_now(room: Process, call: Any) -> None:
    await room.passivate()
    room.streams.last_seq = OPEN  # somebody watches what another actor wrote
    room.log.fail(call)
    outcome = await room.ask(says("Hello"))
    assert isinstance(outcome, Unavailable)
    assert outcome.detail == "the log cannot be reached", "and nothing of where it is"
    assert isinstance(await room.ask(says("Hello")), Answer)


async def test_a_session_whose_log_cannot_be_read(room: Process, caplog: pytest.LogCaptureFixture) -> None:
    await room.passivate()
    room.log.fail("claim", "refused")
    assert await room.ask(says("Hello")) == Unavailable("this session could not be restored")
    assert caplog.messages == [f"restoring session {SESSION} failed"]
    assert isinstance(await room.ask(says("Hello")), Answer)


async def test_keys_survive_restoring(room: Process) -> None:
    first = await room.do(says("Hello"), key="k:digest")
    await room.passivate()
    assert await room.ask(says("Hello"), key="k:digest") == Repeated(first.seq, first.seq)
    assert await room.ask(says("Other"), key="k:another") == KeyReused()
