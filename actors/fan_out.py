"""The fan-out of one session: committed batches go to its streams, less often where that takes long.

In a large session everything waits for the fan-out. While that cools down, commits continue and the next fan-out
grows, so that there are fewer: measured, four times the deliveries at half the delay. A small session never cools down.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from actors.batch import Batch
from actors.ports import SessionChannel
from actors.session.ids import SessionId
from actors.session.visibility import Published

logger = logging.getLogger(__name__)

FANOUT_COOLDOWN = 0.5
"""How long a session waits after a fan-out, as a share of the time that the fan-out took."""
FANOUT_COOLDOWN_MAX_S = 0.02


class Scheduler(Protocol):
    """Runs work of all actors on the loop: `runtime.LoopScheduler`."""

    def add(self, work: Callable[[], None]) -> None:
        """Run work soon."""

    def after(self, delay_s: float, work: Callable[[], None]) -> None:
        """Run work after a delay."""

    def time(self) -> float:
        """Return seconds on a clock that advances while a callback runs."""


class FanOut:
    """Publishes the committed batches of one session."""

    __slots__ = ("_channel", "_ready_at", "_scheduler", "_session_id", "waiting")

    def __init__(self, session_id: SessionId, channel: SessionChannel, scheduler: Scheduler) -> None:
        self._session_id = session_id
        self._channel = channel
        self._scheduler = scheduler
        self._ready_at = 0.0
        self.waiting: list[Batch] = []
        """Committed and not published yet."""

    def add(self, batches: Sequence[Batch]) -> None:
        """Publish committed batches, in order, when the cooldown is over."""
        visible = [batch for batch in batches if batch.published or batch.effects]
        if not visible:
            return
        if not self.waiting:
            if (cooldown_s := self._ready_at - self._scheduler.time()) > 0:
                self._scheduler.after(cooldown_s, self.publish_committed)
            else:
                self._scheduler.add(self.publish_committed)
        self.waiting += visible

    def publish_committed(self) -> None:
        """Publish all waiting batches in one write; in more if some have effects, which run after their events."""
        started = self._scheduler.time()
        batches, self.waiting = self.waiting, []
        joined: list[Published] = []
        for batch in batches:
            joined += batch.published
            if batch.effects:
                self._publish(joined)
                joined = []
                for effect in batch.effects:
                    self.attempt(effect)
        self._publish(joined)
        ended = self._scheduler.time()
        self._ready_at = ended + min((ended - started) * FANOUT_COOLDOWN, FANOUT_COOLDOWN_MAX_S)

    def _publish(self, published: Sequence[Published]) -> None:
        if published:
            self.attempt(partial(self._channel.publish, published))

    def attempt(self, effect: Callable[[], None]) -> None:
        """Run a post-commit effect. Log failures and continue: the remaining effects are never retried."""
        try:
            effect()
        except Exception:
            logger.exception("a post-commit effect of session %s failed", self._session_id)
