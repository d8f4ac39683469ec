"""Serve streams: admit a subscriber, read the events that they missed, and take the connection over from aiohttp.

Sockets (`websocket.py`) and users' notification streams (`notification_stream.py`) extend this handler.
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
from server.api.endpoint import SESSION, Endpoint
from server.api.identity import USER
from server.api.routes import Api, StreamRoute
from server.api.services import Services
from server.http.problems import Problem, problem_of
from server.security.principal import AnonymousViewer, Principal, anonymous_viewer
from server.streams.encoding import encode_missed
from server.streams.format import Cursor
from server.streams.subscriber import Subscriber
from server.usecases.call import Call
from server.usecases.session_commands import seen

DETACHED = web.RequestKey("detached", bool)
"""Whether the stream is open and its connection no longer belongs to aiohttp."""
MISSED_ROWS = 5_000
"""How many events a cursor may be behind. Beyond that, a snapshot is shorter."""


class Detachable(Protocol):
    """The part of a connection (`transport/connection.py`) that a stream uses."""

    def detach(self, ended: "asyncio.Future[None]", lost: Callable[[], None]) -> None:
        """Take the connection from aiohttp. The body ends with `ended`. Call `lost` once the connection has closed."""
        ...


class StreamEndpoint(Endpoint):
    """Serve a `StreamRoute`. Sockets and notification streams extend it."""

    _row: StreamRoute
    subscriber: type[Subscriber] = Subscriber

    def __init__(self, api: Api, row: StreamRoute, services: Services) -> None:
        super().__init__(api, row, services)
        self.lifetime_s = services.settings.streams.lifetime_s

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        principal, session_id = await self.entry(request)
        principal.require_scope(session_id)
        request[SESSION] = session_id
        if not isinstance(principal, AnonymousViewer):
            request[USER] = principal.user_id
        return await self._serve(request, principal, session_id, self.cursor(request))

    def cursor(self, request: web.Request) -> Cursor | None:
        """Return the cursor from which the client resumes, or None. Raise Problem 422 for a malformed one."""
        return cursor_of(request)

    async def entry(self, request: web.Request) -> tuple[Principal, SessionId]:
        """Return the subscriber and the id of the session. Raise Problem if the caller may not open the stream."""
        services = self._services
        ticket = request.query.get("ticket") if self._api.tickets else None
        principal = None
        if ticket is None:
            principal = await self.principal(request, request.query)
        else:
            # A ticket is redeemed for a known session: until then the caller is only an address.
            self.admit_read(request, None)
        session_id, _ = await self.session(request, principal, None)
        if ticket is not None:
            principal = services.tickets.redeem(ticket, session_id)
            services.tokens.require_open(principal.login)
        await self.look(request, principal, session_id)
        return principal or anonymous_viewer(session_id, self.address(request)), session_id

    async def look(self, request: web.Request, principal: Principal | None, session_id: SessionId) -> None:
        """Run the row's `find` on the session. `principal` is None for an anonymous viewer.

        Raise Problem if the row refuses the caller."""
        if self._row.find is not None:
            address, since = self.address(request), resume_cursor(request)
            call = Call(request.match_info, None, None, principal, session_id, address, last_event_id=since)
            await seen(self._services, call, self._row.find)

    async def _serve(
        self, request: web.Request, principal: Principal, session_id: SessionId, cursor: Cursor | None
    ) -> web.StreamResponse:
        with self.counted(principal, cursor) as subscriber:
            await self._attach(subscriber, principal, session_id, request.match_info["ref"])
            if subscriber.anonymous:
                # From here on, an anonymous viewer is disconnected when the session revokes guest access. Check again:
                # it may have done so just before.
                await self.look(request, None, session_id)
            missed = b"" if subscriber.missing is None else await self._missed(subscriber, session_id)
            if missed is not None:
                bound_connection(request, self._services)
                return await self._stream(request, principal, subscriber, missed)
        return await self._serve(request, principal, session_id, Cursor(0, 0))

    @contextlib.contextmanager
    def counted(self, principal: Principal, cursor: Cursor | None) -> Iterator[Subscriber]:
        """Count a stream for its user until the block ends. Raise Problem 429 for too many streams, 401 after a
        logout."""
        services = self._services
        hub, settings = services.hub, services.settings
        subscriber = self.subscriber(
            principal.user_id,
            principal.login,
            self._row.format,
            cursor=cursor,
            expires_at=stream_end(principal, self.lifetime_s),
            limit=settings.streams.buffer_bytes,
        )
        subscriber.anonymous = isinstance(principal, AnonymousViewer)
        if not hub.register(subscriber):
            most = settings.limits.streams_per_user
            raise Problem(429, "too_many_streams", f"You have {most} streams open, as many as you may.", retry_s=5)
        try:
            # From here on, a logout ends the stream. Check again: it may have happened just before.
            services.tokens.require_open(principal.login)
            yield subscriber
        finally:
            if not subscriber.detached:
                hub.unregister(subscriber)

    async def _attach(self, subscriber: Subscriber, principal: Principal, session_id: SessionId, ref: str) -> None:
        caller = (
            None
            if isinstance(principal, AnonymousViewer)
            else principal.caller(has_invitation=self._row.has_invitation)
        )
        outcome = await self._services.directory.ask(session_id, Subscribe(subscriber, caller, self._row.join))
        if not isinstance(outcome, Answer):
            raise problem_of(outcome, ref)
        await subscriber.attached

    async def _missed(self, subscriber: Subscriber, session_id: SessionId) -> bytes | None:
        """Read from the log the events between a cursor and the stream. Return None if the cursor is from another log,
        or is too far behind."""
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
        return encode_missed(subscriber, cursor, outcome.value) if isinstance(outcome, Snapshot) else None

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
        # The connection ends with the stream. Without this header, a client or proxy might reuse it for a request.
        stream.force_close()
        await stream.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        subscriber.open(transport, missed)
        subscriber.detached = True
        request[DETACHED] = True
        hub = self._services.hub
        connection = cast(Detachable, transport.get_protocol())
        connection.detach(subscriber.closed, lambda: hub.unregister(subscriber))
        # Wait until aiohttp cancels this handler. To await `closed` would cancel it, too.
        await asyncio.get_running_loop().create_future()
        return stream


def cursor_of(request: web.Request) -> Cursor | None:
    """Return the cursor from which a client resumes, or None. Raise Problem 422 for a malformed one."""
    place = resume_cursor(request)
    cursor = None if place is None else Cursor.parse(place)
    if place is not None and cursor is None:
        raise Problem(422, "invalid", "`cursor` must be as in a frame's id: `<number>-<number>`.", field="cursor")
    return cursor


def resume_cursor(request: web.Request) -> str | None:
    """Return the cursor as the client sent it: `Last-Event-ID`, or else `?cursor=`."""
    return request.headers.get("Last-Event-ID") or request.query.get("cursor")


def bound_connection(request: web.Request, services: Services) -> None:
    """Limit how many unsent bytes the kernel buffers for a slow client, and how long it waits for one that has
    disappeared.

    By default the kernel buffers megabytes, and resends unacknowledged data for a quarter of an hour. The timeout is
    half a heartbeat interval, because nothing need be in transit between two heartbeats: a client that has disappeared
    is dropped after one and a half intervals."""
    if request.transport is None:
        return
    settings = services.settings.streams
    kernel = request.transport.get_extra_info("socket")
    kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.send_buffer_bytes)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        kernel.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(settings.heartbeat_s * 500)))


def stream_end(principal: Principal, lifetime_s: float) -> float:
    """Return when a stream ends, in loop time: when its token expires, or earlier, at the end of its lifetime. The
    lifetime is random within a range, so that streams do not all end together."""
    loop = asyncio.get_running_loop()
    left = principal.expires_at - time.time()
    return loop.time() + min(left, lifetime_s * random.uniform(0.9, 1.0))  # noqa: S311 - only spreads load
