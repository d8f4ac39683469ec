"""Guests whose clients choose their ids, in dialects where the link to a session is the invitation to it.

**Law:** within one session, an id belongs to the guest who first got a token for it. Later callers with this id must
send that token. The same id in another session is another guest. A client cannot choose the id of an account or of a
guest of `/v1`.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from msgspec import Struct, structs

from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Participant, State
from server.http.problems import Problem, too_fast, unauthenticated, unknown_session
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.security.principal import Principal
from server.usecases.accounts import digest
from server.usecases.call import Call
from server.usecases.session_commands import CommandParts, See, seen
from server.usecases.session_tokens import TokenParts, scoped_end
from storage.users import User

NEVER = float("inf")
OUTLIVES_S = 86_400
"""How long a token outlives its session, so that a late caller learns that the session is over."""


@dataclass(frozen=True, kw_only=True)
class GuestParts(CommandParts, TokenParts):
    """Guests with ids from their own clients."""


Comes = Callable[[GuestParts, Call], Awaitable[Principal]]


class Newcomer(Struct, frozen=True):
    """The identity that a caller without an account claims. `id` is a UUID."""

    id: str
    name: str
    colour: str | None = None


def guest_from_token(kind: str, of: Callable[[Call], Newcomer], gate: See | None = None) -> Comes:
    """Return a function that identifies a caller by their credential, or creates a guest from the claimed identity.

    `gate` reads the session first and may refuse. The function raises Problem 403 if the credential is another
    participant's, 404, 409 if the id is in use, 429."""

    @refuses(somebody_else=403, taken=409, unknown_session=404)
    async def comes(parts: GuestParts, call: Call) -> Principal:
        if gate is not None:
            await seen(parts, call, gate)
        newcomer = of(call)
        if call.caller is not None:
            return oneself(call.caller, newcomer)
        return await create_guest(parts, call, kind, newcomer)

    return comes


def guest_from_body(kind: str, of: Callable[[Call], Newcomer | str | None], gate: See) -> Comes:
    """Return a function that identifies a caller without a credential by the participant's id in the body.

    An unknown id creates a guest if `of` returns a Newcomer; otherwise the caller acts as the session's owner. The
    function raises Problem 401, 403, 404, 409, 410, 429."""

    @refuses(not_open=403, over=410, somebody_else=403, taken=409, unauthenticated=401, unknown_session=404)
    async def comes(parts: GuestParts, call: Call) -> Principal:
        await seen(parts, call, gate)
        named = of(call)
        if call.caller is not None:
            return oneself(call.caller, named) if isinstance(named, Newcomer) else call.caller
        known: Principal | None = await seen(parts, call, lambda state, call: meant(state, named))
        if known is not None:
            return known
        if isinstance(named, Newcomer):
            return await create_guest(parts, call, kind, named)
        raise unauthenticated("Send a token, or the id of a participant.")

    return comes


def meant(state: State, named: Newcomer | str | None) -> Principal | None:
    """Return the participant whom a call without a credential names, else the owner; None for a newcomer."""
    session = state.session
    alias = named.id if isinstance(named, Newcomer) else named
    place = None if alias is None else guest_called(state.participants, alias)
    if place is None and not isinstance(named, Newcomer):
        place = state.participants.get(session.owner_id)
    if place is None:
        return None
    return Principal(
        place.user_id, place.user_number, place.name, "guest" if place.guest else "student", "", NEVER, session.id,
        place.colour, now_millis() / 1000, place.alias,
    )  # fmt: skip


def guest_called(places: Mapping[UserId, Participant], alias: str) -> Participant | None:
    """Return the guest with this id, compared without case, or None."""
    sought = alias.lower()
    return next((one for one in places.values() if one.alias is not None and one.alias.lower() == sought), None)


def oneself(principal: Principal, newcomer: Newcomer) -> Principal:
    """Return the caller. Raise Problem 403 if they claim an id other than their credential's."""
    if newcomer.id.lower() not in (principal.user_id, (principal.alias or "").lower()):
        raise Problem(403, "somebody_else", "`id` is not who the token says you are.", field="id")
    return principal if principal.colour else structs.replace(principal, colour=newcomer.colour)


async def create_guest(parts: GuestParts, call: Call, kind: str, newcomer: Newcomer) -> Principal:
    """Create a guest. The guest owns the id only once they get a token. Raise Problem 409 if it is in use, 429."""
    if wait := parts.guests.take(call.address):
        raise too_fast("Too many guests from this address; wait a little.", wait)
    session_id = call.session_id or SessionId(new_id())
    user = await parts.users.save_guest(
        f"{kind}:{session_id}",
        newcomer.id.lower(),
        new_id=UserId(new_id()),
        name=newcomer.name,
        colour=newcomer.colour,
    )
    if user is None:
        raise taken()
    return Principal(
        user.user_id, user.number, user.name, "guest", "", NEVER, session_id, user.colour, now_millis() / 1000,
        newcomer.id,
    )  # fmt: skip


def taken() -> Problem:
    """Return a Problem 409 for an id that another guest holds."""
    return Problem(409, "taken", "This id is in use in this session. Send its token, or choose another id.", field="id")


@refuses(taken=409, unauthenticated=401, unknown_session=404)
async def token(parts: GuestParts, call: Call, *_: object) -> str:
    """Create the caller's token for a session that they are in. Raise Problem 401, 404, 409 if the id is in use."""
    issued = await first_token(parts, call)
    if issued is None:
        raise taken()
    return issued


@refuses(unauthenticated=401, unknown_session=404)
async def first_token(parts: GuestParts, call: Call, *_: object) -> str | None:
    """Create the caller's token. Return None for a guest who sent no token and was issued one before. Raise Problem
    401, 404."""
    principal = call.principal
    found = await parts.sessions.find(call.session_id, principal.user_id)
    user = await parts.users.find(principal.user_id)
    if found is None:
        raise unknown_session(call.params.get("ref", ""))
    if user is None:
        raise unauthenticated("This account is gone.")
    ends_at = found.session.expires_at
    expires_at = scoped_end(parts) if ends_at is None else ends_at // 1000 + OUTLIVES_S
    login = principal.login or await only_login(parts, user, expires_at)
    if not login:
        return None
    if principal.login and principal.scope is not None:
        expires_at = min(expires_at, int(principal.expires_at))
    return parts.tokens.issue_scoped(
        user, login, call.session_id, expires_at, dates_from=principal.dates_from, alias=principal.alias
    )


async def only_login(parts: GuestParts, user: User, expires_at: int) -> str | None:
    """Open a guest's only login, which has no refresh token, and return its id. Return None if there is one already.

    Of two concurrent calls exactly one gets the login."""
    secret = digest(secrets.token_urlsafe(32))
    opened = await parts.users.open_only_login(user.user_id, secret, Millis(expires_at * 1000))
    return user.user_id if opened else None
