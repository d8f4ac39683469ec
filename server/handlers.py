"""The generic handlers: every row of every API is served by one of these.

Each verifies the credential, decodes what was sent, asks the session or a store, and prints the answer as the row says.
"""

import asyncio
import hashlib
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Protocol, cast

import msgspec
from aiohttp import web

from actors.session.audience import audience
from actors.session.commands import Caller, Command, Invite
from actors.session.ids import SessionId, UserId
from actors.session.state import State
from actors.session_actor import JSON, Answer, Execute, Key, Look, Outcome, Published, Repeated, Snapshot, Subscribe
from server.auth import Principal
from server.decoding import Decoder, from_query
from server.errors import Problem, refused, too_fast, unauthenticated
from server.routes import ActionRoute, Call, CommandRoute, Reply, Row, StreamRoute
from server.services import Services, known_names
from server.streams import Cursor, Subscriber, replayed
from storage.sessions import CODE, UUID

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
USER = web.RequestKey("user", str)
SESSION = web.RequestKey("session", str)
DETACHED = web.RequestKey("detached", bool)
"""The stream is open, and its connection is no longer aiohttp's."""
KEY_LENGTH = 64
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
            return _Stream(row, services).__call__
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


class _Endpoint:
    """What all handlers do first."""

    def __init__(self, row: Row, services: Services) -> None:
        self._services = services
        self._row = row
        limits = services.settings.limits
        self._decode = None if row.body is None else Decoder(row.body, max_depth=limits.json_depth)
        self._body_timeout_s = limits.body_timeout_s
        self._trusted = within(services.settings.server.trusted_proxies)

    def principal(self, request: web.Request) -> Principal | None:
        """Verify the credential. Raises: Problem 401, unless the row is public."""
        try:
            principal = self.bearer(request.headers.get("Authorization"))
        except Problem:
            # A client that logs in again may still send the token that has expired.
            if self._row.public:
                return None
            raise
        request[USER] = principal.user_id
        return principal

    def bearer(self, header: str | None) -> Principal:
        """Verify an `Authorization` header. Raises: Problem 401."""
        scheme, _, token = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("Send `Authorization: Bearer <access token>`.")
        return self._services.tokens.verify(token.strip())

    async def body(self, request: web.Request) -> Any:
        if self._decode is None:
            return None
        if request.headers.get("Content-Encoding", "identity") != "identity":
            raise Problem(415, "unsupported_encoding", "Send the body without Content-Encoding.")
        most = self._services.settings.limits.body_bytes
        if (announced := request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(max_size=most, actual_size=announced)
        try:
            async with asyncio.timeout(self._body_timeout_s):
                raw = await request.read()
        except TimeoutError as error:
            raise Problem(
                408, "too_slow", f"The body took more than {self._body_timeout_s:g} s.", headers={"Connection": "close"}
            ) from error
        return self._decode(raw)

    def query(self, request: web.Request) -> Any:
        return None if self._row.query is None else from_query(request.query, self._row.query)

    def address(self, request: web.Request) -> str:
        """Give the client's address; a proxy's word for it counts only from a proxy that the settings name."""
        peer = request.remote or ""
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            if not self._trusted(peer) or not hop.strip():
                break
            peer = hop.strip()
        return peer

    async def resolve(self, request: web.Request, ref: str, principal: Principal | None) -> tuple[SessionId, bool]:
        """Find the session that a reference leads to. Raises: Problem 404, 429."""
        try:
            return await self._services.refs.resolve(ref)
        except Problem:
            # Guessing codes is slow work for whoever does it, by whichever route and however many accounts.
            if CODE.fullmatch(ref):
                for who in (principal and principal.user_id, self.address(request)):
                    if who and (wait := self._services.joins.take(who)):
                        raise too_fast("Too many codes that lead nowhere.", wait) from None
            raise


class CommandEndpoint(_Endpoint):
    """Serves a `CommandRoute`. Its steps are apart, so that the fast lane (`fast.py`) takes the very same ones."""

    _row: CommandRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        principal = self.principal(request)
        assert principal is not None
        key = idempotency_key(request.headers.get("Idempotency-Key"))
        body = await self.body(request)
        self.admit(principal)
        ref = row.ref(request.match_info, body)
        session_id, by_code = await self.resolve(request, ref, principal)
        request[SESSION] = session_id
        command = row.command(body)
        names: dict[UserId, str] = {}
        if isinstance(command, Invite):
            found = await services.users.names([command.user_id]) if UUID.fullmatch(command.user_id) else {}
            names = known_names(found, command.user_id)
        outcome = await services.directory.ask(session_id, self.execute(principal, by_code, command, key, names))
        call = Call(request.match_info, None, body, principal, session_id, self.address(request))
        return response(await self.reply(outcome, ref, call))

    def admit(self, principal: Principal) -> None:
        """Count a command. Raises: Problem 429."""
        if wait := self._services.commands.take(principal.user_id):
            raise too_fast(f"At most {self._services.settings.limits.user_commands_per_s} commands a second.", wait)

    def execute(
        self, principal: Principal, by_code: bool, command: Command, key: str | None, names: Mapping[UserId, str] = {}
    ) -> Execute:
        caller = Caller(principal.user_id, principal.name, by_code, names)
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

    def decoded(self, raw: bytes) -> Any:
        return None if self._decode is None else self._decode(raw)


class _Action(_Endpoint):
    _row: ActionRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        principal = self.principal(request)
        session_id = SessionId("")
        if row.session:
            session_id, _ = await self.resolve(request, request.match_info["ref"], principal)
            request[SESSION] = session_id
        query = self.query(request)
        body = await self.body(request)
        call = Call(request.match_info, query, body, principal, session_id, self.address(request))
        return response(row.view(await row.act(services, call)))


class _Stream(_Endpoint):
    _row: StreamRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services = self._services
        ticket = request.query.get("ticket")
        principal = self.principal(request) if ticket is None else None
        session_id, _ = await self.resolve(request, request.match_info["ref"], principal)
        if ticket is not None:
            principal = services.tickets.redeem(ticket, session_id)
            services.tokens.require_open(principal.login)
        assert principal is not None
        request[USER], request[SESSION] = principal.user_id, session_id
        place = request.headers.get("Last-Event-ID") or request.query.get("cursor")
        cursor = None if place is None else Cursor.parse(place)
        if place is not None and cursor is None:
            raise Problem(422, "invalid", "`cursor` must be `<epoch>-<seq>`, as in a frame's id.", field="cursor")
        return await self._serve(request, principal, session_id, cursor)

    async def _serve(
        self, request: web.Request, principal: Principal, session_id: SessionId, cursor: Cursor | None
    ) -> web.StreamResponse:
        hub, settings = self._services.hub, self._services.settings
        subscriber = Subscriber(
            principal.user_id,
            principal.login,
            self._row.format,
            cursor=cursor,
            expires_at=stream_end(principal, settings.streams.lifetime_s),
            limit=settings.streams.buffer_bytes,
        )
        if not hub.register(subscriber):
            most = settings.limits.streams_per_user
            raise Problem(429, "too_many_streams", f"You have {most} streams open, as many as you may.", retry_s=5)
        try:
            missed = b""
            # From here on a logout finds the stream; one that came just before has not.
            self._services.tokens.require_open(principal.login)
            await self._attach(subscriber, principal, session_id, request.match_info["ref"])
            if subscriber.missing is not None:
                read = await self._missed(subscriber, session_id)
                if read is None:
                    hub.unregister(subscriber)
                    return await self._serve(request, principal, session_id, Cursor(0, 0))
                missed = read
            return await self._stream(request, subscriber, missed)
        finally:
            if not subscriber.detached:
                hub.unregister(subscriber)

    async def _attach(self, subscriber: Subscriber, principal: Principal, session_id: SessionId, ref: str) -> None:
        reply = asyncio.get_running_loop().create_future()
        message = Subscribe(subscriber, principal.caller(), self._row.join, reply)
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
            return [Published(r, JSON.encode(r.event), audience(state, r.event, r.actor_id)) for r in missed]

        outcome = await self._services.directory.ask(
            session_id, Look(shown, asyncio.get_running_loop().create_future())
        )
        return replayed(subscriber, cursor, outcome.value) if isinstance(outcome, Snapshot) else None

    async def _stream(self, request: web.Request, subscriber: Subscriber, missed: bytes) -> web.StreamResponse:
        stream = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                "X-Accel-Buffering": "no",
            }
        )
        stream.enable_chunked_encoding()
        await stream.prepare(request)
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client went away")
        # Left alone, the kernel keeps megabytes for a reader who does not read, before we learn that he does not.
        most = self._services.settings.streams.send_buffer_bytes
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, most)
        subscriber.open(transport, missed)
        subscriber.detached = True
        request[DETACHED] = True
        hub = self._services.hub
        front = cast(Detachable, transport.get_protocol())
        front.detach(subscriber.closed, lambda: hub.unregister(subscriber))
        # Until aiohttp cancels this. Not for `closed`: it would be cancelled with us.
        await asyncio.get_running_loop().create_future()
        return stream


def stream_end(principal: Principal, lifetime_s: float) -> float:
    """Say when a stream ends, in loop time: with its token, or earlier; spread, so that not all end together."""
    loop = asyncio.get_running_loop()
    left = principal.expires_at - time.time()
    return loop.time() + min(left, lifetime_s * random.uniform(0.9, 1.0))  # noqa: S311 - only spreads load


def idempotency_key(key: str | None) -> str | None:
    """Raises: Problem 422."""
    if key is not None and not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise Problem(
            422, "invalid", f"`Idempotency-Key` must be 1 to {KEY_LENGTH} ASCII characters.", field="Idempotency-Key"
        )
    return key


def digest(command: Command) -> str:
    """Give the same text for the same command, however its body was written."""
    return hashlib.blake2b(msgspec.json.encode(command, order="deterministic"), digest_size=16).hexdigest()


def response(reply: Reply) -> web.Response:
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers, content_type=reply.content_type)
