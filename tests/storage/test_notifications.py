"""Notifications in PostgreSQL: written by the log's commits, numbered without gaps, read on from any place."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from msgspec import Raw

from actors.ports import NotificationRow
from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.notifications import InvitationClosed, SessionInvitation
from storage import notifications as n
from storage.log.event_log import PREPARE, PostgresEventLog
from storage.notifications import Invitation, Notifications, NotificationState, StoredNotification
from storage.pool import Pool, Writer
from tests.support.author import ANN, BEN, START, TEACHER, Author, user

ME, OTHER = "node:1", "node:2"


class Place:
    """A database, two owners' logs in it, and a clock for notifications."""

    def __init__(self, pool: Pool, writers: list[Writer]) -> None:
        self.pool = pool
        self.notifications = Notifications(pool)
        self.log, self.other = (
            PostgresEventLog(pool, writer, owner) for writer, owner in zip(writers, (ME, OTHER), strict=True)
        )
        self.made = 0

    def row(self, author: Author, user_id: UserId = ANN, *, closed: bool = False) -> NotificationRow:
        self.made += 1
        notification = InvitationClosed(author.session_id, "over") if closed else invitation(author, f"No. {self.made}")
        return NotificationRow(user_id, Millis(START + self.made), Raw(msgspec.json.encode(notification)))

    async def tells(self, author: Author, *rows: NotificationRow) -> None:
        append = author.append(e.SessionLocked())
        append.notifications = list(rows)
        assert await self.log.append([append]) == {author.session_id}

    async def titles(self, user_id: UserId = ANN, after: int = 0) -> list[tuple[int, str]]:
        return titles(await self.notifications.after({user_id: after}))


def invitation(author: Author, title: str) -> SessionInvitation:
    number = int(author.session_id[-12:])
    return SessionInvitation(author.session_id, number, "x", "classroom", title, "live", None, TEACHER, "Teacher")


def titles(told: list[StoredNotification]) -> list[tuple[int, str]]:
    return [(one.seq, one.notification.title) for one in told if isinstance(one.notification, SessionInvitation)]


@pytest.fixture
async def place(dsn: str) -> AsyncIterator[Place]:
    writers = [Writer(dsn, PREPARE), Writer(dsn, PREPARE)]
    async with await Pool.open(dsn, size=4) as pool:
        yield Place(pool, writers)
    for writer in writers:
        await writer.close()


async def opened(place: Place, number: int = 1) -> Author:
    author = Author(number)
    await place.log.create(author.creation)
    return author


async def test_each_user_s_notifications_are_numbered_on_their_own(place: Place) -> None:
    one, two = await opened(place, 1), await opened(place, 2)
    await place.tells(one, place.row(one, BEN), place.row(one, ANN), place.row(one, ANN))
    await place.tells(two, place.row(two, ANN))
    assert await place.titles(ANN) == [(1, "No. 2"), (2, "No. 3"), (3, "No. 4")]
    assert await place.titles(BEN) == [(1, "No. 1")]
    assert await place.titles(ANN, after=2) == [(3, "No. 4")]
    both = await place.notifications.after({ANN: 2, BEN: 0})
    assert [(told.user_id, told.seq, told.at) for told in both] == [(ANN, 3, START + 4), (BEN, 1, START + 1)]
    assert await place.notifications.newer({ANN: 3, BEN: 0, user(9): 0}) == [BEN]


async def test_what_is_fenced_tells_nobody(place: Place) -> None:
    one, two = await opened(place, 1), await opened(place, 2)
    await place.other.claim(one.session_id)
    lost, kept = one.append(e.SessionLocked()), two.append(e.SessionLocked())
    lost.notifications, kept.notifications = [place.row(one)], [place.row(two)]
    assert await place.log.append([lost, kept]) == {two.session_id}
    assert await place.titles() == [(1, "No. 2")]


async def test_a_creation_tells_too(place: Place) -> None:
    author = Author(1)
    creation = msgspec.structs.replace(author.creation, notifications=[place.row(author), place.row(author, BEN)])
    await place.log.create(creation)
    assert await place.titles(ANN) == [(1, "No. 1")]
    assert await place.titles(BEN) == [(1, "No. 2")]


