"""Sessions and bookings that were created under an Idempotency-Key.

**Law:** only the statements that create them write here (`create` in `event_log.sql` and in `bookings.sql`).
"""

from msgspec import Struct

from actors.session.ids import UserId
from storage import queries
from storage.pool import Pool

SQL = queries.load("creations")


class KeyedCreation(Struct, frozen=True):
    """What was created under a key, and the digest of its request.

    `last_seq`: the last row of a session's first commit; 0 for a booking, which has no log.
    """

    digest: str
    made_id: str
    last_seq: int


class Creations:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, user_id: UserId, key: str) -> KeyedCreation | None:
        """Return what a user created under a key; None if the key is unused."""
        rows = await self._pool.fetch(SQL["find"], {"user_id": user_id, "key": key}, retry=True)
        return KeyedCreation(*rows[0]) if rows else None

    async def forget(self, ttl_s: int) -> int:
        """Delete keys older than `ttl_s` seconds. Return their number, at most `FORGET_ROWS`."""
        return await self._pool.execute(SQL["forget"], {"ttl_s": ttl_s, "limit": queries.FORGET_ROWS})
