"""What every `EventLog` promises, asked of PostgreSQL's and of the fake alike; then what each has of its own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest
from msgspec import structs

from actors.ports import CreationKey, EventLog, LogUnavailable, NotUnique
from actors.session import events as e
from actors.session import machine
from actors.session.ids import Millis, SessionId
from storage.bookings import Bookings
from storage.creations import Creations, KeyedCreation
from storage.errors import DatabaseUnavailable, StorageError, UnknownOutcome
from storage.log.event_log import PREPARE, PostgresEventLog, Summary
from storage.pool import Pool, Writer
from storage.testing import ALIVE_S, KEYS_KEPT, MemoryEventLog, Tables
from storage.users import User, Users
from tests.support.author import ANN, BEN, START, TEACHER, Author, joined, message, session_id, used

ME, OTHER = "node:1", "node:2"
BOOKING = "01990000-0000-7000-a000-000000000001"


class Log(EventLog, Protocol):
    async def heartbeat(self) -> None: ...


class Place:
    """A store that several owners write to."""

    def log(self, owner: str = ME) -> Log:
        raise NotImplementedError

    async def book(self) -> str:
        """Make a booking; give its id."""
        raise NotImplementedError

    async def silence(self, owner: str) -> None:
        """Let so much time pass since an owner's last beat that it is taken for dead."""
        raise NotImplementedError


class InMemory(Place):
    def __init__(self) -> None:
        self.tables = Tables()

    def log(self, owner: str = ME) -> Log:
        return MemoryEventLog(self.tables, owner)

    async def book(self) -> str:
        self.tables.bookings[BOOKING] = None
        return BOOKING

    async def silence(self, owner: str) -> None:
        self.tables.heartbeats[owner] -= ALIVE_S


class InPostgres(Place):
    def __init__(self, pool: Pool, writer: Writer) -> None:
        self.pool = pool
        self.writer = writer

    def log(self, owner: str = ME) -> PostgresEventLog:
        return PostgresEventLog(self.pool, self.writer, owner)

    async def book(self) -> str:
        for user_id in (TEACHER, ANN):
            await Users(self.pool).create(User(user_id, 0, "x", None, None, "student", None))
        await Bookings(self.pool).create(
            BOOKING, tutor_id=TEACHER, student_id=ANN, starts_at=START, ends_at=Millis(START + 1), title="x",
            created_by=ANN,
        )  # fmt: skip
        return BOOKING

    async def silence(self, owner: str) -> None:
        await self.pool.execute("update nodes set seen_at = seen_at - interval '6 s' where owner = %s", (owner,))


@pytest.fixture
async def postgres(dsn: str) -> AsyncIterator[InPostgres]:
    writer = Writer(dsn, PREPARE)
    async with await Pool.open(dsn, size=2) as pool:
        yield InPostgres(pool, writer)
    await writer.close()


