"""The first protocol on every connection: bounds what aiohttp does not, answers the fast lane, hands the rest over.

**Law:** a connection that has not sent a whole request head in time is closed; an address has only so many, a
trusted proxy apart: it speaks for everyone. Once
aiohttp has a connection it keeps it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from server.config import Limits
from server.errors import Problem, problem_body
from server.fast import HEAD_END, FastLane

KEEPALIVE_S = 75.0
LAST_CHUNK = b"0\r\n\r\n"


def last_word(problem: Problem) -> bytes:
    """Print a refusal, after which the connection closes."""
    body = problem_body(problem)
    headers = {
        **problem.headers,
        "Connection": "close",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{lines}\r\n".encode() + body


TOO_MANY = last_word(Problem(429, "too_many_connections", "This address has too many connections open.", retry_s=5))
TOO_LARGE = last_word(Problem(431, "too_large", "The request's line and headers are too large."))


class Front(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_active_at", "_address", "_busy", "_counts", "_data", "_fast", "_fresh", "_inner", "_limits", "_lost", "_make",
        "_paused", "_taking", "_timer", "_transport", "_trusted",
    )  # fmt: skip

    def __init__(
        self,
        make: Callable[[], Any],
        fast: FastLane,
        limits: Limits,
        counts: Counter[str],
        trusted: Callable[[str], bool],
    ) -> None:
        self._make = make
        self._fast = fast
        self._limits = limits
        self._counts = counts
        self._trusted = trusted
        self._inner: Any = None
        self._lost: Callable[[], None] | None = None
        self._data = b""
        self._busy = False
        self._taking = False
        self._fresh = True
        self._paused = False
        self._active_at = 0.0
        self._address: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if self._counts[address] >= self._limits.connections_per_ip and not self._trusted(address):
            self._refuse(TOO_MANY)
            return
        self._address = address
        self._counts[address] += 1
        loop = asyncio.get_running_loop()
        # From the first byte on, whole heads have to come in time: the clock starts as if one had begun.
        self._active_at = time.monotonic()
        self._timer = loop.call_later(self._limits.header_timeout_s, self._check)

    def _check(self) -> None:
        """Close a connection whose head is late, or that has been idle too long."""
        loop = asyncio.get_running_loop()
        idle = time.monotonic() - self._active_at
        late = (self._fresh or bool(self._data)) and idle >= self._limits.header_timeout_s
        assert self._transport is not None
        if not self._busy and late and HEAD_END in self._data:
            self._hand_over()  # only its body is late: aiohttp has a longer patience for that, and an answer
        elif not self._busy and (late or idle >= KEEPALIVE_S):
            self._transport.close()
        else:
            self._timer = loop.call_later(self._limits.header_timeout_s, self._check)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
            return
        if self._address is None or self._lost is not None:
            return
        if not self._data:
            self._active_at = time.monotonic()
        self._data += data
        if not self._busy:
            self._advance()
        elif len(self._data) > self._limits.body_bytes and self._transport is not None:
            self._transport.pause_reading()

    def _advance(self) -> None:
        """Answer requests as long as they are for the fast lane and all here; then wait, or hand over."""
        while self._data and not self._busy and not self._paused and self._inner is None:
            self._busy = self._taking = True
            taken = self._fast.take(self._data, self._write)
            self._taking = False
            if taken:
                self._data = self._data[taken:]
                continue
            self._busy = False
            end = self._data.find(HEAD_END)
            if max(end, 0 if end >= 0 else len(self._data)) > self._limits.header_bytes:
                self._refuse(TOO_LARGE)
            elif taken is None and end >= 0:
                self._hand_over()
            return

    def _refuse(self, answer: bytes) -> None:
        assert self._transport is not None
        self._data = b""
        self._transport.write(answer)
        self._transport.close()

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
        self._busy = False
        if self._transport.is_closing():
            return  # the client went away meanwhile; uvloop's transports would raise into the actor that answers
        self._transport.write(answer)
        self._fresh = False
        self._active_at = time.monotonic()
        if self._data and not self._taking and not self._paused:
            self._transport.resume_reading()
            self._advance()

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inner = self._make()
        self._inner.connection_made(self._transport)
        data, self._data = self._data, b""
        self._inner.data_received(data)

    def detach(self, ended: "asyncio.Future[None]", lost: Callable[[], None]) -> None:
        """Take a connection back from aiohttp once a stream's headers are out: it needs no request, task or parser,
        which are 10 KiB. When `ended` is done the body ends; `lost` is called when the connection has gone."""
        inner, self._inner = self._inner, None
        self._busy = True
        self._lost = lost
        ended.add_done_callback(self._end_of_stream)
        # For aiohttp the client has gone: it cancels the handler, which has nothing left to do. It would close the
        # transport too, if it still had it.
        inner.transport = None
        asyncio.get_running_loop().call_soon(inner.connection_lost, None)

    def _end_of_stream(self, ended: "asyncio.Future[None]") -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(LAST_CHUNK)
            self._transport.close()

    def eof_received(self) -> Any:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()
        elif self._transport is not None and self._lost is None:
            # Who does not read answers gets no more of them.
            self._paused = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()
        elif self._transport is not None and self._lost is None:
            self._paused = False
            self._transport.resume_reading()
            self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._data = b""
        if self._address is not None:
            self._counts[self._address] -= 1
            if not self._counts[self._address]:
                del self._counts[self._address]
            self._address = None
        if self._inner is not None:
            self._inner.connection_lost(error)
        if self._lost is not None:
            self._lost()
