"""The generic handler of streams: it lets a subscriber in, reads what they missed, and hands the connection over.

Sockets (`sockets.py`), users' own streams (`user_streams.py`) and dialects' (`dialect_streams.py`) build on it.
"""

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from typing import Protocol, cast

from aiohttp import web

from actors.commit import outgoing
from actors.messages import Answer, ReadState, Snapshot, Subscribe
from actors.session.ids import SessionId
from actors.session.state import State
from actors.session.visibility import Published
from server.api.endpoint import SESSION, USER, Endpoint
from server.api.routes import Row
from server.http.problems import Problem, problem_of
from server.security.principal import AnonymousViewer, Principal
from server.streams.channel import replayed
from server.streams.format import Cursor, StreamEncoder
from server.streams.subscriber import Subscriber
from server.usecases.services import Services

DETACHED = web.RequestKey("detached", bool)
"""The stream is open, and its connection is no longer aiohttp's."""
MISSED_ROWS = 5_000
"""Events that a cursor may be behind; past that a snapshot is shorter."""


class Detachable(Protocol):
    """What `Front` is to a stream."""

    def detach(self, ended: "asyncio.Future[None]", lost: Callable[[], None]) -> None: ...


class Streamed(Protocol):
    """What a row has that opens streams."""

    format: StreamEncoder
    join: bool


class StreamEndpoint(Endpoint):
    """Serves a `StreamRoute`; `sockets.py` and `user_streams.py` build on it, and dialects do."""

    streamed: Streamed
    subscriber: type[Subscriber] = Subscriber
    has_invitation = False
    """Whoever finds the session may come in, as if they held its join code."""

    def __init__(self, row: Row, services: Services) -> None:
        super().__init__(row, services)
        self.streamed = cast(Streamed, row)
        self.lifetime_s = services.settings.streams.lifetime_s

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        principal, session_id = await self.entry(request)
        principal.require_scope(session_id)
        request[SESSION] = session_id
        if not isinstance(principal, AnonymousViewer):
            request[USER] = principal.user_id
        return await self._serve(request, principal, session_id, cursor_of(request))

    async def entry(self, request: web.Request) -> tuple[Principal, SessionId]:
        """Say who wants to watch which session. Raises: Problem."""
        services = self._services
        ticket = request.query.get("ticket")
        principal = await self.principal(request) if ticket is None else None
        if ticket is not None:
            # Whose it is shows only once the session has been found.
            self.admit_read(request, None)
        session_id, _ = await self.resolve(request, request.match_info["ref"], principal)
        if ticket is not None:
            principal = services.tickets.redeem(ticket, session_id)
            services.tokens.require_open(principal.login)
        assert principal is not None
        return principal, session_id

    async def recheck_access(self, request: web.Request, session_id: SessionId) -> None:
        """See that whoever only looks on still may, of whom the session knows nothing: from here on, a door that is
        shut sends them away; one that was shut just before has not. Raises: Problem."""

    async def _serve(
        self, request: web.Request, principal: Principal, session_id: SessionId, cursor: Cursor | None
    ) -> web.StreamResponse:
        with self.counted(principal, cursor) as subscriber:
            await self._attach(subscriber, principal, session_id, request.match_info["ref"])
            if subscriber.onlooker:
                await self.recheck_access(request, session_id)
            missed = b"" if subscriber.missing is None else await self._missed(subscriber, session_id)
            if missed is not None:
                bound_connection(request, self._services)
                return await self._stream(request, principal, subscriber, missed)
        return await self._serve(request, principal, session_id, Cursor(0, 0))

    @contextlib.contextmanager
    def counted(self, principal: Principal, cursor: Cursor | None) -> Iterator[Subscriber]:
        """Count a stream among its user's, until it ends. Raises: Problem 429, 401."""
        services = self._services
        hub, settings = services.hub, services.settings
        subscriber = self.subscriber(
            principal.user_id,
            principal.login,
            self.streamed.format,
            cursor=cursor,
            expires_at=stream_end(principal, self.lifetime_s),
            limit=settings.streams.buffer_bytes,
        )
        subscriber.onlooker = isinstance(principal, AnonymousViewer)
        if not hub.register(subscriber):
            most = settings.limits.streams_per_user
            raise Problem(429, "too_many_streams", f"You have {most} streams open, as many as you may.", retry_s=5)
        try:
            # From here on a logout finds the stream; one that came just before has not.
            services.tokens.require_open(principal.login)
            yield subscriber
        finally:
            if not subscriber.detached:
                hub.unregister(subscriber)

    async def _attach(self, subscriber: Subscriber, principal: Principal, session_id: SessionId, ref: str) -> None:
        caller = (
            None if isinstance(principal, AnonymousViewer) else principal.caller(has_invitation=self.has_invitation)
        )
        outcome = await self._services.directory.ask(session_id, Subscribe(subscriber, caller, self.streamed.join))
        if not isinstance(outcome, Answer):
            raise problem_of(outcome, ref)
        await subscriber.attached

    async def _missed(self, subscriber: Subscriber, session_id: SessionId) -> bytes | None:
        """Read from the log what came between a cursor and the stream; None: the cursor is not of this log."""
        cursor, upto = subscriber.cursor, subscriber.missing
        assert cursor is not None
        assert upto is not None
        if upto.seq - cursor.seq > MISSED_ROWS:
            return None
        rows = await self._services.log.read(session_id, cursor.seq - 1, upto.seq - cursor.seq + 1)
        if len(rows) != upto.seq - cursor.seq + 1 or rows[0].epoch != cursor.epoch:
            return None
        missed = rows[1:]

        def shown(state: State) -> list[Published]:
            return [outgoing(row, state) for row in missed]

        outcome = await self._services.directory.ask(session_id, ReadState(shown))
        return replayed(subscriber, cursor, outcome.value) if isinstance(outcome, Snapshot) else None

    async def _stream(
        self, request: web.Request, principal: Principal, subscriber: Subscriber, missed: bytes
    ) -> web.StreamResponse:
        stream = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        stream.enable_chunked_encoding()
        # The connection ends with the stream. Unsaid, a client or proxy might send its next request just then.
        stream.force_close()
        await stream.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        subscriber.open(transport, missed)
        subscriber.detached = True
        request[DETACHED] = True
        hub = self._services.hub
        front = cast(Detachable, transport.get_protocol())
        front.detach(subscriber.closed, lambda: hub.unregister(subscriber))
        # Until aiohttp cancels this. Not for `closed`: it would be cancelled with us.
        await asyncio.get_running_loop().create_future()
        return stream