@pytest.fixture(params=["memory", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "memory":
        return InMemory()
    found: InPostgres = request.getfixturevalue("postgres")
    return found


@pytest.fixture
def log(place: Place) -> Log:
    return place.log()


async def created(log: EventLog, count: int = 1) -> list[Author]:
    authors = [Author(number) for number in range(1, count + 1)]
    for author in authors:
        await log.create(author.creation)
    return authors


async def stored(log: EventLog, author: Author) -> list[e.Recorded]:
    return await log.read(author.session_id, 0, 10_000)


# Creation


async def test_numbers_count_up(log: Log) -> None:
    assert [await log.next_number() for _ in range(3)] == [1, 2, 3]


async def test_a_new_session_is_its_first_row_and_is_written_on_from_there(log: Log) -> None:
    (author,) = await created(log)
    assert await log.append([author.append(e.SessionStarted(), message(1))]) == {author.session_id}
    assert await stored(log, author) == author.log


@pytest.mark.parametrize("what", ["name", "code", "number"])
async def test_what_is_unique_is_taken_once(log: Log, what: str) -> None:
    (first,) = await created(log)
    second = Author(2)
    same = {what: getattr(first.state.session, what)}
    with pytest.raises(NotUnique) as caught:
        await log.create(structs.replace(second.creation, session=structs.replace(second.state.session, **same)))
    assert caught.value.what == what
    assert await log.claim(second.session_id) is None
    assert await stored(log, second) == []


async def test_a_booking_gets_one_session_and_what_comes_too_late_leaves_nothing(place: Place) -> None:
    booking_id = await place.book()
    logs, authors = [place.log(ME), place.log(OTHER)], [Author(number) for number in range(1, 9)]
    made = await asyncio.gather(
        *(logs[n % 2].create(structs.replace(a.creation, booking_id=booking_id)) for n, a in enumerate(authors)),
        return_exceptions=True,
    )
    (winner,) = (author for author, outcome in zip(authors, made, strict=True) if outcome is None)
    assert {outcome.what for outcome in made if isinstance(outcome, NotUnique)} == {"booking"}
    assert sum(isinstance(outcome, NotUnique) for outcome in made) == len(authors) - 1
    for author in authors:
        assert await stored(logs[0], author) == (author.log if author is winner else [])
        assert (await logs[0].claim(author.session_id) is None) == (author is not winner)


async def test_a_key_makes_one_session_and_what_comes_too_late_leaves_nothing(place: Place) -> None:
    logs, authors = [place.log(ME), place.log(OTHER)], [Author(number) for number in range(1, 9)]
    key = CreationKey(ANN, "k-1", "digest")
    made = await asyncio.gather(
        *(logs[n % 2].create(structs.replace(author.creation, key=key)) for n, author in enumerate(authors)),
        return_exceptions=True,
    )
    (winner,) = (author for author, outcome in zip(authors, made, strict=True) if outcome is None)
    assert [outcome.what for outcome in made if isinstance(outcome, NotUnique)] == ["key"] * 7
    for author in authors:
        assert await stored(logs[0], author) == (author.log if author is winner else [])
        assert (await logs[0].claim(author.session_id) is None) == (author is not winner)


async def test_what_was_made_long_ago_may_be_made_again_under_its_key(postgres: InPostgres) -> None:
    log, creations = postgres.log(), Creations(postgres.pool)
    author, key = Author(1), CreationKey(ANN, "k-1", "digest")
    await log.create(structs.replace(author.creation, key=key))
    assert await creations.forget(3_600) == 0
    found = await creations.find(ANN, "k-1")
    assert found == KeyedCreation("digest", author.session_id, author.creation.rows[-1].seq)
    assert await creations.forget(0) == 1
    assert await creations.find(ANN, "k-1") is None


async def test_there_is_no_session_for_a_booking_that_there_is_not(log: Log) -> None:
    author = Author(1)
    with pytest.raises(NotUnique, match="booking"):
        await log.create(structs.replace(author.creation, booking_id="01990000-0000-7000-a000-000000000009"))
    assert await stored(log, author) == []


async def test_a_booking_is_still_free_when_its_session_could_not_be_made(place: Place) -> None:
    booking_id, log = await place.book(), place.log()
    (first,) = await created(log)
    second = Author(2)
    same = structs.replace(second.state.session, code=first.state.session.code)
    with pytest.raises(NotUnique, match="code"):
        await log.create(structs.replace(second.creation, session=same, booking_id=booking_id))
    await log.create(structs.replace(second.creation, booking_id=booking_id))
    assert await stored(log, second) == second.log


# Appending


async def test_rows_come_back_as_they_went_in_order_and_page_by_page(log: Log) -> None:
    (author,) = await created(log)
    odd = e.EventLogged("seen", {"text": 'ä "\\u0000" \U0001f600\n', "n": 0.1, "nested": {"a": [1, None, True]}})
    await log.append([author.append(e.SessionStarted(), by=None)])
    await log.append([author.append(odd, message(1, "two"), message(2, "three"))])
    assert await stored(log, author) == author.log
    assert await log.read(author.session_id, 1, 2) == author.log[1:3]
    assert await log.read(author.session_id, author.seq, 10) == []
    assert machine.replay(await stored(log, author)) == author.state


@pytest.mark.parametrize("offset", [0, 1, 333, 499, 500, 999])
async def test_times_are_exact_to_the_millisecond(log: Log, offset: int) -> None:
    (author,) = await created(log)
    append = author.append(message(1))
    at = Millis(1_763_999_999_000 + offset)
    append.rows = [structs.replace(append.rows[0], at=at)]
    await log.append([append])
    assert (await stored(log, author))[-1].at == at


async def test_a_batch_holds_several_sessions_and_several_appends_of_one(log: Log) -> None:
    first, second = await created(log, 2)
    batch = [
        first.append(e.SessionStarted()),
        second.append(e.SessionStarted(), message(1)),
        first.append(message(1)),
        first.append(joined(ANN, 1)),
    ]
    assert await log.append(batch) == {first.session_id, second.session_id}
    for author in (first, second):
        assert await stored(log, author) == author.log
        assert await log.append([author.append(message(9))]) == {author.session_id}


async def test_an_append_may_hold_a_key_and_no_rows(log: Log) -> None:
    (author,) = await created(log)
    nothing = used("k", author.seq)
    nothing = structs.replace(nothing, first_seq=author.seq + 1)
    assert await log.append([author.append(keys=[nothing])]) == {author.session_id}
    assert await log.find_key(author.session_id, ANN, "k") == nothing
    assert await log.append([author.append(message(1))]) == {author.session_id}


@pytest.mark.parametrize("what", ["owner", "epoch", "old_seq", "unknown"])
async def test_the_fence_drops_exactly_the_session_that_is_not_mine(place: Place, what: str) -> None:
    log = place.log()
    fenced, other = await created(log, 2)
    before = [] if what == "unknown" else list(fenced.log)
    if what == "owner":
        await place.log(OTHER).claim(fenced.session_id)
        fenced.epoch = 2
    elif what == "epoch":
        await log.claim(fenced.session_id)
    elif what == "old_seq":
        fenced.append(message(1))
    else:
        fenced = Author(9)
    key = used("k", fenced.seq + 1)
    batch = [fenced.append(message(2), keys=[key]), other.append(message(1)), fenced.append(message(3))]
    assert await log.append(batch) == {other.session_id}
    assert await stored(log, fenced) == before
    assert await log.find_key(fenced.session_id, ANN, "k") is None
    assert await stored(log, other) == other.log


async def test_a_used_key_drops_its_session_only(log: Log) -> None:
    first, second = await created(log, 2)
    key = used("k", 2)
    await log.append([first.append(message(1), keys=[key])])
    before = list(first.log)
    again = used("k", 3, digest="another")
    # The same key of another session, or of another user, is another key.
    batch = [first.append(message(2), keys=[again]), second.append(message(1), keys=[key, used("k", 2, by=BEN)])]
    assert await log.append(batch) == {second.session_id}
    assert await stored(log, first) == before
    assert await log.find_key(first.session_id, ANN, "k") == key
    assert await stored(log, second) == second.log


async def test_a_key_in_a_later_append_drops_the_earlier_ones_of_its_session_too(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(message(1), keys=[used("k", 2)])])
    before = list(author.log)
    batch = [author.append(message(2)), author.append(message(3), keys=[used("k", 4)])]
    assert await log.append(batch) == set()
    assert await stored(log, author) == before


async def test_a_batch_that_is_refused_leaves_nothing(log: Log) -> None:
    first, second = await created(log, 2)
    before = list(first.log), list(second.log)
    with pytest.raises(StorageError) as caught:
        await log.append([first.append(message(1)), second.append(message(1, "a\0b"))])
    assert not isinstance(caught.value, LogUnavailable)
    assert (await stored(log, first), await stored(log, second)) == before


async def test_keys_are_found_by_session_user_and_name(log: Log) -> None:
    author, other = await created(log, 2)
    key = structs.replace(used("k", 2), last_seq=3)
    await log.append([author.append(message(1), message(2), keys=[key])])
    assert await log.find_key(author.session_id, ANN, "k") == key
    assert await log.find_key(author.session_id, BEN, "k") is None
    assert await log.find_key(author.session_id, ANN, "K") is None
    assert await log.find_key(other.session_id, ANN, "k") is None


# Taking over


async def test_a_claim_reads_the_session_and_fences_whoever_had_it(place: Place) -> None:
    log, other = place.log(), place.log(OTHER)
    (author,) = await created(log)
    keys = [used("one", 2), used("two", 3)]
    await log.append([author.append(e.SessionStarted(), message(1), keys=keys)])
    claim = await other.claim(author.session_id)
    assert claim is not None
    assert (claim.epoch, claim.snapshot, claim.tail, claim.keys) == (2, None, author.log, keys)
    late = Author()
    late.append(e.SessionStarted(), message(1))
    assert await log.append([late.append(message(2, "too late"))]) == set()
    author.epoch = 2
    assert await other.append([author.append(message(2))]) == {author.session_id}
    assert await stored(log, author) == author.log
    again = await log.claim(author.session_id)
    assert again is not None
    assert again.epoch == 3


async def test_a_claim_reads_the_tail_after_the_snapshot(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(e.SessionStarted(), joined(ANN, 1))])
    saved = machine.snapshot(author.state), author.seq
    await log.append([author.append(message(1), message(2))])
    await log.save_snapshot(author.session_id, saved[1], saved[0])
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert (claim.snapshot, claim.tail) == (saved[0], author.log[saved[1] :])
    assert machine.replay(claim.tail, machine.restored(saved[0])) == author.state


