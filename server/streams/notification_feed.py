"""The streams of users' own notifications, which they read wherever they are.

**Law:** a stream is fed from the database alone. That something was committed is only a reason to look; what comes of
it is what the next read gives, on from the stream's own place: each notification once, in order, none left out.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby, islice

from actors.session.ids import Millis, UserId
from server.streams.format import Cursor
from server.streams.subscriber import Subscriber
from storage.errors import StorageError
from storage.notifications import PAGE, Notifications, NotificationState, StoredNotification

logger = logging.getLogger(__name__)

USERS = 500
"""Users whose notifications are read at once."""
PAUSE_S = 1.0
"""Before looking again, after the database was away."""


class Reader(Subscriber):
    """One open stream of its user's notifications. `seq`: the last that it was given."""

    __slots__ = ("seq", "show")

    seq: int
    show: Callable[[StoredNotification], bytes]

    def give(self, told: Sequence[StoredNotification]) -> None:
        if frames := b"".join([self.show(one) for one in told if one.seq > self.seq]):
            self.seq = told[-1].seq
            self.write(self.format.frame(frames), frames)


class UserStreams:
    """All open streams of notifications of this process."""

    def __init__(self, notifications: Notifications, *, look_s: float) -> None:
        self._notifications = notifications
        self._look_s = look_s
        self._readers: defaultdict[UserId, dict[Reader, None]] = defaultdict(dict)
        self._news: dict[UserId, None] = {}
        self._wake = asyncio.Event()

    def told(self, users: Iterable[UserId]) -> None:
        """Users may have been told something; they are looked after soon."""
        self._news.update((user_id, None) for user_id in users if user_id in self._readers)
        if self._news:
            self._wake.set()

    async def attach(
        self,
        reader: Reader,
        *,
        standing: Callable[[NotificationState], bytes],
        show: Callable[[StoredNotification], bytes],
    ) -> bytes:
        """Give what a stream begins with, and feed it from there on, until it is closed."""
        reader.show = show
        first = await self._resumed(reader) or await self._afresh(reader, standing)
        self._readers[reader.user_id][reader] = None
        reader.closed.add_done_callback(lambda _: self._remove(reader))
        # What was committed since the read, nobody was here to hear of.
        self.told([reader.user_id])
        return first

    async def _resumed(self, reader: Reader) -> bytes:
        cursor = reader.cursor
        if cursor is None:
            return b""
        told = await self._notifications.since(reader.user_id, Millis(cursor.epoch), cursor.seq)
        if told is None:
            return b""
        here = Cursor(told[-1].at, told[-1].seq) if told else cursor
        reader.seq = here.seq
        return reader.format.resumed(cursor, here, len(told)) + b"".join([reader.show(one) for one in told])

    async def _afresh(self, reader: Reader, show: Callable[[NotificationState], bytes]) -> bytes:
        standing = await self._notifications.standing(reader.user_id)
        reader.seq = standing.seq
        reset = b"" if reader.cursor is None else reader.format.reset("unknown_cursor")
        return reset + reader.format.first(Cursor(standing.at, standing.seq), show(standing))

    def _remove(self, reader: Reader) -> None:
        readers = self._readers[reader.user_id]
        readers.pop(reader, None)
        if not readers:
            del self._readers[reader.user_id]

    def _places(self, users: Iterable[UserId]) -> dict[UserId, int]:
        return {user_id: min(reader.seq for reader in self._readers[user_id]) for user_id in users}

    async def feed(self) -> None:
        """Read for those who have news, and write it to their streams; until cancelled."""
        while True:
            await self._wake.wait()
            some = list(islice(self._news, USERS))
            for user_id in some:
                del self._news[user_id]
            if not self._news:
                self._wake.clear()
            users = [user_id for user_id in some if user_id in self._readers]
            try:
                told = await self._notifications.after(self._places(users)) if users else []
                for user_id, group in groupby(told, lambda one: one.user_id):
                    self._give(user_id, list(group))
            except StorageError as error:
                logger.warning("notifications come later: %s", error)
                await asyncio.sleep(PAUSE_S)
                self.told(users)
            except Exception:
                # Of some; the others' go on.
                logger.exception("notifications were not shown")

    def _give(self, user_id: UserId, told: list[StoredNotification]) -> None:
        for reader in list(self._readers.get(user_id, ())):
            reader.give(told)
        if len(told) == PAGE:
            self.told([user_id])

    async def look(self) -> None:
        """See every so often what nobody here was told of: other servers commit too. Until cancelled."""
        while True:
            await asyncio.sleep(self._look_s)
            users = iter(list(self._readers))
            while some := list(islice(users, USERS)):
                places = self._places(user_id for user_id in some if user_id in self._readers)
                try:
                    self.told(await self._notifications.newer(places))
                except StorageError as error:
                    logger.warning("notifications are looked for later: %s", error)
                    break
