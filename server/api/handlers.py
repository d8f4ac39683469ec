"""The generic handlers of what is short: commands, actions, uploads, webhooks. Every row of every API is served by one
of these, or by one in `long_answers.py`, `watching.py` or `sockets.py` (`app.ENDPOINTS`).

Each verifies the credential, decodes what was sent, asks the session or a store, and prints the answer as the row says.
"""

import msgspec
from aiohttp import web

from actors.messages import Answer, Execute, Key, Outcome, Repeated
from actors.session.commands import Command
from actors.session.ids import SessionId
from actors.session.visibility import event_in_log
from server.api.endpoint import SESSION, Endpoint, digest, idempotency_key, response
from server.api.routes import ActionRoute, CommandRoute, HookRoute, UploadRoute
from server.http.problems import Problem, problem_of
from server.http.reply import Reply
from server.security.principal import Principal
from server.usecases.call import Call
from server.usecases.command_inputs import NOTHING, Fields, load_inputs


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
        ref, command = row.ref(request.match_info, body), row.command(body)
        outcome: Outcome | None = None
        try:
            session_id, by_code = await self.resolve(request, ref, principal)
        except Problem as problem:
            before = None if key is None or problem.status != 404 else await self.before(ref, principal, command, key)
            if before is None:
                raise
            (session_id, outcome), by_code = before, False
        request[SESSION] = session_id
        if outcome is None:
            principal.require_scope(session_id)
            found = await load_inputs(services, session_id, principal, command)
            outcome = await services.directory.ask(session_id, self.execute(principal, by_code, command, key, found))
        call = Call(request.match_info, None, body, principal, session_id, self.address(request))
        return response(await self.reply(outcome, ref, call))

    async def before(
        self, ref: str, principal: Principal, command: Command, key: str
    ) -> tuple[SessionId, Outcome] | None:
        """Give what a key did in a session that has been deleted since, perhaps by that; None: nothing."""
        session_id = await self._services.session_lookup.deleted(ref)
        if session_id is None or principal.scope not in (None, session_id):
            return None
        used = await self._services.log.find_key(session_id, principal.user_id, key)
        return None if used is None else (session_id, Key(key, digest(command)).outcome(used))

    def execute(
        self, principal: Principal, by_code: bool, command: Command, key: str | None, found: Fields = NOTHING
    ) -> Execute:
        caller = principal.caller(has_invitation=by_code)
        if found:
            caller = msgspec.structs.replace(caller, **found)
        return Execute(command, caller, key=None if key is None else Key(key, digest(command)))

    def answered(self, outcome: Outcome, ref: str) -> Reply | None:
        """Print an outcome that needs nothing looked up; None for the others. Raises: Problem."""
        if not isinstance(outcome, Answer | Repeated):
            raise problem_of(outcome, ref)
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
        return row.repeat(last, [event_in_log(one, call.principal.user_id) for one in rows])


class ActionEndpoint(Endpoint):
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
            request.match_info, query, body, principal, session_id, self.address(request), by_code,
            self.origin(request), key=self.key(request, body),
        )  # fmt: skip
        return response(row.view(await row.act(services, call)))


class UploadEndpoint(Endpoint):
    _row: UploadRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services, row = self._services, self._row
        principal = await self.principal(request)
        assert principal is not None
        principal.require_scope(None)
        form = self.upload(request)
        call = Call(request.match_info, None, None, principal, SessionId(""), self.address(request))
        return response(row.view(await row.act(services, call, form)))


class HookEndpoint(Endpoint):
    _row: HookRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        await self._row.act(self._services, request.headers, await self.raw(request))
        return response(Reply(self._row.status, b"{}"))
