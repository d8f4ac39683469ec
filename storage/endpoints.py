"""Endpoints: where users have the events of their sessions sent, and what became of each delivery.

**Law:** an endpoint is its owner's and nobody else's. Secrets come sealed and are never here in clear.
"""

from collections.abc import Collection
from typing import Literal

import msgspec
from msgspec import Struct

from actors.session.ids import Millis, SessionId, UserId
from storage import queries
from storage.aiopg_connection import Row
from storage.outbox import Attempt
from storage.pool import Pool

SQL = queries.load("endpoints")
Disabled = Literal["owner", "gone", "failing", "behind"]
"""Why nothing is sent to an endpoint: its owner wants it so, it answered 410, it failed or fell behind for too long."""
DeliveryStatus = Literal["pending", "delivered", "dead"]

_attempts = msgspec.json.Decoder(list[Attempt])


class WebhookEndpoint(Struct, frozen=True, kw_only=True):
    """`types` of events that it wants; []: all. `failures`: attempts since one went well, `failing_since` the first."""

    endpoint_id: str
    number: int
    owner_id: UserId
    url: str
    types: list[str]
    description: str
    disabled: Disabled | None
    created_at: Millis
    updated_at: Millis
    old_secret_until: Millis | None
    failures: int
    failing_since: Millis | None
    paused_until: Millis | None


class Aim(Struct, frozen=True):
    """Where to send, and the sealed secrets to sign with: the present one first."""

    url: str
    secrets: list[bytes]


class Delivered(Struct, frozen=True, kw_only=True):
    """A line of the delivery log. `history` is the latest attempts, in order."""

    id: int
    session_id: SessionId
    seq: int
    type: str
    status: DeliveryStatus
    attempts: int
    created_at: Millis
    next_at: Millis | None
    done_at: Millis | None
    history: list[Attempt]


class TooMany(Exception):
    """The user has as many endpoints as one may have."""


