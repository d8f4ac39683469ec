"""When a snapshot is due."""

from actors.session.ids import Millis
from actors.snapshots import SnapshotLimits, SnapshotSchedule


def schedule(seq: int = 100, at: int = 1_000) -> SnapshotSchedule:
    made = SnapshotSchedule(SnapshotLimits(events=10, ms=60_000))
    made.saved(seq, Millis(at))
    return made


def test_after_so_many_events() -> None:
    snapshots = schedule()
    assert not snapshots.due(109, Millis(1_000))
    assert snapshots.due(110, Millis(1_000))


def test_after_so_long_if_there_was_an_event() -> None:
    snapshots = schedule()
    assert not snapshots.due(101, Millis(60_999))
    assert snapshots.due(101, Millis(61_000))
    assert not snapshots.due(100, Millis(10**9)), "nothing is missing in it"


def test_a_saved_snapshot_starts_both_counts_again() -> None:
    snapshots = schedule()
    snapshots.saved(110, Millis(70_000))
    assert snapshots.behind(110) == 0
    assert not snapshots.due(119, Millis(129_999))
    assert snapshots.due(111, Millis(130_000))


def test_a_session_without_a_snapshot_is_behind_by_all_its_events() -> None:
    assert SnapshotSchedule(SnapshotLimits(10, 60_000)).behind(7) == 7
