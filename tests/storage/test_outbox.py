"""The outbox in PostgreSQL: written by the commit that writes the log, or not at all; taken in order."""

import itertools
from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from actors.commit import outbox_rows
from actors.ports import Append, Creation, OutboxRow
from actors.session import events as e
from actors.session.ids import Millis, UserId
from storage.errors import StorageError
from storage.log.event_log import PREPARE, PostgresEventLog, batched
from storage.outbox import HISTORY, Attempt, Delivery, Outbox
from storage.pool import Pool, Writer
from tests.support.author import ANN, BEN, TEACHER, Author, message, used

ALL = frozenset({"chat_message", "session_started", "participant_invited", "session_created"})
WELL, BROKEN = Attempt(Millis(1), 5, 200), Attempt(Millis(2), 7, 500, "the answer was 500")
_numbers = itertools.count(1)


def invited(user_id: UserId) -> e.ParticipantInvited:
    return e.ParticipantInvited(user_id=user_id, name="Ben", number=2)


class Post:
    """A log with its outbox, and endpoints of the teacher's."""

    def __init__(self, pool: Pool, writer: Writer) -> None:
        self.pool = pool
        self.log = PostgresEventLog(pool, writer, "node:1", on_outbox=self.noticed)
        self.outbox = self.opened()
        self.calls = 0

    def opened(self, *, lease_s: float = 60, per_target: int = 4, pause_after: int = 3, pause_s: float = 60) -> Outbox:
        return Outbox(self.pool, lease_s=lease_s, per_target=per_target, pause_after=pause_after, pause_s=pause_s)

    def noticed(self) -> None:
        self.calls += 1

    async def endpoint(self, *types: str, owner: UserId = TEACHER, disabled: str | None = None) -> str:
        sql = """
            insert into webhook_endpoint (endpoint_id, owner_id, url, types, secret, disabled)
            values (gen_random_uuid(), %s, 'https://example.org', %s, '', %s) returning endpoint_id::text"""
        return str((await self.pool.fetch(sql, (owner, list(types), disabled)))[0][0])

    async def session(self) -> Author:
        author = Author(next(_numbers))
        await self.log.create(author.creation)
        return author

    async def commit(self, author: Author, *events: e.Event) -> None:
        assert await self.log.append([told(author, *events)]) == {author.session_id}

    async def rows(self) -> list[tuple[str, str, int]]:
        found = await self.pool.fetch("select kind, target_id::text, seq from outbox order by id")
        return [(kind, target, seq) for kind, target, seq in found]

    async def statuses(self) -> list[str]:
        return [row[0] for row in await self.pool.fetch("select status from outbox order by session_id, seq")]

    async def claim(self, limit: int = 100) -> list[Delivery]:
        return sorted(await self.outbox.claim(["webhook", "push"], limit), key=lambda one: one.id)


def told(author: Author, *events: e.Event, by: UserId | None = ANN) -> Append:
    """An append with the notices that the session's actor would write."""
    append = author.append(*events, by=by)
    append.outbox_rows = outbox_rows(author.log[append.old_seq :], author.state.session.owner_id, ALL)
    return append


@pytest.fixture
async def post(dsn: str) -> AsyncIterator[Post]:
    writer = Writer(dsn, PREPARE)
    async with await Pool.open(dsn, size=3) as pool:
        yield Post(pool, writer)
    await writer.close()


# The commit


async def test_a_commit_writes_a_row_for_each_endpoint_that_wants_it(post: Post) -> None:
    all_, chat = await post.endpoint(), await post.endpoint("chat_message", "session_ended")
    await post.endpoint(owner=BEN)
    await post.endpoint(disabled="owner")
    author = await post.session()
    await post.commit(author, e.SessionStarted(), message(1), e.HandRaised(ANN))
    assert sorted(await post.rows()) == sorted([
        ("webhook", all_, 2), ("webhook", all_, 3), ("webhook", chat, 3),
    ])  # fmt: skip
    assert post.calls == 1


async def test_an_invitation_is_a_row_for_whoever_is_invited_though_nobody_has_an_endpoint(post: Post) -> None:
    author = await post.session()
    await post.commit(author, invited(BEN), message(1))
    assert await post.rows() == [("push", BEN, 2)]


async def test_a_creation_writes_its_rows_too(post: Post) -> None:
    endpoint = await post.endpoint()
    author = Author(next(_numbers))
    told_of = [OutboxRow(1, "webhook", "session_created", TEACHER), OutboxRow(1, "push", "participant_invited", BEN)]
    await post.log.create(structs.replace(author.creation, outbox_rows=told_of))
    assert sorted(await post.rows()) == [("push", BEN, 1), ("webhook", endpoint, 1)]


def test_nobody_is_told_of_inviting_themselves() -> None:
    author = Author()
    assert told(author, invited(ANN), by=ANN).outbox_rows == [OutboxRow(2, "webhook", "participant_invited", TEACHER)]


