"""When a session's snapshot is due. A snapshot only shortens the next restore; the log alone is enough."""

from msgspec import Struct

from actors.session.ids import Millis


class SnapshotLimits(Struct, frozen=True):
    """How far a snapshot may fall behind the log: this many events, or one event for this many milliseconds."""

    events: int
    ms: int


class SnapshotSchedule:
    """The latest snapshot of one session, and whether the next one is due."""

    __slots__ = ("_at", "_limits", "_seq")

    def __init__(self, limits: SnapshotLimits) -> None:
        self._limits = limits
        self._seq = 0
        self._at = Millis(0)

    def saved(self, seq: int, now: Millis) -> None:
        """Record that a snapshot reaches up to `seq`; 0: there is none."""
        self._seq, self._at = seq, now

    def behind(self, seq: int) -> int:
        """Return how many events up to `seq` are in no snapshot."""
        return seq - self._seq

    def due(self, seq: int, now: Millis) -> bool:
        """Return whether the state at `seq` should be saved now."""
        behind = seq - self._seq
        return behind >= self._limits.events or (behind > 0 and now - self._at >= self._limits.ms)
