"""Tokens of external issuers: the login of an existing product, accepted beside Homeroom's own.

**Law:** a token is verified only with the keys of the issuer that it names. Its holder becomes one of that issuer's
users, never a local account, whatever email address the token claims. Its claims about logins and sessions are ignored.
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
from server.security.jwks import FetchedKeys, KeySource, KeysUnavailable, VerificationKey, configured_keys, keys_client
from server.security.principal import Principal
from server.security.tokens import MAX_EXPIRY_S, Tokens
from server.settings.sections import AuthSettings, IssuerSettings
from storage.users import ExternalClaims, Users

SUBJECT_LENGTH = 255
NAME_LENGTH = 200
EMAIL_LENGTH = 254


class UnverifiedPayload(Struct, frozen=True):
    """The issuer that a token names. Anyone can write any name there."""

    iss: object = None


class Issuers:
    """The external issuers in the settings."""

    def __init__(self, own: str, external: Mapping[str, "ExternalIssuer"]) -> None:
        self._own = own
        self._external = external

    def is_external(self, token: str) -> bool:
        """Return whether a token names another issuer than Homeroom. Nothing of it is verified."""
        issuer = claimed_issuer(token)
        return issuer is not None and issuer != self._own

    async def verify(self, token: str) -> Principal:
        """Return the caller that a token identifies.

        Raise Problem 401 if it is not valid, 503 if the issuer's keys are unavailable."""
        issuer = self._external.get(claimed_issuer(token) or "")
        if issuer is None:
            raise unauthenticated("Tokens of this issuer are not accepted here.", "unknown_issuer")
        return await issuer.verify(token)


class ExternalIssuer:
    """One external issuer. `forget` is called with a user whose role has changed."""

    def __init__(self, issuer: IssuerSettings, keys: KeySource, users: Users, forget: Callable[[UserId], None]) -> None:
        self._issuer = issuer
        self._keys = keys
        self._users = users
        self._forget = forget

    async def verify(self, token: str) -> Principal:
        """Return the caller that a token identifies; make an account at their first token. Raise Problem 401, 503."""
        claims = await self._claims(token)
        issuer = self._issuer
        subject = printable(claim_at(claims, issuer.subject_claim), SUBJECT_LENGTH)
        if subject is None:
            raise unauthenticated(f"The token must have the claim `{issuer.subject_claim}`, a text or a whole number.")
        claimed = ExternalClaims(
            issuer=issuer.issuer,
            subject=subject,
            name=printable(claim_at(claims, issuer.name_claim), NAME_LENGTH, cut=True) or subject[:NAME_LENGTH],
            email=verified_email(claims, issuer),
            role="teacher" if role_names(claim_at(claims, issuer.role_claim)) & set(issuer.teachers) else "student",
            issued_at=float(claims.get("iat", time.time())),
        )
        user, role_before = await self._users.sync_external(claimed, UserId(new_id()))
        if role_before not in (None, user.role):
            self._forget(user.user_id)
        return Principal(
            user_id=user.user_id,
            number=user.number,
            name=user.name,
            role=user.role,
            login=login_of(token),
            # An integer can be too large for a float. A token that is good for longer is good until then.
            expires_at=min(float(min(int(claims["exp"]), MAX_EXPIRY_S)) + issuer.leeway_s, MAX_EXPIRY_S),
            issued_at=claimed.issued_at,
        )

    async def _claims(self, token: str) -> dict[str, Any]:
        """Return the verified claims. Raise Problem 401, 503."""
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise unauthenticated("The token is not valid.") from error
        algorithm = header.get("alg")
        if algorithm not in self._issuer.algorithms:
            allowed = ", ".join(self._issuer.algorithms)
            raise unauthenticated(f"Tokens of this issuer must be signed with {allowed}.")
        try:
            keys = await self._keys.find(header.get("kid"), algorithm)
        except KeysUnavailable as error:
            detail = "Try again: the keys of the token's issuer are unavailable."
            raise Problem(503, "unavailable", detail, retry_s=error.retry_s) from error
        for key in keys:
            try:
                return self._decoded(token, key, algorithm)
            except jwt.InvalidSignatureError:
                continue
        raise unauthenticated("The token is not signed with a key of its issuer.")

    def _decoded(self, token: str, key: VerificationKey, algorithm: str) -> dict[str, Any]:
        """Return the claims, verified with one key. Raise Problem 401; InvalidSignatureError if another key may fit."""
        issuer = self._issuer
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.value,
                algorithms=[algorithm],
                issuer=issuer.issuer,
                audience=issuer.audience or None,
                leeway=issuer.leeway_s,
                # Some issuers use whole numbers as subjects, and `jti` is of no use here.
                options={
                    "require": ["exp"], "verify_aud": bool(issuer.audience), "verify_sub": False, "verify_jti": False,
                },
            )  # fmt: skip
        except jwt.InvalidSignatureError:
            raise
        except jwt.ExpiredSignatureError as error:
            raise unauthenticated("The token has expired. Get a new one from its issuer.", "expired") from error
        except jwt.MissingRequiredClaimError as error:
            raise unauthenticated(f"The token lacks the claim `{error.claim}`.") from error
        except jwt.InvalidAudienceError as error:
            raise unauthenticated("The token is for another audience: see its `aud`.") from error
        except jwt.ImmatureSignatureError as error:
            raise unauthenticated("The token is not valid yet: see its `nbf` and `iat`, and the clocks.") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise unauthenticated("The token is not valid.") from error
        return claims


