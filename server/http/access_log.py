"""Logs: one JSON object a line on standard error, for people with grep and for machines alike."""

import asyncio
import sys
import time
from functools import lru_cache

import msgspec

_encode = msgspec.json.Encoder().encode


class RequestLog:
    """A line for each request, when the level is `info` or below; the lines of one turn of the loop in one write.

    The path is the route's, so that no code, ticket or token gets in."""

    def __init__(self, level: str) -> None:
        self.wanted = level in ("debug", "info")
        self._lines: list[bytes] = []

    def add(
        self, id: str, method: str, route: str, status: int, seconds: float, user: str | None, session: str | None
    ) -> None:
        line = RequestLine(
            stamp(time.time()), "info", "request", id, method, route, status, round(seconds * 1000, 2), user, session
        )
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        self._lines.append(_encode(line))

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        sys.stderr.write(b"\n".join([*lines, b""]).decode())


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    at: str
    level: str
    event: str
    id: str
    method: str
    route: str
    status: int
    ms: float
    user: str | None = None
    session: str | None = None


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


def stamp(at: float) -> str:
    return f"{_second(int(at))}.{int(at % 1 * 1000):03d}Z"
