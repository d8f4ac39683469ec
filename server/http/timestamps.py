"""The current time, and instants in RFC 3339, in UTC with milliseconds."""

import time
from datetime import UTC, datetime
from functools import lru_cache

from actors.session.ids import Millis

EARLIEST = round(datetime.min.replace(tzinfo=UTC).timestamp()) * 1000
LATEST = round(datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()) * 1000 + 999


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def now_millis() -> Millis:
    """Return the current time in Unix milliseconds."""
    return Millis(time.time_ns() // 1_000_000)


def rfc3339(at: Millis) -> str:
    """Print an instant. One outside the years 1 to 9999 is printed as the nearest that has a four-digit year."""
    # The core accepts instants with offsets; in UTC those may fall out of these years.
    seconds, millis = divmod(min(max(at, EARLIEST), LATEST), 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


def when(at: Millis | None) -> str | None:
    """Print an instant that may be missing."""
    return None if at is None else rfc3339(at)
