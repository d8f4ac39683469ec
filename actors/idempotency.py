"""The Idempotency-Keys that one session remembers: a repeated command gets its first answer and changes nothing.

The number of keys is bounded. The log has the older ones, and fences an append that repeats a key.
"""

from actors.messages import Key, KeyReused, Repeated
from actors.ports import KeyRow
from actors.session.ids import UserId

KEYS_KEPT = 1_000


class IdempotencyKeys:
    """The latest keys of one session, by the user who sent them."""

    __slots__ = ("_limit", "_rows")

    def __init__(self, limit: int = KEYS_KEPT) -> None:
        self._limit = limit
        self._rows: dict[tuple[UserId, str], KeyRow] = {}

    def add(self, row: KeyRow) -> None:
        """Remember a key, and forget the oldest one beyond the limit."""
        self._rows[row.user_id, row.key] = row
        if len(self._rows) > self._limit:
            del self._rows[next(iter(self._rows))]

    def outcome(self, user_id: UserId, key: Key) -> Repeated | KeyReused | None:
        """Return the outcome of a command whose key was used before; None if it is new, or forgotten."""
        row = self._rows.get((user_id, key.key))
        return None if row is None else key.outcome(row)
