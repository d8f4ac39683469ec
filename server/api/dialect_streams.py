"""Dialects' streams and sockets: subscribers like any other, who come in by their dialect's door.

**Law:** what comes on a socket is done in the order in which it came; a message that is refused ends nothing.
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
from server.api.dialect import Dialect, DialectRow, Frame, TalkRoute, WatchRoute
from server.api.dialect_callers import Identity, named_session
from server.api.dialect_handlers import bind_dialect
from server.api.endpoint import SESSION, Handler
from server.api.routes import Row
from server.api.sse import StreamEndpoint, resume_cursor
from server.api.websocket import Listener, SocketEndpoint
from server.http.json_body import Decoder
from server.http.problems import Problem, too_fast, unauthenticated
from server.security.principal import AnonymousViewer, Principal, anonymous_viewer
from server.streams.subscriber import Subscriber
from server.usecases.call import Call
from server.usecases.services import Services
from server.usecases.session_commands import asked, seen

logger = logging.getLogger(__name__)


def bind(dialect: Dialect, row: Row, services: Services) -> Handler:
    """Make the handler of any row of a dialect."""
    match row:
        case TalkRoute():
            return Talk(dialect, row, services).__call__
        case WatchRoute():
            return Watch(dialect, row, services).__call__
        case DialectRow():
            return bind_dialect(dialect, row, services)
    raise TypeError(f"no handler for {type(row).__name__} in a dialect")


class Message(Struct, frozen=True):
    """What every message has; `data` is the type's own."""

    type: Annotated[str, Meta(min_length=1, max_length=64)]
    data: msgspec.Raw = msgspec.Raw(b"{}")


class Watch(StreamEndpoint):
    """Serves a `WatchRoute`."""

    _row: WatchRoute

    def __init__(self, dialect: Dialect, row: WatchRoute, services: Services) -> None:
        super().__init__(row, services)
        self.has_invitation = row.has_invitation
        self._door = Door(dialect, row, services, self)

    async def entry(self, request: web.Request) -> tuple[Principal, SessionId]:
        return await self._door.entry(request)

    async def recheck_access(self, request: web.Request, session_id: SessionId) -> None:
        await self._door.look(request, None, session_id)


class Door:
    """Lets in who may watch a session of a dialect."""

    def __init__(self, dialect: Dialect, row: WatchRoute, services: Services, endpoint: StreamEndpoint) -> None:
        self._dialect = dialect
        self._row = row
        self._services = services
        self._endpoint = endpoint
        self._identity = Identity(dialect, row, services, endpoint)

    async def entry(self, request: web.Request) -> tuple[Principal, SessionId]:
        principal = await self._identity.of(request, request.query)
        session_id = await named_session(self._dialect, self._services, request, principal, self._endpoint)
        await self.look(request, principal, session_id)
        return principal or anonymous_viewer(session_id, self._endpoint.address(request)), session_id

    async def look(self, request: web.Request, principal: Principal | None, session_id: SessionId) -> None:
        """See whether the session is open to a caller; None: to whoever looks on. Raises: Problem."""
        if self._row.find is not None:
            address, since = self._endpoint.address(request), resume_cursor(request)
            call = Call(request.match_info, None, None, principal, session_id, address, last_event_id=since)
            await seen(self._services, call, self._row.find)


class Talk(SocketEndpoint):
    """Serves a `TalkRoute`."""

    _row: TalkRoute

    def __init__(self, dialect: Dialect, row: TalkRoute, services: Services) -> None:
        super().__init__(row, services)
        depth = services.settings.limits.json_depth
        self.closes = row.closes
        # A client that is not ours takes the end of its socket for the end of its token, or of the session.
        self.lifetime_s = math.inf
        self.has_invitation = row.has_invitation
        self._door = Door(dialect, row, services, self)
        self.dialect = dialect
        self.row = row
        self.services = services
        self.message = Decoder(Message, max_depth=depth)
        self.bodies = {name: Decoder(frame.body, max_depth=depth) for name, frame in row.frames.items()}
        self.anything = Decoder(dict[str, Any], max_depth=depth)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        try:
            return await super().__call__(request)
        except Problem as problem:
            status, _ = self.dialect.worded(problem, self.row)
            code = self.row.refusals.get(status)
            if code is None or not web.WebSocketResponse().can_prepare(request):
                raise
            # The client's library shows a close code, and of a refused upgrade nothing.
            socket = self.socket()
            await socket.prepare(request)
            await socket.close(code=code, message=problem.detail.encode()[:120])
            return socket

    async def entry(self, request: web.Request) -> tuple[Principal, SessionId]:
        return await self._door.entry(request)

    async def recheck_access(self, request: web.Request, session_id: SessionId) -> None:
        await self._door.look(request, None, session_id)

    async def listener(self, request: web.Request, principal: Principal, subscriber: Subscriber) -> "Talking":
        caller = None if isinstance(principal, AnonymousViewer) else principal
        call = Call(request.match_info, None, None, caller, SessionId(request[SESSION]), self.address(request))
        return Talking(self, call, principal, subscriber)


class Talking(Listener):
    """What one client says on its socket."""

    def __init__(self, talk: Talk, call: Call, principal: Principal, subscriber: Subscriber) -> None:
        super().__init__()
        self._talk = talk
        self._call = call
        self._principal = principal
        self._subscriber = subscriber

    async def take(self, raw: bytes) -> None:
        kind = ""
        try:
            message = self._talk.message(raw)
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
        talk, services = self._talk, self._talk.services
        services.tokens.check(self._principal)
        frame = talk.row.frames.get(kind)
        body = talk.anything(data) if frame is None else talk.bodies[kind](data)
        call = msgspec.structs.replace(self._call, body=body)
        frame = frame or self._other(kind)
        if wait := services.commands.take(self._principal.user_id):
            raise too_fast(f"At most {services.settings.limits.user_commands_per_s} messages a second.", wait)
        if call.caller is None:
            call = msgspec.structs.replace(call, caller=await self._speaker(call))
        await asked(services, call, frame.ask, frame.find, has_invitation=talk.row.has_invitation)

    async def _speaker(self, call: Call) -> Principal:
        """Give who says something that came without a credential. Raises: Problem 401."""
        comes = self._talk.row.comes
        if comes is None:
            raise unauthenticated("Without a token you look on; to take part, open the socket with one.")
        return await comes(self._talk.services, call)

    def _other(self, kind: str) -> Frame:
        other = self._talk.row.other
        if other is None:
            known = ", ".join(sorted(self._talk.row.frames))
            raise Problem(400, "unknown_type", f"`type` must be one of {known}.", field="type")
        return Frame(dict[str, Any], lambda call: other(kind, call))

    def _fail(self, problem: Problem, kind: str) -> None:
        status, text = self._talk.dialect.worded(problem, self._talk.row)
        said = Problem(status, problem.reason, text or problem.detail, field=problem.field)
        with contextlib.suppress(ConnectionError):
            if frame := self._talk.row.failed(said, kind):
                self._subscriber.write(frame, frame)
        if problem.status == 401 and self._call.caller is not None:
            self._subscriber.close("expired")
