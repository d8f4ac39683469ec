"""The first protocol on every connection: bounds what aiohttp does not, answers the fast lane, hands the rest over.

**Law:** a connection that has not sent a whole request head in time is closed; an address has only so many, a
trusted proxy apart: it speaks for everyone. Answers go out in the order of their requests: aiohttp is given nothing
while the fast lane has a request, and the fast lane takes one only when aiohttp has answered all that it was given,
and that ended where a request does.
"""

import asyncio
import contextlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

import httptools

from server.http.problems import Problem, problem_body
from server.settings.sections import LimitsSettings
from server.transport.fast_lane import HEAD_END, FastLane

LAST_CHUNK = b"0\r\n\r\n"
AT_ONCE = 16
"""Requests of one connection that are answered before others have their turn: half a millisecond's. Large ones count
for more: of the largest it is one."""


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


class MessageCounter:
    """Counts the requests that have begun and not ended, and those that have, for llhttp's parser."""

    __slots__ = ("ended", "open")

    def __init__(self) -> None:
        self.open = 0
        self.ended = 0

    def on_message_begin(self) -> None:
        self.open += 1

    def on_message_complete(self) -> None:
        self.open -= 1
        self.ended += 1


def complete_prefix_length(data: bytes) -> int:
    """Give the length of the whole requests that something begins with which goes on as none."""

    def ended(size: int) -> int:
        messages = MessageCounter()
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            httptools.HttpRequestParser(messages).feed_data(data[:size])
        return messages.ended

    return bisect_left(range(len(data)), ended(len(data)), key=ended)


class RequestBoundary:
    """Follows what aiohttp is given, with a parser like its own: whether that ends where a request does."""

    __slots__ = ("_messages", "_parser", "invalid")

    def __init__(self) -> None:
        self._messages = MessageCounter()
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self._messages)
        self.invalid = False
        """What has come goes on as no request, in the midst of one."""

    @property
    def reached(self) -> bool:
        return self._parser is not None and not self._messages.open

    def feed(self, data: bytes) -> int:
        """Follow a piece. Gives how much of it is requests, if after them comes what is none; else 0."""
        between = self.reached
        if self._parser is not None:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade:
                self._parser = None  # another protocol from here on
            except httptools.HttpParserError:
                self._parser = None
                self.invalid = not between
                return complete_prefix_length(data) if between else 0
        return 0


