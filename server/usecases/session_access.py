"""Reads of a session: its state, inside its actor, and the caller's membership, from its row in the database.

**Law:** the access policy of the core (`actors/session/access.py`) decides; nothing here decides for itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from actors.directory import Directory
from actors.messages import ReadState, Snapshot
from actors.session.access import Ask, check, may, membership, refusal
from actors.session.errors import Rejected
from actors.session.ids import SessionId
from actors.session.permissions import require_current as require_current_credential
from actors.session.state import State
from server.http.problems import problem_of, unknown_session
from server.security.principal import Principal
from server.usecases.call import Call
from storage.log.history import Records
from storage.sessions import SessionMembership, Sessions

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class SessionParts:
    """Reads of sessions."""

    directory: Directory
    sessions: Sessions


@dataclass(frozen=True, kw_only=True)
class HistoryParts(SessionParts):
    """Reads of sessions and of their logs."""

    records: Records


async def read_state(parts: SessionParts, session_id: SessionId, ref: str, view: Callable[[State], T]) -> T:
    """Return `view(state)`, run inside the session's actor. `view` copies what it needs and keeps no reference.

    Raise Problem if the session is unknown or unavailable, and what `view` raises, which does not stop the actor."""

    def attempt(state: State) -> tuple[T | None, Exception | None]:
        try:
            return view(state), None
        except Exception as error:  # noqa: BLE001 - raised below
            return None, error

    outcome = await parts.directory.ask(session_id, ReadState(attempt))
    if not isinstance(outcome, Snapshot):
        raise problem_of(outcome, ref)
    value: T
    value, error = outcome.value
    if isinstance(error, Rejected):
        raise problem_of(error, ref) from error
    if error is not None:
        raise error
    return value


async def read_state_as_participant(parts: SessionParts, call: Call, view: Callable[[State], T]) -> T:
    """Return `view(state)` to a caller who may read the state: who is in the session, waits, or was in it.

    Raise Problem 403, 404, 503, and what `view` raises."""
    viewer = call.principal.user_id

    def permitted(state: State) -> T:
        check(Ask.STATE, membership(state, viewer))
        return view(state)

    return await read_state(parts, call.session_id, call.params["ref"], permitted)


async def require_current(parts: SessionParts, principal: Principal, ref: str = "") -> None:
    """Raise Problem 403 if a credential for one session has ended because its holder was removed from that session."""
    if principal.scope is not None:
        caller = principal.caller()
        await read_state(parts, principal.scope, ref, lambda state: require_current_credential(state, caller))


async def require_membership(
    parts: SessionParts, ask: Ask, session_id: SessionId, principal: Principal, ref: str
) -> SessionMembership:
    """Return a session and the caller's membership of it, if the caller may read what they ask for.

    Raise Problem 404 for an unknown session, 403 if the access policy refuses or the caller was removed."""
    read = await parts.sessions.find(session_id, principal.user_id)
    if read is None:
        raise unknown_session(ref)
    if not may(Ask.CARD, read.membership):
        raise problem_of(refusal(ask, read.membership), ref)
    await require_current(parts, principal, ref)
    if not may(ask, read.membership):
        raise problem_of(refusal(ask, read.membership), ref)
    return read