async def test_a_claim_reads_a_long_tail_whole_and_the_latest_keys(log: Log) -> None:
    (author,) = await created(log)
    keys = [used(f"key {seq}", seq) for seq in range(2, KEYS_KEPT + 12)]
    await log.append([author.append(e.SessionStarted(), *(message(n) for n in range(1, 4_000)), keys=keys)])
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert claim.tail == author.log
    assert claim.keys == keys[-KEYS_KEPT:]


async def test_there_is_no_claim_to_an_unknown_session(log: Log) -> None:
    assert await log.claim(session_id(404)) is None
    assert await log.read(session_id(404), 0, 10) == []
    await log.save_snapshot(session_id(404), 1, b"nothing")


async def test_a_claim_sees_what_was_committed_before_it_and_nothing_comes_after(place: Place) -> None:
    log, other = place.log(), place.log(OTHER)
    for number in range(1, 16):
        author = Author(number)
        await log.create(author.creation)
        append = author.append(message(1))
        committed, claim = await asyncio.gather(log.append([append]), other.claim(author.session_id))
        assert claim is not None
        assert len(claim.tail) == 1 + len(committed)
        assert await stored(log, author) == claim.tail


# Snapshots and redactions


async def test_the_newest_snapshot_wins(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(message(1), message(2), message(3))])
    for seq, body, kept in ((2, b"two", b"two"), (4, b"four", b"four"), (3, b"three", b"four")):
        await log.save_snapshot(author.session_id, seq, body)
        claim = await log.claim(author.session_id)
        assert claim is not None
        assert claim.snapshot == kept


