"""The first protocol on every connection: bounds what aiohttp does not, then passes everything on to it.

**Law:** a connection that has not sent a whole request head in time is closed; an address has only so many.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from server.config import Limits

HEAD_END = b"\r\n\r\n"
TOO_MANY = (
    b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
TOO_MANY_BODY = (
    b'{"type":"about:blank","title":"Too Many Requests","status":429,'
    b'"detail":"This address has too many connections open.","reason":"too_many_connections"}'
)


class Front(asyncio.Protocol):
    """One connection."""

    __slots__ = ("_address", "_counts", "_head", "_inner", "_limits", "_make", "_timer", "_transport")

    def __init__(self, make: Callable[[], Any], limits: Limits, counts: Counter[str]) -> None:
        self._make = make
        self._limits = limits
        self._counts = counts
        self._inner: Any = None
        self._head = b""
        self._address: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's classes.
        transport = cast(asyncio.Transport, transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if self._counts[address] >= self._limits.connections_per_ip:
            transport.write(TOO_MANY % (len(TOO_MANY_BODY), TOO_MANY_BODY))
            transport.close()
            return
        self._address = address
        self._counts[address] += 1
        self._timer = asyncio.get_running_loop().call_later(self._limits.header_timeout_s, transport.close)

    def data_received(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.data_received(data)
            return
        self._head += data
        if HEAD_END not in self._head and len(self._head) <= self._limits.header_bytes:
            return
        self._hand_over()

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inner = self._make()
        self._inner.connection_made(self._transport)
        head, self._head = self._head, b""
        self._inner.data_received(head)

    def eof_received(self) -> Any:
        return None if self._inner is None else self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._address is not None:
            self._counts[self._address] -= 1
            if not self._counts[self._address]:
                del self._counts[self._address]
            self._address = None
        if self._inner is not None:
            self._inner.connection_lost(error)
