"""Notifications: what users are told whether or not they are in a session. The log's commits write them
(`sql/queries/event_log.sql`); here they are read.

**Law:** a user's notifications are numbered without gaps, and none is seen before the one below it.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from actors.session.ids import Millis, UserId
from actors.session.notifications import Notification, SessionInvitation
from actors.session.state import Session
from storage import queries
from storage.aiopg_connection import Row
from storage.pool import Pool

SQL = queries.load("notifications")
PAGE = 200
"""Notifications of one user read at once."""
INVITATIONS = 200
"""Open invitations shown; of more, those to the newest sessions."""
KEPT_S = 30 * 86_400
KEPT = 1_000
"""For how long notifications are kept, and how many of one user: what a client may come back for."""

_notifications: msgspec.json.Decoder[Notification] = msgspec.json.Decoder(Notification)
_sessions = msgspec.json.Decoder(Session)


class StoredNotification(Struct, frozen=True):
    """A notification, and its place among its user's."""

    user_id: UserId
    seq: int
    at: Millis
    notification: Notification


class Invitation(Struct, frozen=True):
    """An invitation that stands, to the session as it is now. `said` and `at` are None when nobody knows any more."""

    session: Session
    said: SessionInvitation | None
    at: Millis | None


class NotificationState(Struct, frozen=True):
    """What stands for a user after their notification `seq`, of the time `at`; both are 0 before the first."""

    at: Millis
    seq: int
    invitations: list[Invitation]


class Notifications:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def after(self, places: Mapping[UserId, int]) -> list[StoredNotification]:
        """Give what users have been told after the `seq` of each, by user and in order; `PAGE` of each at most."""
        params = {"user_ids": list(places), "seqs": list(places.values()), "limit": PAGE}
        return [_told(row) for row in await self._pool.fetch(SQL["after"], params, retry=True)]

    async def newer(self, places: Mapping[UserId, int]) -> list[UserId]:
        """Name those of these users who have been told something after their `seq`."""
        params = {"user_ids": list(places), "seqs": list(places.values())}
        return [row[0] for row in await self._pool.fetch(SQL["newer"], params, retry=True)]

    async def since(self, user_id: UserId, at: Millis, seq: int) -> list[StoredNotification] | None:
        """Give everything after a place, `seq` 0 being before the first; None: that cannot be given whole."""
        # One for the place itself, one to see that there are more.
        params = {"user_id": user_id, "seq": seq, "limit": KEPT + 2}
        rows = [_told(row) for row in await self._pool.fetch(SQL["since"], params, retry=True)]
        if seq > 0:
            if not rows or (rows[0].seq, rows[0].at) != (seq, at):
                return None
            del rows[0]
        elif at != 0:
            return None
        whole = [told.seq for told in rows] == list(range(seq + 1, seq + 1 + len(rows)))
        return rows if whole and len(rows) <= KEPT else None

    async def standing(self, user_id: UserId) -> NotificationState:
        """Give a user's open invitations, and their place in the notifications as of the same moment."""
        params = {"user_id": user_id, "limit": INVITATIONS}
        rows = await self._pool.fetch(SQL["open"], params, retry=True)
        return NotificationState(rows[0][0], rows[0][1], [_invitation(row[2:]) for row in rows if row[2] is not None])

    async def forget(self) -> int:
        """Drop what is old, and what is too much; give how many, `FORGET_ROWS` at most of each."""
        params = {"seconds": KEPT_S, "most": KEPT, "limit": queries.FORGET_ROWS}
        return await self._pool.execute(SQL["forget"], params)


def _told(row: Row) -> StoredNotification:
    user_id, seq, at, body = row
    return StoredNotification(user_id, seq, at, _notifications.decode(body))


def _invitation(row: Row) -> Invitation:
    session, said, at = row
    notification = None if said is None else _notifications.decode(said)
    return Invitation(
        _sessions.decode(session), notification if isinstance(notification, SessionInvitation) else None, at
    )
