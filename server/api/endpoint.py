"""What every handler does first: see who calls, read what they send, within bounds, and find the session they mean."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from actors.messages import Key
from actors.session.ids import SessionId
from server.api.routes import Row
from server.http.json_body import Decoder, from_query
from server.http.multipart import Form, require_unencoded
from server.http.problems import Problem, too_fast, unauthenticated
from server.http.reply import Reply
from server.security.principal import Principal
from server.usecases.services import Services
from storage.sessions import CODE

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
USER = web.RequestKey("user", str)
SESSION = web.RequestKey("session", str)
KEY_LENGTH = 64


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

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Serve a request. Raises: Problem."""
        raise NotImplementedError

    async def principal(self, request: web.Request) -> Principal | None:
        """Verify the credential, and count what reads. Raises: Problem 401, unless the row is public; 429; 503."""
        principal = None
        try:
            principal = await self.bearer(request.headers.get("Authorization"))
            request[USER] = principal.user_id
        except Problem as problem:
            # A client that logs in again may still send the token that has expired.
            if not (self._row.public and problem.status == 401):
                raise
        self.admit_read(request, principal)
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
        """Read a body as it comes. Raises: Problem 400, 408, 415, HTTPRequestEntityTooLarge."""
        require_unencoded(request)
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
        except BadHttpMessage as error:
            raise Problem(400, "malformed", "The body breaks off.", headers={"Connection": "close"}) from error

    def upload(self, request: web.Request) -> Form:
        """Give a body to be read part by part, and at its sender's pace within bounds."""
        settings = self._services.settings
        return Form(
            request,
            patience_s=settings.limits.body_timeout_s,
            min_bytes_per_s=settings.audio.min_bytes_per_s,
        )

    def key(self, request: web.Request, body: Any) -> Key | None:
        """Give the Idempotency-Key of what is no command by itself: for this route, its parameters and this body.

        Raises: Problem 422."""
        text = idempotency_key(request.headers.get("Idempotency-Key")) if self._row.keyed else None
        if text is None:
            return None
        return Key(text, digest([self._row.method, self._row.path, dict(request.match_info), body]))

    def decoded(self, raw: bytes) -> Any:
        return None if self._decode is None else self._decode(raw)

    def query(self, request: web.Request) -> Any:
        if self._row.query is None:
            # Who sends one means something by it.
            if self._row.method == "GET" and (unknown := next(iter(request.query), None)) is not None:
                raise Problem(422, "invalid", f"There is no parameter `{unknown}`.", field=unknown, location="query")
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
            return await self._services.session_lookup.resolve(ref)
        except Problem:
            # Guessing codes is slow work for whoever does it, by whichever route and however many accounts.
            if CODE.fullmatch(ref):
                self.guessed(request, principal)
            raise

    def admit(self, principal: Principal) -> None:
        """Count what may change something. Raises: Problem 429."""
        if wait := self._services.commands.take(principal.user_id):
            raise too_fast(f"At most {self._services.settings.limits.user_commands_per_s} commands a second.", wait)

    def admit_read(self, request: web.Request, principal: Principal | None) -> None:
        """Count what only reads: by user, or by address where nobody has shown a credential. Raises: Problem 429."""
        if self._row.method != "GET":
            return
        services = self._services
        if principal is None:
            wait = services.address_reads.take(self.address(request))
        else:
            wait = services.reads.take(principal.user_id)
        if wait:
            raise too_fast("Too many reads; wait a little.", wait)

    def guessed(self, request: web.Request, principal: Principal | None) -> None:
        """Count a code that led nowhere. Raises: Problem 429."""
        for who in (principal and principal.user_id, self.address(request)):
            if who and (wait := self._services.joins.take(who)):
                raise too_fast("Too many codes that lead nowhere.", wait) from None


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
