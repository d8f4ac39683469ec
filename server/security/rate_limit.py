"""Rate limits by key: a user, an address, or anything else."""

import time
from collections.abc import Hashable

SWEEP_AT = 10_000


class Rate:
    """Allows `per_s` per second for each key, and `burst` at once (generic cell rate algorithm: one number per key)."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._gap = 1 / per_s
        self._slack = burst * self._gap
        self._due: dict[Hashable, float] = {}
        self._sweep_at = SWEEP_AT

    def take(self, key: Hashable) -> float:
        """Count one for a key. Return 0 if it is allowed, else how many seconds to wait; then it is not counted."""
        now = time.monotonic()
        due = max(self._due.get(key, now), now) + self._gap
        wait = due - now - self._slack
        if wait > 0:
            return wait
        if len(self._due) >= self._sweep_at:
            # A key whose time has passed has its full burst again, like a new one.
            self._due = {key: due for key, due in self._due.items() if due > now}
            self._sweep_at = max(SWEEP_AT, 2 * len(self._due))
        self._due[key] = due
        return 0