def test_what_nobody_wants_is_no_notice() -> None:
    author = Author()
    author.append(message(1), e.HandRaised(ANN), invited(BEN))
    assert outbox_rows(author.log, TEACHER, ()) == [OutboxRow(4, "push", "participant_invited", BEN)]
    assert outbox_rows(author.log, TEACHER, {"hand_raised"})[1:] == [OutboxRow(3, "webhook", "hand_raised", TEACHER)]


@pytest.mark.parametrize("what", ["owner", "epoch", "old_seq", "key"])
async def test_a_fenced_commit_leaves_no_row(post: Post, what: str) -> None:
    endpoint = await post.endpoint()
    author, other = await post.session(), await post.session()
    before: list[tuple[str, str, int]] = []
    append = told(author, message(1), invited(BEN))
    if what == "owner":
        await post.pool.execute("update session_head set owner = 'x' where session_id = %s", (author.session_id,))
    elif what == "epoch":
        append.epoch = 2
    elif what == "old_seq":
        append.old_seq = 5
    else:
        await post.log.append([keyed(author, append)])
        before = await post.rows()
        append = keyed(author, told(author, message(2), invited(BEN)))
    assert await post.log.append([append, told(other, message(1))]) == {other.session_id}
    assert (await post.rows())[len(before) :] == [("webhook", endpoint, 2)]


def keyed(author: Author, append: Append) -> Append:
    append.keys = [used("k", append.new_seq)]
    return append


async def test_a_refused_commit_leaves_no_row(post: Post) -> None:
    await post.endpoint()
    author = await post.session()
    with pytest.raises(StorageError):
        await post.log.append([told(author, message(1), message(2, "a\0b"), invited(BEN))])
    assert await post.rows() == []


# Taking in hand


async def test_only_the_first_of_a_session_is_taken_and_the_next_after_it(post: Post) -> None:
    await post.endpoint()
    author = await post.session()
    await post.commit(author, e.SessionStarted(), message(1), message(2))
    (first,) = await post.claim()
    assert first.recorded == author.log[1]
    assert (first.session.id, first.attempt, first.kind) == (author.session_id, 1, "webhook")
    assert await post.claim() == []
    second = await post.outbox.delivered(first, WELL, advance=True)
    assert second is not None
    assert second.recorded == author.log[2]
    assert await post.claim() == []
    assert await post.outbox.delivered(second, WELL, advance=False) is None
    (third,) = await post.claim()
    assert third.recorded == author.log[3]
    assert await post.outbox.delivered(third, WELL, advance=True) is None
    assert await post.statuses() == ["delivered"] * 3


async def test_nothing_overtakes_what_is_to_be_tried_again(post: Post) -> None:
    await post.endpoint()
    late, other = await post.session(), await post.session()
    await post.commit(late, message(1), message(2))
    await post.commit(other, message(1))
    first, second = await post.claim()
    assert (first.session.id, second.session.id) == (late.session_id, other.session_id)
    await post.outbox.failed(first, BROKEN, 60)
    await post.outbox.delivered(second, WELL, advance=True)
    assert await post.claim() == []
    await post.pool.execute("update outbox set next_at = now() where id = %s", (first.id,))
    (again,) = await post.claim()
    assert (again.id, again.attempt, again.since) == (first.id, 2, first.since)


async def test_sessions_and_endpoints_go_beside_each_other_within_bounds(post: Post) -> None:
    endpoints = {await post.endpoint(), await post.endpoint()}
    for _ in range(6):
        await post.commit(await post.session(), message(1))
    taken = await post.claim()
    assert len(taken) == 8, "four of each"
    assert {one.target_id for one in taken} == endpoints
    assert await post.claim() == []
    await post.outbox.delivered(taken[0], WELL, advance=True)
    assert [one.target_id for one in await post.claim()] == [taken[0].target_id]


async def test_a_limit_holds_and_kinds_without_a_sender_wait(post: Post) -> None:
    await post.endpoint()
    for _ in range(3):
        await post.commit(await post.session(), message(1), invited(BEN))
    assert {one.kind for one in await post.outbox.claim(["push"], 2)} == {"push"}
    assert len(await post.outbox.claim(["push"], 2)) == 1
    assert await post.outbox.claim([], 10) == []


async def test_what_was_in_the_hands_of_a_dead_process_comes_again_and_its_word_no_longer_counts(post: Post) -> None:
    await post.endpoint()
    author = await post.session()
    await post.commit(author, message(1), message(2))
    dead = post.opened(lease_s=0)
    (first,) = await dead.claim(["webhook"], 10)
    (again,) = await post.claim()
    assert (again.id, again.attempt) == (first.id, 2)
    assert await post.outbox.delivered(first, WELL, advance=True) is None
    await post.outbox.failed(first, BROKEN, None)
    await post.outbox.release(first)
    assert await post.statuses() == ["pending", "pending"]
    assert await post.claim() == [], "it is in the second one's hands"
    assert (await post.outbox.delivered(again, WELL, advance=True)) is not None


async def test_what_is_let_go_is_there_at_once(post: Post) -> None:
    await post.endpoint()
    await post.commit(await post.session(), message(1))
    (first,) = await post.claim()
    await post.outbox.release(first)
    (again,) = await post.claim()
    assert again.attempt == 2