def claimed_issuer(token: str) -> str | None:
    """Return the issuer that a token names, unverified; None if it names none."""
    _, _, payload = token.rpartition(".")[0].partition(".")
    try:
        raw = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        issuer = msgspec.json.decode(raw, type=UnverifiedPayload).iss
    except (ValueError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def login_of(token: str) -> str:
    """Return the id of a token's login, a hash of the signed part: a signature itself has several valid spellings."""
    signed = token.rpartition(".")[0]
    return str(uuid.UUID(bytes=hashlib.blake2b(signed.encode(), digest_size=16, person=b"outside").digest()))


# Any: claims of a token, JSON of any shape.
def claim_at(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, or by a path of names such as `profile.id`; None if there is none."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def printable(value: object, max_length: int, *, cut: bool = False) -> str | None:
    """Return a text or a whole number as a text of printable characters; None if it is neither, or too long.

    `cut`: remove what is not printable and what is too long, and return None only if nothing is left."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    if cut:
        value = "".join(character for character in value if character.isprintable()).strip()[:max_length].strip()
    return value if value.isprintable() and 0 < len(value) <= max_length else None


# Any: claims of a token, JSON of any shape.
def verified_email(claims: Mapping[str, Any], issuer: IssuerSettings) -> str | None:
    """Return the email address in lower case; None if there is none, or if the issuer has not verified it."""
    value = printable(claim_at(claims, issuer.email_claim), EMAIL_LENGTH)
    if value is None or "@" not in value or " " in value or claims.get("email_verified", True) not in (True, "true"):
        return None
    return value.lower()


def role_names(value: object) -> set[str]:
    """Return the roles in a claim that is one text or a list."""
    values = value if isinstance(value, list) else [value]
    return {each for each in values if isinstance(each, str)}


async def open_issuers(auth: AuthSettings, users: Users, tokens: Tokens, stack: AsyncExitStack) -> Issuers:
    """Construct the external issuers of the settings. Raise BadSetting if a key cannot be read."""
    external: dict[str, ExternalIssuer] = {}
    http = await stack.enter_async_context(keys_client())
    for name, issuer in auth.issuers.items():
        keys: KeySource | None = configured_keys(name, issuer)
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
        external[issuer.issuer] = ExternalIssuer(issuer, keys, users, tokens.forget)
    return Issuers(auth.issuer, external)
