"""The rate at which one session accepts commands. Participants share it; the server's own commands are exempt."""

BURST_S = 1.0
"""A session that was quiet accepts the commands of this many seconds at once."""


class CommandRate:
    """The generic cell rate algorithm (GCRA), for one session."""

    __slots__ = ("_interval_s", "_next_at")

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1 / per_s
        self._next_at = 0.0
        """When the next command would be on time if all came evenly spaced."""

    def allow(self, now: float) -> bool:
        """Return whether a command may run at `now` (seconds), and count it if so."""
        next_at = max(self._next_at, now) + self._interval_s
        if next_at - now > BURST_S:
            return False
        self._next_at = next_at
        return True
