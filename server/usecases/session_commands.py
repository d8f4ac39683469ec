"""Commands to a session and reads of it, from the functions of a row.

**Law:** a row's functions read a session inside its actor. An exception that they raise does not stop the actor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from msgspec import structs

from actors.messages import Answer, Execute, Key, Outcome, Repeated
from actors.session.commands import Caller, Command
from actors.session.state import State
from actors.session.visibility import VisibleEvent, event_in_log
from server.http.problems import problem_of, unknown_session
from server.http.timestamps import now_millis
from server.usecases.call import Call
from server.usecases.command_inputs import InputParts, load_inputs
from server.usecases.session_access import read_state
from storage.log.event_log import PostgresEventLog

# Any: the functions of one row agree on this type; each row has its own.
See = Callable[[State, Call], Any]


@dataclass(frozen=True, kw_only=True)
class CommandParts(InputParts):
    """Commands to sessions."""

    log: PostgresEventLog


async def asked(
    parts: CommandParts,
    call: Call,
    ask: Callable[[Call], Command],
    find: See | None,
    key: Key | None = None,
    *,
    has_invitation: bool = False,
) -> Call:
    """Run the command of a row; return the call with `found` and `made`. Raise Problem for every outcome but
    success."""
    if find is not None:
        call = structs.replace(call, found=await seen(parts, call, find))
    principal, command = call.principal, ask(call)
    known = await load_inputs(parts, call.session_id, principal, command)
    caller: Caller = structs.replace(principal.caller(has_invitation=has_invitation), **known)
    outcome = await parts.directory.ask(call.session_id, Execute(command, caller, key=key))
    return structs.replace(call, made=await made(parts, call, outcome))


async def made(parts: CommandParts, call: Call, outcome: Outcome) -> list[VisibleEvent]:
    """Return the events of a command, also if an earlier request with the same key made them.

    Raise Problem if the command was refused or failed."""
    match outcome:
        case Answer(published=published):
            return [out.whole for out in published]
        case Repeated(first_seq=first, last_seq=last):
            rows = await parts.log.read(call.session_id, first - 1, last - first + 1) if last >= first else []
            return [event_in_log(row, call.principal.user_id) for row in rows]
        case _:
            raise problem_of(outcome, call.params.get("ref", ""))


# Any: the functions of one row agree on this type; each row has its own.
async def seen(parts: CommandParts, call: Call, see: See) -> Any:
    """Return `see(state, call)`, run inside the session's actor. Raise Problem 404 if the session is deleted, 503, and
    what `see` raises."""

    ref = call.params.get("ref", "")

    def look(state: State) -> Any:
        if state.session.deleted:
            # The lookup of its name was cached.
            raise unknown_session(ref)
        return see(state, structs.replace(call, now=now_millis()))

    return await read_state(parts, call.session_id, ref, look)
