"""The handlers of dialects' rows: who calls, what they sent, which session, and then what the row says.

Who calls is `dialect_callers`; what a session is asked, and what is seen in it, `dialect_sessions`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import Struct, structs

from actors.session.ids import SessionId
from server.api.dialect import AskRoute, CreateRoute, Dialect, DialectRow, FetchRoute, LookRoute, PlayRoute, TakeRoute
from server.api.dialect_callers import Identity, entitled, named_session
from server.api.downloads import ContentEndpoint
from server.api.endpoint import SESSION, Endpoint, Handler, response
from server.http import key_case
from server.http.json_body import from_query
from server.http.multipart import Form
from server.http.problems import Problem
from server.http.reply import Reply
from server.security.principal import Principal
from server.usecases.call import Call, Content
from server.usecases.services import Services
from server.usecases.session_commands import asked, seen
from server.usecases.session_creation import create_session_idempotent

URLENCODED = "application/x-www-form-urlencoded"
FORMS = (URLENCODED, "multipart/form-data")
FORM = web.RequestKey("form", Form)
FIELDS = 64
"""Fields of a form at most."""


def bind_dialect(dialect: Dialect, row: DialectRow, services: Services) -> Handler:
    """Make the handler of a dialect's row."""
    match row:
        case AskRoute():
            return _Ask(dialect, row, services).__call__
        case LookRoute():
            return _Look(dialect, row, services).__call__
        case CreateRoute():
            return _Create(dialect, row, services).__call__
        case FetchRoute():
            return _Fetch(dialect, row, services).__call__
        case PlayRoute():
            return _Play(dialect, row, services).__call__
        case TakeRoute():
            return _Take(dialect, row, services).__call__
    raise TypeError(f"no handler for {type(row).__name__}")


class Sent(Struct, frozen=True):
    """A request's body as it came, and the fields of its query and form."""

    raw: bytes
    fields: Mapping[str, str]
    is_form: bool
    camel: bool = False


class _DialectEndpoint(Endpoint):
    """What the handlers of all dialects do first."""

    _row: DialectRow

    def __init__(self, dialect: Dialect, row: DialectRow, services: Services) -> None:
        super().__init__(row, services)
        self._dialect = dialect
        self._identity = Identity(dialect, row, services, self)
        self._names_session = "{ref}" in row.path or row.ref is not None
        self._forms = dialect.forms or row.forms

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        sent = await self.sent(request)
        call = await self.call(request, sent)
        return response(self.printed(await self.serve(call, request), sent.camel))

    async def serve(self, call: Call, request: web.Request) -> Any:
        raise NotImplementedError

    async def call(self, request: web.Request, sent: Sent) -> Call:
        """Verify and decode a request. Raises: Problem."""
        principal = await self._identity.of(request, sent.fields)
        body, session_id = self.decoded_body(sent), SessionId("")
        if self._names_session:
            session_id = await self.session(request, principal, body)
            request[SESSION] = session_id
        if principal is not None and not self._row.scoped:
            if not self._row.public:
                principal.require_scope(session_id if self._names_session else None)
            elif principal.scope not in (None, session_id):
                # For another session: it says nothing here.
                principal = None
        call = Call(
            request.match_info, self.decoded_query(request), body, principal, session_id,
            self.address(request), False, self.origin(request),
        )  # fmt: skip
        if self._row.comes is not None:
            call = structs.replace(call, caller=await self._row.comes(self._services, call))
        await entitled(self._services, call, self._row)
        return call

    async def session(self, request: web.Request, principal: Principal | None, body: Any) -> SessionId:
        """Find the session. Raises: Problem 404, 429."""
        if self._row.ref is None:
            return await named_session(self._dialect, self._services, request, principal, self)
        try:
            return await self._services.session_lookup.within(
                self._dialect.kind, self._dialect.made, "code", self._row.ref(body).upper()
            )
        except Problem:
            self.guessed(request, principal)
            raise

    async def sent(self, request: web.Request) -> Sent:
        """Read a request's body, if the row has one. Raises: Problem, HTTPRequestEntityTooLarge."""
        raw, fields = b"", dict(request.query)
        is_form = self._forms and request.content_type in FORMS
        if is_form:
            fields |= await self.form(request)
        elif self._row.body is not None:
            raw = await self.raw(request)
        camel = self._dialect.cased and key_case.wanted(request.query)
        if camel:
            raw = key_case.snake(raw, self._services.settings.limits.json_depth)
        return Sent(raw, fields, is_form, camel)

    async def form(self, request: web.Request) -> dict[str, str]:
        """Read the fields of a short form. Raises: Problem 400, 408, HTTPRequestEntityTooLarge."""
        try:
            if request.content_type == URLENCODED:
                return dict(
                    parse_qsl((await self.raw(request)).decode(), keep_blank_values=True, max_num_fields=FIELDS)
                )
            async with asyncio.timeout(self._services.settings.limits.body_timeout_s):
                sent = await request.post()
        # A field may name a charset that there is not.
        except (ValueError, LookupError, BadHttpMessage) as error:
            raise Problem(400, "malformed", f"The body is not a form: {error}.") from error
        except TimeoutError as error:
            raise Problem(408, "too_slow", "The body took too long.", headers={"Connection": "close"}) from error
        return {name: value for name, value in sent.items() if isinstance(value, str)}

    def decoded_query(self, request: web.Request) -> Any:
        if self._row.query is None:
            return None
        return from_query(known_fields(request.query, self._row.query), self._row.query)

    def decoded_body(self, sent: Sent) -> Any:
        if self._row.body is None:
            return None
        # An empty object is what many a client sends that has put everything into the query.
        if self._forms and (sent.is_form or sent.raw.strip() in (b"", b"{}")):
            return from_query(known_fields(sent.fields, self._row.body), self._row.body, "body")
        return self.decoded(sent.raw)

    def printed(self, value: Any, camel: bool) -> Reply:
        if isinstance(value, Reply):
            return value
        if camel:
            value = key_case.camel(msgspec.to_builtins(value))
        return Reply(self._row.status, None if self._row.status == 204 else msgspec.json.encode(value))


