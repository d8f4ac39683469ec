"""The handlers of dialects' rows: who calls, what they sent, which session, and then what the row says.

**Law:** identity is a verified token's; a name that a client puts beside it has to be its own. It counts by itself
only in a dialect that the settings have declared trusting.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage
from msgspec import Struct, structs

from actors.messages import Answer, Execute, Key, Look, Outcome, Repeated, Snapshot
from actors.session.commands import Caller, Command
from actors.session.errors import Rejected
from actors.session.events import Recorded
from actors.session.ids import SessionId
from actors.session.state import State
from server import casing
from server.auth import Principal
from server.clock import now_millis
from server.decoding import from_query
from server.dialect import (
    AskRoute,
    CreateRoute,
    Dialect,
    DialectRow,
    FetchRoute,
    LookRoute,
    PlayRoute,
    See,
    TakeRoute,
    WatchRoute,
)
from server.endpoint import SESSION, USER, Endpoint, Handler, response
from server.errors import Problem, refused, unauthenticated, unknown_session
from server.forms import Form
from server.long_answers import ContentEndpoint
from server.lookups import looked_up
from server.openings import open_once
from server.routes import Call, Content, Reply
from server.services import Services

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


class Identity:
    """Finds out who calls."""

    def __init__(self, dialect: Dialect, row: DialectRow, services: Services, endpoint: Endpoint) -> None:
        self._dialect = dialect
        self._row = row
        self._services = services
        self._endpoint = endpoint

    async def of(self, request: web.Request, fields: Mapping[str, str]) -> Principal | None:
        """Give the caller; None: nobody in particular, where the row is public. Raises: Problem 401, 403."""
        header = request.headers.get("Authorization")
        if header is None and self._row.query_token and (token := request.query.get("token")):
            header = f"Bearer {token}"
        named = fields.get(self._dialect.user_field) if self._dialect.user_field else None
        if header is None:
            principal = await self._unverified(named)
        else:
            principal = await self._verified(header)
            if principal is not None and named is not None and named != str(principal.number):
                field = self._dialect.user_field
                raise Problem(403, "somebody_else", f"`{field}` is not who the token says you are.", field=field)
        if principal is not None:
            request[USER] = principal.user_id
            if self._row.teachers and principal.role != "teacher":
                raise Problem(403, "not_a_teacher", "Only teachers may do this.")
        self._endpoint.admit_read(request, principal)
        return principal

    async def _verified(self, header: str) -> Principal | None:
        try:
            return await self._endpoint.bearer(header)
        except Problem as problem:
            # A client that logs in again may still send the token that has expired.
            if self._row.public and not isinstance(self._row, WatchRoute) and problem.status == 401:
                return None
            raise

    async def _unverified(self, named: str | None) -> Principal | None:
        if named is not None and self._dialect.trusting:
            if not (named.isascii() and named.isdigit() and len(named) < 10):
                field = self._dialect.user_field
                raise Problem(422, "invalid", f"`{field}` must be a user's number.", field=field, place="query")
            user = await self._services.users.find_number(int(named))
            if user is not None and user.role != "guest":
                # They come by no login, and have none that could end.
                return Principal(user.user_id, user.number, user.name, user.role, "", float("inf"))
        if self._row.public:
            return None
        raise unauthenticated("Send `Authorization: Bearer <access token>`.")


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
            return await self._services.refs.within(
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
        camel = self._dialect.cased and casing.wanted(request.query)
        if camel:
            raw = casing.snake(raw, self._services.settings.limits.json_depth)
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
            value = casing.camel(msgspec.to_builtins(value))
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
        call = await asked(self._services, call, self._row.ask, self._row.find, key, admits=self._row.admits)
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
        state = await open_once(self._services, call, row.new(call), opening)
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
        settings = self._services.settings
        form = request[FORM] = Form(
            request,
            patience_s=settings.limits.body_timeout_s,
            min_bytes_per_s=settings.audio.min_bytes_per_s,
        )
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


async def named_session(
    dialect: Dialect, services: Services, request: web.Request, principal: Principal | None, endpoint: Endpoint
) -> SessionId:
    """Find the session that a path names. Raises: Problem 404, 429."""
    ref = request.match_info["ref"]
    try:
        if dialect.reference and not re.fullmatch(dialect.reference, ref):
            raise unknown_session(ref)
        return await services.refs.within(dialect.kind, dialect.made, dialect.named, ref)
    except Problem:
        if dialect.inviting:
            endpoint.guessed(request, principal)
        raise


async def asked(
    services: Services,
    call: Call,
    ask: Callable[[Call], Command],
    find: See | None,
    key: Key | None = None,
    *,
    admits: bool = False,
) -> Call:
    """Have a session do what a call asks for; give the call with what it `found` and `made`. Raises: Problem."""
    if find is not None:
        call = structs.replace(call, found=await seen(services, call, find))
    principal, command = call.principal, ask(call)
    known = await looked_up(services, call.session_id, principal, command)
    caller: Caller = structs.replace(principal.caller(holds_code=admits), **known)
    outcome = await services.directory.ask(call.session_id, Execute(command, caller, key=key))
    return structs.replace(call, made=await made(services, call, outcome))


async def made(services: Services, call: Call, outcome: Outcome) -> list[Recorded]:
    """Give the events of a command, this time's or the first time's. Raises: Problem."""
    match outcome:
        case Answer(published=published):
            return [out.recorded for out in published]
        case Repeated(first_seq=first, last_seq=last):
            return await services.log.read(call.session_id, first - 1, last - first + 1) if last >= first else []
        case _:
            raise refused(outcome, call.params.get("ref", ""))


async def seen(services: Services, call: Call, see: See) -> Any:
    """Give what a dialect sees in a session. Raises: Problem."""

    def look(state: State) -> Any:
        # What it raises must not end the session's actor: it is raised again outside of it.
        try:
            if state.session.deleted:
                # Found by a name that was looked up before.
                raise unknown_session(ref)
            return see(state, structs.replace(call, now=now_millis())), None
        except Exception as error:  # noqa: BLE001 - raised below
            return None, error

    ref = call.params.get("ref", "")
    outcome = await services.directory.ask(call.session_id, Look(look, asyncio.get_running_loop().create_future()))
    if not isinstance(outcome, Snapshot):
        raise refused(outcome, ref)
    value, error = outcome.value
    if isinstance(error, Rejected):
        raise refused(error, ref)
    if error is not None:
        raise error
    return value


async def entitled(services: Services, call: Call, row: DialectRow) -> None:
    """See that the caller is whom the row is for. Raises: Problem 403, 404."""
    if row.whose == "anyone":
        return
    ref, principal = call.params["ref"], call.principal
    if row.whose == "moderator":
        await services.moderated(call.session_id, principal, ref)
        return
    found = await services.visible(call.session_id, principal, ref)
    if row.whose == "owner" and found.session.owner_id != principal.user_id:
        raise Problem(403, "not_owner", "Only the session's owner may do this.")


def known_fields(fields: Mapping[str, str], type_: Any) -> dict[str, str]:
    """Leave out what a type does not have: clients send more than they must."""
    names = {field.encode_name for field in structs.fields(type_)}
    return {name: value for name, value in fields.items() if name in names}
