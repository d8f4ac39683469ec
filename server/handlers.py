"""The generic handlers: every row of every API is served by one of these.

Each verifies the credential, decodes what was sent, asks the session or a store, and prints the answer as the row says.
"""

import asyncio
import contextlib
import hashlib
import random
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Protocol, cast

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from actors.persistence import LogUnavailable
from actors.session.audience import audience
from actors.session.commands import Command
from actors.session.ids import SessionId
from actors.session.state import State
from actors.session_actor import JSON, Answer, Execute, Key, Look, Outcome, Published, Repeated, Snapshot, Subscribe
from server.auth import Onlooker, Principal
from server.decoding import Decoder, from_query
from server.errors import Problem, away, refused, too_fast, unauthenticated, unsupported_encoding
from server.forms import Form
from server.lookups import NOTHING, Fields, looked_up
from server.ranges import window
from server.routes import (
    ActionRoute,
    Call,
    CommandRoute,
    Content,
    ContentRoute,
    DownloadRoute,
    HookRoute,
    ReplayRoute,
    Reply,
    Row,
    StreamRoute,
    UploadRoute,
)
from server.seats import Cut, Seat, seated
from server.services import Services
from server.streams import RETRY_MS, Cursor, Format, Subscriber, replayed
from storage.blobs import UnknownBlob
from storage.errors import StorageError
from storage.sessions import CODE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
USER = web.RequestKey("user", str)
SESSION = web.RequestKey("session", str)
DETACHED = web.RequestKey("detached", bool)
"""The stream is open, and its connection is no longer aiohttp's."""
KEY_LENGTH = 64
WRITE_TIMEOUT_S = 60.0
"""How long the reader of a long answer may read nothing."""
MISSED_ROWS = 5_000
"""Events that a cursor may be behind; past that a snapshot is shorter."""


class Detachable(Protocol):
    """What `Front` is to a stream."""

    def detach(self, ended: "asyncio.Future[None]", lost: Callable[[], None]) -> None: ...


def bind(row: Row, services: Services) -> Handler:
    """Make the handler of a row: a bound method, since aiohttp deprecates objects that are merely callable."""
    match row:
        case CommandRoute():
            return CommandEndpoint(row, services).__call__
        case ActionRoute():
            return _Action(row, services).__call__
        case StreamRoute():
            return StreamEndpoint(row, services).__call__
        case UploadRoute():
            return _Upload(row, services).__call__
        case ContentRoute():
            return ContentEndpoint(row, services).__call__
        case DownloadRoute():
            return _Download(row, services).__call__
        case HookRoute():
            return _Hook(row, services).__call__
        case ReplayRoute():
            return _Replay(row, services).__call__
    raise TypeError(f"no handler for {type(row).__name__}")


def within(networks: Sequence[str]) -> Callable[[str], bool]:
    """Make the test whether an address is in one of these networks."""
    known = [ip_network(network, strict=False) for network in networks]

    def test(peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in known)

    return test


