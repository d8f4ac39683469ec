"""The rhythm of what has been: how long to wait between two events when a session is played again."""

from actors.session.ids import Millis

GAP_MS = 30_000
"""Silence longer than this is cut short, unless it is asked for."""
SHORTENED_MS = 2_000


def pause(before: Millis, at: Millis, *, speed: float, gaps: bool) -> tuple[float, bool]:
    """Give the seconds to wait between two events, and whether a gap between them was cut short."""
    silence = max(0, at - before)
    shortened = silence > GAP_MS and not gaps
    return (SHORTENED_MS if shortened else silence) / 1000 / speed, shortened
