"""The first protocol on every connection: it carries out what its gate decides, on the socket and with aiohttp.

**Law:** it decides nothing about requests. It bounds the connections of each address, and how long a connection that
closes waits for its client to read.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

from server.http.problems import Problem, problem_body
from server.security.addresses import limit_key
from server.settings.sections import LimitsSettings
from server.transport.aiohttp_protocol import RequestProtocol
from server.transport.gate import Gate, Step

LAST_CHUNK = b"0\r\n\r\n"


def closing_answer(problem: Problem) -> bytes:
    """Return the bytes of a refusal after which the connection closes."""
    body = problem_body(problem)
    headers = {
        **problem.headers,
        "Connection": "close",
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n{lines}\r\n".encode() + body


TOO_MANY = closing_answer(
    Problem(429, "too_many_connections", "Too many connections are open from this address.", retry_s=5)
)
TOO_LARGE = closing_answer(Problem(431, "too_large", "The request line and headers are too large."))


class ConnectionLimit:
    """Counts the open connections of each address. A trusted proxy has no limit: it stands for all of its clients."""

    def __init__(self, per_address: int, trusted: Callable[[str], bool]) -> None:
        self._per_address = per_address
        self._trusted = trusted
        self._open: Counter[str] = Counter()

    def enter(self, address: str) -> bool:
        """Count a connection; return False, and do not count it, if its address has too many."""
        key = limit_key(address)
        if self._open[key] >= self._per_address and not self._trusted(address):
            return False
        self._open[key] += 1
        return True

    def leave(self, address: str) -> None:
        """Count a connection out."""
        key = limit_key(address)
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]


class RequestTaker(Protocol):
    """The fast lane, as a connection uses it."""

    def take(self, data: bytes, write: Callable[[bytes], None]) -> int | None:
        """Take the request at the beginning of `data`, and pass its answer to `write`, now or later.

        Return the request's length; 0 if it is not complete; None if it is not for the fast lane."""


class Connection(asyncio.Protocol):
    """Drives one connection as its gate says."""

    __slots__ = (
        "_address", "_fast", "_gate", "_inner", "_limit", "_limits", "_lost", "_make", "_taking", "_timer",
        "_transport", "_withheld",
    )  # fmt: skip

    def __init__(
        self, make: Callable[[], RequestProtocol], fast: RequestTaker, limits: LimitsSettings, limit: ConnectionLimit
    ) -> None:
        self._make = make
        self._fast = fast
        self._limits = limits
        self._limit = limit
        self._gate = Gate(limits, 0.0)
        self._inner: RequestProtocol | None = None
        self._lost: Callable[[], None] | None = None
        self._taking = False
        self._withheld = False
        """Reading has been paused because of the gate. aiohttp pauses reading as well, independently."""
        self._address: str | None = None
        """None while the connection is not counted."""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if not self._limit.enter(address):
            self._refuse(TOO_MANY)
            return
        self._address = address
        # The time for the first head runs from now, as if the head had begun.
        self._gate.active_at = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(self._limits.header_timeout_s, self._check)

    def data_received(self, data: bytes) -> None:
        gate, inner, now = self._gate, self._inner, time.monotonic()
        step = gate.receive(data, now, resting=inner is None or inner.resting)
        if inner is not None and gate.active_at == now:
            inner.touch()
        self._run(step)

    def _run(self, step: Step) -> None:
        """Offer requests to the fast lane while the gate says so, then carry out the step that follows."""
        gate = self._gate
        while step == "fast":
            self._taking = True
            size = self._fast.take(gate.buffer, self._write)
            self._taking = False
            step = gate.took(size)
        if step != "wait":
            self._do(step)
        self._control_reading()

    def _do(self, step: Step) -> None:
        assert self._transport is not None
        match step:
            case "hand_over":
                self._hand_over()
            case "yield":
                asyncio.get_running_loop().call_soon(self._next_turn)
            case "refuse":
                self._refuse(TOO_LARGE)
            case "close":
                self._close()
            case "abort":
                self._transport.abort()

    def _next_turn(self) -> None:
        self._run(self._gate.next_turn())

    def _hand_over(self) -> None:
        parts = self._gate.release()
        if self._inner is None:
            assert self._transport is not None
            self._inner = self._make()
            self._inner.connection_made(self._transport)
        self._control_reading()
        for part in parts:
            self._inner.data_received(part)
        if self._gate.invalid:
            self._inner.break_off()

    def _write(self, answer: bytes) -> None:
        """Write an answer of the fast lane. If `take` has returned already, go on with the next request."""
        assert self._transport is not None
        self._gate.answered(time.monotonic())
        if self._transport.is_closing():
            return  # the client has gone; uvloop would raise an error into the actor that answers
        self._transport.write(answer)
        if self._inner is not None:
            self._inner.touch()
        if not self._taking:
            self._run(self._gate.resume())

    def _control_reading(self) -> None:
        """Pause or resume reading as the gate says."""
        withheld = self._gate.withheld
        if withheld is self._withheld or self._transport is None or self._transport.is_closing():
            return
        self._withheld = withheld
        if withheld:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _check(self) -> None:
        step = self._gate.check(time.monotonic())
        self._run(step)
        if step in ("wait", "hand_over"):
            self._timer = asyncio.get_running_loop().call_later(self._limits.header_timeout_s, self._check)

    def detach(self, ended: "asyncio.Future[None]", lost: Callable[[], None]) -> None:
        """Take the connection back from aiohttp once a stream's headers have been sent.

        A stream needs no request, task or parser, which take 10 KiB. The body ends when `ended` is done. `lost` is
        called when the connection has closed."""
        inner, self._inner = self._inner, None
        assert inner is not None
        self._gate.close()
        self._lost = lost
        self._stop_timer()
        ended.add_done_callback(self._end_of_stream)
        inner.dismiss()

    def _end_of_stream(self, ended: "asyncio.Future[None]") -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(LAST_CHUNK)
            self._close()

    def _refuse(self, answer: bytes) -> None:
        assert self._transport is not None
        self._gate.close()
        self._transport.write(answer)
        self._close()

    def _close(self) -> None:
        """Close once everything has been sent, at the latest after `keepalive_s`."""
        assert self._transport is not None
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._limits.keepalive_s, self._transport.abort)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def eof_received(self) -> None:
        if self._inner is not None:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        self._gate.pause_writing(time.monotonic())
        if self._inner is not None:
            self._inner.pause_writing()
        self._control_reading()

    def resume_writing(self) -> None:
        step = self._gate.resume_writing()
        if self._inner is not None:
            self._inner.resume_writing()
        self._run(step)

    def connection_lost(self, error: Exception | None) -> None:
        self._stop_timer()
        self._gate.close()
        if self._address is not None:
            self._limit.leave(self._address)
            self._address = None
        if self._inner is not None:
            self._inner.connection_lost(error)
        if self._lost is not None:
            self._lost()
