"""The outbox: rows of the log that are to be delivered to other systems, until they are delivered or dead.

**Law:** rows of one queue (kind, target, session) are tried in the order of the log, one at a time, by one process at a
time. Only the holder of the lease records the result of an attempt (`sql/queries/outbox.sql`). A commit only inserts.
"""

from collections.abc import Collection
from typing import Literal

import msgspec
from msgspec import Struct

from actors.session.events import Recorded
from actors.session.ids import Millis
from actors.session.state import Session
from storage import queries
from storage.aiopg_connection import Row
from storage.log.event_log import recorded
from storage.pool import Pool

SQL = queries.load("outbox")
HISTORY = 20
"""How many of its latest attempts each delivery keeps."""
Kind = Literal["webhook", "push"]

_json = msgspec.json.Encoder()
_sessions = msgspec.json.Decoder(Session)


class Delivery(Struct, frozen=True):
    """A leased row: until the lease ends, no one else tries it or the rows after it in its session."""

    id: int
    kind: Kind
    target_id: str
    """An endpoint, or a user."""
    attempt: int
    """From 1."""
    since: Millis
    """When the first attempt began."""
    session: Session
    """The current session."""
    recorded: Recorded
    """The row of the log, without what was redacted since."""


class Attempt(Struct, frozen=True):
    """The result of an attempt. `status`: of the answer, if there was one; `error`: why it failed."""

    at: Millis
    ms: int
    status: int | None = None
    error: str | None = None


class Backlog(Struct, frozen=True):
    """The number of pending rows, the age of the oldest, and the number of targets paused because they fail."""

    pending: int
    oldest_s: float
    paused: int


class Outbox:
    """The outbox. `lease_s`: how long a lease lasts; longer than any attempt takes."""

    def __init__(self, pool: Pool, *, lease_s: float, per_target: int, pause_after: int, pause_s: float) -> None:
        self._pool = pool
        self._lease_s = lease_s
        self._per_target = per_target
        self._pause_after = pause_after
        self._pause_s = pause_s

    async def claim(self, kinds: Collection[str], limit: int) -> list[Delivery]:
        """Lease due rows, each the first of its queue."""
        params = {
            "kinds": list(kinds), "limit": limit, "lease_s": self._lease_s, "per_target": self._per_target,
            "pause_after": self._pause_after,
        }  # fmt: skip
        return [_delivery(row) for row in await self._pool.fetch(SQL["claim"], params)]

    async def delivered(self, delivery: Delivery, attempt: Attempt, *, advance: bool) -> Delivery | None:
        """Record a success. With `advance`, lease and return the next row of the queue, if there is one."""
        params = {
            "id": delivery.id, "attempt": delivery.attempt, "tried": _json.encode(attempt).decode(), "kept": HISTORY,
            "advance": advance, "lease_s": self._lease_s, "pause_after": self._pause_after,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["delivered"], params)
        return _delivery(rows[0]) if rows else None

    async def failed(self, delivery: Delivery, attempt: Attempt, delay_s: float | None) -> float:
        """Record a failure. Retry after `delay_s`; None: never. Return for how many seconds the target has failed."""
        params = {
            "id": delivery.id, "attempt": delivery.attempt, "tried": _json.encode(attempt).decode(), "kept": HISTORY,
            "delay_s": delay_s, "pause_after": self._pause_after, "pause_s": self._pause_s,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["failed"], params)
        return float(rows[0][0]) if rows else 0.0

    async def release(self, delivery: Delivery) -> None:
        """Give up the lease of a row whose result is unknown, so that it is tried again."""
        await self._pool.execute(SQL["release"], {"id": delivery.id, "attempt": delivery.attempt})

    async def abandon(self, kind: str, target_id: str) -> int:
        """Mark all pending rows of a target as dead. Return their number."""
        return await self._pool.execute(SQL["abandon"], {"kind": kind, "target_id": target_id})

    async def behind(self, limit: int) -> list[tuple[str, str]]:
        """Return the targets (kind, id) with more than `limit` pending rows."""
        return [(row[0], row[1]) for row in await self._pool.fetch(SQL["behind"], {"limit": limit}, retry=True)]

    async def backlog(self) -> dict[str, Backlog]:
        """Return the backlog of each kind."""
        return {row[0]: Backlog(*row[1:]) for row in await self._pool.fetch(SQL["backlog"], retry=True)}

    async def forget(self, *, delivered_s: float, dead_s: float) -> int:
        """Delete rows that ended so long ago. Return their number, at most `FORGET_ROWS` of each status."""
        await self._pool.execute(SQL["forget_failing"])
        params = {"delivered_s": delivered_s, "dead_s": dead_s, "limit": queries.FORGET_ROWS}
        return await self._pool.execute(SQL["forget"], params)


def _delivery(row: Row) -> Delivery:
    id_, kind, target_id, attempt, since, session, *logged = row
    body = _sessions.decode(session)
    return Delivery(id_, kind, target_id, attempt, since, body, recorded(body.id, tuple(logged)))
