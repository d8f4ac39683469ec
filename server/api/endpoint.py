"""The first steps of every handler: identify the caller, read the request within bounds, and find the session.

**Law:** the steps and their order are the same for every route of every API.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import Struct, structs

from actors.messages import Key
from actors.session.access import Ask
from actors.session.ids import SessionId
from server.api.identity import Identity
from server.api.routes import Api, Row
from server.api.services import Services
from server.http import key_case
from server.http.json_body import Decoder, from_query
from server.http.multipart import Form, require_unencoded
from server.http.problems import Problem, too_fast
from server.http.reply import Reply
from server.security.addresses import forwarded_address, limit_key
from server.security.principal import Principal
from server.usecases.call import Call
from server.usecases.session_access import require_membership

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SESSION = web.RequestKey("session", str)
CAMEL = web.RequestKey("camel", bool)
"""Whether the client wants keys in camelCase."""
KEY_LENGTH = 64
URLENCODED = "application/x-www-form-urlencoded"
FORMS = (URLENCODED, "multipart/form-data")
FIELDS = 64
"""The maximum number of fields in a form."""


def within(networks: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that tests whether an address is in one of these networks."""
    known = [ip_network(network, strict=False) for network in networks]

    def test(peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        return any(address in network for network in known)

    return test


class Sent(Struct, frozen=True):
    """A request's raw body, and the fields of its query and form."""

    raw: bytes
    fields: Mapping[str, str]
    is_form: bool = False


class Endpoint:
    """Turn a request into a `Call`, in the same steps for every row of every API. Subclasses serve the call."""

    def __init__(self, api: Api, row: Row, services: Services) -> None:
        self._api = api
        self._row = row
        self._services = services
        self._identity = Identity(api, row, services)
        limits = services.settings.limits
        self._decode = None if row.body is None else Decoder(row.body, max_depth=limits.json_depth)
        self._body_timeout_s = limits.body_timeout_s
        self._trusted = within(services.settings.server.trusted_proxies)
        self._forms = api.forms or row.forms

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Serve a request. Raise Problem."""
        raise NotImplementedError

    async def call(self, request: web.Request) -> Call:
        """Return the verified and decoded request. The steps: credential, key, query, body, rate, session, scope,
        access.

        Raise Problem if one of them fails, HTTPRequestEntityTooLarge for a large body."""
        row = self._row
        if self.form_identifies(request):
            sent = await self.sent(request)
            principal = await self.principal(request, sent.fields)
        else:
            principal = await self.principal(request, request.query)
            self.key_text(request)
            sent = await self.sent(request)
        query, body = self.query(request), self.decoded_body(sent)
        if principal is not None:
            self.admit(principal)
        session_id, by_code = SessionId(""), False
        if row.names_session:
            session_id, by_code = await self.session(request, principal, body)
            request[SESSION] = session_id
        call = Call(
            request.match_info, query, body, self.in_scope(principal, session_id), session_id, self.address(request),
            by_code, self.origin(request), request.headers.get("Last-Event-ID"),
        )  # fmt: skip
        if row.identify is not None:
            caller = await row.identify(self._services, call)
            if principal is None:
                self.admit(caller)
            call = structs.replace(call, caller=caller)
        if isinstance(row.reads, Ask):
            read = await require_membership(
                self._services, row.reads, session_id, call.principal, request.match_info["ref"]
            )
            call = structs.replace(call, read=read)
        return call

    # The caller

    def form_identifies(self, request: web.Request) -> bool:
        """Return whether the caller is identified by a field of the form."""
        return self._api.user_field is not None and self._forms and request.content_type in FORMS

    async def principal(self, request: web.Request, fields: Mapping[str, str]) -> Principal | None:
        """Return the caller, or None for an anonymous one. Count the request if it only reads. Raise Problem 401, 403,
        422, 429, 503."""
        principal = await self._identity.of(request, fields)
        self.admit_read(request, principal)
        return principal if self._row.names_session else self.in_scope(principal, SessionId(""))

    def in_scope(self, principal: Principal | None, session_id: SessionId) -> Principal | None:
        """Return the caller, or None if a public route ignores their credential. Raise Problem 403 for a credential
        that is for another session."""
        row = self._row
        if principal is None or row.scoped:
            return principal
        if row.public:
            # The route needs no credential, so one for another session is ignored.
            return principal if principal.scope in (None, session_id) else None
        principal.require_scope(session_id or None)
        return principal

    def address(self, request: web.Request) -> str:
        """Return the client's address, as rate limits count it. `X-Forwarded-For` counts only from a proxy that the
        settings trust."""
        peer = request.remote or ""
        for hop in reversed(",".join(request.headers.getall("X-Forwarded-For", [])).split(",")):
            before = forwarded_address(hop) if self._trusted(peer) else None
            if before is None:
                break
            peer = before
        return limit_key(peer)

    def origin(self, request: web.Request) -> str:
        """Return the origin at which the client reaches the server, for links."""
        return self._services.settings.server.public_url.rstrip("/") or f"{request.scheme}://{request.host}"

    # Rates

    def admit(self, principal: Principal) -> None:
        """Count a request that may change something. Raise Problem 429."""
        if self._row.method == "GET":
            return
        if wait := self._services.commands.take(principal.user_id):
            raise too_fast(f"At most {self._services.settings.limits.user_commands_per_s} commands a second.", wait)

    def admit_read(self, request: web.Request, principal: Principal | None) -> None:
        """Count a request that only reads, by user, or by address without a credential. Raise Problem 429."""
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
        """Count a join code that no session has. Raise Problem 429."""
        for who in (principal and principal.user_id, self.address(request)):
            if who and (wait := self._services.joins.take(who)):
                raise too_fast("Too many codes that lead nowhere.", wait) from None

    # The session

    # Any: the row says what type the query and the body are decoded to.
    async def session(self, request: web.Request, principal: Principal | None, body: Any) -> tuple[SessionId, bool]:
        """Return the id of the session that a request names, and whether by its join code. Raise Problem 404, 429."""
        code, lookup = self._row.code, self._services.session_lookup
        ref = request.match_info["ref"] if code is None else code(body)
        try:
            if code is None:
                return await self._api.find_session(lookup, ref)
            return await self._api.find_by_code(lookup, ref)
        except Problem:
            # Limit guesses at join codes on every route, and by address as well as by account.
            if code is not None or self._api.is_guess(ref):
                self.guessed(request, principal)
            raise

    # The content

    # Any: the row says what type the query and the body are decoded to.
    def query(self, request: web.Request) -> Any:
        """Return the decoded query. Raise Problem 422."""
        row = self._row
        if row.query is None:
            # Do not ignore a parameter silently: the client expects it to have an effect.
            unknown = next(iter(request.query), None) if self._api.strict and row.method == "GET" else None
            if unknown is not None:
                raise Problem(422, "invalid", f"There is no parameter `{unknown}`.", field=unknown, location="query")
            return None
        # Join repeated parameters with commas: fields that take a list split them again.
        fields = {name: ",".join(request.query.getall(name)) for name in request.query}
        return from_query(fields if self._api.strict else known_fields(fields, row.query), row.query)

    # Any: the row says what type the query and the body are decoded to.
    def decoded_body(self, sent: Sent) -> Any:
        """Return the decoded body, or None if the row takes none. Raise Problem 400, 422."""
        row = self._row
        if row.body is None:
            return None
        # Many clients that put all fields into the query send an empty object as the body.
        if self._forms and (sent.is_form or sent.raw.strip() in (b"", b"{}")):
            return from_query(known_fields(sent.fields, row.body), row.body, "body")
        return self.decoded(b"{}" if row.bare and not sent.raw else sent.raw)

    # Any: the row says what type the query and the body are decoded to.
    def decoded(self, raw: bytes) -> Any:
        """Return the decoded JSON body, or None if the row takes none. Raise Problem 400, 422."""
        return None if self._decode is None else self._decode(raw)

    async def sent(self, request: web.Request) -> Sent:
        """Return a request's body, if the row takes one, and its fields. Raise Problem 400, 408, 415,
        HTTPRequestEntityTooLarge."""
        raw, fields = b"", dict(request.query)
        is_form = self._forms and request.content_type in FORMS
        if is_form:
            fields |= await self.form(request)
        elif self._row.body is not None:
            raw = await self.raw(request)
        if self._api.cased:
            request[CAMEL] = key_case.wanted(request.query)
            if request[CAMEL]:
                raw = key_case.snake(raw, self._services.settings.limits.json_depth)
        return Sent(raw, fields, is_form)

    async def form(self, request: web.Request) -> dict[str, str]:
        """Return the fields of a short form. Raise Problem 400, 408, HTTPRequestEntityTooLarge."""
        try:
            if request.content_type == URLENCODED:
                return dict(
                    parse_qsl((await self.raw(request)).decode(), keep_blank_values=True, max_num_fields=FIELDS)
                )
            async with asyncio.timeout(self._body_timeout_s):
                sent = await request.post()
        # LookupError: a field names an unknown charset.
        except (ValueError, LookupError, BadHttpMessage) as error:
            raise Problem(400, "malformed", f"The body is not a form: {error}.") from error
        except TimeoutError as error:
            raise Problem(408, "too_slow", "The body took too long.", headers={"Connection": "close"}) from error
        return {name: value for name, value in sent.items() if isinstance(value, str)}

    async def raw(self, request: web.Request) -> bytes:
        """Return the body as sent. Raise Problem 400, 408, 415, HTTPRequestEntityTooLarge."""
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
        """Return a form that is read part by part. Its sender must keep up a minimum speed."""
        settings = self._services.settings
        return Form(
            request,
            patience_s=settings.limits.body_timeout_s,
            min_bytes_per_s=settings.audio.min_bytes_per_s,
        )

    def key_text(self, request: web.Request) -> str | None:
        """Return the Idempotency-Key, if the client sent one and the row takes one. Raise Problem 422."""
        return idempotency_key(request.headers.get("Idempotency-Key")) if self._row.keyed else None

    def key(self, request: web.Request, asked: object) -> Key | None:
        """Return the Idempotency-Key with a digest of `asked`, or None without a key. Raise Problem 422."""
        text = self.key_text(request)
        return None if text is None else Key(text, digest(asked))

    # Any: the row says what type the query and the body are decoded to.
    def request_asked(self, request: web.Request, body: Any) -> object:
        """Return the content of a request that an Idempotency-Key covers, if no command expresses it: route, parameters
        and body."""
        return [self._row.method, self._row.path, dict(request.match_info), body]

    # Any: the row says what type the query and the body are decoded to.
    def response(self, request: web.Request, value: Any) -> web.Response:
        """Return the response for a row's result."""
        return response(self._api.printed(self._row, value, camel=request.get(CAMEL, False)))


def known_fields(fields: Mapping[str, str], type_: type) -> dict[str, str]:
    """Return the fields that a type has. Clients of some APIs also send others."""
    names = {field.encode_name for field in structs.fields(type_)}
    return {name: value for name, value in fields.items() if name in names}


def idempotency_key(key: str | None) -> str | None:
    """Return a valid Idempotency-Key unchanged, and None for None. Raise Problem 422."""
    if key is not None and not (0 < len(key) <= KEY_LENGTH and key.isascii() and key.isprintable()):
        raise Problem(
            422, "invalid", f"`Idempotency-Key` must be 1 to {KEY_LENGTH} ASCII characters.", field="Idempotency-Key"
        )
    return key


def digest(asked: object) -> str:
    """Return a digest that is the same for equal commands or bodies, however the client wrote them."""
    return hashlib.blake2b(msgspec.json.encode(asked, order="deterministic"), digest_size=16).hexdigest()


def response(reply: Reply) -> web.Response:
    """Return the HTTP response for a reply."""
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    return web.Response(body=reply.body, status=reply.status, headers=reply.headers, content_type=reply.content_type)
