"""The streams of users' own notifications, which they read whether or not they are in a session.

**Law:** a stream is fed from the log of notifications alone. A commit is only a reason to read on from the stream's own
position, so that each notification is written once, in order, and none is left out.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Generic, Protocol, TypeVar

from actors.ports import LogUnavailable
from actors.session.ids import Millis, UserId
from server.streams.format import Cursor
from server.streams.subscriber import Subscriber

logger = logging.getLogger(__name__)

USERS = 500
"""Users whose notifications are read at once."""
PAUSE_S = 1.0
"""Pause before reading again after the log was unavailable."""


class Position(Protocol):
    """A position among a user's notifications: of one of them, or of what they amount to."""

    @property
    def seq(self) -> int: ...
    @property
    def at(self) -> Millis: ...


class UserNotification(Position, Protocol):
    """A notification of one user."""

    @property
    def user_id(self) -> UserId: ...


N = TypeVar("N", bound=UserNotification)
S = TypeVar("S", bound=Position, covariant=True)


class NotificationLog(Protocol[N, S]):
    """Where notifications are stored. Everything here raises LogUnavailable when it cannot be reached."""

    async def after(self, places: Mapping[UserId, int]) -> list[N]:
        """Return the notifications after the `seq` of each user, by user and in order, a page of each at most."""

    async def newer(self, places: Mapping[UserId, int]) -> list[UserId]:
        """Return those of the users who have notifications after their `seq`."""

    async def since(self, user_id: UserId, at: Millis, seq: int) -> list[N] | None:
        """Return all notifications after a position; None if they are not all there."""

    async def state(self, user_id: UserId) -> S:
        """Return the state that a user's notifications amount to."""


class NotificationSubscriber(Subscriber, Generic[N]):
    """One open stream of its user's notifications."""

    __slots__ = ("encode", "seq")

    seq: int
    """The last notification that was written."""
    encode: Callable[[N], bytes]

    def deliver(self, notifications: Sequence[N]) -> None:
        """Write those notifications that have not been written yet."""
        if frames := b"".join([self.encode(one) for one in notifications if one.seq > self.seq]):
            self.seq = notifications[-1].seq
            self.write(self.encoder.frame(frames), frames)


class NotificationFeed(Generic[N, S]):
    """All open streams of notifications of this process."""

    def __init__(self, log: NotificationLog[N, S], *, page: int, poll_s: float) -> None:
        """`page`: how many notifications of one user the log returns at once."""
        self._log = log
        self._page = page
        self._poll_s = poll_s
        self._streams: defaultdict[UserId, dict[NotificationSubscriber[N], None]] = defaultdict(dict)
        self._due: dict[UserId, None] = {}
        """Users who may have new notifications."""
        self._wake = asyncio.Event()

    def users(self) -> Collection[UserId]:
        """Return the users who have a stream."""
        return self._streams.keys()

    def notify(self, users: Iterable[UserId]) -> None:
        """Note that users may have new notifications, which are read soon."""
        self._due.update((user_id, None) for user_id in users if user_id in self._streams)
        if self._due:
            self._wake.set()

    async def attach(
        self,
        subscriber: NotificationSubscriber[N],
        *,
        encode_state: Callable[[S], bytes],
        encode: Callable[[N], bytes],
    ) -> bytes:
        """Return the first frames of a stream, and feed it from there on until it is closed."""
        subscriber.encode = encode
        first = await self._resume(subscriber) or await self._start(subscriber, encode_state)
        self._streams[subscriber.user_id][subscriber] = None
        subscriber.closed.add_done_callback(lambda _: self._remove(subscriber))
        # Notifications committed since the read were announced before this stream was here.
        self.notify([subscriber.user_id])
        return first

    async def _resume(self, subscriber: NotificationSubscriber[N]) -> bytes:
        """Return `resumed` and the missed notifications; empty if there is no cursor, or it cannot be served."""
        cursor = subscriber.cursor
        if cursor is None:
            return b""
        missed = await self._log.since(subscriber.user_id, Millis(cursor.epoch), cursor.seq)
        if missed is None:
            return b""
        here = Cursor(missed[-1].at, missed[-1].seq) if missed else cursor
        subscriber.seq = here.seq
        resumed = subscriber.encoder.resumed(cursor, here, len(missed))
        return resumed + b"".join([subscriber.encode(one) for one in missed])

    async def _start(self, subscriber: NotificationSubscriber[N], encode_state: Callable[[S], bytes]) -> bytes:
        state = await self._log.state(subscriber.user_id)
        subscriber.seq = state.seq
        reset = b"" if subscriber.cursor is None else subscriber.encoder.reset("unknown_cursor")
        return reset + subscriber.encoder.first(Cursor(state.at, state.seq), encode_state(state))

    def _remove(self, subscriber: NotificationSubscriber[N]) -> None:
        streams = self._streams[subscriber.user_id]
        streams.pop(subscriber, None)
        if not streams:
            del self._streams[subscriber.user_id]

    def _positions(self, users: Iterable[UserId]) -> dict[UserId, int]:
        return {user_id: min(one.seq for one in self._streams[user_id]) for user_id in users}

    async def feed(self) -> None:
        """Read the notifications of users who have new ones, and write them to their streams. Never return."""
        while True:
            await self._wake.wait()
            due = list(islice(self._due, USERS))
            for user_id in due:
                del self._due[user_id]
            if not self._due:
                self._wake.clear()
            users = [user_id for user_id in due if user_id in self._streams]
            try:
                notifications = await self._log.after(self._positions(users)) if users else []
                for user_id, group in groupby(notifications, lambda one: one.user_id):
                    self._deliver(user_id, list(group))
            except LogUnavailable as error:
                logger.warning("notifications are delayed: %s", error)
                await asyncio.sleep(PAUSE_S)
                self.notify(users)
            except Exception:
                # It may concern some users only; the streams of the others go on.
                logger.exception("notifications were not delivered")

    def _deliver(self, user_id: UserId, notifications: list[N]) -> None:
        for subscriber in list(self._streams.get(user_id, ())):
            subscriber.deliver(notifications)
        if len(notifications) == self._page:
            self.notify([user_id])

    async def poll(self) -> None:
        """Look for notifications that other servers have committed, every `poll_s`. Never return."""
        while True:
            await asyncio.sleep(self._poll_s)
            users = iter(list(self._streams))
            while some := list(islice(users, USERS)):
                positions = self._positions(user_id for user_id in some if user_id in self._streams)
                try:
                    self.notify(await self._log.newer(positions))
                except LogUnavailable as error:
                    logger.warning("looking for notifications is delayed: %s", error)
                    break
                except Exception:
                    logger.exception("looking for notifications failed")
                    break
