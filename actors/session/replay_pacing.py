"""The pace of a replay: how long to wait between two events."""

from actors.session.ids import Millis

GAP_MS = 30_000
"""A longer silence is shortened, unless the client asks for gaps."""
SHORTENED_MS = 2_000


def pause(before: Millis, at: Millis, *, speed: float, gaps: bool) -> tuple[float, bool]:
    """Return the seconds to wait between two events, and whether that was shortened. `gaps`: shorten nothing."""
    silence = max(0, at - before)
    shortened = silence > GAP_MS and not gaps
    return (SHORTENED_MS if shortened else silence) / 1000 / speed, shortened
