"""Reads the notifications of users, inside and outside of sessions. The log's commits write them
(`sql/queries/event_log.sql`).

**Law:** a user's notifications are numbered without gaps, and none is visible before its predecessor.
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
"""The most notifications of one user that one statement reads."""
INVITATIONS = 200
"""The most open invitations that are returned; of more, those to the newest sessions."""
KEPT_S = 30 * 86_400
KEPT = 1_000
"""How long notifications are kept, and how many for one user: the range in which a client can resume."""

_notifications: msgspec.json.Decoder[Notification] = msgspec.json.Decoder(Notification)
_sessions = msgspec.json.Decoder(Session)


class StoredNotification(Struct, frozen=True):
    """A notification, and its number among those of its user."""

    user_id: UserId
    seq: int
    at: Millis
    notification: Notification


class Invitation(Struct, frozen=True):
    """An open invitation, with the current session. `said` and `at` are None once its notification has expired."""

    session: Session
    said: SessionInvitation | None
    at: Millis | None


class NotificationState(Struct, frozen=True):
    """A user's open invitations as of their notification `seq`, of time `at`; both are 0 before the first."""

    at: Millis
    seq: int
    invitations: list[Invitation]


class Notifications:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def after(self, cursors: Mapping[UserId, int]) -> list[StoredNotification]:
        """Return the notifications after each user's `seq`, by user and in order; at most `PAGE` of each."""
        params = {"user_ids": list(cursors), "seqs": list(cursors.values()), "limit": PAGE}
        return [_notification(row) for row in await self._pool.fetch(SQL["after"], params, retry=True)]

    async def newer(self, cursors: Mapping[UserId, int]) -> list[UserId]:
        """Return the users who have notifications after their `seq`."""
        params = {"user_ids": list(cursors), "seqs": list(cursors.values())}
        return [row[0] for row in await self._pool.fetch(SQL["newer"], params, retry=True)]

    async def since(self, user_id: UserId, at: Millis, seq: int) -> list[StoredNotification] | None:
        """Return all notifications after a cursor (`seq` 0: before the first); None if some no longer exist."""
        # One more for the cursor's own row, and one to detect that there are too many.
        params = {"user_id": user_id, "seq": seq, "limit": KEPT + 2}
        rows = [_notification(row) for row in await self._pool.fetch(SQL["since"], params, retry=True)]
        if seq > 0:
            if not rows or (rows[0].seq, rows[0].at) != (seq, at):
                return None
            del rows[0]
        elif at != 0:
            return None
        whole = [row.seq for row in rows] == list(range(seq + 1, seq + 1 + len(rows)))
        return rows if whole and len(rows) <= KEPT else None

    async def state(self, user_id: UserId) -> NotificationState:
        """Return a user's open invitations, and the cursor of the same moment."""
        params = {"user_id": user_id, "limit": INVITATIONS}
        rows = await self._pool.fetch(SQL["open"], params, retry=True)
        return NotificationState(rows[0][0], rows[0][1], [_invitation(row[2:]) for row in rows if row[2] is not None])

    async def forget(self) -> int:
        """Delete notifications that are too old or too many. Return their number, at most `FORGET_ROWS` of each."""
        params = {"seconds": KEPT_S, "most": KEPT, "limit": queries.FORGET_ROWS}
        return await self._pool.execute(SQL["forget"], params)


def _notification(row: Row) -> StoredNotification:
    user_id, seq, at, body = row
    return StoredNotification(user_id, seq, at, _notifications.decode(body))


def _invitation(row: Row) -> Invitation:
    session, said, at = row
    notification = None if said is None else _notifications.decode(said)
    return Invitation(
        _sessions.decode(session), notification if isinstance(notification, SessionInvitation) else None, at
    )
