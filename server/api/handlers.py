"""The handlers for short answers: commands, creations, reads, actions, uploads and webhooks.

`bootstrap/application.py` gives every row of every API one of these, or one of `downloads.py`, `replay_stream.py`,
`sse.py`, `websocket.py` and the modules that extend them. Each handler takes the call that `Endpoint` makes of a
request, asks a session or runs a use case, and encodes the result as the row says.
"""

import msgspec
from aiohttp import web
from msgspec import structs

from actors.messages import Answer, Execute, Key, Outcome, Repeated
from actors.ports import KeyRow
from actors.session.commands import Command
from actors.session.ids import SessionId, UserId
from actors.session.visibility import event_in_log
from server.api.endpoint import Endpoint, Sent, digest, response
from server.api.routes import (
    ActionRoute,
    CommandRoute,
    CreateRoute,
    DirectCommandRoute,
    HookRoute,
    ReadRoute,
    UploadRoute,
)
from server.http.multipart import Form
from server.http.problems import Problem, problem_of
from server.http.reply import Reply
from server.security.principal import Principal
from server.usecases.call import Call
from server.usecases.command_inputs import NOTHING, Fields, load_inputs
from server.usecases.session_commands import made, seen
from server.usecases.session_creation import create_session_idempotent

FORM = web.RequestKey("form", Form)
REPEATED = web.RequestKey("repeated", KeyRow)
"""The stored outcome of an Idempotency-Key in a session that was deleted later, or by that request."""


class AnyCommandEndpoint(Endpoint):
    """Send a command to its session."""

    _row: CommandRoute | DirectCommandRoute

    @property
    def reads_session(self) -> bool:
        """Return whether the answer contains more than the command's events. If so, a deleted session gives no
        answer."""
        return False

    async def session(self, request: web.Request, principal: Principal | None, body: object) -> tuple[SessionId, bool]:
        """Return the id of the session, also of a deleted one if the request repeats its Idempotency-Key. Raise Problem
        404, 429."""
        try:
            return await super().session(request, principal, body)
        except Problem as problem:
            key, ref = self.key_text(request), request.match_info.get("ref")
            if problem.status != 404 or key is None or ref is None or principal is None or self.reads_session:
                raise
            session_id = await self._services.session_lookup.deleted(ref)
            if session_id is None or principal.scope not in (None, session_id):
                raise
            used = await self._services.log.find_key(session_id, principal.user_id, key)
            if used is None:
                raise
            request[REPEATED] = used
            return session_id, False

    async def ask(
        self, request: web.Request, call: Call, command: Command, key: Key | None, *, has_invitation: bool
    ) -> Outcome:
        """Send a command to its session and return the outcome. Raise Problem if the command's inputs cannot be
        loaded."""
        if (used := request.get(REPEATED)) is not None:
            assert key is not None
            return key.outcome(used)
        principal = call.principal
        inputs = await load_inputs(self._services, call.session_id, principal, command)
        execute = executed(principal, command, key, inputs, has_invitation=has_invitation)
        return await self._services.directory.ask(call.session_id, execute)


def executed(
    principal: Principal, command: Command, key: Key | None, inputs: Fields = NOTHING, *, has_invitation: bool
) -> Execute:
    """Return the message that makes a session execute a caller's command."""
    caller = principal.caller(has_invitation=has_invitation)
    if inputs:
        caller = msgspec.structs.replace(caller, **inputs)
    return Execute(command, caller, key=key)


class DirectCommandEndpoint(AnyCommandEndpoint):
    """Serve a `DirectCommandRoute`. Its steps are separate methods: the fast lane and sockets use the same ones."""

    _row: DirectCommandRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        call = await self.call(request)
        key = self.key(request, call.body)
        outcome = await self.ask(request, call, call.body, key, has_invitation=call.by_code)
        return response(await self.reply(outcome, request.match_info["ref"], call.session_id, call.principal.user_id))

    def execute(
        self, principal: Principal, by_code: bool, command: Command, key: str | None, inputs: Fields = NOTHING
    ) -> Execute:
        """Return the message that makes a session execute the command. `inputs` are the command's loaded inputs."""
        used = None if key is None else Key(key, digest(command))
        return executed(principal, command, used, inputs, has_invitation=by_code)

    def answered(self, outcome: Outcome, ref: str) -> Reply | None:
        """Return the reply for an outcome, or None if the reply requires a read from the log. Raise Problem for a
        refusal."""
        if isinstance(outcome, Repeated):
            return None
        if not isinstance(outcome, Answer):
            raise problem_of(outcome, ref)
        return self._row.reply(outcome)

    async def reply(self, outcome: Outcome, ref: str, session_id: SessionId, user_id: UserId) -> Reply:
        """Return the reply for any outcome; read the events of a repeated key from the log. Raise Problem for a
        refusal."""
        reply = self.answered(outcome, ref)
        if reply is not None:
            return reply
        assert isinstance(outcome, Repeated)
        first, last = outcome.first_seq, outcome.last_seq
        rows = await self._services.log.read(session_id, first - 1, last - first + 1) if last >= first else []
        return self._row.repeat(last, [event_in_log(one, user_id) for one in rows])


