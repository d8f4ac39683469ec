"""Webhook endpoints of users, and the log of the deliveries to them.

**Law:** only its owner reads or changes an endpoint. Secrets arrive encrypted; this module never has them in clear.
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
"""Why an endpoint is disabled: by its owner, after a 410, or because it failed or fell behind for too long."""
DeliveryStatus = Literal["pending", "delivered", "dead"]

_attempts = msgspec.json.Decoder(list[Attempt])


class WebhookEndpoint(Struct, frozen=True, kw_only=True):
    """An endpoint. `types`: of the events to send; []: all. `failures`: attempts since the last success.

    `failing_since`: the time of the first of them.
    """

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


class DeliveryTarget(Struct, frozen=True):
    """Where to send, and the encrypted secrets to sign with, the current one first."""

    url: str
    secrets: list[bytes]


class DeliveryRecord(Struct, frozen=True, kw_only=True):
    """An entry of the delivery log. `history`: the latest attempts, oldest first."""

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


class TooManyEndpoints(Exception):
    """The user has the maximum number of endpoints."""


class Endpoints:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, endpoint_id: str, owner_id: UserId, url: str, types: list[str], description: str, secret: bytes, most: int
    ) -> None:
        """Add an endpoint. Raise TooManyEndpoints if the user has `most` already."""
        values = {
            "endpoint_id": endpoint_id, "owner_id": owner_id, "url": url, "types": types, "description": description,
            "secret": secret,
        }  # fmt: skip
        async with self._pool.transaction() as transaction:
            await transaction.execute(SQL["hold"], values)
            if (await transaction.fetch(SQL["count"], values))[0][0] >= most:
                raise TooManyEndpoints
            await transaction.execute(SQL["create"], values)

    async def find(self, endpoint_id: str, owner_id: UserId) -> WebhookEndpoint | None:
        """Return an endpoint of this owner; None if there is no such endpoint."""
        found = await self._page(owner_id, endpoint_id, None, 1)
        return found[0] if found else None

    async def page(self, owner_id: UserId, *, before: int | None, limit: int) -> list[WebhookEndpoint]:
        """Return a user's endpoints, newest first; `before`: only numbers below it."""
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
        """Change the fields that are not None. Return whether the endpoint exists."""
        params = {
            "endpoint_id": endpoint_id, "owner_id": owner_id, "url": url, "types": types, "description": description,
            "enabled": enabled,
        }  # fmt: skip
        return bool(await self._pool.execute(SQL["change"], params))

    async def rotate(self, endpoint_id: str, owner_id: UserId, secret: bytes, keep_s: float) -> bool:
        """Replace the secret. The current one signs too for `keep_s` seconds. Return whether the endpoint exists."""
        params = {"endpoint_id": endpoint_id, "owner_id": owner_id, "secret": secret, "keep_s": keep_s}
        return bool(await self._pool.execute(SQL["rotate"], params))

    async def secrets(self, after: str | None, limit: int) -> list[tuple[str, bytes, bytes | None]]:
        """Return (id, secret, old secret) of endpoints, by id; `after`: only ids above it."""
        rows = await self._pool.fetch(SQL["secrets"], {"after": after, "limit": limit}, retry=True)
        return [(id_, bytes(secret), None if old is None else bytes(old)) for id_, secret, old in rows]

    async def reencrypt(self, endpoint_id: str, before: bytes, secret: bytes, old_secret: bytes | None) -> None:
        """Store the same secrets in another encryption, unless the secret has changed from `before`."""
        params = {"endpoint_id": endpoint_id, "before": before, "secret": secret, "old_secret": old_secret}
        await self._pool.execute(SQL["reencrypt"], params)

    async def disable(self, endpoint_id: str, reason: Disabled) -> None:
        """Disable an endpoint: its events are no longer put into the outbox."""
        await self._pool.execute(SQL["disable"], {"endpoint_id": endpoint_id, "reason": reason})

    async def remove(self, endpoint_id: str, owner_id: UserId) -> bool:
        """Delete an endpoint. Return whether it existed. Its delivery log expires as usual."""
        return bool(await self._pool.execute(SQL["remove"], {"endpoint_id": endpoint_id, "owner_id": owner_id}))

    async def target(self, endpoint_id: str, *, disabled_too: bool = False) -> DeliveryTarget | None:
        """Return how to send to an endpoint; None if it was deleted or is disabled."""
        params = {"endpoint_id": endpoint_id, "disabled_too": disabled_too}
        rows = await self._pool.fetch(SQL["target"], params, retry=True)
        return (
            DeliveryTarget(rows[0][0], [bytes(secret) for secret in rows[0][1:] if secret is not None])
            if rows
            else None
        )

    async def subscriptions(self, owner_id: UserId | None = None) -> list[tuple[UserId, list[str]]]:
        """Return the owner and the event types of each enabled endpoint, of one user or of all."""
        rows = await self._pool.fetch(SQL["subscriptions"], {"owner_id": owner_id}, retry=True)
        return [(UserId(owner), types) for owner, types in rows]

    # The delivery log

    async def deliveries(
        self, endpoint_id: str, *, status: DeliveryStatus | None, before: int | None, limit: int
    ) -> list[DeliveryRecord]:
        """Return an endpoint's deliveries, latest first; `before`: only ids below it."""
        params = {
            "endpoint_id": endpoint_id, "status": status, "before": before, "limit": limit, "session_id": None,
            "seq": None,
        }  # fmt: skip
        return [_delivered(row) for row in await self._pool.fetch(SQL["deliveries"], params, retry=True)]

    async def delivery(self, endpoint_id: str, session_id: SessionId, seq: int) -> DeliveryRecord | None:
        """Return the delivery of one event to an endpoint; None if there is none."""
        params = {
            "endpoint_id": endpoint_id, "status": None, "before": None, "limit": 1, "session_id": session_id,
            "seq": seq,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["deliveries"], params, retry=True)
        return _delivered(rows[0]) if rows else None

    async def replay(self, endpoint_id: str, session_id: SessionId, seq: int) -> None:
        """Repeat a delivery, or make a pending one due now."""
        await self._pool.execute(SQL["replay"], {"endpoint_id": endpoint_id, "session_id": session_id, "seq": seq})

    async def replay_since(
        self, endpoint_id: str, since: Millis, *, every: Collection[str], limit: int
    ) -> tuple[int, Millis | None]:
        """Deliver again the events since a time, of the endpoint's types or, if it has none, of the types in `every`.

        The oldest `limit` events are repeated, and those with the same time as the last. Return their number, and the
        time of the last.
        """
        params = {"endpoint_id": endpoint_id, "since": since, "every": list(every), "limit": limit}
        count, latest = (await self._pool.fetch(SQL["replay_since"], params))[0]
        return count, None if latest is None else Millis(latest)


def _delivered(row: Row) -> DeliveryRecord:
    values = dict(zip(DeliveryRecord.__struct_fields__, row, strict=True))
    return DeliveryRecord(**{**values, "history": _attempts.decode(values["history"])})
