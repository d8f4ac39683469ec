"""The Idempotency-Keys that a session remembers."""

from actors.idempotency import IdempotencyKeys
from actors.messages import (
    Answer,
    Execute,
    Key,
    KeyReused,
    Repeated,
)
from actors.ports import KeyRow
from actors.session import commands as c
from actors.session.ids import Millis, UserId
from tests.support.stage import ANN, BEN, SESSION, Process, process, says, texts, turns

OPEN = 5
"""Rows in the log of `room`."""


def used(key: str, user_id: UserId = ANN.user_id, seq: int = 1) -> KeyRow:
    return KeyRow(user_id, key, "digest", seq, seq, Millis(0))


def test_a_key_repeats_its_answer_for_the_same_body_only() -> None:
    keys = IdempotencyKeys()
    keys.add(used("k", seq=7))
    assert keys.outcome(ANN.user_id, Key("k", "digest")) == Repeated(7, 7)
    assert keys.outcome(ANN.user_id, Key("k", "another digest")) == KeyReused()


def test_keys_belong_to_their_user() -> None:
    keys = IdempotencyKeys()
    keys.add(used("k"))
    assert keys.outcome(BEN.user_id, Key("k", "digest")) is None
    keys.add(used("k", BEN.user_id, seq=2))
    assert keys.outcome(ANN.user_id, Key("k", "digest")) == Repeated(1, 1)


def test_the_oldest_key_is_forgotten_beyond_the_limit() -> None:
    keys = IdempotencyKeys(limit=2)
    for name in ("first", "second", "third"):
        keys.add(used(name))
    known = [name for name in ("first", "second", "third") if keys.outcome(ANN.user_id, Key(name, "digest"))]
    assert known == ["second", "third"]


# In a session


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


async def test_a_repeat_in_the_same_drain(room: Process) -> None:
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
