"""Looking sessions up, and the pages of a list."""

from collections.abc import AsyncIterator

import pytest

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.state import Presence
from storage.log.event_log import PREPARE, PostgresEventLog
from storage.pool import Pool, Writer
from storage.sessions import Sessions
from tests.support.author import ANN, BEN, TEACHER, Author, joined, user


class Shelf:
    """Sessions, and the log that puts them there."""

    def __init__(self, pool: Pool, log: PostgresEventLog) -> None:
        self.sessions = Sessions(pool)
        self.log = log

    async def put(self, author: Author, *events: e.Event) -> Author:
        """Add a session that these events have happened in."""
        await self.log.create(author.creation)
        if events:
            assert await self.log.append([author.append(*events)])
        return author

    async def page(self, viewer: UserId, before: int | None = None, limit: int = 100, **filters: str) -> list[int]:
        found = await self.sessions.page(viewer, before=before, limit=limit, **filters)
        return [session.number for session in found]


@pytest.fixture
async def shelf(dsn: str) -> AsyncIterator[Shelf]:
    writer = Writer(dsn, PREPARE)
    async with await Pool.open(dsn, size=2) as pool:
        yield Shelf(pool, PostgresEventLog(pool, writer, "node:1"))
    await writer.close()


async def test_a_session_resolves_by_id_number_code_and_name(shelf: Shelf) -> None:
    author = await shelf.put(Author(7))
    await shelf.put(Author(8))
    for ref, by_code in (
        (author.session_id, False), ("7", False), ("CODE07", True), ("code07", True), ("physics-7", False),
    ):  # fmt: skip
        assert await shelf.sessions.resolve(ref) == (author.session_id, by_code)


@pytest.mark.parametrize(
    "ref", ["", "9", "9999999999999", "²", "CODE99", "physics", "PHYSICS-7", "0" * 36, "01990000-0000-7000-9000-0", "%"]
)
async def test_what_there_is_not_does_not_resolve(shelf: Shelf, ref: str) -> None:
    await shelf.put(Author(7))
    assert await shelf.sessions.resolve(ref) is None


async def test_a_deleted_session_is_nowhere(shelf: Shelf) -> None:
    author = await shelf.put(Author(7), joined(ANN, 1), e.SessionCancelled(), e.SessionDeleted())
    for ref in (author.session_id, "7", "CODE07", "physics-7"):
        assert await shelf.sessions.resolve(ref) is None
    assert await shelf.sessions.find(author.session_id, TEACHER) is None
    assert await shelf.page(TEACHER) == await shelf.page(ANN) == []
    assert await shelf.sessions.counts() == {}


async def test_find_gives_the_facts_and_the_place_of_who_asks(shelf: Shelf) -> None:
    author = await shelf.put(Author(1), e.SessionStarted(), joined(ANN, 1), e.RoleChanged(user_id=ANN, role="cohost"))

    async def place(user_id: UserId) -> tuple[Presence | None, str | None]:
        found = await shelf.sessions.find(author.session_id, user_id)
        assert found is not None
        assert found.session == author.state.session
        return found.membership.status, found.membership.role

    assert await place(ANN) == ("joined", "cohost")
    assert await place(TEACHER) == (None, None)
    await shelf.log.append([author.append(e.ParticipantLeft(user_id=ANN))])
    assert await place(ANN) == ("left", "cohost")
    assert await shelf.sessions.find(Author(2).session_id, ANN) is None


async def test_a_page_shows_what_one_owns_or_has_a_place_in(shelf: Shelf) -> None:
    await shelf.put(Author(1))
    await shelf.put(Author(2), joined(ANN, 1), joined(BEN, 2), e.ParticipantKicked(user_id=BEN))
    await shelf.put(Author(3, owner=ANN))
    await shelf.put(Author(4, owner=ANN), e.ParticipantWaiting(user_id=BEN, name="Ben", number=1))
    await shelf.put(Author(5, owner=ANN), e.ParticipantInvited(user_id=TEACHER, name="Teacher", number=1))
    assert await shelf.page(TEACHER) == [5, 2, 1]
    assert await shelf.page(ANN) == [5, 4, 3, 2]
    assert await shelf.page(BEN) == [4]
    assert await shelf.page(user(9)) == []
    await shelf.put(Author(6, owner=ANN), joined(BEN, 1), e.ParticipantDenied(user_id=BEN))
    assert await shelf.page(BEN) == [4]


async def test_a_page_takes_filters_together(shelf: Shelf) -> None:
    await shelf.put(Author(1, kind="tutoring", course_id="c1"), e.SessionStarted(), joined(ANN, 1))
    await shelf.put(Author(2, kind="classroom", course_id="c1"), e.SessionStarted())
    await shelf.put(Author(3, kind="tutoring", course_id="c2"), e.SessionCancelled())
    await shelf.put(Author(4, owner=ANN, kind="tutoring"), joined(TEACHER, 1), joined(BEN, 2))
    assert await shelf.page(TEACHER, kind="tutoring") == [4, 3, 1]
    assert await shelf.page(TEACHER, status="live") == [2, 1]
    assert await shelf.page(TEACHER, course_id="c1") == [2, 1]
    assert await shelf.page(TEACHER, owner=ANN) == [4]
    assert await shelf.page(TEACHER, participant=ANN) == [1]
    assert await shelf.page(TEACHER, participant=BEN) == [4]
    assert await shelf.page(TEACHER, kind="tutoring", status="live", course_id="c1", owner=TEACHER) == [1]
    assert await shelf.page(TEACHER, kind="lesson") == []
    assert await shelf.sessions.counts() == {"live": 2, "cancelled": 1, "scheduled": 1}


async def test_pages_follow_on_from_one_another(shelf: Shelf) -> None:
    for number in range(1, 6):
        await shelf.put(Author(number))
    assert await shelf.page(TEACHER, limit=2) == [5, 4]
    assert await shelf.page(TEACHER, before=4, limit=2) == [3, 2]
    # A session that is new since does not move the page.
    await shelf.put(Author(6))
    assert await shelf.page(TEACHER, before=2, limit=2) == [1]
    assert await shelf.page(TEACHER, before=1, limit=2) == []


async def test_a_slice_of_a_kind_and_how_many_there_are(shelf: Shelf) -> None:
    for number in (7, 8, 9):
        await shelf.put(Author(number), joined(ANN, 1) if number > 7 else joined(BEN, 1))
    found, total = await shelf.sessions.slice("classroom", skip=1, limit=1, owner=TEACHER)
    assert ([one.number for one in found], total) == ([8], 3)
    found, total = await shelf.sessions.slice("classroom", skip=0, limit=10, participant=ANN)
    assert ([one.number for one in found], total) == ([9, 8], 2)
    assert await shelf.sessions.slice("classroom", skip=0, limit=10, participant=ANN, status="ended") == ([], 0)
    assert await shelf.sessions.slice("tutoring", skip=0, limit=10, owner=TEACHER) == ([], 0)
    assert (await shelf.sessions.slice("classroom", skip=5, limit=10))[1] == 3