class Endpoint:
    """What all handlers do first."""

    def __init__(self, row: Row, services: Services) -> None:
        self._services = services
        self._row = row
        limits = services.settings.limits
        self._decode = None if row.body is None else Decoder(row.body, max_depth=limits.json_depth)
        self._body_timeout_s = limits.body_timeout_s
        self._trusted = within(services.settings.server.trusted_proxies)

    async def principal(self, request: web.Request) -> Principal | None:
        """Verify the credential. Raises: Problem 401, unless the row is public; 503."""
        try:
            principal = await self.bearer(request.headers.get("Authorization"))
        except Problem as problem:
            # A client that logs in again may still send the token that has expired.
            if self._row.public and problem.status == 401:
                return None
            raise
        request[USER] = principal.user_id
        return principal

    async def bearer(self, header: str | None) -> Principal:
        """Verify an `Authorization` header. Raises: Problem 401, 503."""
        return await self._services.tokens.verify(bearer_token(header))

    async def body(self, request: web.Request) -> Any:
        if self._decode is None:
            return None
        raw = await self.raw(request)
        return self._decode(b"{}" if self._row.bare and not raw else raw)

    async def raw(self, request: web.Request) -> bytes:
        """Read a body as it comes. Raises: Problem 408, 415, HTTPRequestEntityTooLarge."""
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise unsupported_encoding()
        most = self._services.settings.limits.body_bytes
        if (announced := request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=announced)
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await request.read()
        except TimeoutError as error:
            raise Problem(
                408, "too_slow", f"The body took more than {self._body_timeout_s:g} s.", headers={"Connection": "close"}
            ) from error

    def decoded(self, raw: bytes) -> Any:
        return None if self._decode is None else self._decode(raw)

    def query(self, request: web.Request) -> Any:
        if self._row.query is None:
            return None
        # What is sent twice is a list; only a field that takes one makes sense of the comma.
        sent = {name: ",".join(request.query.getall(name)) for name in request.query}
        return from_query(sent, self._row.query)

    def address(self, request: web.Request) -> str:
        """Give the client's address; a proxy's word for it counts only from a proxy that the settings name."""
        peer = request.remote or ""
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            if not self._trusted(peer) or not hop.strip():
                break
            peer = hop.strip()
        return peer

    def origin(self, request: web.Request) -> str:
        """Say how the client reaches the server, for links."""
        return self._services.settings.server.public_url.rstrip("/") or f"{request.scheme}://{request.host}"

    async def resolve(self, request: web.Request, ref: str, principal: Principal | None) -> tuple[SessionId, bool]:
        """Find the session that a reference leads to. Raises: Problem 404, 429."""
        try:
            return await self._services.refs.resolve(ref)
        except Problem:
            # Guessing codes is slow work for whoever does it, by whichever route and however many accounts.
            if CODE.fullmatch(ref):
                self.guessed(request, principal)
            raise

    def admit(self, principal: Principal) -> None:
        """Count what may change something. Raises: Problem 429."""
        if wait := self._services.commands.take(principal.user_id):
            raise too_fast(f"At most {self._services.settings.limits.user_commands_per_s} commands a second.", wait)

    def guessed(self, request: web.Request, principal: Principal | None) -> None:
        """Count a code that led nowhere. Raises: Problem 429."""
        for who in (principal and principal.user_id, self.address(request)):
            if who and (wait := self._services.joins.take(who)):
                raise too_fast("Too many codes that lead nowhere.", wait) from None


class CommandEndpoint(Endpoint):
    """Serves a `CommandRoute`. Its steps are apart, so that the fast lane (`fast.py`) takes the very same ones."""

    _row: CommandRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        principal = await self.principal(request)
        assert principal is not None
        key = idempotency_key(request.headers.get("Idempotency-Key"))
        body = await self.body(request)
        self.admit(principal)
        ref = row.ref(request.match_info, body)
        session_id, by_code = await self.resolve(request, ref, principal)
        request[SESSION] = session_id
        principal.require_scope(session_id)
        command = row.command(body)
        found = await looked_up(services, session_id, principal, command)
        outcome = await services.directory.ask(session_id, self.execute(principal, by_code, command, key, found))
        call = Call(request.match_info, None, body, principal, session_id, self.address(request))
        return response(await self.reply(outcome, ref, call))

    def execute(
        self, principal: Principal, by_code: bool, command: Command, key: str | None, found: Fields = NOTHING
    ) -> Execute:
        caller = principal.caller(holds_code=by_code)
        if found:
            caller = msgspec.structs.replace(caller, **found)
        return Execute(command, caller, key=None if key is None else Key(key, digest(command)))

    def answered(self, outcome: Outcome, ref: str) -> Reply | None:
        """Print an outcome that needs nothing looked up; None for the others. Raises: Problem."""
        if not isinstance(outcome, Answer | Repeated):
            raise refused(outcome, ref)
        if isinstance(outcome, Repeated) or self._row.reply is None:
            return None
        return self._row.reply(outcome)

    async def reply(self, outcome: Outcome, ref: str, call: Call) -> Reply:
        """Print any outcome. Raises: Problem."""
        row = self._row
        reply = self.answered(outcome, ref)
        if reply is not None:
            return reply
        if row.then is not None and row.view is not None:
            return row.view(await row.then(self._services, call))
        assert isinstance(outcome, Repeated)
        assert row.repeat is not None
        first, last = outcome.first_seq, outcome.last_seq
        rows = await self._services.log.read(call.session_id, first - 1, last - first + 1) if last >= first else []
        return row.repeat(last, rows)


class _Action(Endpoint):
    _row: ActionRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        principal = await self.principal(request)
        session_id, by_code = SessionId(""), False
        if row.session:
            session_id, by_code = await self.resolve(request, request.match_info["ref"], principal)
            request[SESSION] = session_id
        if principal is not None and not (row.public or row.scoped):
            principal.require_scope(session_id if row.session else None)
        if principal is not None and row.method != "GET":
            self.admit(principal)
        query = self.query(request)
        body = await self.body(request)
        call = Call(
            request.match_info, query, body, principal, session_id, self.address(request), by_code, self.origin(request)
        )
        return response(row.view(await row.act(services, call)))