class _Look(_DialectEndpoint):
    _row: LookRoute

    async def serve(self, call: Call, request: web.Request) -> Any:
        call = structs.replace(call, seen=await seen(self._services, call, self._row.see))
        then = self._row.then
        return self._row.out(call.seen if then is None else await then(self._services, call), call)


class _Ask(_DialectEndpoint):
    _row: AskRoute

    async def serve(self, call: Call, request: web.Request) -> Any:
        self.admit(call.principal)
        # By what was sent: what command that makes may have to do with what the session has become meanwhile.
        key = self.key(request, call.body)
        if self._row.lookup is not None:
            call = structs.replace(call, known=await self._row.lookup(self._services, call))
        call = await asked(
            self._services, call, self._row.ask, self._row.find, key, has_invitation=self._row.has_invitation
        )
        if self._row.see is not None:
            call = structs.replace(call, seen=await seen(self._services, call, self._row.see))
        then = self._row.then
        return self._row.out(call.seen if then is None else await then(self._services, call), call)


class _Create(_DialectEndpoint):
    _row: CreateRoute

    async def serve(self, call: Call, request: web.Request) -> Any:
        row = self._row
        self.admit(call.principal)
        call = structs.replace(call, key=self.key(request, call.body))
        if call.key is not None and not call.principal.login and row.comes is not None:
            # Whoever comes by no credential is somebody else each time.
            raise Problem(422, "invalid", "An Idempotency-Key takes a token.", field="Idempotency-Key")
        opening = structs.replace(row.opening(call), dialect=self._dialect.name)
        state = await create_session_idempotent(self._services, call, row.new(call), opening)
        call = structs.replace(call, session_id=state.session.id)
        if row.see is not None:
            call = structs.replace(call, seen=row.see(state, call))
        return call.seen if row.then is None else row.out(await row.then(self._services, call, state), call)


class _Fetch(_DialectEndpoint):
    _row: FetchRoute

    async def serve(self, call: Call, request: web.Request) -> Any:
        # Who has no credential yet is counted by what they do: logging in has rates of its own.
        if self._row.method != "GET" and call.caller is not None:
            self.admit(call.caller)
        call = structs.replace(call, key=self.key(request, call.body))
        if self._row.into is not None:
            call = structs.replace(call, body=self._row.into(call))
        return self._row.out(await self._row.act(self._services, call), call)


class _Take(_DialectEndpoint):
    _row: TakeRoute

    async def sent(self, request: web.Request) -> Sent:
        form = request[FORM] = self.upload(request)
        fields = dict(request.query)
        if self._dialect.trusting and "Authorization" not in request.headers:
            # Who it is from may stand in the form itself.
            fields = await form.leading() | fields
        return Sent(b"", fields, False)

    async def serve(self, call: Call, request: web.Request) -> Any:
        return self._row.out(await self._row.act(self._services, call, request[FORM]), call)


class _Play(_DialectEndpoint, ContentEndpoint):
    _row: PlayRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        return await ContentEndpoint.__call__(self, request)

    async def content(self, request: web.Request) -> Content:
        return await self._row.act(self._services, await self.call(request, await self.sent(request)))


def known_fields(fields: Mapping[str, str], type_: Any) -> dict[str, str]:
    """Leave out what a type does not have: clients send more than they must."""
    names = {field.encode_name for field in structs.fields(type_)}
    return {name: value for name, value in fields.items() if name in names}
