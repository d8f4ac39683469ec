"""The socket of the dialects: `{type, data}` messages in both directions.

**Law:** messages are handled in the order in which they arrive. A refused message does not end the connection.
"""

import contextlib
import logging
import math
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from actors.ports import LogUnavailable
from actors.session.ids import SessionId
from server.api.endpoint import SESSION
from server.api.routes import Api, Frame, MessageSocketRoute
from server.api.services import Services
from server.api.websocket import Listener, SocketEndpoint
from server.http.json_body import Decoder
from server.http.problems import Problem, too_fast, unauthenticated
from server.security.principal import AnonymousViewer, Principal
from server.streams.subscriber import Subscriber
from server.usecases.call import Call
from server.usecases.session_commands import asked

logger = logging.getLogger(__name__)


class SocketMessage(Struct, frozen=True):
    """The fields that every message has. The type determines the shape of `data`."""

    type: Annotated[str, Meta(min_length=1, max_length=64)]
    data: msgspec.Raw = msgspec.Raw(b"{}")


class MessageSocketEndpoint(SocketEndpoint):
    """Serve a `MessageSocketRoute`."""

    _row: MessageSocketRoute

    def __init__(self, api: Api, row: MessageSocketRoute, services: Services) -> None:
        super().__init__(api, row, services)
        depth = services.settings.limits.json_depth
        # Clients of dialects assume that their token or the session has ended when the socket ends: set no lifetime.
        self.lifetime_s = math.inf
        self.api = api
        self.row = row
        self.services = services
        self.message = Decoder(SocketMessage, max_depth=depth)
        self.bodies = {name: Decoder(frame.body, max_depth=depth) for name, frame in row.frames.items()}
        self.anything = Decoder(dict[str, Any], max_depth=depth)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        try:
            return await super().__call__(request)
        except Problem as problem:
            status, _ = self._api.worded(problem, self._row)
            code = self._row.refusals.get(status)
            if code is None or not web.WebSocketResponse().can_prepare(request):
                raise
            # Browsers report a close code to the page, but no detail of a refused upgrade.
            socket = self.socket()
            await socket.prepare(request)
            await socket.close(code=code, message=problem.detail.encode()[:120])
            return socket

    async def listener(self, request: web.Request, principal: Principal, subscriber: Subscriber) -> "MessageListener":
        """Return the listener for the client's messages."""
        caller = None if isinstance(principal, AnonymousViewer) else principal
        call = Call(request.match_info, None, None, caller, SessionId(request[SESSION]), self.address(request))
        return MessageListener(self, call, principal, subscriber)


class MessageListener(Listener):
    """Reads the messages of one client from its socket."""

    def __init__(self, socket: MessageSocketEndpoint, call: Call, principal: Principal, subscriber: Subscriber) -> None:
        super().__init__()
        self._socket = socket
        self._call = call
        self._principal = principal
        self._subscriber = subscriber

    async def take(self, raw: bytes) -> None:
        """Carry out a message, or tell the client why it is refused."""
        kind = ""
        try:
            message = self._socket.message(raw)
            kind = message.type
            await self._do(kind, bytes(message.data))
        except Problem as problem:
            self._fail(problem, kind)
        except LogUnavailable:
            self._fail(Problem(503, "unavailable", "Try again: the database is away.", retry_s=1), kind)
        except Exception:
            logger.exception("a message in session %s failed", self._call.session_id)
            self._fail(Problem(500, "internal", "Something went wrong here."), kind)
        finally:
            self.slots.release()

    async def _do(self, kind: str, data: bytes) -> None:
        socket, services = self._socket, self._socket.services
        services.tokens.check(self._principal)
        frame = socket.row.frames.get(kind)
        body = socket.anything(data) if frame is None else socket.bodies[kind](data)
        call = msgspec.structs.replace(self._call, body=body)
        frame = frame or self._other(kind)
        if wait := services.commands.take(self._principal.user_id):
            raise too_fast(f"At most {services.settings.limits.user_commands_per_s} messages a second.", wait)
        if call.caller is None:
            call = msgspec.structs.replace(call, caller=await self._speaker(call))
        await asked(services, call, frame.ask, frame.find, has_invitation=socket.row.has_invitation)

    async def _speaker(self, call: Call) -> Principal:
        """Return the sender of a message on a socket without a credential. Raise Problem 401."""
        identify = self._socket.row.identify
        if identify is None:
            raise unauthenticated("You are watching without a token. Open the socket with a token to take part.")
        return await identify(self._socket.services, call)

    def _other(self, kind: str) -> Frame:
        other = self._socket.row.other
        if other is None:
            known = ", ".join(sorted(self._socket.row.frames))
            raise Problem(400, "unknown_type", f"`type` must be one of {known}.", field="type")
        return Frame(dict[str, Any], lambda call: other(kind, call))

    def _fail(self, problem: Problem, kind: str) -> None:
        status, text = self._socket.api.worded(problem, self._socket.row)
        said = Problem(status, problem.reason, text or problem.detail, field=problem.field)
        with contextlib.suppress(ConnectionError):
            if frame := self._socket.row.failed(said, kind):
                self._subscriber.write(frame, frame)
        if problem.status == 401 and self._call.caller is not None:
            self._subscriber.close("expired")
