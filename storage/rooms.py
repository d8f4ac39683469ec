"""Rooms at providers: which session holds which, which are to be deleted, and who was in them.

**Law:** a room is in the table, and due, from before its provider is asked for it. The commit that makes its session
takes it; the commit that ends, cancels or deletes the session makes it due again (`sql/queries/event_log.sql`). A row
that is due stays until the provider has said that the room is gone.
"""

from msgspec import Struct

from actors.session.ids import Millis, SessionId
from storage import queries
from storage.pool import Pool

SQL = queries.load("rooms")
VISITS = 5_000
"""Visits listed for a session at most."""


class Due(Struct, frozen=True):
    """A room to delete; `tries` counts this one."""

    provider: str
    name: str
    tries: int


class Visit(Struct, frozen=True):
    """One connection of somebody to a room. `user_id` is what their token said; None: they had none of ours."""

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
        """Say that a provider is about to be asked for a room; without a session by then, it is deleted."""
        await self._pool.execute(SQL["announce"], {"provider": provider, "name": name, "seconds": seconds})

    async def release(self, provider: str, name: str) -> None:
        """Have a room deleted now, unless a session holds it."""
        await self._pool.execute(SQL["release"], {"provider": provider, "name": name})

    async def forget(self, provider: str, name: str) -> None:
        """A room was certainly not made."""
        await self._pool.execute(SQL["forget"], {"provider": provider, "name": name})

    async def take(self, limit: int) -> list[Due]:
        """Take rooms to delete, those due longest first. What is not `gone` soon comes up again, ever later."""
        return [Due(*row) for row in await self._pool.fetch(SQL["take"], {"limit": limit})]

    async def gone(self, provider: str, name: str) -> None:
        """A room is no longer at its provider."""
        await self._pool.execute(SQL["gone"], {"provider": provider, "name": name})

    async def overdue(self) -> int:
        """Count rooms that could not be deleted yet."""
        return int((await self._pool.fetch(SQL["overdue"], retry=True))[0][0])

    async def session_of(self, provider: str, name: str) -> SessionId | None:
        """Name the session that holds a room, or held it."""
        rows = await self._pool.fetch(SQL["session_of"], {"provider": provider, "name": name}, retry=True)
        return rows[0][0] if rows else None

    async def visited(self, session_id: SessionId, visit: Visit) -> None:
        """Note a visit, or its end."""
        values = {
            "session_id": session_id, "visit_id": visit.visit_id, "user_id": visit.user_id, "name": visit.name,
            "owner": visit.owner, "joined_at": visit.joined_at, "left_at": visit.left_at,
        }  # fmt: skip
        await self._pool.execute(SQL["visited"], values)

    async def visits(self, session_id: SessionId, user_id: str | None = None) -> list[Visit]:
        """List who was in a session's room, earliest first; `user_id`: only that user."""
        values = {"session_id": session_id, "user_id": user_id, "limit": VISITS}
        return [Visit(*row) for row in await self._pool.fetch(SQL["visits"], values, retry=True)]