def cursor_of(request: web.Request) -> Cursor | None:
    """Read where a client wants to go on from. Raises: Problem 422."""
    place = resume_cursor(request)
    cursor = None if place is None else Cursor.parse(place)
    if place is not None and cursor is None:
        raise Problem(422, "invalid", "`cursor` must be as in a frame's id: `<number>-<number>`.", field="cursor")
    return cursor


def resume_cursor(request: web.Request) -> str | None:
    return request.headers.get("Last-Event-ID") or request.query.get("cursor")


def bound_connection(request: web.Request, services: Services) -> None:
    """Bound what the kernel keeps for a reader who does not read, and how long for one who has disappeared.

    Left alone it keeps megabytes, and tries for a quarter of an hour to deliver what nobody acknowledges. Between two
    heartbeats nothing need be on its way: with half an interval, a client is gone after one and a half."""
    if request.transport is None:
        return
    settings = services.settings.streams
    kernel = request.transport.get_extra_info("socket")
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(settings.heartbeat_s * 500)))


def stream_end(principal: Principal, lifetime_s: float) -> float:
    """Say when a stream ends, in loop time: with its token, or earlier; spread, so that not all end together."""
    loop = asyncio.get_running_loop()
    left = principal.expires_at - time.time()
    return loop.time() + min(left, lifetime_s * random.uniform(0.9, 1.0))  # noqa: S311 - only spreads load
