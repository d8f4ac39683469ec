"""The gate of one connection: it receives bytes and times, and decides what the connection does next. Pure.

**Law:** answers go out in the order of their requests. aiohttp receives nothing while the fast lane has a request. The
fast lane is offered a request only when aiohttp has answered all of its requests, and the last of them is complete.
Every byte goes to exactly one of the two, in order, until the connection closes.
"""

from typing import Literal

from server.settings.sections import LimitsSettings
from server.transport.boundary import HEAD_END, RequestBoundary

AT_ONCE = 16
"""How many requests of one connection are answered before other connections have their turn: half a millisecond's work.
A large request counts as several; one of the largest counts as all."""

Step = Literal["wait", "fast", "hand_over", "yield", "refuse", "close", "abort"]
"""What the connection does next:

- `wait`: nothing, until the next bytes, answer or timer;
- `fast`: offer `Gate.buffer` to the fast lane, and report to `took`;
- `hand_over`: pass to aiohttp, one by one, the parts that `release` returns;
- `yield`: let other connections have their turn, then call `next_turn`;
- `refuse`: answer that the head is too large, and close;
- `close`: close once everything written has been sent;
- `abort`: close at once: the client does not read.
"""


class Gate:
    """Decides what one connection does next. The connection pauses reading while `withheld` is true."""

    __slots__ = (
        "_boundary", "_busy", "_closed", "_consumed", "_fresh", "_limits", "_paused_at", "active_at", "buffer",
        "withheld",
    )  # fmt: skip

    def __init__(self, limits: LimitsSettings, now: float) -> None:
        self._limits = limits
        self._boundary: RequestBoundary | None = None
        """None until aiohttp has the connection."""
        self._busy = False
        """The fast lane has a request, or other connections have their turn (`yield`)."""
        self._closed = False
        self._fresh = True
        """The fast lane has answered nothing yet."""
        self._consumed = 0
        self._paused_at: float | None = None
        """Since when the client has not read its answers."""
        self.active_at = now
        """When the fast lane's last request began or was answered; before the first, when the connection was made."""
        self.buffer = b""
        """Bytes that neither the fast lane nor aiohttp has received yet."""
        self.withheld = False
        """Too many bytes wait already, or the client does not read: the connection must not read more."""

    def receive(self, data: bytes, now: float, *, resting: bool) -> Step:
        """Add the next bytes. `resting`: aiohttp has answered all of its requests, or has had none."""
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
        """Note the fast lane's result for `buffer`: the length of the request that it took; 0 if the request is not
        complete; None if it is not for the fast lane."""
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

        If part of it is not HTTP, return the valid requests before that separately: aiohttp answers none of the
        requests that it receives together with an error."""
        if self._boundary is None:
            self._boundary = RequestBoundary()
        data, self.buffer = self.buffer, b""
        self.withheld = False  # aiohttp controls reading from here on
        requests = self._boundary.feed(data)
        return (data[:requests], data[requests:]) if requests else (data,)

    @property
    def invalid(self) -> bool:
        """Whether the body of aiohttp's current request continues with bytes that are not HTTP."""
        return self._boundary is not None and self._boundary.invalid

    def answered(self, now: float) -> None:
        """Note that the fast lane has answered its request. Call `resume` next, unless `took` follows."""
        self._busy = False
        self._fresh = False
        self.active_at = now

    def next_turn(self) -> Step:
        """Go on after other connections have had their turn."""
        self._busy = False
        return self.resume()

    def resume(self) -> Step:
        """Go on with the bytes that have arrived meanwhile."""
        return "wait" if self._closed or self._paused_at is not None else self._advance()

    def pause_writing(self, now: float) -> None:
        """Note that the client does not read its answers. Nothing of its requests is answered until it does."""
        self._paused_at = now
        if self._boundary is None and not self._closed:
            self.withheld = True

    def resume_writing(self) -> Step:
        """Note that the client has read its answers."""
        self._paused_at = None
        return self.resume()

    def check(self, now: float) -> Step:
        """Decide whether to close: because a request's head is late, the connection is idle, or its client does not
        read. Call it every `header_timeout_s`. aiohttp itself closes an idle connection that was handed over."""
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
            # If only the body is late, aiohttp waits longer, and answers if the body does not arrive.
            return "hand_over" if HEAD_END in self.buffer else "close"
        return "close" if alone and idle >= self._limits.keepalive_s else "wait"

    def close(self) -> None:
        """Ignore all further bytes: the connection closes, or carries a stream from now on."""
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
        # One answer must not make room for more bytes than its request had.
        if self._paused_at is None and not (self._busy and len(self.buffer) > self._limits.body_bytes):
            self.withheld = False
        return "wait"
