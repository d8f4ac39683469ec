"""Bookings in PostgreSQL: what is kept of one, a user's in order, and the times exact."""

from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from actors.session import events as e
from actors.session.ids import Millis, UserId
from storage.bookings import Bookings
from storage.errors import StorageError
from storage.log.event_log import PREPARE, PostgresEventLog
from storage.pool import Pool, Writer
from storage.users import User, Users
from tests.support.author import ANN, BEN, START, TEACHER, Author, user

HOUR = 3_600_000


def booking_id(number: int) -> str:
    return f"01990000-0000-7000-a000-{number:012d}"


class Desk:
    def __init__(self, pool: Pool, log: PostgresEventLog) -> None:
        self.bookings = Bookings(pool)
        self.users = Users(pool)
        self.log = log

    async def book(self, number: int, student: UserId = ANN, *, at: int = 0, hours: int = 1) -> None:
        start = Millis(START + at * HOUR)
        await self.bookings.create(
            booking_id(number), tutor_id=TEACHER, student_id=student, starts_at=start,
            ends_at=Millis(start + hours * HOUR), title=f"Lesson {number}", created_by=TEACHER,
        )  # fmt: skip

    async def page(
        self,
        who: UserId,
        after: int | None = None,
        limit: int = 100,
        since: int | None = None,
        until: int | None = None,
    ) -> list[str]:
        found = await self.bookings.page(
            who,
            after=None if after is None else booking_id(after),
            limit=limit,
            since=None if since is None else Millis(START + since),
            until=None if until is None else Millis(START + until),
        )
        return [booking.title.removeprefix("Lesson ") for booking in found]


@pytest.fixture
async def desk(dsn: str) -> AsyncIterator[Desk]:
    writer = Writer(dsn, PREPARE)
    async with await Pool.open(dsn, size=2) as pool:
        desk = Desk(pool, PostgresEventLog(pool, writer, "node:1"))
        for user_id, name in ((TEACHER, "Tess"), (ANN, "Ann"), (BEN, "Ben")):
            await desk.users.create(User(user_id, 0, name, None, None, "student", None))
        yield desk
    await writer.close()


async def test_a_booking_comes_back_as_it_was_made(desk: Desk) -> None:
    await desk.book(1)
    found = await desk.bookings.find(booking_id(1))
    assert found is not None
    assert (found.tutor_id, found.tutor_name, found.student_id, found.student_name) == (TEACHER, "Tess", ANN, "Ann")
    assert (found.starts_at, found.ends_at) == (START, START + HOUR)
    assert (found.title, found.created_by, found.session_id, found.session_status) == ("Lesson 1", TEACHER, None, None)
    assert found.involves(ANN)
    assert found.involves(TEACHER)
    assert not found.involves(BEN)
    assert await desk.bookings.find(booking_id(2)) is None


async def test_it_shows_its_session_s_status(desk: Desk) -> None:
    await desk.book(1)
    author = Author(1)
    await desk.log.create(structs.replace(author.creation, booking_id=booking_id(1)))
    found = await desk.bookings.find(booking_id(1))
    assert found is not None
    assert (found.session_id, found.session_status) == (author.session_id, "scheduled")
    await desk.log.append([author.append(e.SessionStarted())])
    found = await desk.bookings.find(booking_id(1))
    assert found is not None
    assert found.session_status == "live"


async def test_the_database_itself_refuses_nonsense(desk: Desk) -> None:
    with pytest.raises(StorageError):
        await desk.book(1, hours=0)
    with pytest.raises(StorageError):
        await desk.book(2, TEACHER)
    with pytest.raises(StorageError):
        await desk.book(3, user(9))


async def test_pages_are_in_order_of_time_and_one_s_own(desk: Desk) -> None:
    for number, student, at in ((1, ANN, 4), (2, BEN, 2), (3, ANN, 0), (4, ANN, 2)):
        await desk.book(number, student, at=at)
    assert await desk.page(TEACHER) == ["3", "2", "4", "1"]
    assert await desk.page(ANN) == ["3", "4", "1"]
    assert await desk.page(BEN) == ["2"]
    assert await desk.page(user(9)) == []
    assert await desk.page(TEACHER, limit=2) == ["3", "2"]
    assert await desk.page(TEACHER, after=2) == ["4", "1"]
    assert await desk.page(ANN, after=2) == [], "Ben's is no place in Ann's list"
    # What ends as the time begins is not in it, nor what starts as it ends.
    assert await desk.page(TEACHER, since=HOUR, until=4 * HOUR) == ["2", "4"]
    assert await desk.page(TEACHER, since=HOUR - 1, until=4 * HOUR + 1) == ["3", "2", "4", "1"]
