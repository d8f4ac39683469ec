"""The outbox: rows of the log that somebody outside is to be told of, until they have been, or are given up.

**Law:** rows of one lane (kind, target, session) are tried in the order of the log, one at a time, by one process at a
time; what came of an attempt counts only from whoever holds it (`sql/queries/outbox.sql`). A commit only inserts.
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
"""Attempts kept of each delivery, the latest."""
Kind = Literal["webhook", "push"]

_json = msgspec.json.Encoder()
_sessions = msgspec.json.Decoder(Session)


class Delivery(Struct, frozen=True):
    """A row in hand: nobody else tries it, or what follows it in its session, while its lease lasts."""

    id: int
    kind: Kind
    target_id: str
    """An endpoint, or a user."""
    attempt: int
    """From 1."""
    since: Millis
    """When the first attempt began."""
    session: Session
    """As it is now."""
    recorded: Recorded
    """As the log has it now: without what has been redacted since."""


class Attempt(Struct, frozen=True):
    """What came of an attempt. `status`: the answer's, if there was one; `error`: why it failed."""

    at: Millis
    ms: int
    status: int | None = None
    error: str | None = None


class Backlog(Struct, frozen=True):
    """Rows that wait, since when the oldest does, and how many targets are left alone as they fail."""

    pending: int
    oldest_s: float
    paused: int


class Outbox:
    """`lease_s`: how long a row stays in hand; longer than any attempt takes."""

    def __init__(self, pool: Pool, *, lease_s: float, per_target: int, pause_after: int, pause_s: float) -> None:
        self._pool = pool
        self._lease_s = lease_s
        self._per_target = per_target
        self._pause_after = pause_after
        self._pause_s = pause_s

    async def claim(self, kinds: Collection[str], limit: int) -> list[Delivery]:
        """Take rows in hand that are due, each the first of its lane."""
        params = {
            "kinds": list(kinds), "limit": limit, "lease_s": self._lease_s, "per_target": self._per_target,
            "pause_after": self._pause_after,
        }  # fmt: skip
        return [_delivery(row) for row in await self._pool.fetch(SQL["claim"], params)]

    async def delivered(self, delivery: Delivery, attempt: Attempt, *, advance: bool) -> Delivery | None:
        """Note that it has arrived; with `advance`, take the next of its lane in hand, if there is one."""
        params = {
            "id": delivery.id, "attempt": delivery.attempt, "tried": _json.encode(attempt).decode(), "kept": HISTORY,
            "advance": advance, "lease_s": self._lease_s, "pause_after": self._pause_after,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["delivered"], params)
        return _delivery(rows[0]) if rows else None

    async def failed(self, delivery: Delivery, attempt: Attempt, delay_s: float | None) -> float:
        """Note that it has not: to be tried again after a time, or None: never. Gives for how long its target fails."""
        params = {
            "id": delivery.id, "attempt": delivery.attempt, "tried": _json.encode(attempt).decode(), "kept": HISTORY,
            "delay_s": delay_s, "pause_after": self._pause_after, "pause_s": self._pause_s,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["failed"], params)
        return float(rows[0][0]) if rows else 0.0

    async def release(self, delivery: Delivery) -> None:
        """Let go of a row of which it is not known what came: it is tried again."""
        await self._pool.execute(SQL["release"], {"id": delivery.id, "attempt": delivery.attempt})

    async def abandon(self, kind: str, target_id: str) -> int:
        """Give up all that waits for a target; give how many."""
        return await self._pool.execute(SQL["abandon"], {"kind": kind, "target_id": target_id})

    async def behind(self, limit: int) -> list[tuple[str, str]]:
        """Name targets (kind, id) that more than so many rows wait for."""
        return [(row[0], row[1]) for row in await self._pool.fetch(SQL["behind"], {"limit": limit}, retry=True)]

    async def backlog(self) -> dict[str, Backlog]:
        """Say by kind how much waits."""
        return {row[0]: Backlog(*row[1:]) for row in await self._pool.fetch(SQL["backlog"], retry=True)}

    async def forget(self, *, delivered_s: float, dead_s: float) -> int:
        """Drop what was done so long ago; give how many, `FORGET_ROWS` at most of each."""
        await self._pool.execute(SQL["forget_failing"])
        params = {"delivered_s": delivered_s, "dead_s": dead_s, "limit": queries.FORGET_ROWS}
        return await self._pool.execute(SQL["forget"], params)


def _delivery(row: Row) -> Delivery:
    id_, kind, target_id, attempt, since, session, *logged = row
    body = _sessions.decode(session)
    return Delivery(id_, kind, target_id, attempt, since, body, recorded(body.id, tuple(logged)))
