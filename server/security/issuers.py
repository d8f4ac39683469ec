"""Tokens of outside issuers: an existing product's log-in, accepted beside Homeroom's own.

**Law:** a token is verified with the keys of the issuer that it names and no other's, and makes its holder one of that
issuer's users: never a local account, whatever email it claims. What it says of logins and sessions here counts for
nothing.
"""

import base64
import hashlib
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import jwt
import msgspec
from msgspec import Struct

from actors.session.ids import UserId
from server.http.problems import Problem, unauthenticated
from server.http.uuids import new_id
from server.security.jwks import FetchedKeys, KeySource, KeysUnavailable, VerificationKey, client, kept
from server.security.principal import Principal
from server.security.tokens import LAST_S, Tokens
from server.settings.sections import Auth, Issuer
from storage.users import Claimed, Users

SUBJECT_LENGTH = 255
NAME_LENGTH = 200
EMAIL_LENGTH = 254


class Unverified(Struct, frozen=True):
    """Whom a token names as its issuer. Anybody can write that."""

    iss: object = None


class Issuers:
    """The outside issuers that the settings name."""

    def __init__(self, own: str, outside: Mapping[str, "Outside"]) -> None:
        self._own = own
        self._outside = outside

    def names(self, token: str) -> bool:
        issuer = claimed_issuer(token)
        return issuer is not None and issuer != self._own

    async def verify(self, token: str) -> Principal:
        """Raises: Problem 401; 503 while the keys cannot be had."""
        outside = self._outside.get(claimed_issuer(token) or "")
        if outside is None:
            raise unauthenticated("Tokens of this issuer are not accepted here.", "unknown_issuer")
        return await outside.verify(token)


class Outside:
    """One outside issuer. `forget` is called with a user whose role is another than before."""

    def __init__(self, issuer: Issuer, keys: KeySource, users: Users, forget: Callable[[UserId], None]) -> None:
        self._issuer = issuer
        self._keys = keys
        self._users = users
        self._forget = forget

    async def verify(self, token: str) -> Principal:
        claims = await self._claims(token)
        issuer = self._issuer
        subject = readable(claim(claims, issuer.subject_claim), SUBJECT_LENGTH)
        if subject is None:
            raise unauthenticated(f"The token lacks the claim `{issuer.subject_claim}`, a text or a whole number.")
        claimed = Claimed(
            issuer=issuer.issuer,
            subject=subject,
            name=readable(claim(claims, issuer.name_claim), NAME_LENGTH, cut=True) or subject[:NAME_LENGTH],
            email=email(claims, issuer),
            role="teacher" if roles(claim(claims, issuer.role_claim)) & set(issuer.teachers) else "student",
            issued_at=float(claims.get("iat", time.time())),
        )
        user, role_before = await self._users.sight(claimed, UserId(new_id()))
        if role_before not in (None, user.role):
            self._forget(user.user_id)
        return Principal(
            user_id=user.user_id,
            number=user.number,
            name=user.name,
            role=user.role,
            login=login_of(token),
            # An integer can be too large for a float. A token that is good for longer is good until then.
            expires_at=min(float(min(int(claims["exp"]), LAST_S)) + issuer.leeway_s, LAST_S),
            issued_at=claimed.issued_at,
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        """Raises: Problem 401, 503."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise unauthenticated("The token is not valid.") from error
        algorithm = header.get("alg")
        if algorithm not in self._issuer.algorithms:
            allowed = ", ".join(self._issuer.algorithms)
            raise unauthenticated(f"Tokens of this issuer have to be signed with {allowed}.")
        try:
            keys = await self._keys.find(header.get("kid"), algorithm)
        except KeysUnavailable as error:
            detail = "Try again: the keys of the token's issuer cannot be had now."
            raise Problem(503, "unavailable", detail, retry_s=error.retry_s) from error
        for key in keys:
            try:
                return self._decoded(token, key, algorithm)
            except jwt.InvalidSignatureError:
                continue
        raise unauthenticated("The token is not signed with a key of its issuer.")

    def _decoded(self, token: str, key: VerificationKey, algorithm: str) -> dict[str, Any]:
        """Raises: Problem 401, InvalidSignatureError."""
        issuer = self._issuer
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.value,
                algorithms=[algorithm],
                issuer=issuer.issuer,
                audience=issuer.audience or None,
                leeway=issuer.leeway_s,
                # A whole number is a subject too, and what names a token is not ours to judge.
                options={
                    "require": ["exp"], "verify_aud": bool(issuer.audience), "verify_sub": False, "verify_jti": False,
                },
            )  # fmt: skip
        except jwt.InvalidSignatureError:
            raise
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The token has expired; get a new one where it came from.", "expired") from error
        except jwt.MissingRequiredClaimError as error:
            raise unauthenticated(f"The token lacks the claim `{error.claim}`.") from error
        except jwt.InvalidAudienceError as error:
            raise unauthenticated("The token is for somebody else: see its `aud`.") from error
        except jwt.ImmatureSignatureError as error:
            raise unauthenticated("The token is not valid yet: see its `nbf` and `iat`, and the clocks.") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise unauthenticated("The token is not valid.") from error
        return claims


def claimed_issuer(token: str) -> str | None:
    """Read whom a token names as its issuer, unverified; None: nobody."""
    _, _, payload = token.rpartition(".")[0].partition(".")
    try:
        raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        issuer = msgspec.json.decode(raw, type=Unverified).iss
    except (ValueError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def login_of(token: str) -> str:
    """Give a token's login. It is made of what the signature covers: the signature can be written in several ways."""
    signed = token.rpartition(".")[0]
    return str(uuid.UUID(bytes=hashlib.blake2b(signed.encode(), digest_size=16, person=b"outside").digest()))


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """Find a claim by its name, or by the names that lead to it with dots between; None: there is none."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def readable(value: object, most: int, *, cut: bool = False) -> str | None:
    """Give a text or a whole number as a text that can be kept and shown; None: it is neither, or too long."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    if cut:
        value = "".join(character for character in value if character.isprintable()).strip()[:most].strip()
    return value if value.isprintable() and 0 < len(value) <= most else None


def email(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    value = readable(claim(claims, issuer.email_claim), EMAIL_LENGTH)
    if value is None or "@" not in value or " " in value or claims.get("email_verified", True) not in (True, "true"):
        return None
    return value.lower()


def roles(value: object) -> set[str]:
    values = value if isinstance(value, list) else [value]
    return {each for each in values if isinstance(each, str)}


async def opened(auth: Auth, users: Users, tokens: Tokens, stack: AsyncExitStack) -> Issuers:
    """Put together what the settings say of outside issuers. Raises: BadSetting."""
    outside: dict[str, Outside] = {}
    http = await stack.enter_async_context(client())
    for name, issuer in auth.issuers.items():
        keys: KeySource | None = kept(name, issuer)
        if keys is None:
            keys = FetchedKeys(
                issuer.jwks_url,
                http,
                ttl_s=issuer.jwks_ttl_s,
                cooldown_s=issuer.jwks_cooldown_s,
                timeout_s=issuer.jwks_timeout_s,
                changed=tokens.forget,
            )
            stack.push_async_callback(keys.close)
        outside[issuer.issuer] = Outside(issuer, keys, users, tokens.forget)
    return Issuers(auth.issuer, outside)