class Connection(asyncio.Protocol):
    """One connection."""

    __slots__ = (
        "_active_at", "_address", "_boundary", "_busy", "_counts", "_data", "_fast", "_fresh", "_inner", "_limits",
        "_lost", "_make", "_paused_at", "_taking", "_timer", "_transport", "_trusted", "_withheld",
    )  # fmt: skip

    def __init__(
        self,
        make: Callable[[], Any],
        fast: FastLane,
        limits: LimitsSettings,
        counts: Counter[str],
        trusted: Callable[[str], bool],
    ) -> None:
        self._make = make
        self._fast = fast
        self._limits = limits
        self._counts = counts
        self._trusted = trusted
        self._inner: Any = None
        self._boundary: RequestBoundary | None = None
        self._lost: Callable[[], None] | None = None
        self._data = b""
        self._busy = False
        self._taking = False
        self._fresh = True
        self._paused_at: float | None = None
        """Since when answers wait to be read, and no more are given."""
        self._withheld = False
        """Nothing is read, since what has been read is too much already."""
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
        """Close a connection whose head is late, that is idle (aiohttp closes its own), or that reads nothing."""
        now = time.monotonic()
        idle = now - self._active_at
        alone = self._inner is None
        late = (bool(self._data) or (alone and self._fresh)) and idle >= self._limits.header_timeout_s
        assert self._transport is not None
        if self._paused_at is not None:
            if now - self._paused_at >= self._limits.keepalive_s:
                self._transport.abort()  # closing would wait until the rest has been read
                return
        elif not self._busy and late and HEAD_END in self._data:
            self._hand_over()  # only its body is late: aiohttp has a longer patience for that, and an answer
        elif not self._busy and (late or (alone and idle >= self._limits.keepalive_s)):
            self._close()
            return
        self._timer = asyncio.get_running_loop().call_later(self._limits.header_timeout_s, self._check)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None and not self._ours:
            self._pass_on(data)
            return
        if self._address is None or self._lost is not None:
            return
        if not self._data:
            self._active_at = time.monotonic()
            if self._inner is not None:
                self._inner.touch()
        self._data += data
        if not self._busy and self._paused_at is None:
            self._advance()
        elif len(self._data) > self._limits.body_bytes:
            self._withhold()

    @property
    def _ours(self) -> bool:
        """Whether what comes next is to be looked at here, though aiohttp has the connection."""
        assert self._boundary is not None
        return self._busy or bool(self._data) or (self._boundary.reached and self._inner.resting)

    def _pass_on(self, data: bytes) -> None:
        assert self._boundary is not None
        # Of a piece in which anything is wrong aiohttp answers nothing, not even what came before that.
        if requests := self._boundary.feed(data):
            self._inner.data_received(data[:requests])
        self._inner.data_received(data[requests:])
        if self._boundary.invalid:
            self._inner.break_off()

    def _advance(self) -> None:
        """Answer requests as long as they are for the fast lane and all here; then wait, or hand over."""
        done, enough = 0, self._limits.body_bytes
        while self._data and not self._busy and self._paused_at is None:
            if done >= enough:
                self._busy = True
                asyncio.get_running_loop().call_soon(self._rested)
                return
            self._busy = self._taking = True
            taken = self._fast.take(self._data, self._write)
            self._taking = False
            if taken:
                self._data = self._data[taken:]
                done += max(taken, enough // AT_ONCE)
                continue
            self._busy = False
            end = self._data.find(HEAD_END)
            if max(end, 0 if end >= 0 else len(self._data)) > self._limits.header_bytes:
                self._refuse(TOO_LARGE)
            elif taken is None and end >= 0:
                self._hand_over()
            return

    def _rested(self) -> None:
        self._busy = False
        self._go_on()

    def _refuse(self, answer: bytes) -> None:
        assert self._transport is not None
        self._data = b""
        self._transport.write(answer)
        self._close()

    def _write(self, answer: bytes) -> None:
        assert self._transport is not None
        self._busy = False
        if self._transport.is_closing():
            return  # the client went away meanwhile; uvloop's transports would raise into the actor that answers
        self._transport.write(answer)
        self._fresh = False
        self._active_at = time.monotonic()
        if self._inner is not None:
            self._inner.touch()
        if not self._taking:
            self._go_on()

    def _withhold(self) -> None:
        if not self._withheld and self._transport is not None:
            self._withheld = True
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Look at what has come meanwhile; read on when that is little: no answer lets in more than it used."""
        if self._paused_at is not None:
            return
        self._advance()
        if self._paused_at is None and not (self._busy and len(self._data) > self._limits.body_bytes):
            self._read_on()

    def _read_on(self) -> None:
        assert self._transport is not None
        if self._withheld and not self._transport.is_closing():
            self._withheld = False
            self._transport.resume_reading()

    def _hand_over(self) -> None:
        if self._inner is None:
            self._inner, self._boundary = self._make(), RequestBoundary()
            self._inner.connection_made(self._transport)
        data, self._data = self._data, b""
        self._read_on()  # from here on that is for aiohttp to say
        self._pass_on(data)

    def detach(self, ended: "asyncio.Future[None]", lost: Callable[[], None]) -> None:
        """Take a connection back from aiohttp once a stream's headers are out: it needs no request, task or parser,
        which are 10 KiB. When `ended` is done the body ends; `lost` is called when the connection has gone."""
        inner, self._inner, self._boundary = self._inner, None, None
        self._busy = True
        self._lost = lost
        self._stop_timer()
        ended.add_done_callback(self._end_of_stream)
        # For aiohttp the client has gone: it cancels the handler, which has nothing left to do. It would close the
        # transport too, if it still had it.
        inner.transport = None
        asyncio.get_running_loop().call_soon(inner.connection_lost, None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_of_stream(self, ended: "asyncio.Future[None]") -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(LAST_CHUNK)
            self._close()

    def _close(self) -> None:
        assert self._transport is not None
        self._transport.close()
        if self._transport.get_write_buffer_size():
            # Whoever does not read what is left is not waited for.
            asyncio.get_running_loop().call_later(self._limits.keepalive_s, self._transport.abort)

    def eof_received(self) -> Any:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        # Who does not read answers gets no more of them.
        self._paused_at = time.monotonic()
        if self._inner is not None:
            self._inner.pause_writing()
        elif self._lost is None:
            self._withhold()

    def resume_writing(self) -> None:
        self._paused_at = None
        if self._inner is not None:
            self._inner.resume_writing()
        if self._lost is None:
            self._go_on()

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
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
