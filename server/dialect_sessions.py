"""What dialects do with a session: find the one that is named, have it do something, and look into it.

**Law:** what a row sees of a session it sees inside the session's actor, and nothing that it raises there ends that.
"""

import re
from collections.abc import Callable
from typing import Any

from aiohttp import web
from msgspec import structs

from actors.messages import Answer, Execute, Key, Outcome, Repeated
from actors.session.commands import Caller, Command
from actors.session.events import Recorded
from actors.session.ids import SessionId
from actors.session.state import State
from server.auth import Principal
from server.clock import now_millis
from server.dialect import Dialect, See
from server.endpoint import Endpoint
from server.errors import Problem, refused, unknown_session
from server.lookups import looked_up
from server.routes import Call
from server.services import Services


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

    ref = call.params.get("ref", "")

    def look(state: State) -> Any:
        if state.session.deleted:
            # Found by a name that was looked up before.
            raise unknown_session(ref)
        return see(state, structs.replace(call, now=now_millis()))

    return await services.look(call.session_id, ref, look)