async def test_a_redacted_text_is_not_sent(post: Post) -> None:
    await post.endpoint()
    author = await post.session()
    await post.commit(author, message(1, "secret"))
    assert await post.log.append([author.deletes(1)]) == {author.session_id}
    (first,) = await post.claim()
    assert first.recorded.event == author.log[1].event
    assert "secret" not in str(first)


# Failing


async def test_a_dead_letter_lets_the_next_one_by(post: Post) -> None:
    await post.endpoint()
    author = await post.session()
    await post.commit(author, message(1), message(2))
    (first,) = await post.claim()
    await post.outbox.failed(first, BROKEN, None)
    (second,) = await post.claim()
    assert second.recorded == author.log[2]
    assert await post.statuses() == ["dead", "pending"]


async def test_a_target_that_keeps_failing_is_left_alone_then_gets_one_attempt(post: Post) -> None:
    await post.endpoint()
    for _ in range(4):
        await post.commit(await post.session(), message(1))
    tries = await post.claim()
    for one in tries[:3]:
        await post.outbox.failed(one, BROKEN, 0)
    assert await post.claim() == [], "it rests"
    await post.outbox.release(tries[3])
    await post.pool.execute("update outbox_failing set paused_until = now()")
    (trial,) = await post.claim()
    assert await post.claim() == [], "one at a time"
    await post.outbox.delivered(trial, WELL, advance=True)
    assert len(await post.claim()) == 3, "it is well again, and those that failed need not wait"
    assert await post.pool.fetch("select from outbox_failing") == []


async def test_one_event_that_never_arrives_keeps_its_own_pace(post: Post) -> None:
    await post.endpoint()
    bad, good = await post.session(), await post.session()
    await post.commit(bad, message(1))
    (first,) = await post.claim()
    await post.outbox.failed(first, BROKEN, 600)
    await post.commit(good, message(1))
    (second,) = await post.claim()
    await post.outbox.delivered(second, WELL, advance=True)
    assert await post.claim() == []


async def test_failing_is_measured_and_giving_up_leaves_nothing_to_try(post: Post) -> None:
    endpoint = await post.endpoint()
    author = await post.session()
    await post.commit(author, message(1), message(2))
    (first,) = await post.claim()
    assert await post.outbox.failed(first, BROKEN, 0) == 0
    await post.pool.execute("update outbox_failing set since = now() - interval '1 h'")
    (first,) = await post.claim()
    assert await post.outbox.failed(first, BROKEN, 0) == pytest.approx(3600, abs=5)
    assert await post.outbox.abandon("webhook", endpoint) == 2
    assert await post.statuses() == ["dead", "dead"]
    assert await post.claim() == []
    assert await post.pool.fetch("select from outbox_failing") == []


async def test_the_latest_attempts_are_kept(post: Post) -> None:
    await post.endpoint()
    await post.commit(await post.session(), message(1))
    patient = post.opened(pause_after=1_000)
    for number in range(1, HISTORY + 4):
        (one,) = await patient.claim(["webhook"], 1)
        await patient.failed(one, Attempt(Millis(number), 1, 500, "no"), 0)
    (history,) = (await post.pool.fetch("select history from outbox"))[0]
    assert [attempt["at"] for attempt in history] == list(range(4, HISTORY + 4))
    assert history[0] == {"at": 4, "ms": 1, "status": 500, "error": "no"}


# Looking after it


async def test_the_backlog_is_measured(post: Post) -> None:
    endpoint = await post.endpoint()
    author = await post.session()
    await post.commit(author, message(1), message(2), invited(BEN))
    await post.pool.execute("update outbox set created_at = created_at - interval '90 s' where seq = 2")
    backlog = await post.outbox.backlog()
    assert (backlog["webhook"].pending, backlog["push"].pending) == (3, 1)
    assert backlog["webhook"].oldest_s == pytest.approx(90, abs=5)
    assert await post.outbox.behind(2) == [("webhook", endpoint)]
    assert await post.outbox.behind(3) == []


async def test_what_was_done_long_ago_is_forgotten(post: Post) -> None:
    await post.endpoint()
    for _ in range(3):
        await post.commit(await post.session(), message(1))
    well, dead, _ = await post.claim()
    await post.outbox.delivered(well, WELL, advance=True)
    await post.outbox.failed(dead, BROKEN, None)
    assert await post.outbox.forget(delivered_s=60, dead_s=60) == 0
    await post.pool.execute("update outbox set done_at = done_at - interval '2 m'")
    assert await post.outbox.forget(delivered_s=60, dead_s=600) == 1
    assert await post.statuses() == ["dead", "pending"]
    assert await post.outbox.forget(delivered_s=60, dead_s=60) == 1


def test_a_batch_of_rows_alone_has_nothing_to_do_with_the_outbox() -> None:
    author = Author()
    append = author.append(message(1))
    append.session, append.participants = None, []
    assert batched([append])[0] == "append_rows"
    assert b"notices" not in batched([append])[1]
    append.outbox_rows = outbox_rows(author.log[1:], TEACHER, ALL)
    assert batched([append])[0] == "append"


def test_a_creation_without_notices_has_none() -> None:
    assert Creation(Author().state.session, []).outbox_rows == []
