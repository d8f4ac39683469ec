"""A server whose teachers have webhooks, and a receiver for them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.support.client import PATIENCE_S, Person
from tests.support.receiver import Got, Receiver, receiving
from tests.support.serving import Town, serving

QUICK = {"poll_s": 0.02, "backoff_s": 0.02, "attempt_s": 5.0, "pause_after": 1_000, "pause_s": 0.05}
LOCAL = {"allow_private": True, "allow_http": True, "probes_per_minute": 10_000}


class Hook:
    """A webhook and its owner. `path` is the path of its URL at the receiver."""

    def __init__(self, owner: Person, receiver: Receiver, path: str, made: Any) -> None:
        self.owner = owner
        self.receiver = receiver
        self.path = path
        self.id: str = made["id"]
        self.secret: str = made["secret"]
        self.url = f"/v1/webhooks/{self.id}"

    async def read(self) -> Any:
        return (await self.owner.get(self.url)).ok()

    async def change(self, **fields: Any) -> Any:
        return (await self.owner.patch(self.url, fields)).ok()

    async def deliveries(self, **params: str) -> Any:
        return (await self.owner.get(f"{self.url}/deliveries", **params)).ok()["items"]

    async def settled(self, status: str, count: int = 1) -> Any:
        """Wait until this many deliveries have this status; return them, oldest first."""
        found: list[Any] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < count:
                found = await self.deliveries(status=status)
        return found[::-1]

    async def reached(self, count: int = 1, *, well: bool = False) -> list[Got]:
        return await self.receiver.reached(self.path, count, well=well)

    @property
    def got(self) -> list[Got]:
        return self.receiver.to(self.path)

    def answers(self, *statuses: int) -> None:
        self.receiver.answers(self.path, *statuses)


class Hooked:
    """A running server, and the receiver of its webhooks."""

    def __init__(self, town: Town, receiver: Receiver) -> None:
        self.town = town
        self.receiver = receiver

    async def hook(self, owner: Person, path: str, *types: str, **fields: Any) -> Hook:
        """Create a webhook to a path of the receiver that no other webhook uses."""
        assert not self.receiver.to(path)
        body = {"url": self.receiver.at(path), "types": list(types), **fields}
        return Hook(owner, self.receiver, path, (await owner.post("/v1/webhooks", body)).ok(201))

    def rows(self, hook: Hook) -> list[tuple[Any, ...]]:
        return self.town.query("select seq, status, attempts from outbox where target_id = %s order by id", hook.id)


@contextlib.asynccontextmanager
async def hooked(
    dsn: str, data: Path, receiver: Receiver | None = None, **changed: dict[str, Any]
) -> AsyncIterator[Hooked]:
    """Run a server with these settings during the block, and a receiver if none is given."""
    sections = {**changed, "outbox": QUICK | changed.get("outbox", {}), "webhooks": LOCAL | changed.get("webhooks", {})}
    async with contextlib.AsyncExitStack() as stack:
        at = await stack.enter_async_context(receiving()) if receiver is None else receiver
        town = await stack.enter_async_context(serving(dsn, data, None, **sections))
        if receiver is None:
            # Stopping the server waits for attempts in flight, so answer those that hang.
            stack.callback(at.release)
        yield Hooked(town, at)