class Endpoints:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, endpoint_id: str, owner_id: UserId, url: str, types: list[str], description: str, secret: bytes, most: int
    ) -> None:
        """Add an endpoint. Raises: TooMany."""
        values = {
            "endpoint_id": endpoint_id, "owner_id": owner_id, "url": url, "types": types, "description": description,
            "secret": secret,
        }  # fmt: skip
        async with self._pool.transaction() as transaction:
            await transaction.execute(SQL["hold"], values)
            if (await transaction.fetch(SQL["count"], values))[0][0] >= most:
                raise TooMany
            await transaction.execute(SQL["create"], values)

    async def find(self, endpoint_id: str, owner_id: UserId) -> WebhookEndpoint | None:
        found = await self._page(owner_id, endpoint_id, None, 1)
        return found[0] if found else None

    async def page(self, owner_id: UserId, *, before: int | None, limit: int) -> list[WebhookEndpoint]:
        """Give a user's endpoints, newest first; `before`: only numbers below it."""
        return await self._page(owner_id, None, before, limit)

    async def _page(
        self, owner_id: UserId, endpoint_id: str | None, before: int | None, limit: int
    ) -> list[WebhookEndpoint]:
        params = {"owner_id": owner_id, "endpoint_id": endpoint_id, "before": before, "limit": limit}
        names = WebhookEndpoint.__struct_fields__
        rows = await self._pool.fetch(SQL["page"], params, retry=True)
        return [WebhookEndpoint(**dict(zip(names, row, strict=True))) for row in rows]

    async def change(
        self,
        endpoint_id: str,
        owner_id: UserId,
        *,
        url: str | None = None,
        types: list[str] | None = None,
        description: str | None = None,
        enabled: bool | None = None,
    ) -> bool:
        """Change what is not None; say whether there is such an endpoint."""
        params = {
            "endpoint_id": endpoint_id, "owner_id": owner_id, "url": url, "types": types, "description": description,
            "enabled": enabled,
        }  # fmt: skip
        return bool(await self._pool.execute(SQL["change"], params))

    async def rotate(self, endpoint_id: str, owner_id: UserId, secret: bytes, keep_s: float) -> bool:
        """Give it another secret; the present one signs too for so long. Says whether there is such an endpoint."""
        params = {"endpoint_id": endpoint_id, "owner_id": owner_id, "secret": secret, "keep_s": keep_s}
        return bool(await self._pool.execute(SQL["rotate"], params))

    async def secrets(self, after: str | None, limit: int) -> list[tuple[str, bytes, bytes | None]]:
        """Return the id, the secret and the old secret of endpoints in the order of their ids, beginning after one."""
        rows = await self._pool.fetch(SQL["secrets"], {"after": after, "limit": limit}, retry=True)
        return [(id_, bytes(secret), None if old is None else bytes(old)) for id_, secret, old in rows]

    async def reencrypt(self, endpoint_id: str, before: bytes, secret: bytes, old_secret: bytes | None) -> None:
        """Store the same secrets in another encryption, unless the secret is no longer `before`."""
        params = {"endpoint_id": endpoint_id, "before": before, "secret": secret, "old_secret": old_secret}
        await self._pool.execute(SQL["reencrypt"], params)

    async def disable(self, endpoint_id: str, reason: Disabled) -> None:
        """Put nothing more into the outbox for it."""
        await self._pool.execute(SQL["disable"], {"endpoint_id": endpoint_id, "reason": reason})

    async def remove(self, endpoint_id: str, owner_id: UserId) -> bool:
        """Delete it; say whether there was such an endpoint. What there is of its deliveries is forgotten in time."""
        return bool(await self._pool.execute(SQL["remove"], {"endpoint_id": endpoint_id, "owner_id": owner_id}))

    async def aim(self, endpoint_id: str, *, disabled_too: bool = False) -> Aim | None:
        """Say how to send to it; None: it is gone, or disabled."""
        params = {"endpoint_id": endpoint_id, "disabled_too": disabled_too}
        rows = await self._pool.fetch(SQL["aim"], params, retry=True)
        return Aim(rows[0][0], [bytes(secret) for secret in rows[0][1:] if secret is not None]) if rows else None

    async def wanted(self, owner_id: UserId | None = None) -> list[tuple[UserId, list[str]]]:
        """Give the owner and the types of each endpoint that is enabled: one user's, or all."""
        rows = await self._pool.fetch(SQL["wanted"], {"owner_id": owner_id}, retry=True)
        return [(UserId(owner), types) for owner, types in rows]

    # The delivery log

    async def deliveries(
        self, endpoint_id: str, *, status: DeliveryStatus | None, before: int | None, limit: int
    ) -> list[Delivered]:
        """Give an endpoint's deliveries, latest first; `before`: only ids below it."""
        params = {
            "endpoint_id": endpoint_id, "status": status, "before": before, "limit": limit, "session_id": None,
            "seq": None,
        }  # fmt: skip
        return [_delivered(row) for row in await self._pool.fetch(SQL["deliveries"], params, retry=True)]

    async def delivery(self, endpoint_id: str, session_id: SessionId, seq: int) -> Delivered | None:
        params = {
            "endpoint_id": endpoint_id, "status": None, "before": None, "limit": 1, "session_id": session_id,
            "seq": seq,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["deliveries"], params, retry=True)
        return _delivered(rows[0]) if rows else None

    async def replay(self, endpoint_id: str, session_id: SessionId, seq: int) -> None:
        """Have a delivery made again, or one that waits made now."""
        await self._pool.execute(SQL["replay"], {"endpoint_id": endpoint_id, "session_id": session_id, "seq": seq})

    async def replay_since(
        self, endpoint_id: str, since: Millis, *, every: Collection[str], limit: int
    ) -> tuple[int, Millis | None]:
        """Have everything delivered again that has happened since, of the endpoint's types or else of `every`.

        Oldest first, `limit` and what happened along with the last. Gives how many, and when the last happened."""
        params = {"endpoint_id": endpoint_id, "since": since, "every": list(every), "limit": limit}
        count, latest = (await self._pool.fetch(SQL["replay_since"], params))[0]
        return count, None if latest is None else Millis(latest)


def _delivered(row: Row) -> Delivered:
    values = dict(zip(Delivered.__struct_fields__, row, strict=True))
    return Delivered(**{**values, "history": _attempts.decode(values["history"])})
