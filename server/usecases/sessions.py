"""Sessions: lists, single sessions, their state, and tickets to their streams. The functions return plain values, which
each API prints in its own form.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct, structs

from actors.session.access import Ask
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Kind, Session, State, Status
from server.http.pagination import PAGE, Listed, PageCursor, listed
from server.http.problems import unknown_session
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.security.principal import Principal
from server.security.tickets import Tickets
from server.usecases.accounts import UserRef
from server.usecases.call import Call
from server.usecases.session_access import SessionParts, read_state_as_participant, require_membership
from server.usecases.session_lookup import SessionLookup
from storage.sessions import UUID, SessionMembership


@dataclass(frozen=True, kw_only=True)
class LookupParts:
    """Remembered references to sessions."""

    session_lookup: SessionLookup


@dataclass(frozen=True, kw_only=True)
class TicketParts:
    """Tickets that open streams."""

    tickets: Tickets


class SessionQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Status | None = None
    kind: Kind | None = None
    owner: UserRef | None = None
    participant: UserRef | None = None
    course_id: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: PageCursor | None = None


class Slice(Struct, frozen=True, kw_only=True):
    """Sessions of a kind, newest first, `skip` of them left out."""

    kind: Kind
    skip: int = 0
    limit: int = 100
    owner: UserId | None = None
    participant: UserId | None = None
    status: Status | None = None
    dialect: str | None = None
    """Only sessions created through this dialect."""


async def sliced(parts: SessionParts, call: Call[Slice]) -> tuple[list[Session], int]:
    """Return a slice, and the number of sessions in all. The list is empty if `owner` is not an id."""
    asked = call.body
    if asked.owner is not None and not UUID.fullmatch(asked.owner):
        return [], 0
    return await parts.sessions.slice(**structs.asdict(asked))


async def list_sessions(parts: SessionParts, call: Call[object, SessionQuery]) -> Listed:
    """Return a page of the sessions that the caller owns or is a participant of, newest first."""
    query = call.query
    found = await parts.sessions.page(
        call.principal.user_id,
        before=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        status=query.status,
        kind=query.kind,
        owner=query.owner,
        participant=query.participant,
        course_id=query.course_id,
    )
    return listed(found, query.limit, lambda one: one.number)


async def card(parts: SessionParts, call: Call) -> Session:
    """Return a session to a caller who may read its card."""
    return call.card.session


@refuses(kicked=403, not_joined=403, unknown_session=404)
async def find_session(parts: SessionParts, call: Call) -> Session:
    """Return a session after a command to it. Raise Problem 403, 404."""
    return (await require_membership(parts, Ask.CARD, call.session_id, call.principal, call.params["ref"])).session


async def state(
    parts: SessionParts, call: Call, encode: Callable[[State, UserId, Millis, dict[Hashable, bytes]], bytes]
) -> bytes:
    """Return a session's state as bytes, encoded by `encode(state, viewer, now, shared)` inside the actor. Raise
    Problem 403, 404, 503."""
    viewer = call.principal.user_id

    def view(state: State) -> bytes:
        shared: dict[Hashable, bytes] = {}
        return encode(state, viewer, now_millis(), shared)

    return await read_state_as_participant(parts, call, view)


@refuses(unknown_session=404)
async def find_place(parts: SessionParts, call: Call) -> SessionMembership:
    """Return a session and the caller's membership, without a check: the caller has just joined. Raise Problem 404."""
    found = await parts.sessions.find(call.session_id, call.principal.user_id)
    if found is None:
        raise unknown_session(call.session_id)
    return found


async def deleted(parts: LookupParts, call: Call) -> None:
    """Forget a session after `session_deleted`: later requests do not find it."""
    parts.session_lookup.forget(call.session_id)


class Ticket(Struct, frozen=True):
    """A ticket to a stream."""

    ticket: str
    expires_at: Millis


async def ticket(parts: TicketParts, call: Call) -> Ticket:
    """Create a ticket to the streams of the session."""
    return ticket_for(parts, call.principal, call.session_id)


async def own_ticket(parts: TicketParts, call: Call) -> Ticket:
    """Create a ticket to the caller's own stream of notifications."""
    return ticket_for(parts, call.principal, None)


def ticket_for(parts: TicketParts, principal: Principal, session_id: SessionId | None) -> Ticket:
    """Create a ticket for a session, or without one for the caller's notifications."""
    text, expires_at = parts.tickets.issue(principal, session_id)
    return Ticket(text, Millis(round(expires_at * 1000)))
