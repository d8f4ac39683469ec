"""Events from providers: stored before the provider is answered, processed once, recognised when repeated.

**Law:** an event is in the table before its sender is told that it was accepted. It is due until `done`.
"""

from msgspec import Struct

from storage import queries
from storage.pool import Pool

SQL = queries.load("inbox")


class ProviderEvent(Struct, frozen=True):
    """An event to process. `tries` includes this attempt."""

    number: int
    provider: str
    type: str
    body: str
    tries: int


class Inbox:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, provider: str, event_id: str, type: str, body: str) -> bool:
        """Store an event. Return whether it is new."""
        values = {"provider": provider, "event_id": event_id, "type": type, "body": body}
        return bool(await self._pool.fetch(SQL["put"], values))

    async def claim(self, limit: int) -> list[ProviderEvent]:
        """Return due events, in order of arrival. An event that is not `done` becomes due again, each time later."""
        rows = await self._pool.fetch(SQL["claim"], {"limit": limit})
        return sorted((ProviderEvent(*row) for row in rows), key=lambda event: event.number)

    async def done(self, number: int) -> None:
        """Mark an event as processed."""
        await self._pool.execute(SQL["done"], {"number": number})

    async def forget(self, seconds: float) -> int:
        """Delete processed events older than `seconds`. Return their number, at most `FORGET_ROWS`."""
        return await self._pool.execute(SQL["forget"], {"seconds": seconds, "limit": queries.FORGET_ROWS})
