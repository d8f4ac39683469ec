"""RFC 3339 in UTC with milliseconds: how `/v1` prints an instant."""

import time
from datetime import UTC, datetime
from functools import lru_cache

from actors.session.ids import Millis


@lru_cache(maxsize=1024)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def now() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


def rfc3339(at: Millis) -> str:
    seconds, millis = divmod(at, 1000)
    return f"{_second(seconds)}.{millis:03d}Z"


def when(at: Millis | None) -> str | None:
    return None if at is None else rfc3339(at)
