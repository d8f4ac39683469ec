"""Who is calling: access tokens, tickets, and what revokes them.

**Law:** identity comes from a verified credential and from nowhere else; a revoked login is refused from that moment.
"""

import secrets
import time
from collections import OrderedDict
from typing import Any

import jwt
import uuid_utils
from msgspec import Struct

from actors.session.commands import Caller
from actors.session.ids import SessionId, UserId
from server.errors import unauthenticated
from storage.users import AccountRole, User

ALGORITHM = "HS256"
REQUIRED = ["iss", "aud", "sub", "exp", "iat", "jti"]
REMEMBERED = 100_000
"""Verified tokens kept, so that each is checked once and not at every request."""
TICKETS = 100_000


def new_id() -> str:
    """Make a UUIDv7."""
    return str(uuid_utils.uuid7())


class Principal(Struct, frozen=True):
    """A verified caller. `login` names the login that the credential came from, `expires_at` (unix s) ends it."""

    user_id: UserId
    number: int
    name: str
    role: AccountRole
    login: str
    expires_at: float

    def caller(self, *, holds_code: bool = False) -> Caller:
        return Caller(self.user_id, self.name, holds_code)


class Tokens:
    """Makes and verifies access tokens, and knows which logins are over."""

    def __init__(self, key: str, *, issuer: str, audience: str, ttl_s: int) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._verified: OrderedDict[str, Principal] = OrderedDict()
        self._revoked: dict[str, float] = {}
        self.ttl_s = ttl_s

    def issue(self, user: User, login: str, *, ttl_s: int | None = None) -> str:
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user.user_id,
            "iat": now,
            "exp": now + (ttl_s or self.ttl_s),
            "jti": new_id(),
            "login": login,
            "name": user.name,
            "number": user.number,
            "role": user.role,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    def verify(self, token: str) -> Principal:
        """Raises: Problem 401."""
        principal = self._verified.get(token)
        if principal is None:
            principal = self._decode(token)
            self._verified[token] = principal
            if len(self._verified) > REMEMBERED:
                self._verified.popitem(last=False)
        if principal.expires_at <= time.time():
            del self._verified[token]
            raise unauthenticated("The access token has expired; refresh it.", "expired")
        self.require_open(principal.login)
        return principal

    def require_open(self, login: str) -> None:
        """Raises: Problem 401 for a login that is over, whatever credential came from it."""
        if login in self._revoked:
            raise unauthenticated("This login is over; log in again.", "revoked")

    def _decode(self, token: str) -> Principal:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                options={"require": REQUIRED},
            )
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The access token has expired; refresh it.", "expired") from error
        except (jwt.PyJWTError, UnicodeEncodeError) as error:
            raise unauthenticated("The access token is not valid; log in again.") from error
        try:
            return Principal(
                user_id=UserId(claims["sub"]),
                number=claims["number"],
                name=claims["name"],
                role=claims["role"],
                login=claims["login"],
                expires_at=float(claims["exp"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise unauthenticated("The access token lacks a claim; log in again.") from error

    def revoke(self, login: str) -> None:
        """Refuse every token of a login from now on."""
        now = time.time()
        self._revoked = {known: until for known, until in self._revoked.items() if until > now}
        self._revoked[login] = now + self.ttl_s


class Tickets:
    """Single-use credentials for `EventSource` and `WebSocket`, which cannot set headers. Each opens one session."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._open: OrderedDict[str, tuple[Principal, SessionId, float]] = OrderedDict()

    def issue(self, principal: Principal, session_id: SessionId) -> tuple[str, float]:
        """Make a ticket; give it and the unix time at which it expires."""
        now = time.time()
        while self._open and (len(self._open) >= TICKETS or next(iter(self._open.values()))[2] <= now):
            self._open.popitem(last=False)
        ticket, expires_at = secrets.token_urlsafe(24), now + self._ttl_s
        self._open[ticket] = (principal, session_id, expires_at)
        return ticket, expires_at

    def redeem(self, ticket: str, session_id: SessionId) -> Principal:
        """Raises: Problem 401 for one that is unknown, used, expired or another session's."""
        principal, for_session, expires_at = self._open.pop(ticket, (None, None, 0.0))
        if principal is None or for_session != session_id or expires_at <= time.time():
            raise unauthenticated("The ticket is unknown, used or expired; get a new one.", "bad_ticket")
        return principal
