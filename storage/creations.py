"""What has been made under an Idempotency-Key outside of any session.

**Law:** only the statements that make something write here (`create` in `event_log.sql` and in `bookings.sql`).
"""

from msgspec import Struct

from actors.session.ids import UserId
from storage import queries
from storage.pool import Pool

SQL = queries.load("creations")


class Made(Struct, frozen=True):
    """What a key has made, and of what. `last_seq`: where a session's first commit ends; 0 for what has no log."""

    digest: str
    made_id: str
    last_seq: int


class Creations:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def find(self, user_id: UserId, key: str) -> Made | None:
        rows = await self._pool.fetch(SQL["find"], {"user_id": user_id, "key": key}, retry=True)
        return Made(*rows[0]) if rows else None

    async def forget(self, ttl_s: int) -> int:
        """Drop keys of things made longer ago than that; give how many, `FORGET_ROWS` at most."""
        return await self._pool.execute(SQL["forget"], {"ttl_s": ttl_s, "limit": queries.FORGET_ROWS})
