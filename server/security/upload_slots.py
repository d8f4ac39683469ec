"""Bounds the uploads that run at the same time."""

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator

from server.http.problems import Problem


class UploadSlots:
    """Allows `per_user` uploads of each user at the same time, and `total` of all users."""

    def __init__(self, *, per_user: int, total: int) -> None:
        self._per_user = per_user
        self._total = total
        self._held: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._held.total()

    @contextlib.contextmanager
    def hold(self, user: Hashable) -> Iterator[None]:
        """Hold a slot while the block runs. Raise Problem 429 if the user has none left, 503 if there is none."""
        if self._held[user] >= self._per_user:
            detail = f"You can run at most {self._per_user} uploads at the same time."
            raise Problem(429, "too_many_uploads", detail, retry_s=5)
        if self._held.total() >= self._total:
            raise Problem(503, "unavailable", "Try again: too many uploads are running.", retry_s=5)
        self._held[user] += 1
        try:
            yield
        finally:
            self._held[user] -= 1
            # Drop zeros, which refusals leave too.
            self._held += Counter()
