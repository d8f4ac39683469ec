"""RFC 3339 in UTC with milliseconds: how `/v1` prints an instant."""

import time
from datetime import UTC, datetime
from functools import lru_cache

from actors.session.ids import Millis

EARLIEST = round(datetime.min.replace(tzinfo=UTC).timestamp()) * 1000
LATEST = round(datetime.max.replace(tzinfo=UTC, microsecond=0).timestamp()) * 1000 + 999


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


def rfc3339(at: Millis) -> str:
    # With its offset taken off, an instant in the first or last hours of year 1 or 9999 has no year to be printed with.
    seconds, millis = divmod(min(max(at, EARLIEST), LATEST), 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


def when(at: Millis | None) -> str | None:
    return None if at is None else rfc3339(at)


def now_millis() -> Millis:
    return Millis(time.time_ns() // 1_000_000)
