"""The logs of classrooms in the terms of the Seeds product, for operators and its clients: the view `logs`.

**Law:** only the view translates events into that product's terms (`sql/migrations/0010_seeds.sql`).
"""

from collections.abc import Collection

import msgspec
from msgspec import Raw, Struct

from actors.session.ids import Millis
from storage import queries
from storage.log.event_log import Summary
from storage.pool import Pool

SQL = queries.load("logs")


class Line(Struct, frozen=True):
    """A row of the view. `details`: JSON, unchanged."""

    log_id: int
    event_type: str
    user_id: int | None
    details: Raw
    at: Millis


class Logs:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def latest(self, number: int, *, types: Collection[str] | None, limit: int) -> list[Line]:
        """Return rows of the session with a number, of some types or all, newest first."""
        params = {"number": number, "types": None if types is None else list(types), "limit": limit}
        rows = await self._pool.fetch(SQL["latest"], params, retry=True)
        return [Line(log_id, kind, user, Raw(details.encode()), Millis(at)) for log_id, kind, user, details, at in rows]

    async def summary(self, number: int) -> Summary:
        """Return the totals of all rows of the session with a number."""
        total, by_type, *rest = (await self._pool.fetch(SQL["summary"], {"number": number}, retry=True))[0]
        return Summary(total, msgspec.json.decode(by_type, type=dict[str, int]), *rest)
