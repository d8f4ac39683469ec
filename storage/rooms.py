"""Rooms at providers: the session that holds each, the rooms to delete, and the visits to them.

**Law:** a room is in the table, and due for deletion, before its provider is asked to create it. The commit that
creates its session claims it; the commit that ends, cancels or deletes the session makes it due again
(`sql/queries/event_log.sql`). A due row stays until the provider has confirmed the deletion.
"""

from msgspec import Struct

from actors.session.ids import Millis, SessionId
from storage import queries
from storage.pool import Pool

SQL = queries.load("rooms")
VISITS = 5_000
"""The most visits that are listed for a session."""


class DueRoom(Struct, frozen=True):
    """A room to delete. `tries` includes this attempt."""

    provider: str
    name: str
    tries: int


class Visit(Struct, frozen=True):
    """One connection to a room. `user_id` is from the visitor's room token; None: the token was not from Homeroom."""

    visit_id: str
    user_id: str | None
    name: str
    owner: bool
    joined_at: Millis
    left_at: Millis | None


class RoomLedger:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def announce(self, provider: str, name: str, seconds: float) -> None:
        """Record that a provider is about to be asked for a room. Without a session after `seconds`, it is deleted."""
        await self._pool.execute(SQL["announce"], {"provider": provider, "name": name, "seconds": seconds})

    async def release(self, provider: str, name: str) -> None:
        """Make a room due for deletion now, unless a session holds it."""
        await self._pool.execute(SQL["release"], {"provider": provider, "name": name})

    async def forget(self, provider: str, name: str) -> None:
        """Drop the row of a room that was certainly not created."""
        await self._pool.execute(SQL["forget"], {"provider": provider, "name": name})

    async def claim_due(self, limit: int) -> list[DueRoom]:
        """Return rooms to delete, in the order in which they fell due.

        Without `confirm_deleted` a room becomes due again, each time later.
        """
        return [DueRoom(*row) for row in await self._pool.fetch(SQL["claim_due"], {"limit": limit})]

    async def confirm_deleted(self, provider: str, name: str) -> None:
        """Record that a room no longer exists at its provider."""
        await self._pool.execute(SQL["confirm_deleted"], {"provider": provider, "name": name})

    async def overdue(self) -> int:
        """Return the number of rooms whose deletion has failed so far."""
        return int((await self._pool.fetch(SQL["overdue"], retry=True))[0][0])

    async def session_of(self, provider: str, name: str) -> SessionId | None:
        """Return the session that holds a room, or held it; None if no session ever did."""
        rows = await self._pool.fetch(SQL["session_of"], {"provider": provider, "name": name}, retry=True)
        return rows[0][0] if rows else None

    async def record_visit(self, session_id: SessionId, visit: Visit) -> None:
        """Store a visit, or its end."""
        values = {
            "session_id": session_id, "visit_id": visit.visit_id, "user_id": visit.user_id, "name": visit.name,
            "owner": visit.owner, "joined_at": visit.joined_at, "left_at": visit.left_at,
        }  # fmt: skip
        await self._pool.execute(SQL["record_visit"], values)

    async def visits(self, session_id: SessionId, user_id: str | None = None) -> list[Visit]:
        """Return the visits to a session's room, earliest first; `user_id`: only those of that user."""
        values = {"session_id": session_id, "user_id": user_id, "limit": VISITS}
        return [Visit(*row) for row in await self._pool.fetch(SQL["visits"], values, retry=True)]
