"""The mailbox around the machine: when it answers, what it shows, and what is left of it when something fails."""

from typing import Any

import pytest
from msgspec import structs

from actors.messages import (
    Answer,
    Execute,
    Fenced,
    Key,
    KeyReused,
    Passivate,
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
from actors.session.ids import MessageId, Millis, UserId
from actors.session.state import State
from storage.testing import Trouble
from tests.support.stage import ANN, BEN, SESSION, START, TEACHER, Noted, Process, process, says, texts, turns

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


async def test_people_are_told_of_an_invitation_after_its_commit_which_says_so_too(room: Process) -> None:
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


async def test_nobody_is_told_of_an_invitation_that_was_not_committed(room: Process) -> None:
    cat = UserId("01990000-0000-7000-8000-00000000000c")
    room.log.fail("append")
    outcome = await room.ask(c.Invite(cat), structs.replace(TEACHER, people={cat: c.Person("Cat")}))
    assert isinstance(outcome, Unavailable)
    await turns()
    assert room.log.stored(SESSION).notifications == []
    assert ("notified", cat) not in room.diary.entries


async def test_a_turn_is_one_append_and_answers_come_first_in_order(room: Process) -> None:
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
    assert [len(part.rows) for part in room.log.batches[-1]] == [3]


async def test_turns_during_a_commit_are_written_together_and_shown_in_order(room: Process) -> None:
    before = len(room.log.batches)
    with room.log.held():
        sent = []
        for text in ("one", "two", "three"):
            sent.append(room.send(says(text)))
            await turns()
    assert [(await one.came()).seq for one in sent] == [OPEN + 1, OPEN + 2, OPEN + 3]  # type: ignore[union-attr]
    await room.streams.reaches(OPEN + 3)
    assert [len(batch) for batch in room.log.batches[before:]] == [1, 2]
    assert texts(room.streams.events) == ["one", "two", "three"]
    assert room.streams.seqs == list(range(room.streams.seqs[0], OPEN + 4))


async def test_whoever_reads_the_state_waits_for_the_commit_of_what_they_see(room: Process) -> None:
    with room.log.held():
        room.send(says("Hello"))
        look = room.look(lambda state: [message.text for message in state.messages.values()])
        nothing = room.send(c.Join(), ANN, name="already in")
        rejected = room.send(c.LowerAll(), ANN, name="rejected")
        later = room.send(c.Join(), ANN, name="later")
        await turns()
        assert not any(one.done() for one in (look, nothing, rejected, later))
    assert await look.came() == Snapshot(["Hello"])
    assert await nothing.came() == Answer(OPEN + 1, [])
    assert isinstance(await rejected.came(), Rejected)
    await later.came()
    order = [name for name, _ in room.diary.entries if name in ("SendMessage", "look", "already in", "rejected")]
    assert order == ["SendMessage", "look", "already in", "rejected"]


async def test_nothing_in_flight_is_answered_at_once(room: Process) -> None:
    await room.written()
    calls = room.log.calls["append"]
    assert await room.look().came() == Snapshot(OPEN)
    assert await room.do(c.Join(), ANN) == Answer(OPEN, [])
    assert room.log.calls["append"] == calls


async def test_a_rejected_command_leaves_nothing(room: Process) -> None:
    await room.written()
    calls = room.log.calls["append"]
    before = await room.look(machine.snapshot).came()
    outcome = await room.ask(c.Kick(user_id=BEN.user_id), ANN, key="k:digest")
    assert isinstance(outcome, Rejected)
    assert outcome.reason is Reason.NOT_PERMITTED
    assert await room.look(machine.snapshot).came() == before
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
        assert room.streams.relayed == [(e.Typing(), BEN.user_id)]
        assert room.streams.last_seq == OPEN
    outcome = await relayed.came()
    assert isinstance(outcome, Answer)
    assert outcome.ephemeral
    await room.written()
    assert len(room.rows) == OPEN + 1


# Idempotency-Keys


async def test_a_repeated_key_gets_the_first_answer_and_does_nothing(room: Process) -> None:
    first = await room.do(says("Hello"), key="k:digest")
    assert await room.ask(says("Hello"), key="k:digest") == Repeated(first.seq, first.seq)
    assert await room.ask(says("Goodbye"), key="k:another") == KeyReused()
    assert isinstance(await room.ask(says("Hello"), BEN, key="k:digest"), Answer), "another's key is another key"
    await room.written()
    assert texts(room.rows) == ["Hello", "Hello"]


async def test_a_repeat_while_the_first_is_in_flight(room: Process) -> None:
    with room.log.held():
        first = room.send(says("Hello"), key="k:digest", name="first")
        await turns()
        again = room.send(says("Hello"), key="k:digest", name="again")
        other = room.send(says("Goodbye"), key="k:another", name="other")
        await turns()
        assert not any(one.done() for one in (first, again, other)), "what it repeats is not yet sure"
    assert isinstance(await first.came(), Answer)
    assert await again.came() == Repeated(OPEN + 1, OPEN + 1)
    assert await other.came() == KeyReused()
    assert texts(room.rows) == ["Hello"]


async def test_a_repeat_in_the_same_turn(room: Process) -> None:
    first, again = room.send(says("Hello"), key="k:digest"), room.send(says("Hello"), key="k:digest")
    assert isinstance(await first.came(), Answer)
    assert await again.came() == Repeated(OPEN + 1, OPEN + 1)


async def test_a_key_whose_command_did_nothing_is_kept_too(room: Process) -> None:
    assert await room.do(c.Join(), ANN, key="k:digest") == Answer(OPEN, [])
    assert await room.ask(c.Join(), ANN, key="k:digest") == Repeated(OPEN + 1, OPEN)
    assert room.log.stored(SESSION).keys[ANN.user_id, "k"].first_seq == OPEN + 1


async def test_a_key_alone_is_answered_after_its_own_commit(room: Process) -> None:
    with room.log.held() as release:
        room.send(says("Hello"))
        await turns()
        # Decided at the same seq, written by the next commit.
        nothing = room.send(c.Join(), ANN, key="k:digest", name="nothing")
        await turns()
        release()
        with room.log.held():
            await room.streams.reaches(OPEN + 1)
            await turns()
            assert not nothing.done(), "the key has not been written yet"
    assert await nothing.came() == Answer(OPEN + 1, [])


async def test_a_key_that_the_actor_has_forgotten_is_found_in_the_log() -> None:
    async with process(keys_kept=1) as room:
        await room.open()
        first = await room.do(says("Hello"), key="k:digest")
        await room.do(says("Bye"), key="another key:digest")
        repeat = Execute(says("Hello"), ANN, key=Key("k", "digest"))
        assert await room.directory.ask(SESSION, repeat) == Repeated(first.seq, first.seq)
        await room.written()
        assert texts(room.rows) == ["Hello", "Bye"]
        assert isinstance(await room.ask(says("More")), Answer)


# Failures


@pytest.mark.parametrize("trouble", ["before", "after", "refused"])
async def test_when_a_commit_fails_everyone_who_waits_hears_it(room: Process, trouble: Trouble) -> None:
    room.log.fail("append", trouble)
    with room.log.held():
        first = room.send(says("first"), key="k:digest")
        await turns()
        watcher, subscribed = room.subscribe(BEN)
        waiting: list[Noted] = [first, subscribed, room.look(), room.send(c.LowerAll(), ANN)]
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


async def test_messages_behind_a_failure_in_the_same_inbox_hear_it_too(room: Process) -> None:
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    behind = [room.send(says("Hello")), room.look()]
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
        look, behind = room.look(bug), room.look()
        await turns()
        assert isinstance(await look.came(), Unavailable) if look.done() else True
    for one in (said, behind):
        assert isinstance(await one.came(), Unavailable)
    assert caplog.messages == ["unhandled exception in SessionActor"]
    outcome = await room.look(lambda state: [message.text for message in state.messages.values()]).came()
    assert outcome == Snapshot(["Hello"]), "its commit was on the way"


async def test_there_is_no_such_session(one: Process) -> None:
    outcomes = [one.send(says("Hello")), one.look(), one.subscribe(ANN)[1]]
    for noted in outcomes:
        assert await noted.came() == UnknownSession()
    assert len(one.directory) == 0
    assert one.released == [SESSION]


async def test_the_log_is_behind(room: Process) -> None:
    room.full = True
    assert await room.ask(says("Hello")) == Unavailable("the log is behind")
    assert await room.subscribe(BEN)[1].came() == Unavailable("the log is behind")
    assert isinstance(await room.look().came(), Snapshot), "looking writes nothing"
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
        joined, said, look = one.send(c.Join(), TEACHER), one.send(says("Hello"), TEACHER), one.look()
        await turns()
        assert not joined.done()
        assert one.actor.backlog == 3
    assert isinstance(await joined.came(), Answer)
    assert isinstance(await said.came(), Answer)
    assert await look.came() == Snapshot(4)


@pytest.mark.parametrize("call", ["claim", "read"])
async def test_a_session_that_cannot_be_restored_now(room: Process, call: Any) -> None:
    await leave(room)
    room.streams.last_seq = OPEN  # somebody watches what another actor wrote
    room.log.fail(call)
    outcome = await room.ask(says("Hello"))
    assert isinstance(outcome, Unavailable)
    assert outcome.detail == "the log cannot be reached", "and nothing of where it is"
    assert isinstance(await room.ask(says("Hello")), Answer)


async def test_a_session_whose_log_cannot_be_read(room: Process, caplog: pytest.LogCaptureFixture) -> None:
    await leave(room)
    room.log.fail("claim", "refused")
    assert await room.ask(says("Hello")) == Unavailable("this session could not be restored")
    assert caplog.messages == [f"restoring session {SESSION} failed"]
    assert isinstance(await room.ask(says("Hello")), Answer)


async def leave(room: Process) -> None:
    """Have the session leave memory."""
    await room.written()
    room.actor.actor_ref.tell(Passivate(float("inf")))
    await turns()
    assert len(room.directory) == 0
    await room.written()


async def test_keys_survive_restoring(room: Process) -> None:
    first = await room.do(says("Hello"), key="k:digest")
    await leave(room)
    assert await room.ask(says("Hello"), key="k:digest") == Repeated(first.seq, first.seq)
    assert await room.ask(says("Other"), key="k:another") == KeyReused()


# Streams


async def test_a_newcomer_starts_from_what_is_committed_and_misses_nothing(room: Process) -> None:
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


async def test_a_newcomer_while_nothing_happens(room: Process) -> None:
    first, second = await room.watched(ANN), await room.watched(ANN)
    assert [first.first, second.first] == [OPEN + 1, OPEN + 1], "online once, however many streams"
    assert first.seen == []


async def test_a_stranger_gets_no_stream(room: Process) -> None:
    stranger = c.Caller(START, "Nobody")  # type: ignore[arg-type]
    watcher, subscribed = room.subscribe(stranger, join=False)
    assert isinstance(await subscribed.came(), Rejected)
    assert watcher.first is None


async def test_whoever_is_removed_as_they_come_in_is_not_let_in(room: Process) -> None:
    """Their streams are cut off when it is shown that they were removed, and what comes in after that would stay."""
    before, _ = room.subscribe(BEN, join=False), room.send(c.Kick(user_id=BEN.user_id), TEACHER)
    after = room.subscribe(BEN, join=False)
    for watcher, subscribed in (before, after):
        outcome = await subscribed.came()
        assert isinstance(outcome, Rejected)
        assert outcome.reason is Reason.KICKED
        await room.written()
        assert not watcher.is_in


async def test_one_stream_closing_while_another_is_let_in_leaves_its_user_online(room: Process) -> None:
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
    assert await room.look(lambda state: state.participants[BEN.user_id].online).came() == Snapshot(True)
    # Word of a stream that had gone before it was in may come when the next one is in already.
    await room.do(c.Disconnect(), BEN)
    assert await room.look(lambda state: state.participants[BEN.user_id].online).came() == Snapshot(True)
    room.streams.watchers.remove(second)
    await room.do(c.Disconnect(), BEN)
    assert await room.look(lambda state: state.participants[BEN.user_id].online).came() == Snapshot(False)


async def test_presence_is_brought_in_line_after_restoring(room: Process) -> None:
    for caller in (ANN, BEN):
        await room.watched(caller)
    await room.written()
    # Ben's stream closes while there is nobody to tell; Ann's stays. The actor fails.
    room.streams.watchers.pop()
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    await room.diary.until(lambda: isinstance(room.streams.events[-1], e.ConnectionsLost))
    assert room.streams.events[-1] == e.ConnectionsLost(user_ids=[BEN.user_id])
    online = await room.look(lambda state: {p.name for p in state.participants.values() if p.online}).came()
    assert online == Snapshot({"Ann"})


async def test_who_came_while_a_session_was_away_is_online_after_restoring(room: Process) -> None:
    watcher = await room.watched(ANN)
    room.streams.watchers.append(type(watcher)(BEN))
    room.actor.actor_ref.tell(CommitFailed(fenced=False))
    await room.diary.until(lambda: bool(room.streams.events[-1] == e.ParticipantOnline(user_id=BEN.user_id)))


@pytest.mark.parametrize("trouble", ["before", "after"])
async def test_a_channel_that_outlives_its_actor_gets_what_it_missed_once(room: Process, trouble: Trouble) -> None:
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


async def test_what_is_committed_is_published_before_a_successor_publishes_more(room: Process) -> None:
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


# Time


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


async def test_a_deadline_that_passed_while_nobody_looked_comes_first(one: Process) -> None:
    await one.create(ttl=60)
    one.clock.passes(60_000)
    assert await one.look(lambda state: state.session.end_reason).came() == Snapshot("expired")
    assert isinstance(await one.ask(c.Join(), TEACHER), Rejected)
    assert one.rows[-1] == e.SessionEnded(reason="expired")


async def test_who_stays_away_leaves_when_the_grace_time_is_over(one: Process) -> None:
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


async def test_a_deadline_is_kept_however_full_the_log_is(one: Process) -> None:
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


async def test_a_session_with_nobody_there_is_woken_when_something_is_due(one: Process) -> None:
    await one.create(ttl=3_600)
    await one.do(c.Join(), TEACHER)
    await one.written()
    assert await one.log.due(Millis(START + 3_600_000 - 1), 10) == []
    assert await one.log.due(Millis(START + 3_600_000), 10) == [SESSION]


# Snapshots and leaving memory


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


async def test_a_snapshot_is_saved_after_the_commit_of_what_it_holds() -> None:
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
    before = await room.look(lambda state: machine.restored(machine.snapshot(state))).came()
    await leave(room)
    saved = room.log.stored(SESSION).snapshot
    assert saved is not None
    assert saved[0] == OPEN + 2
    assert SESSION in room.released
    assert await room.look(lambda state: machine.restored(machine.snapshot(state))).came() == before
    assert isinstance(before, Snapshot)
    assert before.value == machine.replay(room.log.recorded(SESSION))


async def test_it_stays_while_something_is_going_on(room: Process) -> None:
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


async def test_it_does_not_leave_with_what_it_has_just_decided(room: Process) -> None:
    await room.written()
    waiting = [room.send(says("Hello")), room.send(c.LowerAll(), ANN), room.look(), room.subscribe(BEN)[1]]
    room.actor.actor_ref.tell(Passivate(float("inf")))
    for one in waiting:
        await one.came()
    await room.written()
    assert texts(room.rows) == ["Hello"]
    saved = room.log.stored(SESSION).snapshot
    assert saved is None or saved[0] <= room.log.stored(SESSION).head.last_seq


async def test_fenced_says_that_nothing_was_done(room: Process) -> None:
    """`Directory.ask` sends again what was fenced (test_directory.py); an actor by itself only says so."""
    await room.written()
    async with process(beside=room, owner="two") as two:
        await two.look().came()
        said = room.send(says("Hello"))
        assert await said.came() == Fenced()
        assert texts(room.rows) == []
