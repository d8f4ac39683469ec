"""How many uploads run at once, per user and in all."""

import contextlib
from collections import Counter
from collections.abc import Hashable, Iterator

from server.http.problems import Problem


class UploadSlots:
    """Places for uploads: so many at once per user, and in all."""

    def __init__(self, *, per_user: int, total: int) -> None:
        self._per_user = per_user
        self._total = total
        self._held: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return self._held.total()

    @contextlib.contextmanager
    def hold(self, user: Hashable) -> Iterator[None]:
        """Hold a place while the block runs. Raises: Problem 429, 503."""
        if self._held[user] >= self._per_user:
            raise Problem(429, "too_many_uploads", f"At most {self._per_user} uploads at once.", retry_s=5)
        if self._held.total() >= self._total:
            raise Problem(503, "unavailable", "Too many uploads are under way; try again.", retry_s=5)
        self._held[user] += 1
        try:
            yield
        finally:
            self._held[user] -= 1
            # Also drops the zeros that refusals have left.
            self._held += Counter()
