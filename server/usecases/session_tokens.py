"""Credentials for one session: tokens that an account gives to a page, and tokens of guests. Neither is valid for
another session.
"""

import secrets
from dataclasses import dataclass

from msgspec import Struct, structs

from actors.session.access import CLOSED
from actors.session.ids import Colour, Millis, Name, UserId
from actors.session.permissions import explain, role_of
from actors.session.state import Permission, Session, State
from server.http.problems import Problem, too_fast, unauthenticated, unknown_session
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.rooms.provisioning import Meeting, RoomProvisioner
from server.security.rate_limit import Rate
from server.security.tokens import Tokens
from server.settings.sections import Settings
from server.usecases.accounts import digest
from server.usecases.call import Call
from server.usecases.session_access import SessionParts, read_state_as_participant
from storage.users import User, Users


@dataclass(frozen=True, kw_only=True)
class TokenParts(SessionParts):
    """Credentials for one session."""

    settings: Settings
    users: Users
    tokens: Tokens
    rooms: RoomProvisioner
    guests: Rate
    """Limits new guests per address."""


class NewGuest(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    colour: Colour | None = None


class SessionToken(Struct, frozen=True):
    """`permissions` is what the holder may do now; what they may do later is decided then."""

    token: str
    expires_at: Millis
    permissions: list[Permission]
    meeting: Meeting | None


class GuestToken(Struct, frozen=True):
    """A guest and their token."""

    token: str
    user: User
    expires_at: Millis


@refuses(not_joined=403, not_owner=403, not_permitted=403, room_failed=502, unauthenticated=401)
async def session_token(parts: TokenParts, call: Call) -> SessionToken:
    """Create a token for this session only, bound to the caller's login. A token created from a session token never
    outlives it.

    Raise Problem 401 if the account is gone, 403, 404, 502."""
    principal = call.principal

    def view(state: State) -> tuple[list[Permission], Session, bool]:
        permissions = [why.permission for why in explain(state, principal.user_id) if why.allowed]
        return permissions, structs.replace(state.session), role_of(state, principal.user_id) is not None

    permissions, session, inside = await read_state_as_participant(parts, call, view)
    user = await parts.users.find(principal.user_id)
    if user is None:
        raise unauthenticated("This account is gone.")
    expires_at = scoped_end(parts)
    if principal.scope is not None:
        expires_at = min(expires_at, int(principal.expires_at))
    token = parts.tokens.issue_scoped(
        user, principal.login, call.session_id, expires_at, dates_from=principal.dates_from
    )
    # A participant who waits in the lobby or has left gets no access to the room.
    meeting = await parts.rooms.meeting(session, principal, call.origin) if inside else None
    return SessionToken(token, Millis(expires_at * 1000), permissions, meeting)


@refuses(cancelled=410, ended=410, feature_off=403, unknown_session=404)
async def new_guest(parts: TokenParts, call: Call[NewGuest]) -> GuestToken:
    """Create a guest who enters by the join code or by the session's id, which is as hard to guess.

    Raise Problem 403 if guests are off, 404, 410 if the session is closed, 429."""
    body = call.body
    if wait := parts.guests.take(call.address):
        raise too_fast("Too many guests from this address; wait a little.", wait)
    ref = call.params["ref"]
    found = await parts.sessions.find(call.session_id, UserId(new_id()))
    # Numbers and names can be guessed, so they admit no guests: the session is reported as unknown.
    if found is None or not (call.by_code or ref == call.session_id):
        raise unknown_session(ref)
    session = found.session
    if session.status in CLOSED:
        raise Problem(410, session.status, f"The session is {session.status}.")
    if not session.features.guests:
        raise Problem(403, "feature_off", "This session takes no guests; log in first.")
    expires_at, login = scoped_end(parts), new_id()
    user = await parts.users.create(User(UserId(new_id()), 0, body.name, None, None, "guest", None, body.colour))
    # The guest never gets this login's refresh token. The login exists so that it can be revoked like any other.
    await parts.users.open_login(login, user.user_id, digest(secrets.token_urlsafe(32)), Millis(expires_at * 1000))
    token = parts.tokens.issue_scoped(user, login, call.session_id, expires_at)
    return GuestToken(token, user, Millis(expires_at * 1000))


def scoped_end(parts: TokenParts) -> int:
    """Return the time at which a new session token expires, in seconds since 1970."""
    return now_millis() // 1000 + parts.settings.auth.session_token_ttl_s