async def test_a_snapshot_is_never_ahead_of_the_log(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(message(1))])
    await log.save_snapshot(author.session_id, author.seq + 1, b"ahead")
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert (claim.snapshot, claim.tail) == (None, author.log)


async def test_a_redaction_empties_an_older_row(log: Log) -> None:
    author, other = await created(log, 2)
    await log.append([author.append(message(1, "secret"), message(2)), other.append(message(1, "mine"))])
    await log.append([author.deletes(1)])
    assert "secret" not in repr(await stored(log, author))
    assert await stored(log, author) == author.log
    assert await stored(log, other) == other.log


async def test_a_redaction_empties_a_row_of_its_own_batch(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(message(1, "secret")), author.append(message(2)), author.deletes(1)])
    assert "secret" not in repr(await stored(log, author))
    assert await stored(log, author) == author.log


async def test_a_fenced_redaction_empties_nothing(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(message(1, "stays"))])
    before = list(author.log)
    await log.claim(author.session_id)
    assert await log.append([author.deletes(1)]) == set()
    assert await stored(log, author) == before


async def test_a_redaction_drops_a_snapshot_that_holds_what_it_redacts(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(e.SessionStarted())])
    await log.save_snapshot(author.session_id, author.seq, b"before")
    await log.append([author.append(message(1, "secret"))])
    await log.save_snapshot(author.session_id, author.seq, b"with secret")
    await log.append([author.deletes(1)])
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert (claim.snapshot, claim.tail) == (None, author.log)