class CommandEndpoint(AnyCommandEndpoint):
    """Serve a `CommandRoute`."""

    _row: CommandRoute

    @property
    def reads_session(self) -> bool:
        """Return whether the row reads the session besides sending the command."""
        row = self._row
        return row.find is not None or row.see is not None or row.reads is not None

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row, call = self._services, self._row, await self.call(request)
        if row.lookup is not None:
            call = structs.replace(call, known=await row.lookup(services, call))
        if row.find is not None:
            call = structs.replace(call, found=await seen(services, call, row.find))
        command = row.ask(call)
        # The key covers the command. If the command depends on what was read first, the key covers the request instead.
        by_command = row.find is None and row.lookup is None
        key = self.key(request, command if by_command else self.request_asked(request, call.body))
        outcome = await self.ask(request, call, command, key, has_invitation=row.has_invitation or call.by_code)
        call = structs.replace(call, made=await made(services, call, outcome))
        if row.see is not None:
            call = structs.replace(call, seen=await seen(services, call, row.see))
        value = call.seen if row.then is None else await row.then(services, call)
        return self.response(request, row.view(value, call))


class ReadEndpoint(Endpoint):
    """Serve a `ReadRoute`."""

    _row: ReadRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row, call = self._services, self._row, await self.call(request)
        call = structs.replace(call, seen=await seen(services, call, row.see))
        value = call.seen if row.then is None else await row.then(services, call)
        return self.response(request, row.view(value, call))


class CreateEndpoint(Endpoint):
    """Serve a `CreateRoute`."""

    _row: CreateRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row, call = self._services, self._row, await self.call(request)
        call = structs.replace(call, key=self.key(request, self.request_asked(request, call.body)))
        if call.key is not None and not call.principal.login and row.identify is not None:
            # A caller without a credential becomes a new guest with each request, so the key would never match.
            raise Problem(422, "invalid", "An Idempotency-Key takes a token.", field="Idempotency-Key")
        options = structs.replace(row.options(call), dialect=self._api.made_through)
        state = await create_session_idempotent(services, call, row.new(call), options)
        call = structs.replace(call, session_id=state.session.id)
        if row.see is not None:
            call = structs.replace(call, seen=row.see(state, call))
        value = call.seen if row.then is None else await row.then(services, call, state)
        return self.response(request, row.view(value, call))


class ActionEndpoint(Endpoint):
    """Serve an `ActionRoute`."""

    _row: ActionRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        row, call = self._row, await self.call(request)
        call = structs.replace(call, key=self.key(request, self.request_asked(request, call.body)))
        if row.into is not None:
            call = structs.replace(call, body=row.into(call))
        return self.response(request, row.view(await row.act(self._services, call), call))


class UploadEndpoint(Endpoint):
    """Serve an `UploadRoute`."""

    _row: UploadRoute

    def form_identifies(self, request: web.Request) -> bool:
        """Return whether the caller is identified by a field of the form: only without a token, and only in a trusting
        API."""
        return self._api.trusting and "Authorization" not in request.headers

    async def sent(self, request: web.Request) -> Sent:
        """Return the fields of the query, and those before the file if they identify the caller. The file is read
        later."""
        form = request[FORM] = self.upload(request)
        fields = dict(request.query)
        if self.form_identifies(request):
            fields = await form.leading() | fields
        return Sent(b"", fields)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        row, call = self._row, await self.call(request)
        return self.response(request, row.view(await row.act(self._services, call, request[FORM]), call))


class HookEndpoint(Endpoint):
    """Serve a `HookRoute`."""

    _row: HookRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await self._row.act(self._services, request.headers, await self.raw(request))
        return response(Reply(self._row.status, b"{}"))
