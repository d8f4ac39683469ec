"""What providers tell us: kept before they are answered, taken until it is done, known when it is told again.

**Law:** an event is in the table before its sender hears that it was taken; it is due until `done`.
"""

from msgspec import Struct

from storage import queries
from storage.pool import Pool

SQL = queries.load("inbox")


class Told(Struct, frozen=True):
    """An event to deal with; `tries` counts this one."""

    number: int
    provider: str
    type: str
    body: str
    tries: int


class Inbox:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, provider: str, event_id: str, type: str, body: str) -> bool:
        """Keep an event; False: it is here already."""
        values = {"provider": provider, "event_id": event_id, "type": type, "body": body}
        return bool(await self._pool.fetch(SQL["put"], values))

    async def take(self, limit: int) -> list[Told]:
        """Take events to deal with, in the order they came. What is not `done` soon comes up again, ever later."""
        return sorted((Told(*row) for row in await self._pool.fetch(SQL["take"], {"limit": limit})), key=number)

    async def done(self, number: int) -> None:
        await self._pool.execute(SQL["done"], {"number": number})

    async def forget(self, seconds: float) -> int:
        """Drop what was dealt with and came longer ago than that; give how many, `FORGET_ROWS` at most."""
        return await self._pool.execute(SQL["forget"], {"seconds": seconds, "limit": queries.FORGET_ROWS})


def number(told: Told) -> int:
    return told.number