async def test_a_redaction_leaves_a_snapshot_from_before(log: Log) -> None:
    (author,) = await created(log)
    await log.save_snapshot(author.session_id, author.seq, b"before")
    await log.append([author.append(message(1, "secret"))])
    await log.append([author.deletes(1)])
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert (claim.snapshot, claim.tail) == (b"before", author.log[1:])


async def test_a_snapshot_never_undoes_a_redaction(log: Log) -> None:
    (author,) = await created(log)
    await log.append([author.append(message(1, "secret"))])
    late = author.seq
    await log.append([author.deletes(1)])
    await log.save_snapshot(author.session_id, late, b"with secret")
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert claim.snapshot is None
    await log.save_snapshot(author.session_id, author.seq, b"without")
    claim = await log.claim(author.session_id)
    assert claim is not None
    assert claim.snapshot == b"without"


# Who has to be looked at


async def wakes(log: EventLog, *times: int | None) -> list[SessionId]:
    authors = await created(log, len(times))
    await log.append([author.append(e.SessionStarted(), wake_at=at) for author, at in zip(authors, times, strict=True)])
    return [author.session_id for author in authors]


async def test_due_gives_the_earliest_first(log: Log) -> None:
    ids = await wakes(log, START + 3, START + 1, START + 2, START + 4, None, 0)
    assert await log.due(Millis(START + 3), 10) == [ids[1], ids[2], ids[0]]
    assert await log.due(Millis(START + 3), 2) == [ids[1], ids[2]]
    assert await log.due(START, 10) == []


async def test_a_session_is_due_when_it_expires_from_the_start(log: Log) -> None:
    author = Author(ttl=60)
    await log.create(author.creation)
    assert await log.due(Millis(START + 59_999), 10) == []
    assert await log.due(Millis(START + 60_000), 10) == [author.session_id]
    await log.append([author.append(e.SessionEnded(reason="expired"))])
    assert await log.due(Millis(START + 60_000), 10) == []


async def test_what_a_living_server_has_is_left_to_it(place: Place) -> None:
    log, other = place.log(), place.log(OTHER)
    soon, open_ = await wakes(log, START, 0)
    await log.heartbeat()
    await other.heartbeat()
    assert await log.due(START, 10) == [soon]
    assert (await other.due(START, 10), await other.interrupted()) == ([], [])
    await place.silence(ME)
    assert (await other.due(START, 10), await other.interrupted()) == ([soon], [open_])
    await log.heartbeat()
    assert (await other.due(START, 10), await other.interrupted()) == ([], [])


async def test_what_another_run_left_with_streams_open_is_interrupted(place: Place) -> None:
    log, other = place.log(), place.log(OTHER)
    ids = await wakes(log, 0, None, START, 0)
    assert await log.interrupted() == []
    assert sorted(await other.interrupted()) == [ids[0], ids[3]]
    await other.claim(ids[0])
    assert await other.interrupted() == [ids[3]]


# PostgreSQL's own


