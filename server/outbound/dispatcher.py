"""The dispatcher: takes what is due out of the outbox and gives it to the sender of its kind, in order per session.

**Law:** nothing waits for a receiver but what comes after it in the same session for the same receiver. What a sender
did and nobody noted down is done again: at least once, never twice at the same time.
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
from server.settings.sections import Outbox as OutboxSettings
from storage.errors import StorageError
from storage.outbox import Attempt, Backlog, Delivery, Outbox
from storage.queries import FORGET_ROWS

logger = logging.getLogger(__name__)

BATCH = 50
"""Rows of one lane that are sent before other lanes have their turn."""
MAINTENANCE_S = 10.0
"""How often the outbox is measured and cleaned."""


NOTHING = Backlog(0, 0.0, 0)


class Outcome(Struct, frozen=True):
    """What came of sending. `status` is the receiver's answer; without `error` it has arrived."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    """The receiver wants no attempt before."""
    final: bool = False
    """It failed, and would again: a dead letter at once."""


class Sender(Protocol):
    """Brings one kind of delivery out. What has no sender waits."""

    async def send(self, delivery: Delivery) -> Outcome:
        """Make one attempt. Bounds its own time, below `outbox.attempt_s`; an error that it raises is a failure."""

    async def give_up(self, target_id: str, reason: str) -> None:
        """Nothing has arrived there for too long (`failing`), or too much waits (`behind`): all of it is dead now."""


class Dispatcher:
    def __init__(
        self, outbox: Outbox, senders: Mapping[str, Sender], settings: OutboxSettings, clock: Callable[[], Millis]
    ) -> None:
        self._outbox = outbox
        self._senders = senders
        self._settings = settings
        self._clock = clock
        self._due = asyncio.Event()
        self._lanes: set[asyncio.Task[None]] = set()
        self._draining = False
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """By kind: attempts that were `delivered`, are to be tried again (`failed`), or were the last (`dead`)."""
        self.backlog: dict[str, Backlog] = {}

    def wake(self) -> None:
        """Something may be due."""
        self._due.set()

    async def run(self) -> None:
        """Send what is due until cancelled, and what is in hand then is let go."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tending())
            while True:
                self._due.clear()
                began = time.perf_counter()
                free = self._settings.concurrency - len(self._lanes)
                if free and not self._draining:
                    for delivery in await self._claimed(free):
                        lane = tasks.create_task(self._lane(delivery))
                        self._lanes.add(lane)
                        lane.add_done_callback(self._left)
                # Where very much waits, looking takes a while: it takes a quarter of the time at most.
                await asyncio.sleep(min(3 * (time.perf_counter() - began), self._settings.poll_s))
                try:
                    async with asyncio.timeout(self._settings.poll_s):
                        await self._due.wait()
                except TimeoutError:
                    pass

    async def drain(self, seconds: float) -> None:
        """Begin nothing new, and wait a little for what is under way."""
        self._draining = True
        if self._lanes:
            await asyncio.wait(self._lanes, timeout=seconds)

    async def _claimed(self, limit: int) -> list[Delivery]:
        try:
            return await self._outbox.claim(self._senders, limit)
        except StorageError as error:
            logger.warning("the outbox cannot be read, trying again: %s", error)
        except Exception:
            logger.exception("the outbox cannot be read, trying again")
        return []

    def _left(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        self.wake()

    async def _lane(self, first: Delivery) -> None:
        """Send a session's rows for one receiver one after the other, until one fails or there are no more."""
        following: Delivery | None = first
        for sent in range(1, BATCH + 1):
            if (delivery := following) is None:
                return
            try:
                following = await self._one(delivery, advance=sent < BATCH and not self._draining)
            except asyncio.CancelledError:
                await self._let_go(delivery)
                raise
            except StorageError as error:
                # Its lease runs out, and it is sent again.
                logger.warning("a delivery broke off, as the database is away: %s", error)
                return
            except Exception:
                logger.exception("a delivery broke off")
                return

    async def _one(self, delivery: Delivery, *, advance: bool) -> Delivery | None:
        """Make an attempt, note down what came of it, and give what follows."""
        at, started = self._clock(), time.perf_counter()
        outcome = await self._sent(delivery)
        tried = Attempt(at, round((time.perf_counter() - started) * 1000), outcome.status, outcome.error)
        if outcome.error is None:
            following = await self._outbox.delivered(delivery, tried, advance=advance)
            self.outcomes[delivery.kind, "delivered"] += 1
            return following
        passed_s = (self._clock() - delivery.since) / 1000
        chance = random.random()  # noqa: S311 - only spreads load
        delay_s = retry_s(passed_s, outcome, self._settings, chance)
        failing_s = await self._outbox.failed(delivery, tried, delay_s)
        self.outcomes[delivery.kind, "dead" if delay_s is None else "failed"] += 1
        if failing_s >= self._settings.give_up_s:
            await self._give_up(delivery.kind, delivery.target_id, "failing")
        return None

    async def _sent(self, delivery: Delivery) -> Outcome:
        try:
            async with asyncio.timeout(self._settings.attempt_s):
                return await self._senders[delivery.kind].send(delivery)
        except StorageError:
            # Not the receiver's fault, and nothing that could be noted down.
            raise
        except TimeoutError:
            return Outcome(error=f"no answer within {self._settings.attempt_s:g} s")
        except Exception as error:
            logger.exception("sending a %s failed", delivery.kind)
            return Outcome(error=f"internal: {type(error).__name__}")

    async def _let_go(self, delivery: Delivery) -> None:
        try:
            await self._outbox.release(delivery)
        except StorageError as error:
            logger.warning("a delivery in hand waits for its lease to run out: %s", error)

    async def _give_up(self, kind: str, target_id: str, reason: str) -> None:
        await self._senders[kind].give_up(target_id, reason)
        dead = await self._outbox.abandon(kind, target_id)
        logger.warning("gave up %d deliveries to %s %s: %s", dead, kind, target_id, reason)
        self.outcomes[kind, "dead"] += dead

    async def tend(self) -> None:
        """Measure, give up who is too far behind, and drop what has served its time. Raises: StorageError."""
        settings = self._settings
        found = await self._outbox.backlog()
        self.backlog = {kind: found.get(kind, NOTHING) for kind in self._senders}
        for kind, target_id in await self._outbox.behind(settings.backlog_rows):
            if kind in self._senders:
                await self._give_up(kind, target_id, "behind")
        kept = {"delivered_s": settings.delivered_kept_s, "dead_s": settings.dead_kept_s}
        while await self._outbox.forget(**kept) >= FORGET_ROWS:
            pass

    async def _tending(self) -> None:
        while True:
            try:
                await self.tend()
            except LogUnavailable as error:
                logger.warning("tending the outbox later: %s", error)
            except Exception:
                logger.exception("tending the outbox failed, trying again")
            await asyncio.sleep(MAINTENANCE_S)


def retry_s(passed_s: float, outcome: Outcome, settings: OutboxSettings, chance: float) -> float | None:
    """Say how long to wait after a failed attempt for the next; None: there is none. `chance`: 0 up to 1.

    As long again as has passed since the first attempt, which doubles it each time, within bounds; and between half and
    all of that, so that what failed together does not come back together."""
    if outcome.final:
        return None
    backoff_s = min(settings.backoff_max_s, max(settings.backoff_s, passed_s))
    delay_s = max(backoff_s * (0.5 + chance / 2), min(outcome.retry_after_s or 0.0, settings.backoff_max_s))
    return None if passed_s + delay_s > settings.give_up_s else delay_s
