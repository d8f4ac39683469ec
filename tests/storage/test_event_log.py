"""One suite for both logs: PostgreSQL's, and the one in memory that the actors' tests run on."""

from collections.abc import AsyncIterator, Callable
from math import inf
from typing import Protocol

import psycopg2
import pytest
from msgspec import structs

from actors.persistence import Append, Claim, EventLog, LogUnavailable, Taken
from actors.session import events as e
from actors.session.ids import MessageId, Millis, SessionId, UserId
from actors.session.state import Session
from storage.errors import StorageError
from storage.event_log import KEYS_KEPT, PREPARE, TAIL_ROWS, PostgresEventLog, Summary
from storage.memory import Database, MemoryEventLog
from storage.pool import Pool, Writer
from tests.storage.records import ANN, BEN, START, append, creation, key, redaction, said

Log = PostgresEventLog | MemoryEventLog


class Store(Protocol):
    """A database, and the logs of several owners over it."""

    def log(self, owner: str = "here") -> Log: ...

    def silence(self, owner: str) -> None:
        """Let it be a while since an owner was last seen."""

    def wake_at(self, session_id: SessionId) -> float | None:
        """Give what a session's head says: milliseconds, -inf or None."""


class InMemory:
    def __init__(self) -> None:
        self._database = Database()

    def log(self, owner: str = "here") -> Log:
        return MemoryEventLog(owner, self._database)

    def silence(self, owner: str) -> None:
        self._database.nodes[owner] = Millis(self._database.nodes[owner] - 7_000)

    def wake_at(self, session_id: SessionId) -> float | None:
        return self._database.heads[session_id].wake_at