async def paged(postgres: InPostgres) -> tuple[PostgresEventLog, Author]:
    log = postgres.log()
    (author,) = await created(log)
    await log.append([author.append(e.SessionStarted(), joined(ANN, 1), by=ANN)])
    await log.append([author.append(joined(BEN, 2), message(1), by=BEN)])
    await log.append([author.append(message(2), e.ParticipantLeft(user_id=BEN), by=BEN)])
    await log.append([author.append(joined(BEN, 2), e.SessionEnded(reason="expired"), by=None)])
    return log, author


async def test_a_page_has_what_matches_all_filters(postgres: InPostgres) -> None:
    log, author = await paged(postgres)

    async def seqs(**filters: object) -> list[int]:
        chosen = {"after": 0, "limit": 100, **filters}
        return [r.seq for r in await log.page(author.session_id, **chosen)]  # type: ignore[arg-type]

    assert await log.page(author.session_id, after=0, limit=100) == author.log
    assert await seqs(after=2, limit=3) == [3, 4, 5]
    assert await seqs(types=["chat_message"]) == [5, 6]
    assert await seqs(user_id=BEN) == [4, 5, 6, 7]
    assert await seqs(user_id=BEN, types=["chat_message"], after=5) == [6]
    assert await seqs(since=author.log[5].at) == [6, 7, 8, 9]
    assert await seqs(since=author.log[5].at + 1) == [8, 9]
    assert await seqs(types=["hand_raised"]) == []


async def test_the_summary_adds_the_log_up(postgres: InPostgres) -> None:
    log, author = await paged(postgres)
    by_type = {
        "session_created": 1, "session_started": 1, "participant_joined": 3, "chat_message": 2, "participant_left": 1,
        "session_ended": 1,
    }  # fmt: skip
    expected = Summary(9, by_type, joined=2, left=1, first_at=author.log[0].at, last_at=author.log[-1].at)
    assert await log.summary(author.session_id) == expected
    assert await log.summary(session_id(404)) == Summary(0, {}, 0, 0, None, None)


async def test_old_keys_are_forgotten(postgres: InPostgres) -> None:
    log = postgres.log()
    (author,) = await created(log)
    new = structs.replace(used("new", 2), at=Millis(START + 1_000))
    await log.append([author.append(message(1), keys=[used("old", 2), new])])
    assert await log.forget_keys(Millis(START + 1_000)) == 1
    assert await log.find_key(author.session_id, ANN, "old") is None
    assert await log.find_key(author.session_id, ANN, "new") == new


async def test_a_server_that_says_goodbye_leaves_its_sessions_at_once(postgres: InPostgres) -> None:
    log, other = postgres.log(), postgres.log(OTHER)
    (open_,) = await wakes(log, 0)
    await log.heartbeat()
    assert await other.interrupted() == []
    await log.deregister()
    assert await other.interrupted() == [open_]
    await log.ping()


# The fake's own


@pytest.mark.parametrize(("trouble", "kind"), [("before", DatabaseUnavailable), ("after", UnknownOutcome)])
async def test_the_fake_fails_before_or_after_it_took_effect(trouble: str, kind: type[Exception]) -> None:
    log = MemoryEventLog()
    (author,) = await created(log)
    log.fail("append", "before" if trouble == "before" else "after")
    append = author.append(message(1))
    with pytest.raises(LogUnavailable) as caught:
        await log.append([append])
    assert type(caught.value) is kind
    assert len(await stored(log, author)) == (1 if trouble == "before" else 2)
    assert await log.append([append]) == ({author.session_id} if trouble == "before" else set())


async def test_the_fake_holds_commits_until_they_are_released() -> None:
    log = MemoryEventLog()
    (author,) = await created(log)
    log.holding = True
    append = author.append(message(1))
    commit = asyncio.create_task(log.append([append]))
    held = await log.waiting.get()
    assert held.appends == [append]
    assert len(await stored(log, author)) == 1
    held.release()
    assert await commit == {author.session_id}
    assert await stored(log, author) == author.log
