"""The gate of one connection: it takes bytes and times, and decides what the connection does next. Pure.

**Law:** answers go out in the order of their requests. aiohttp is given nothing while the fast lane has a request, and
the fast lane is offered one only when aiohttp has answered everything that it was given and that ended where a request
ends. Every byte goes to exactly one of the two, in order, until the connection closes.
"""

from typing import Literal

from server.settings.sections import LimitsSettings
from server.transport.boundary import HEAD_END, RequestBoundary

AT_ONCE = 16
"""Requests of one connection that are answered before other connections have their turn: they take half a millisecond.
A large request counts for several; one of the largest counts for all."""

Step = Literal["wait", "fast", "hand_over", "yield", "refuse", "close", "abort"]
"""What the connection does next:

- `wait`: nothing, until the next bytes, answer or timer;
- `fast`: offer `Gate.buffer` to the fast lane, and report to `took`;
- `hand_over`: give aiohttp the pieces that `release` returns;
- `yield`: let other connections have their turn, then call `next_turn`;
- `refuse`: answer that the head is too large, and close;
- `close`: close once what has been written is sent;
- `abort`: close at once, since the client does not read.
"""


class Gate:
    """Decides what one connection does next. After every call, reading is to be paused while `withheld` is true."""

    __slots__ = (
        "_boundary", "_busy", "_closed", "_consumed", "_fresh", "_limits", "_paused_at", "active_at", "buffer",
        "withheld",
    )  # fmt: skip

    def __init__(self, limits: LimitsSettings, now: float) -> None:
        self._limits = limits
        self._boundary: RequestBoundary | None = None
        """None until aiohttp has the connection."""
        self._busy = False
        """The fast lane has a request, or other connections have their turn."""
        self._closed = False
        self._fresh = True
        """Nothing has been answered by the fast lane yet."""
        self._consumed = 0
        self._paused_at: float | None = None
        """Since when the client has not read its answers."""
        self.active_at = now
        """When the last request of the fast lane began or was answered; first, when the connection was made."""
        self.buffer = b""
        """Bytes that neither the fast lane nor aiohttp has taken yet."""
        self.withheld = False
        """Too much waits already: nothing more is to be read."""

    def receive(self, data: bytes, now: float, *, resting: bool) -> Step:
        """Take the next bytes. `resting`: aiohttp has answered all requests that it was given, or was given none."""
        if self._closed:
            return "wait"
        if self._boundary is not None and not (self._busy or self.buffer or (resting and self._boundary.reached)):
            self.buffer = data
            return "hand_over"
        if not self.buffer:
            self.active_at = now
        self.buffer += data
        if self._busy or self._paused_at is not None:
            if len(self.buffer) > self._limits.body_bytes:
                self.withheld = True
            return "wait"
        return self._advance()

    def took(self, size: int | None) -> Step:
        """Note what the fast lane made of `buffer`: how many bytes it took; 0: the request is not complete; None: the
        request is not for the fast lane."""
        if size:
            self.buffer = self.buffer[size:]
            self._consumed += max(size, self._limits.body_bytes // AT_ONCE)
            return self._next()
        self._busy = False
        end = self.buffer.find(HEAD_END)
        if (len(self.buffer) if end < 0 else end) > self._limits.header_bytes:
            self.close()
            return "refuse"
        return "hand_over" if size is None and end >= 0 else self._wait()

    def release(self) -> tuple[bytes, ...]:
        """Return the buffer, for aiohttp.

        If it holds anything invalid, it comes in two pieces, since aiohttp answers nothing of a piece in which
        anything is wrong, not even the valid requests before it."""
        if self._boundary is None:
            self._boundary = RequestBoundary()
        data, self.buffer = self.buffer, b""
        self.withheld = False  # from here on aiohttp controls reading
        requests = self._boundary.feed(data)
        return (data[:requests], data[requests:]) if requests else (data,)

    @property
    def broken(self) -> bool:
        """Whether the body of a request that aiohttp has can never be completed."""
        return self._boundary is not None and self._boundary.invalid

    def answered(self, now: float) -> None:
        """Note that the fast lane has answered its request. `resume` says how to go on."""
        self._busy = False
        self._fresh = False
        self.active_at = now

    def next_turn(self) -> Step:
        """Go on after other connections have had their turn."""
        self._busy = False
        return self.resume()

    def resume(self) -> Step:
        """Go on with the bytes that have come meanwhile."""
        return "wait" if self._closed or self._paused_at is not None else self._advance()

    def pause_writing(self, now: float) -> None:
        """Note that answers wait for the client to read them: it gets no more until it has."""
        self._paused_at = now
        if self._boundary is None and not self._closed:
            self.withheld = True

    def resume_writing(self) -> Step:
        """Note that the client has read its answers."""
        self._paused_at = None
        return self.resume()

    def check(self, now: float) -> Step:
        """Decide whether a connection is at its end: its request's head is late, it is idle, or its client reads no
        answers. Call it every `header_timeout_s`. An idle connection that aiohttp has is aiohttp's to close."""
        step = self._checked(now)
        if step in ("close", "abort"):
            self.close()
        return step

    def _checked(self, now: float) -> Step:
        if self._paused_at is not None:
            return "abort" if now - self._paused_at >= self._limits.keepalive_s else "wait"
        if self._busy:
            return "wait"
        alone, idle = self._boundary is None, now - self.active_at
        if (self.buffer or (alone and self._fresh)) and idle >= self._limits.header_timeout_s:
            # If only the body is late, aiohttp waits longer for it, and answers if it does not come.
            return "hand_over" if HEAD_END in self.buffer else "close"
        return "close" if alone and idle >= self._limits.keepalive_s else "wait"

    def close(self) -> None:
        """Take nothing more: the connection closes, or belongs to a stream that only writes."""
        self._closed = True
        self._busy = False
        self._boundary = None
        self.buffer = b""

    def _advance(self) -> Step:
        self._consumed = 0
        return self._next()

    def _next(self) -> Step:
        if not self.buffer or self._busy or self._paused_at is not None:
            return self._wait()
        self._busy = True
        if self._consumed < self._limits.body_bytes:
            return "fast"
        self._wait()
        return "yield"

    def _wait(self) -> Step:
        # No answer lets in more than it used.
        if self._paused_at is None and not (self._busy and len(self.buffer) > self._limits.body_bytes):
            self.withheld = False
        return "wait"
