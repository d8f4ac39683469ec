"""The dispatcher: claims due deliveries from the outbox and passes each to the sender of its kind.

**Law:** deliveries of one session to one target are sent in order, and a slow target delays only those. A delivery
whose result was not stored is sent again: at least once, never twice at the same time.
"""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec import Struct

from actors.ports import LogUnavailable
from actors.session.ids import Millis
from server.settings.sections import OutboxSettings
from storage.errors import StorageError
from storage.outbox import Attempt, Backlog, Delivery, Outbox
from storage.queries import FORGET_ROWS

logger = logging.getLogger(__name__)

BATCH = 50
"""Deliveries of one queue that are sent before other queues have their turn."""
MAINTENANCE_S = 10.0
"""How often the outbox is measured and cleaned."""
OUTCOMES = ("delivered", "failed", "dead")
NO_BACKLOG = Backlog(0, 0.0, 0)


class SendResult(Struct, frozen=True):
    """The result of one attempt. `status` is the receiver's HTTP status; without `error` the delivery has arrived."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    """The receiver asked not to be called earlier."""
    final: bool = False
    """Another attempt would fail too: the delivery becomes a dead letter at once."""


class Sender(Protocol):
    """Sends one kind of delivery. Deliveries of a kind without sender wait."""

    async def send(self, delivery: Delivery) -> SendResult:
        """Make one attempt, in less than `outbox.attempt_s`. An exception counts as a failed attempt."""

    async def give_up(self, target_id: str, reason: str) -> None:
        """Note that all deliveries to a target become dead letters.

        `reason` is `failing` if nothing has arrived for too long, `behind` if too many are waiting."""


class Dispatcher:
    """Sends the outbox: `outbox.concurrency` queues at once, each with one session's deliveries to one target."""

    def __init__(
        self, outbox: Outbox, senders: Mapping[str, Sender], settings: OutboxSettings, clock: Callable[[], Millis]
    ) -> None:
        self._outbox = outbox
        self._senders = senders
        self._settings = settings
        self._clock = clock
        self._due = asyncio.Event()
        self._queues: set[asyncio.Task[None]] = set()
        self._draining = False
        self.outcomes = Counter({(kind, outcome): 0 for kind in senders for outcome in OUTCOMES})
        """Attempts by kind and result: `delivered`, `failed` (to be tried again) or `dead` (the last one)."""
        self.backlog: dict[str, Backlog] = dict.fromkeys(senders, NO_BACKLOG)

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._due.set()

    async def run(self) -> None:
        """Send due deliveries until cancelled. Then release those that are being sent."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._maintain_repeatedly())
            while True:
                self._due.clear()
                began = time.perf_counter()
                free = self._settings.concurrency - len(self._queues)
                if free and not self._draining:
                    for delivery in await self._claim(free):
                        queue = tasks.create_task(self._send_queue(delivery))
                        self._queues.add(queue)
                        queue.add_done_callback(self._queue_done)
                # With a large backlog a query takes a while; queries take at most a quarter of the time.
                await asyncio.sleep(min(3 * (time.perf_counter() - began), self._settings.poll_s))
                try:
                    async with asyncio.timeout(self._settings.poll_s):
                        await self._due.wait()
                except TimeoutError:
                    pass

    async def drain(self, seconds: float) -> None:
        """Start nothing new, and wait up to `seconds` for attempts that are under way."""
        self._draining = True
        if self._queues:
            await asyncio.wait(self._queues, timeout=seconds)

    async def _claim(self, limit: int) -> list[Delivery]:
        try:
            return await self._outbox.claim(self._senders, limit)
        except StorageError as error:
            logger.warning("the outbox cannot be read, trying again: %s", error)
        except Exception:
            logger.exception("the outbox cannot be read, trying again")
        return []

    def _queue_done(self, queue: asyncio.Task[None]) -> None:
        self._queues.discard(queue)
        self.wake()

    async def _send_queue(self, first: Delivery) -> None:
        """Send a session's deliveries to one target, one after the other, until one fails or none is left."""
        following: Delivery | None = first
        for sent in range(1, BATCH + 1):
            if (delivery := following) is None:
                return
            try:
                following = await self._attempt(delivery, advance=sent < BATCH and not self._draining)
            except asyncio.CancelledError:
                await self._release(delivery)
                raise
            except StorageError as error:
                # Its lease expires, and it is sent again.
                logger.warning("a delivery was interrupted, as the database is unavailable: %s", error)
                return
            except Exception:
                logger.exception("a delivery was interrupted")
                return

    async def _attempt(self, delivery: Delivery, *, advance: bool) -> Delivery | None:
        """Make an attempt and store its result. If `advance`, return the next delivery of the queue or None."""
        at, started = self._clock(), time.perf_counter()
        outcome = await self._send(delivery)
        tried = Attempt(at, round((time.perf_counter() - started) * 1000), outcome.status, outcome.error)
        if outcome.error is None:
            following = await self._outbox.delivered(delivery, tried, advance=advance)
            self.outcomes[delivery.kind, "delivered"] += 1
            return following
        passed_s = (self._clock() - delivery.since) / 1000
        chance = random.random()  # noqa: S311 - only spreads load
        delay_s = next_delay_s(passed_s, outcome, self._settings, chance)
        failing_s = await self._outbox.failed(delivery, tried, delay_s)
        self.outcomes[delivery.kind, "dead" if delay_s is None else "failed"] += 1
        if failing_s >= self._settings.give_up_s:
            await self._give_up(delivery.kind, delivery.target_id, "failing")
        return None

    async def _send(self, delivery: Delivery) -> SendResult:
        try:
            async with asyncio.timeout(self._settings.attempt_s):
                return await self._senders[delivery.kind].send(delivery)
        except StorageError:
            # Not the receiver's fault, and the result could not be stored anyway.
            raise
        except TimeoutError:
            return SendResult(error=f"no answer within {self._settings.attempt_s:g} s")
        except Exception as error:
            logger.exception("sending a %s failed", delivery.kind)
            return SendResult(error=f"internal: {type(error).__name__}")

    async def _release(self, delivery: Delivery) -> None:
        try:
            await self._outbox.release(delivery)
        except StorageError as error:
            logger.warning("a delivery could not be released and waits for its lease to expire: %s", error)

    async def _give_up(self, kind: str, target_id: str, reason: str) -> None:
        await self._senders[kind].give_up(target_id, reason)
        dead = await self._outbox.abandon(kind, target_id)
        logger.warning("gave up %d deliveries to %s %s: %s", dead, kind, target_id, reason)
        self.outcomes[kind, "dead"] += dead

    async def maintain(self) -> None:
        """Measure the backlog, give up targets that are too far behind, delete old rows. Raise StorageError."""
        settings = self._settings
        backlog = await self._outbox.backlog()
        self.backlog = {kind: backlog.get(kind, NO_BACKLOG) for kind in self._senders}
        for kind, target_id in await self._outbox.behind(settings.backlog_rows):
            if kind in self._senders:
                await self._give_up(kind, target_id, "behind")
        kept = {"delivered_s": settings.delivered_kept_s, "dead_s": settings.dead_kept_s}
        while await self._outbox.forget(**kept) >= FORGET_ROWS:
            pass

    async def _maintain_repeatedly(self) -> None:
        while True:
            try:
                await self.maintain()
            except LogUnavailable as error:
                logger.warning("the outbox is cleaned later: %s", error)
            except Exception:
                logger.exception("cleaning the outbox failed, trying again")
            await asyncio.sleep(MAINTENANCE_S)


def next_delay_s(passed_s: float, outcome: SendResult, settings: OutboxSettings, chance: float) -> float | None:
    """Return how long to wait after a failed attempt; None if there is no further attempt. `chance`: from 0 to 1.

    The delay is the time since the first attempt, within bounds, so it doubles each time. `chance` shortens it by up to
    half, so that deliveries that failed together are not repeated together."""
    if outcome.final:
        return None
    backoff_s = min(settings.backoff_max_s, max(settings.backoff_s, passed_s))
    delay_s = max(backoff_s * (0.5 + chance / 2), min(outcome.retry_after_s or 0.0, settings.backoff_max_s))
    return None if passed_s + delay_s > settings.give_up_s else delay_s