async def test_no_number_is_seen_before_the_one_below_it(place: Place) -> None:
    """Two servers tell the same people at once, again and again; whoever reads sees no gap that fills up later."""
    authors = [await opened(place, number) for number in (1, 2)]
    await place.other.claim(authors[1].session_id)
    authors[1].epoch = 2
    done = False

    people = [ANN, BEN, *(user(number) for number in range(10, 50))]

    async def writes(author: Author, log: PostgresEventLog, people: list[UserId]) -> None:
        for _ in range(40):
            append = author.append(e.SessionLocked())
            append.notifications = [place.row(author, one) for one in people]
            assert await log.append([append]) == {author.session_id}

    async def reads() -> int:
        looks = 0
        while not done:
            told = await place.notifications.after({ANN: 0})
            assert [one.seq for one in told] == list(range(1, len(told) + 1))
            looks += 1
        return looks

    reading = asyncio.create_task(reads())
    # In whatever order they come: the statement sorts them, or these two would wait for each other.
    await asyncio.gather(writes(authors[0], place.log, people), writes(authors[1], place.other, people[::-1]))
    done = True
    assert await reading > 10
    assert [one.seq for one in await place.notifications.after({BEN: 0})] == list(range(1, 81))


async def test_resuming_gives_what_came_after_a_place_or_nothing(place: Place) -> None:
    author = await opened(place)
    assert await place.notifications.since(ANN, Millis(0), 0) == []
    await place.tells(author, *(place.row(author) for _ in range(3)))
    whole = await place.notifications.after({ANN: 0})
    for cut in range(4):
        at = whole[cut - 1].at if cut else Millis(0)
        assert await place.notifications.since(ANN, at, cut) == whole[cut:]
    assert await place.notifications.since(ANN, Millis(START + 99), 2) is None, (
        "another notification had this number then"
    )
    assert await place.notifications.since(ANN, Millis(START + 4), 4) is None, "there is no such place yet"
    assert await place.notifications.since(BEN, whole[0].at, 1) is None, "it is somebody else's"


async def test_what_stands_is_what_one_is_still_invited_to(place: Place) -> None:
    assert await place.notifications.state(ANN) == NotificationState(Millis(0), 0, [])
    first, second, over, unsaid = [await opened(place, number) for number in range(1, 5)]
    invited = e.ParticipantInvited(ANN, "Ann", 1)
    for author in (first, second, over):
        append = author.append(invited, by=TEACHER)
        append.notifications = [place.row(author)]
        await place.log.append([append])
    await place.log.append([unsaid.append(invited, by=TEACHER), over.append(e.SessionCancelled(), by=TEACHER)])
    await place.tells(second, place.row(second, closed=True), place.row(second))
    standing = await place.notifications.state(ANN)
    assert (standing.at, standing.seq) == (START + 5, 5)
    assert standing.invitations == [
        Invitation(unsaid.state.session, None, None),
        Invitation(second.state.session, invitation(second, "No. 5"), Millis(START + 5)),
        Invitation(first.state.session, invitation(first, "No. 1"), Millis(START + 1)),
    ]
    await place.log.append([second.append(e.ParticipantJoined(ANN, "Ann", 1, "member"))])
    left = (await place.notifications.state(ANN)).invitations
    assert [one.session.id for one in left] == [unsaid.session_id, first.session_id]


async def test_what_is_old_or_too_much_is_forgotten_but_for_the_last(place: Place) -> None:
    author = await opened(place)
    await place.tells(author, *(place.row(author) for _ in range(3)), place.row(author, BEN))
    assert await place.notifications.forget() == 2, "all are years old"
    assert await place.titles(ANN) == [(3, "No. 3")]
    assert await place.titles(BEN) == [(1, "No. 4")]
    assert await place.notifications.since(ANN, Millis(0), 0) is None, "what came after it is not all there"
    await place.pool.execute("update notification set at = now()")
    many = [place.row(author) for _ in range(n.KEPT + 5)]
    now = Millis(4_000_000_000_000)
    await place.tells(author, *(msgspec.structs.replace(row, at=now) for row in many))
    assert await place.notifications.forget() == 6
    (row,) = await place.pool.fetch("select count(*), min(seq), max(seq) from notification where user_id = %s", (ANN,))
    assert row == (n.KEPT, 9, n.KEPT + 8)
    assert len(await place.notifications.since(ANN, now, 9) or ()) == n.KEPT - 1
