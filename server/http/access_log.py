"""The access log: one JSON object on standard error for each request, beside the lines of the server's own log."""

import asyncio
import sys

import msgspec

from server.http.request_counts import RequestCounts
from server.http.timestamps import now_millis, rfc3339

_encode = msgspec.json.Encoder().encode


class RequestLog:
    """Writes a line for each request if the level is `info` or `debug`. Lines of one turn of the loop share one write.

    The path is the route's pattern, so that no code, ticket or token gets into the log. Health checks and static files
    are logged at level `debug` unless they fail."""

    def __init__(self, level: str) -> None:
        self.wanted = level in ("debug", "info")
        self.counts = RequestCounts()
        """Counts of the same requests, whatever the level."""
        self._verbose = level == "debug"
        self._lines: list[bytes] = []

    def add(
        self,
        id: str,
        method: str,
        route: str,
        status: int,
        seconds: float,
        user: str | None,
        session: str | None,
        *,
        quiet: bool = False,
    ) -> None:
        """Add the line of a request that has been answered after `seconds`.

        `quiet`: log a request that succeeded at level `debug`."""
        quiet = quiet and status < 400
        if quiet and not self._verbose:
            return
        at, ms = rfc3339(now_millis()), round(seconds * 1000, 2)
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        level = "debug" if quiet else "info"
        self._lines.append(_encode(RequestLine(at, level, "request", id, method, route, status, ms, user, session)))

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        sys.stderr.write(b"\n".join([*lines, b""]).decode())


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `id` is what the answer's `X-Request-Id` says; `user` and `session` are ids."""

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
