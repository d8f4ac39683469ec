"""The socket of a session: its stream as WebSocket messages, and commands the other way.

**Law:** a socket is a subscriber like any other, and what comes on it takes the steps of `CommandEndpoint`, in their
order. Commands are decided in the order they came; each is answered once, after its commit, by the client's own id.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Mapping
from typing import Annotated, Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from msgspec import Meta, Raw, Struct
from yarl import URL

from actors.ports import LogUnavailable
from actors.session.ids import SessionId
from server.api.handlers import CommandEndpoint
from server.api.pending_command import Pending
from server.api.routes import Row, SocketRoute
from server.api.sse import StreamEndpoint
from server.http.json_body import Decoder
from server.http.problems import Problem
from server.http.reply import Reply
from server.http.request_id import CURRENT
from server.http.uuids import new_id
from server.security.principal import Principal
from server.streams.format import Bye
from server.streams.subscriber import Subscriber
from server.usecases.command_inputs import load_inputs
from server.usecases.services import Services

logger = logging.getLogger(__name__)

IN_FLIGHT = 32
"""Commands of one socket that may wait for their answers; with more, reading pauses."""
AT_ONCE = 8
"""Messages of one socket that are taken before others have their turn."""
CLOSE_S = 2.0
"""How long a client may take to say goodbye."""
SAFE_INT = (1 << 53) - 1


class Named(Struct, frozen=True):
    """What every message of a client has."""

    id: Annotated[str, Meta(min_length=1, max_length=64)] | Annotated[int, Meta(ge=-SAFE_INT, le=SAFE_INT)]


class Keyed(Struct, frozen=True):
    """What one may have besides: the Idempotency-Key. All else is the command's."""

    key: (
        Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[ -~]+$(?!\n)", description="ASCII characters")]
        | None
    ) = None


ENVELOPE = {field.name for struct in (Named, Keyed) for field in msgspec.structs.fields(struct)}
"""Names that no command's field may have."""


class SocketEndpoint(StreamEndpoint):
    """A stream as a WebSocket, with somebody who listens to what comes the other way."""

    closes: Mapping[Bye, int]

    def __init__(self, row: Row, services: Services) -> None:
        super().__init__(row, services)
        self._origins = frozenset(services.settings.server.cors_origins)
        public_url = services.settings.server.public_url
        self._own_origin = str(URL(public_url).origin()) if public_url else None

    def listener(self, request: web.Request, principal: Principal, subscriber: Subscriber) -> "Awaitable[Listener]":
        raise NotImplementedError

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if not web.WebSocketResponse().can_prepare(request):
            raise Problem(
                426, "upgrade_required", "Open this as a WebSocket, version 13.", headers={"Upgrade": "websocket"}
            )
        if not self._from_here(request):
            raise Problem(403, "wrong_origin", "Pages from this origin may not open sockets here.")
        return await super().__call__(request)

    def _from_here(self, request: web.Request) -> bool:
        """Say whether a page that opens this may: browsers let every page open a socket, and say only whose it is."""
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
        code = listener.code if subscriber.reason is None else self.closes[subscriber.reason]
        # Gone for the others from now on, however long the client takes to say goodbye.
        services.hub.unregister(subscriber)
        await socket.close(code=code)
        if socket.close_code == WSCloseCode.ABNORMAL_CLOSURE:
            # Nobody there to read what is still to be written: it would be kept until the kernel gives up.
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


class SocketStreamEndpoint(SocketEndpoint):
    """Serves a `SocketRoute`."""

    _row: SocketRoute

    def __init__(self, row: SocketRoute, services: Services) -> None:
        super().__init__(row, services)
        settings = services.settings
        self.closes = row.closes
        self.commands = CommandEndpoint(row.commands, services)
        self.command = row.commands.command
        self.named = Decoder(Named, max_depth=settings.limits.json_depth)
        self.keyed = Decoder(Keyed, max_depth=settings.limits.json_depth)

    async def listener(self, request: web.Request, principal: Principal, subscriber: Subscriber) -> "Conversation":
        ref = request.match_info["ref"]
        session_id, by_code = await self._services.session_lookup.resolve(ref)
        return Conversation(self, self._services, principal, subscriber, session_id, by_code, ref)

    def printed(self, re: bytes, reply: Reply) -> bytes:
        return self._row.answered(re, reply)


class Listener:
    """Hears what one client says on its socket."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(IN_FLIGHT)
        self.code: int = WSCloseCode.OK
        """What to close with, if the client is the cause."""

    async def read(self, socket: "web.WebSocketResponse[Any]") -> None:
        """Take messages, one after the other, until the client is gone or says what no client may."""
        for number in itertools.count(1):
            message = await socket.receive()
            if message.type is WSMsgType.BINARY:
                self.code = WSCloseCode.UNSUPPORTED_DATA
            if message.type is not WSMsgType.TEXT:
                return
            await self.slots.acquire()
            await self.take(bytes(message.data))
            if not number % AT_ONCE:
                # Nothing above waits while messages are there: whoever sends thousands would hold up everybody.
                await asyncio.sleep(0)

    async def take(self, raw: bytes) -> None:
        """Do what a message says, or say why not; release the slot when it has been answered."""
        raise NotImplementedError


class Conversation(Listener):
    """What one client asks on its socket."""

    def __init__(
        self,
        socket: SocketStreamEndpoint,
        services: Services,
        principal: Principal,
        subscriber: Subscriber,
        session_id: SessionId,
        by_code: bool,
        ref: str,
    ) -> None:
        super().__init__()
        self.socket = socket
        self.services = services
        self.principal = principal
        self.subscriber = subscriber
        self.session_id = session_id
        self.by_code = by_code
        self.ref = ref

    async def take(self, raw: bytes) -> None:
        """Do what a message says, or say why not."""
        asked = SocketCommand(self)
        try:
            await self._take(raw, asked)
        except Problem as problem:
            asked.refuse(problem)
            if problem.status == 401:
                self.subscriber.close("expired")
        except LogUnavailable:
            asked.refuse(Problem(503, "unavailable", "Try again: the database is away.", retry_s=1))
        except Exception:
            logger.exception("a message in session %s failed", self.session_id)
            asked.refuse(Problem(500, "internal", "Something went wrong here."))

    async def _take(self, raw: bytes, asked: "SocketCommand") -> None:
        services, principal, commands = self.services, self.principal, self.socket.commands
        self.socket.named(raw)
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
        asked.re = bytes(fields["id"])
        key = self.socket.keyed(raw).key
        services.tokens.check(principal)
        body = commands.decoded(msgspec.json.encode({name: fields[name] for name in fields if name not in ENVELOPE}))
        commands.admit(principal)
        command = self.socket.command(body)
        found = await load_inputs(services, self.session_id, principal, command)
        asked.send(self.session_id, commands.execute(principal, self.by_code, command, key, found), principal)


class SocketCommand(Pending):
    """A command that came on a socket."""

    __slots__ = ("_conversation", "re")

    def __init__(self, conversation: Conversation) -> None:
        request_id = CURRENT.get() or new_id()
        super().__init__(conversation.socket.commands, conversation.services, conversation.ref, request_id)
        self._conversation = conversation
        self.re = b"null"

    def answer(self, reply: Reply) -> None:
        frame = self._conversation.socket.printed(self.re, reply)
        self._conversation.subscriber.write(frame, frame)
        self._conversation.slots.release()