class InPostgres:
    def __init__(self, dsn: str, pool: Pool, writer: Writer) -> None:
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True
        self._pool = pool
        self._writer = writer

    def log(self, owner: str = "here") -> Log:
        return PostgresEventLog(self._pool, self._writer, owner)

    def _query(self, sql: str, value: str) -> float | None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, (value,))
            row = cursor.fetchone() if cursor.description else None
            return None if row is None or row[0] is None else float(row[0])

    def silence(self, owner: str) -> None:
        self._query("update nodes set seen_at = seen_at - interval '7 s' where owner = %s", owner)

    def wake_at(self, session_id: SessionId) -> float | None:
        return self._query(
            "select extract(epoch from wake_at) * 1000 from session_head where session_id = %s", session_id
        )

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(params=["memory", "postgresql"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield InMemory()
        return
    dsn: str = request.getfixturevalue("dsn")
    async with await Pool.open(dsn, size=2) as pool:
        writer = Writer(dsn, PREPARE)
        store = InPostgres(dsn, pool, writer)
        yield store
        store.close()
        await writer.close()


@pytest.fixture
def log(store: Store) -> Log:
    return store.log()


async def new(log: Log, **fields: object) -> Session:
    made = creation(**fields)  # type: ignore[arg-type]
    await log.create(made)
    return made.session


async def events(log: Log, session: Session) -> list[e.Event]:
    """Read a session's log without its first row."""
    return [row.event for row in await log.read(session.id, 1, 1_000)]  # type: ignore[misc]


async def claim(log: EventLog, session: Session) -> Claim:
    claimed = await log.claim(session.id)
    assert claimed is not None
    return claimed


# Creating


async def test_numbers_go_up(log: Log) -> None:
    first = await log.next_number()
    assert await log.next_number() == first + 1


async def test_a_created_session_is_its_first_row(log: Log) -> None:
    made = creation(ttl=60)
    await log.create(made)
    row = (await log.read(made.session.id, 0, 10))[0]
    assert (row.epoch, row.seq, row.at, row.actor_id) == (1, 1, START, ANN)
    assert isinstance(row.event, e.SessionCreated)
    assert row.event.title == "Physics"
    assert await log.append([append(made.session, 1, said(1))]) == {made.session.id}


@pytest.mark.parametrize("what", ["name", "code", "number"])
async def test_what_has_to_be_unique_is_named_when_taken(log: Log, what: str) -> None:
    first = await new(log)
    again = creation(**{what: getattr(first, what)})
    with pytest.raises(Taken) as caught:
        await log.create(again)
    assert caught.value.what == what
    assert await log.read(again.session.id, 0, 10) == []
    assert await log.claim(again.session.id) is None


# Appending


async def test_rows_come_back_as_they_went(log: Log) -> None:
    session = await new(log)
    for number in range(1, 4):
        assert await log.append([append(session, number, said(number, "fünf Äpfel €"), by=BEN)]) == {session.id}
    rows = await log.read(session.id, 1, 10)
    assert [row.seq for row in rows] == [2, 3, 4]
    assert [row.event for row in rows] == [said(n, "fünf Äpfel €") for n in (1, 2, 3)]
    assert {row.actor_id for row in rows} == {BEN}
    assert [row.at for row in rows] == [START + 2, START + 3, START + 4]
    assert [row.seq for row in await log.read(session.id, 2, 1)] == [3]


async def test_the_server_itself_has_no_actor_id(log: Log) -> None:
    session = await new(log)
    await log.append([append(session, 1, e.SessionEnded(reason="expired"), by=None)])
    assert (await log.read(session.id, 1, 1))[0].actor_id is None


async def test_one_batch_for_many_sessions(log: Log) -> None:
    sessions = [await new(log) for _ in range(5)]
    batch = [append(session, 1, said(1, session.name), said(2)) for session in sessions]
    assert await log.append(batch) == {session.id for session in sessions}
    for session in sessions:
        assert await events(log, session) == [said(1, session.name), said(2)]


async def test_several_appends_of_one_session_follow_on(log: Log) -> None:
    session, other = await new(log), await new(log)
    batch = [
        append(session, 1, said(1), keys=[key("a", 2, 2)]),
        append(other, 1, said(1)),
        append(session, 2, said(2), said(3), keys=[key("b", 3, 4)]),
        append(session, 4, keys=[key("c", 5, 4)]),
        append(session, 4, said(4)),
    ]
    assert await log.append(batch) == {session.id, other.id}
    assert await events(log, session) == [said(n) for n in (1, 2, 3, 4)]
    assert {k.key for k in (await claim(log, session)).keys} == {"a", "b", "c"}
    assert await log.append([append(session, 5, said(5), epoch=2)]) == {session.id}


async def test_of_facts_and_wake_times_the_last_word_counts(store: Store) -> None:
    log = store.log()
    session = await new(log)
    batch = [
        append(session, 1, said(1), wake_at=Millis(5_000)),
        append(session, 2, said(2), wake_at=Millis(0)),
        append(session, 3, said(3), wake_at=Millis(START + 60_000)),
    ]
    await log.append(batch)
    assert store.wake_at(session.id) == START + 60_000
    await log.append([append(session, 4, said(4), wake_at=Millis(0))])
    assert store.wake_at(session.id) == -inf
    await log.append([append(session, 5, said(5))])
    assert store.wake_at(session.id) is None


# The fence


def wrong_epoch(part: Append) -> Append:
    return structs.replace(part, epoch=part.epoch + 1)


def behind(part: Append) -> Append:
    return structs.replace(part, old_seq=part.old_seq - 1)


def ahead(part: Append) -> Append:
    return structs.replace(part, old_seq=part.old_seq + 1)


@pytest.mark.parametrize("spoilt", [wrong_epoch, behind, ahead])
async def test_the_fence_drops_that_session_whole_and_nothing_else(
    store: Store, spoilt: Callable[[Append], Append]
) -> None:
    log = store.log()
    first, fenced, last = [await new(log) for _ in range(3)]
    part = append(
        fenced, 1, said(1), keys=[key("k", 2, 2)], facts=structs.replace(fenced, title="Changed"), wake_at=Millis(9)
    )
    batch = [append(first, 1, said(1)), spoilt(part), append(last, 1, said(1), keys=[key("k", 2, 2)])]
    assert await log.append(batch) == {first.id, last.id}
    assert [await events(log, s) for s in (first, fenced, last)] == [[said(1)], [], [said(1)]]
    assert await log.find_key(fenced.id, ANN, "k") is None
    assert await log.find_key(last.id, ANN, "k") == key("k", 2, 2)
    assert store.wake_at(fenced.id) is None
    assert await log.append([part]) == {fenced.id}, "the head is where it was"


async def test_another_owner_is_fenced(store: Store) -> None:
    here, there = store.log("here"), store.log("there")
    session, mine = await new(here), await new(there)
    assert await there.append([append(session, 1, said(1)), append(mine, 1, said(1))]) == {mine.id}
    assert (await claim(there, session)).epoch == 2
    assert await here.append([append(session, 1, said(1))]) == set()
    assert await here.append([append(session, 1, said(1), epoch=2)]) == set()
    assert await there.append([append(session, 1, said(1), epoch=2)]) == {session.id}
    assert len(await events(there, session)) == 1


async def test_several_appends_of_a_fenced_session_all_drop_out(log: Log) -> None:
    session, other = await new(log), await new(log)
    await claim(log, session)
    batch = [append(session, 1, said(1)), append(session, 2, said(2)), append(other, 1, said(1))]
    assert await log.append(batch) == {other.id}
    assert await events(log, session) == []


async def test_an_unknown_session_is_as_if_fenced(log: Log) -> None:
    other = await new(log)
    assert await log.append([append(creation().session, 1, said(1)), append(other, 1, said(1))]) == {other.id}


async def test_a_used_key_drops_that_session_only(log: Log) -> None:
    session, other = await new(log), await new(log)
    await log.append([append(session, 1, said(1), keys=[key("k", 2, 2)])])
    repeated = append(session, 2, said(2), keys=[key("fresh", 3, 3)])
    more = append(session, 3, said(3), keys=[key("k", 4, 4)])
    assert await log.append([repeated, more, append(other, 1, said(1), keys=[key("k", 2, 2)])]) == {other.id}
    assert await events(log, session) == [said(1)]
    assert await log.find_key(session.id, ANN, "fresh") is None
    assert await log.find_key(session.id, ANN, "k") == key("k", 2, 2)
    # Another user's key of the same name is another key.
    assert await log.append([append(session, 2, said(2), keys=[key("k", 3, 3, by=BEN)])]) == {session.id}
    assert await log.find_key(session.id, BEN, "k") == key("k", 3, 3, by=BEN)


async def test_a_key_twice_in_one_batch_refuses_the_batch_and_changes_nothing(log: Log) -> None:
    session, other = await new(log), await new(log)
    batch = [append(session, 1, keys=[key("k", 2, 1)]), append(session, 1, keys=[key("k", 2, 1)])]
    with pytest.raises(StorageError) as caught:
        await log.append([*batch, append(other, 1, said(1))])
    assert not isinstance(caught.value, LogUnavailable)
    assert await events(log, other) == []


async def test_keys_are_found_and_forgotten(log: Log) -> None:
    session = await new(log)
    old, fresh = key("old", 2, 2), key("fresh", 4, 3, at=Millis(START + 1_000))
    await log.append([append(session, 1, said(1), said(2), keys=[old, fresh])])
    assert await log.find_key(session.id, ANN, "old") == old
    assert await log.find_key(session.id, ANN, "fresh") == fresh
    assert await log.find_key(session.id, ANN, "none") is None
    assert await log.find_key(session.id, BEN, "old") is None
    assert await log.forget_keys(Millis(START + 1)) == 1
    assert await log.find_key(session.id, ANN, "old") is None
    assert await log.find_key(session.id, ANN, "fresh") == fresh


# Claiming


async def test_every_claim_is_a_new_epoch_and_ends_the_last(log: Log) -> None:
    session = await new(log)
    assert [(await claim(log, session)).epoch for _ in range(3)] == [2, 3, 4]
    assert await log.append([append(session, 1, said(1), epoch=3)]) == set()
    assert await log.append([append(session, 1, said(1), epoch=4)]) == {session.id}
    assert [row.epoch for row in await log.read(session.id, 0, 10)] == [1, 4]


async def test_a_claim_reads_everything(log: Log) -> None:
    session = await new(log)
    await log.append([append(session, 1, said(1), keys=[key("k", 2, 2)])])
    claimed = await claim(log, session)
    assert claimed.snapshot is None
    assert claimed.tail == await log.read(session.id, 0, 10)
    assert [type(row.event) for row in claimed.tail] == [e.SessionCreated, e.ChatMessage]
    assert claimed.keys == [key("k", 2, 2)]


async def test_a_claim_reads_a_long_log_whole_and_the_latest_keys(log: Log) -> None:
    session = await new(log)
    many = TAIL_ROWS + 10
    keys = [key(f"k{seq}", seq, seq) for seq in range(2, KEYS_KEPT + 12)]
    await log.append([append(session, 1, *(said(n) for n in range(1, many)), keys=keys)])
    claimed = await claim(log, session)
    assert [row.seq for row in claimed.tail] == list(range(1, many + 1))
    assert claimed.keys == keys[-KEYS_KEPT:]


async def test_there_is_nothing_to_claim(log: Log) -> None:
    assert await log.claim(creation().session.id) is None


# Snapshots


async def test_the_newest_snapshot_wins(log: Log) -> None:
    session = await new(log)
    await log.append([append(session, 1, *(said(n) for n in range(1, 5)))])
    await log.save_snapshot(session.id, 3, b"three")
    await log.save_snapshot(session.id, 2, b"two")
    claimed = await claim(log, session)
    assert (claimed.snapshot, [row.seq for row in claimed.tail]) == (b"three", [4, 5])
    await log.save_snapshot(session.id, 5, b"five")
    claimed = await claim(log, session)
    assert (claimed.snapshot, claimed.tail) == (b"five", [])


async def test_a_snapshot_is_never_ahead_of_the_log(log: Log) -> None:
    session = await new(log)
    await log.append([append(session, 1, said(1))])
    await log.save_snapshot(session.id, 3, b"of what was never committed")
    claimed = await claim(log, session)
    assert (claimed.snapshot, [row.seq for row in claimed.tail]) == (None, [1, 2])


def deletion(number: int) -> e.MessageDeleted:
    return e.MessageDeleted(message_id=MessageId(number))


async def test_a_redaction_empties_an_older_row_and_drops_the_snapshot_that_has_it(log: Log) -> None:
    session, other = await new(log), await new(log)
    await log.append([append(session, 1, said(1), said(2)), append(other, 1, said(1))])
    await log.save_snapshot(session.id, 3, b"with the text")
    await log.save_snapshot(other.id, 2, b"other")
    await log.append([append(session, 3, deletion(1), redactions=[redaction(2, 1)])])
    assert [str(row) for row in await events(log, session)] == [
        str(e.ChatMessage(message_id=MessageId(1), text="", deleted=True)),
        str(said(2)),
        str(deletion(1)),
    ]
    assert await events(log, other) == [said(1)]
    assert (await claim(log, session)).snapshot is None
    assert (await claim(log, other)).snapshot == b"other"


async def test_a_redaction_of_a_row_in_the_same_batch(log: Log) -> None:
    session, other = await new(log), await new(log)
    batch = [
        append(session, 1, said(1), said(2)),
        append(session, 3, deletion(1), redactions=[redaction(2, 1)]),
        append(other, 1, said(1), said(2)),
    ]
    assert await log.append(batch) == {session.id, other.id}
    first, second, _ = await events(log, session)
    assert first == e.ChatMessage(message_id=MessageId(1), text="", deleted=True)
    assert second == said(2)
    assert await events(log, other) == [said(1), said(2)]


async def test_a_late_snapshot_does_not_undo_a_redaction(log: Log) -> None:
    session = await new(log)
    await log.append([append(session, 1, said(1))])
    await log.append([append(session, 2, deletion(1), redactions=[redaction(2, 1)])])
    await log.save_snapshot(session.id, 2, b"with the text")
    assert (await claim(log, session)).snapshot is None
    await log.save_snapshot(session.id, 3, b"without")
    assert (await claim(log, session)).snapshot == b"without"


async def test_a_fenced_redaction_redacts_nothing(log: Log) -> None:
    session = await new(log)
    await log.append([append(session, 1, said(1))])
    await log.save_snapshot(session.id, 2, b"kept")
    assert await log.append([append(session, 2, deletion(1), epoch=7, redactions=[redaction(2, 1)])]) == set()
    assert await events(log, session) == [said(1)]
    assert (await claim(log, session)).snapshot == b"kept"


# Who has to be woken


async def test_due_sessions_earliest_first(log: Log) -> None:
    second, first, later, never = [await new(log) for _ in range(4)]
    await log.append(
        [
            append(second, 1, said(1), wake_at=Millis(2_000)),
            append(first, 1, said(1), wake_at=Millis(1_000)),
            append(later, 1, said(1), wake_at=Millis(9_000)),
            append(never, 1, said(1)),
        ]
    )
    assert await log.due(Millis(2_000), 10) == [first.id, second.id]
    assert await log.due(Millis(2_000), 1) == [first.id]
    assert await log.due(Millis(999), 10) == []


async def test_a_new_sessions_end_is_due(log: Log) -> None:
    session = await new(log, ttl=60)
    assert await log.due(Millis(START + 59_999), 10) == []
    assert await log.due(Millis(START + 60_000), 10) == [session.id]


async def test_what_another_live_server_has_is_left_to_it(store: Store) -> None:
    here, there = store.log("here"), store.log("there")
    due, open_streams = await new(here), await new(here)
    await here.append(
        [append(due, 1, said(1), wake_at=Millis(1_000)), append(open_streams, 1, said(1), wake_at=Millis(0))]
    )
    await here.beat()
    assert await there.due(Millis(2_000), 10) == []
    assert await there.interrupted() == []
    assert await here.due(Millis(2_000), 10) == [due.id]
    assert await here.interrupted() == [], "its own streams are open"
    store.silence("here")
    assert await there.due(Millis(2_000), 10) == [due.id]
    assert await there.interrupted() == [open_streams.id]
    await here.beat()
    assert await there.interrupted() == []
    await here.bury()
    assert await there.interrupted() == [open_streams.id]


# What is read from the log


@pytest.fixture
async def lesson(log: Log) -> Session:
    session = await new(log)
    joined = [e.ParticipantJoined(user_id=u, name="?", number=n, role="member") for n, u in enumerate((ANN, BEN), 1)]
    await log.append([append(session, 1, *joined, said(1))])
    await log.append([append(session, 4, said(2), e.ParticipantLeft(user_id=BEN), by=BEN)])
    await log.append([append(session, 6, joined[1], e.ParticipantLeft(user_id=BEN), by=BEN)])
    return session


async def test_pages(log: Log, lesson: Session) -> None:
    async def seqs(
        after: int = 0,
        limit: int = 100,
        type: str | None = None,
        user_id: UserId | None = None,
        since: Millis | None = None,
    ) -> list[int]:
        page = await log.page(lesson.id, after=after, limit=limit, type=type, user_id=user_id, since=since)
        return [row.seq for row in page]

    assert await seqs() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert await seqs(after=3, limit=2) == [4, 5]
    assert await seqs(type="chat_message") == [4, 5]
    assert await seqs(user_id=BEN) == [5, 6, 7, 8]
    assert await seqs(since=Millis(START + 7)) == [7, 8]
    assert await seqs(type="chat_message", user_id=BEN, since=Millis(START)) == [5]
    assert await seqs(type="no_such_type") == []


async def test_a_summary(log: Log, lesson: Session) -> None:
    assert await log.summary(lesson.id) == Summary(
        total=8,
        by_type={"chat_message": 2, "participant_joined": 3, "participant_left": 2, "session_created": 1},
        joined=2,
        left=2,
        first_at=START,
        last_at=Millis(START + 8),
    )


async def test_a_summary_of_nothing(log: Log) -> None:
    assert await log.summary(creation().session.id) == Summary(0, {}, 0, 0, None, None)


# PostgreSQL's alone


@pytest.mark.parametrize("store", ["postgresql"], indirect=True)
async def test_what_cannot_be_stored_refuses_the_batch_and_changes_nothing(store: Store) -> None:
    log = store.log()
    session, other = await new(log), await new(log)
    with pytest.raises(StorageError) as caught:
        await log.append([append(session, 1, said(1, "a NUL \0")), append(other, 1, said(1))])
    assert not isinstance(caught.value, LogUnavailable)
    assert await events(log, other) == []
    assert await log.append([append(other, 1, said(1))]) == {other.id}