class _Upload(Endpoint):
    _row: UploadRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        principal = await self.principal(request)
        assert principal is not None
        principal.require_scope(None)
        form = Form(
            request,
            patience_s=services.settings.limits.body_timeout_s,
            min_bytes_per_s=services.settings.audio.min_bytes_per_s,
        )
        call = Call(request.match_info, None, None, principal, SessionId(""), self.address(request))
        return response(row.view(await row.act(services, call, form)))


class ContentEndpoint(Endpoint):
    """Serves a `ContentRoute`; dialects build on it."""

    async def content(self, request: web.Request) -> Content:
        row = cast(ContentRoute, self._row)
        services, principal = self._services, await self.principal(request)
        call = Call(request.match_info, self.query(request), None, principal, SessionId(""), self.address(request))
        return await row.act(services, call)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, content = self._services, await self.content(request)
        part = window({} if content.whole else request.headers, content.size_bytes, content.etag)
        headers = {
            **content.headers,
            "ETag": content.etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
        }
        if part.status == 412:
            raise Problem(412, "changed", "The content is not what `If-Match` says.", headers=headers)
        if part.status == 416:
            headers["Content-Range"] = f"bytes */{content.size_bytes}"
            raise Problem(416, "bad_range", f"The content has {content.size_bytes} bytes.", headers=headers)
        if part.status == 304:
            return web.Response(status=304, headers=headers)
        if part.status == 206:
            headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{content.size_bytes}"
        answer = web.StreamResponse(status=part.status, headers=headers)
        answer.content_type, answer.content_length = content.content_type, part.end - part.start
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        return await self._sent(request, answer, services.blobs.read(content.blob_key, part.start, part.end))

    async def _sent(
        self, request: web.Request, answer: web.StreamResponse, chunks: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        try:
            # The first before the headers: a store that is away is a problem, not half an answer.
            chunk: bytes | None = await anext(chunks)
        except UnknownBlob as error:
            raise Problem(404, "not_found", "The content has just been deleted.") from error
        except StorageError as error:
            raise away(error) from error
        await answer.prepare(request)
        try:
            while chunk is not None:
                # Waits while the client has not read what went before.
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await answer.write(chunk)
                chunk = await anext(chunks, None)
        except (TimeoutError, StorageError):
            # Less than Content-Length: the client sees that it has not got all.
            if request.transport is not None:
                request.transport.abort()
        finally:
            await aclose(chunks)
        return answer


class _Hook(Endpoint):
    _row: HookRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await self._row.act(self._services, request.headers, await self.raw(request))
        return response(Reply(self._row.status, b"{}"))


class _LongAnswer(Endpoint):
    """What takes its time, and holds a place among the streams meanwhile."""

    async def call(self, request: web.Request) -> Call:
        principal = await self.principal(request)
        ref = request.match_info["ref"]
        session_id, by_code = await self.resolve(request, ref, principal)
        if principal is not None:
            principal.require_scope(session_id)
        request[SESSION] = session_id
        return Call(
            request.match_info, self.query(request), None, principal, session_id, self.address(request), by_code,
            self.origin(request), request.headers.get("Last-Event-ID"),
        )  # fmt: skip

    def seat(self, reader: Principal | None, request: web.Request) -> Seat:
        lifetime_s = self._services.settings.streams.lifetime_s
        if reader is not None:
            return Seat(reader.user_id, reader.login, stream_end(reader, lifetime_s))
        # Nobody is known by a signed URL: its readers are counted by where they are.
        return Seat(self.address(request), "", asyncio.get_running_loop().time() + lifetime_s)


class _Download(_LongAnswer):
    _row: DownloadRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        download = await self._row.act(self._services, await self.call(request))
        answer = web.StreamResponse(
            headers={
                "Content-Type": download.content_type,
                "Content-Disposition": f'attachment; filename="{download.filename}"',
                "Cache-Control": "no-store",
            }
        )
        answer.enable_chunked_encoding()
        try:
            async with seated(self._services, self.seat(download.reader, request)):
                await answer.prepare(request)
                async for part in download.parts:
                    # Waits while the client has not read what went before.
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await answer.write(part)
        except (Cut, TimeoutError, LogUnavailable):
            # No last chunk: the client sees that it has not got all.
            if request.transport is not None:
                request.transport.abort()
        finally:
            await download.parts.aclose()
        return answer


class _Replay(_LongAnswer):
    _row: ReplayRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        playing = await self._row.play(self._services, await self.call(request))
        answer = EventSourceResponse(
            sep="\n", send_timeout=WRITE_TIMEOUT_S, ping_interval=self._services.settings.streams.heartbeat_s
        )
        try:
            async with seated(self._services, self.seat(playing.reader, request)):
                await answer.prepare(request)
                async with answer:
                    async for frame in playing.frames:
                        async with asyncio.timeout(WRITE_TIMEOUT_S):
                            await answer.write(frame)
        except Cut as cut:
            with contextlib.suppress(ConnectionError):
                await answer.write(self._row.format.bye(cut.reason, RETRY_MS[cut.reason]))
        except (TimeoutError, LogUnavailable):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await playing.frames.aclose()
        return answer


async def aclose(parts: AsyncIterator[bytes]) -> None:
    if isinstance(parts, AsyncGenerator):
        await parts.aclose()


class Streamed(Protocol):
    """What a row has that opens streams."""

    format: Format
    join: bool


class StreamEndpoint(Endpoint):
    """Serves a `StreamRoute`; `sockets.py` and `user_streams.py` build on it, and dialects do."""

    streamed: Streamed
    subscriber: type[Subscriber] = Subscriber
    admits = False
    """Whoever finds the session may come in, as if they held its join code."""

    def __init__(self, row: Row, services: Services) -> None:
        super().__init__(row, services)
        self.streamed = cast(Streamed, row)
        self.lifetime_s = services.settings.streams.lifetime_s

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        principal, session_id = await self.entry(request)
        principal.require_scope(session_id)
        request[SESSION] = session_id
        if not isinstance(principal, Onlooker):
            request[USER] = principal.user_id
        return await self._serve(request, principal, session_id, cursor_of(request))

    async def entry(self, request: web.Request) -> tuple[Principal, SessionId]:
        """Say who wants to watch which session. Raises: Problem."""
        services = self._services
        ticket = request.query.get("ticket")
        principal = await self.principal(request) if ticket is None else None
        session_id, _ = await self.resolve(request, request.match_info["ref"], principal)
        if ticket is not None:
            principal = services.tickets.redeem(ticket, session_id)
            services.tokens.require_open(principal.login)
        assert principal is not None
        return principal, session_id

    async def _serve(
        self, request: web.Request, principal: Principal, session_id: SessionId, cursor: Cursor | None
    ) -> web.StreamResponse:
        with self.counted(principal, cursor) as subscriber:
            await self._attach(subscriber, principal, session_id, request.match_info["ref"])
            missed = b"" if subscriber.missing is None else await self._missed(subscriber, session_id)
            if missed is not None:
                bound_kernel(request, self._services)
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
        subscriber.onlooker = isinstance(principal, Onlooker)
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
        reply = asyncio.get_running_loop().create_future()
        caller = None if isinstance(principal, Onlooker) else principal.caller(holds_code=self.admits)
        message = Subscribe(subscriber, caller, self.streamed.join, reply)
        outcome = await self._services.directory.ask(session_id, message)
        if not isinstance(outcome, Answer):
            raise refused(outcome, ref)
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
            return [Published(r, JSON.encode(r.event), audience(state, r.event, r.actor_id), state) for r in missed]

        outcome = await self._services.directory.ask(
            session_id, Look(shown, asyncio.get_running_loop().create_future())
        )
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
    place = request.headers.get("Last-Event-ID") or request.query.get("cursor")
    cursor = None if place is None else Cursor.parse(place)
    if place is not None and cursor is None:
        raise Problem(422, "invalid", "`cursor` must be as in a frame's id: `<number>-<number>`.", field="cursor")
    return cursor


def bound_kernel(request: web.Request, services: Services) -> None:
    """Left alone, the kernel keeps megabytes for a reader who does not read, before we learn of it."""
    if request.transport is not None:
        kernel = request.transport.get_extra_info("socket")
        kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, services.settings.streams.send_buffer_bytes)


def stream_end(principal: Principal, lifetime_s: float) -> float:
    """Say when a stream ends, in loop time: with its token, or earlier; spread, so that not all end together."""
    loop = asyncio.get_running_loop()
    left = principal.expires_at - time.time()
    return loop.time() + min(left, lifetime_s * random.uniform(0.9, 1.0))  # noqa: S311 - only spreads load


def bearer_token(header: str | None) -> str:
    """Give the token in an `Authorization` header. Raises: Problem 401."""
    scheme, _, token = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("Send `Authorization: Bearer <access token>`.")
    return token.strip()


def idempotency_key(key: str | None) -> str | None:
    """Raises: Problem 422."""
    if key is not None and not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise Problem(
            422, "invalid", f"`Idempotency-Key` must be 1 to {KEY_LENGTH} ASCII characters.", field="Idempotency-Key"
        )
    return key


def digest(asked: object) -> str:
    """Give the same text for the same command or body, however it was written."""
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=16).hexdigest()


def response(reply: Reply) -> web.Response:
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers, content_type=reply.content_type)
