"""Access tokens: issued, verified and revoked.

**Law:** identity comes only from a verified credential. A revoked login is refused from that moment on.
"""

import time
from collections import OrderedDict
from typing import Annotated, Any, Protocol

import jwt
import msgspec
from msgspec import Meta, Struct

from actors.session.ids import SessionId, UserId
from server.http.problems import unauthenticated
from server.http.uuids import new_id
from server.security.principal import Principal
from storage.sessions import UUID
from storage.users import AccountRole, User

ALGORITHM = "HS256"


LEEWAY_S = 30
"""How far ahead the clock of the server that issued a token may be of this one's."""
MAX_EXPIRY_S = 253_402_300_799.0
"""The last second of the year 9999, in unix time: no later time can be printed."""


REQUIRED = ["iss", "aud", "sub", "exp", "iat", "jti"]


MAX_CACHED = 100_000
"""The most verified tokens that are cached, so that a signature is checked once and not at every request."""


SWEEP_AT = 10_000
"""So many revoked logins are kept before those are dropped whose tokens have all expired."""


Text = Annotated[str, Meta(pattern=r"^[^\x00\ud800-\udfff]*\Z")]
"""Without what PostgreSQL does not store."""
Instant = Annotated[float, Meta(ge=0, le=MAX_EXPIRY_S)]
"""Unix seconds."""


class Claims(Struct, frozen=True):
    """The claims of an access token that Homeroom signed. A token with others is refused, although it is signed."""

    sub: Annotated[UserId, Meta(pattern=rf"^{UUID.pattern}\Z")]
    exp: Instant
    iat: Instant
    jti: Text
    login: Text
    name: Text
    number: int
    role: AccountRole
    session: Annotated[SessionId, Meta(pattern=rf"^{UUID.pattern}\Z")] | None = None
    colour: Text | None = None
    alias: Text | None = None


class ExternalIssuers(Protocol):
    """The part of `Issuers` that `Tokens` needs."""

    def is_external(self, token: str) -> bool:
        """Return whether a token names another issuer than Homeroom. Nothing of it is verified."""

    async def verify(self, token: str) -> Principal:
        """Return the caller. Raise Problem 401 if the token is not valid, 503 if its issuer's keys are unavailable."""


class Tokens:
    """Issues and verifies access tokens, and knows which logins are revoked.

    `ttl_s` is the lifetime of an account's token, `scoped_ttl_s` the longest of any other credential of a login."""

    def __init__(
        self,
        key: str,
        *,
        issuer: str,
        audience: str,
        ttl_s: int,
        scoped_ttl_s: int = 0,
    ) -> None:
        self._key = key
        self.external: ExternalIssuers | None = None
        self._issuer = issuer
        self._audience = audience
        self._verified: OrderedDict[str, Principal] = OrderedDict()
        self._revoked: dict[str, float] = {}
        self._sweep_at = SWEEP_AT
        self.ttl_s = ttl_s
        self.longest_s = max(ttl_s, scoped_ttl_s)

    def issue(self, user: User, login: str) -> str:
        """Return a new token of an account."""
        now = int(time.time())
        return self._signed(user, login, now, now + self.ttl_s)

    def issue_scoped(
        self,
        user: User,
        login: str,
        scope: SessionId,
        expires_at: float,
        *,
        dates_from: float | None = None,
        alias: str | None = None,
        **claims: object,
    ) -> str:
        """Return a new token for one session. It ends with the login, or when its holder is removed.

        `dates_from`: see `Principal`. `claims` are for other readers of the token; with `room` it is an invitation."""
        # In milliseconds, because it must be clear whether the token is older than its holder's removal. Rounded down,
        # as the removal's time is: a token of the same millisecond must not survive it.
        return self._signed(
            user,
            login,
            time.time_ns() // 1_000_000 / 1000 if dates_from is None else dates_from,
            int(expires_at),
            session=scope,
            colour=user.colour,
            alias=alias,
            **claims,
        )

    def _signed(self, user: User, login: str, now: float, expires_at: int, **more: object) -> str:
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": user.user_id,
            "iat": now,
            "exp": expires_at,
            "jti": new_id(),
            "login": login,
            "name": user.name,
            "number": user.number,
            "role": user.role,
            **more,
        }
        return jwt.encode(claims, self._key, algorithm=ALGORITHM)

    async def verify(self, token: str) -> Principal:
        """Return the caller that a token of any issuer identifies. Raise Problem 401, 503."""
        principal = self.verify_cached(token)
        if principal is None:
            assert self.external is not None
            principal = await self.external.verify(token)
            self.check(principal)
            self._keep(token, principal)
        return principal

    def verify_cached(self, token: str) -> Principal | None:
        """Return the caller without any look-up; None if an external token needs `verify`, as it is not cached.

        Raise Problem 401 if the token is not valid."""
        principal = self._verified.get(token)
        if principal is None:
            if self.external is not None and self.external.is_external(token):
                return None
            principal = self._decode(token)
            self._keep(token, principal)
        if principal.expires_at <= time.time():
            del self._verified[token]
        self.check(principal)
        return principal

    def forget(self, user_id: UserId | None = None) -> None:
        """Drop cached tokens, all or one user's, because keys or roles have changed: they are verified again."""
        self._verified = OrderedDict(
            (token, principal)
            for token, principal in self._verified.items()
            if user_id not in (None, principal.user_id)
        )

    def _keep(self, token: str, principal: Principal) -> None:
        self._verified[token] = principal
        if len(self._verified) > MAX_CACHED:
            self._verified.popitem(last=False)

    def check(self, principal: Principal) -> None:
        """Raise Problem 401 if an earlier verified caller's credential has expired or its login was revoked."""
        if principal.expires_at <= time.time():
            raise unauthenticated("The access token has expired. Refresh it.", "expired")
        self.require_open(principal.login)

    def require_open(self, login: str) -> None:
        """Raise Problem 401 if a login was revoked. Applies to all credentials of the login."""
        if login in self._revoked:
            raise unauthenticated("This login has ended. Log in again.", "revoked")

    def _decode(self, token: str) -> Principal:
        try:
            payload: dict[str, Any] = jwt.decode(
                token,
                self._key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": REQUIRED},
            )
            claims = msgspec.convert(payload, Claims)
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The access token has expired. Refresh it.", "expired") from error
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, OverflowError, RecursionError) as error:
            raise unauthenticated("The access token is not valid. Log in again.") from error
        return Principal(
            user_id=claims.sub,
            number=claims.number,
            name=claims.name,
            role=claims.role,
            login=claims.login,
            expires_at=claims.exp,
            scope=claims.session,
            colour=claims.colour,
            issued_at=claims.iat,
            alias=claims.alias,
            has_invitation="room" in payload,
        )

    def is_revoked(self, login: str) -> bool:
        """Return whether a login was revoked, and a credential of it could still be valid otherwise."""
        return login in self._revoked

    def revoke(self, login: str, until: float = 0.0) -> None:
        """Refuse every token of a login from now on, at least until `until` (Unix s), when an external one expires."""
        now = time.time()
        if len(self._revoked) >= self._sweep_at:
            self._revoked = {known: until for known, until in self._revoked.items() if until > now}
            self._sweep_at = max(SWEEP_AT, 2 * len(self._revoked))
        self._revoked[login] = max(until, now + self.longest_s)
