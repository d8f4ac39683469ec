"""Sockets: a WebSocket carries a session's stream to the client, and the client's messages to the server.

**Law:** a socket is a subscriber like any other. A client's messages are handled in the order in which they came.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from yarl import URL

from server.api.routes import Api, SocketRoute
from server.api.services import Services
from server.api.sse import StreamEndpoint
from server.http.problems import Problem
from server.security.principal import Principal
from server.streams.subscriber import Subscriber

IN_FLIGHT = 32
"""How many commands of one socket may wait for an answer at once. At this number, reading pauses."""
AT_ONCE = 8
"""How many messages of one socket are handled before other tasks get a turn."""
CLOSE_S = 2.0
"""Seconds to wait for the client's closing handshake."""


class SocketEndpoint(StreamEndpoint):
    """Serves a `SocketRoute`: a stream over a WebSocket, with a `Listener` for the client's messages."""

    _row: SocketRoute

    def __init__(self, api: Api, row: SocketRoute, services: Services) -> None:
        super().__init__(api, row, services)
        self._origins = frozenset(services.settings.server.cors_origins)
        public_url = services.settings.server.public_url
        self._own_origin = str(URL(public_url).origin()) if public_url else None

    def listener(self, request: web.Request, principal: Principal, subscriber: Subscriber) -> "Awaitable[Listener]":
        raise NotImplementedError

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if not web.WebSocketResponse().can_prepare(request):
            raise Problem(
                426, "upgrade_required", "Open this URL as a WebSocket, version 13.", headers={"Upgrade": "websocket"}
            )
        if not self._from_here(request):
            raise Problem(403, "wrong_origin", "Pages from this origin may not open sockets here.")
        return await super().__call__(request)

    def _from_here(self, request: web.Request) -> bool:
        """Return whether the request's origin may open sockets. Browsers let any page try, and report its origin."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or "*" in self._origins or origin in self._origins or origin == self._own_origin:
            return True
        return origin.partition("://")[2].lower() == request.host.lower()

    async def _stream(
        self, request: web.Request, principal: Principal, subscriber: Subscriber, missed: bytes
    ) -> web.StreamResponse:
        services = self._services
        listener = await self.listener(request, principal, subscriber)
        socket = self.socket()
        await socket.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        subscriber.open(transport, missed)
        reading = asyncio.create_task(listener.read(socket))
        try:
            await asyncio.wait({reading, subscriber.closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await reading
        code = listener.code if subscriber.reason is None else self._row.closes[subscriber.reason]
        # Before the closing handshake: the stream counts no longer, however long the handshake takes.
        services.hub.unregister(subscriber)
        await socket.close(code=code)
        if socket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
            # The client is gone. Without an abort, unsent bytes would be kept until the kernel gives up.
            transport.abort()
        return socket

    def socket(self) -> "web.WebSocketResponse[Any]":
        return web.WebSocketResponse(
            timeout=CLOSE_S,
            heartbeat=self._services.settings.streams.heartbeat_s,
            compress=False,
            max_msg_size=self._services.settings.limits.body_bytes,
            decode_text=False,
        )


class Listener:
    """Reads the messages of one client from its socket."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(IN_FLIGHT)
        self.code: int = WSCloseCode.OK
        """The close code if reading ends first: the client has left, or has sent a message that is not text."""

    async def read(self, socket: "web.WebSocketResponse[Any]") -> None:
        """Handle messages in order, until the client has left or sends a message that is not text."""
        for number in itertools.count(1):
            message = await socket.receive()
            if message.type is WSMsgType.BINARY:
                self.code = WSCloseCode.UNSUPPORTED_DATA
            if message.type is not WSMsgType.TEXT:
                return
            await self.slots.acquire()
            await self.take(bytes(message.data))
            if not number % AT_ONCE:
                # While messages are queued, nothing above yields: a client that sends thousands would block all others.
                await asyncio.sleep(0)

    async def take(self, raw: bytes) -> None:
        """Carry out a message, or tell the client why it is refused. Release the slot once the message is answered."""
        raise NotImplementedError
