"""The keys of an external issuer of tokens: a secret, or public keys from a file or a URL.

**Law:** a key is used only with the algorithms of its type, so that a public key never serves as a secret. Keys are
fetched at a bounded rate, however many tokens name unknown keys, and remain valid until a later fetch replaces them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import jwt
import msgspec
from aiohttp import hdrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from msgspec import Struct

from server.settings.sections import BadSetting, IssuerSettings

logger = logging.getLogger(__name__)

HMAC = frozenset({"HS256"})
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
EDWARDS = frozenset({"EdDSA"})
CURVES = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"}), "secp521r1": frozenset({"ES512"})}
RSA_BITS = 2048
"""The minimum of RFC 7518, section 3.3."""
# Any: a JWK, or PyJWT's key made of it, which has no common type.
JWK_PARSERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
MAX_KEYS = 32
"""The most keys in one set: a token without `kid` is tried with every key of its algorithm."""
SET_BYTES = 262_144


class VerificationKey(Struct, frozen=True):
    """One key. `name` is its `kid`; a key without one (None) is tried for every token."""

    name: str | None
    # Any: a JWK, or PyJWT's key made of it, which has no common type.
    value: Any
    algorithms: frozenset[str]


class KeysUnavailable(Exception):
    """The keys are unavailable; try again after `retry_s` seconds."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(retry_s)
        self.retry_s = retry_s


class KeySource(Protocol):
    """Where the keys of one issuer come from."""

    async def find(self, name: str | None, algorithm: str) -> list[VerificationKey]:
        """Return the keys that may have signed a token with this `kid` and `alg`. Raise KeysUnavailable."""


class FixedKeys:
    """Keys from the settings or from a file, which do not change."""

    def __init__(self, keys: Sequence[VerificationKey]) -> None:
        self._keys = keys

    async def find(self, name: str | None, algorithm: str) -> list[VerificationKey]:
        return matching_keys(self._keys, name, algorithm)


class FetchedKeys:
    """The keys at a URL, fetched when first needed, when they are `ttl_s` old, and when a token names an unknown one.

    `changed` is called after the keys have changed: tokens that the old ones verified may no longer be valid."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        *,
        ttl_s: float,
        cooldown_s: float,
        timeout_s: float,
        changed: Callable[[], None],
    ) -> None:
        self._url = url
        self._http = http
        self._ttl_s = ttl_s
        self._cooldown_s = cooldown_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._changed = changed
        self._body: bytes | None = None
        self._keys: list[VerificationKey] = []
        self._failed = True
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, name: str | None, algorithm: str) -> list[VerificationKey]:
        now = time.monotonic()
        keys = matching_keys(self._keys, name, algorithm)
        if keys and now - self._fetched_at > self._ttl_s:
            # Not awaited: the keys are known, and are only being confirmed.
            self._begin(now)
        if not keys and (fetching := self._begin(now)) is not None:
            # A caller that is cancelled must not cancel the fetch for the others.
            await asyncio.shield(fetching)
            keys = matching_keys(self._keys, name, algorithm)
        if not keys and self._failed:
            raise KeysUnavailable(self._tried_at + self._cooldown_s - time.monotonic())
        return keys

    async def close(self) -> None:
        """Cancel a fetch that is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    def _begin(self, now: float) -> asyncio.Task[None] | None:
        """Return the running fetch, or start one; None if the last one is too recent."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if now - self._tried_at < self._cooldown_s:
            return None
        self._tried_at = now
        self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            body = await self._read()
            keys = keys_from_jwks(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed = True
            logger.warning(
                "cannot fetch keys from %s, keeping the previous ones: %s",
                self._url,
                str(error) or type(error).__name__,
            )
            return
        self._failed, self._fetched_at = False, time.monotonic()
        before, self._body, self._keys = self._body, body, keys
        if before not in (None, body):
            self._changed()

    async def _read(self) -> bytes:
        # A redirect could lead to a server that the settings do not name.
        async with self._http.get(self._url, allow_redirects=False, timeout=self._timeout) as response:
            if response.status != 200:
                raise ValueError(f"it answered {response.status}")
            parts, size = [], 0
            async for part in response.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > SET_BYTES:
                    raise ValueError(f"it sent more than {SET_BYTES} bytes")
            return b"".join(parts)


def keys_client() -> aiohttp.ClientSession:
    """Return an HTTP client for fetching keys, without cookies and compression."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity"},
        auto_decompress=False,
    )


def matching_keys(keys: Sequence[VerificationKey], name: str | None, algorithm: str) -> list[VerificationKey]:
    """Return the keys of an algorithm that have this `kid` or none; all of them if the token has none (None)."""
    return [key for key in keys if algorithm in key.algorithms and (name is None or key.name in (None, name))]


class KeySet(Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517, section 5)."""

    # Any: a JWK, or PyJWT's key made of it, which has no common type.
    keys: list[dict[str, Any]]


def keys_from_jwks(body: bytes) -> list[VerificationKey]:
    """Return the usable keys of a JSON Web Key Set; skip the others. Raise ValueError if it is not one."""
    try:
        jwks = msgspec.json.decode(body, type=KeySet).keys
    except RecursionError as error:
        raise ValueError("it is not a JSON Web Key Set") from error
    if len(jwks) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS} keys")
    return [key for jwk in jwks if (key := key_from_jwk(jwk)) is not None]


# Any: a JWK, or PyJWT's key made of it, which has no common type.
def key_from_jwk(jwk: dict[str, Any]) -> VerificationKey | None:
    """Return a key, or None if it is not a public key for signatures of a supported type."""
    name, only = jwk.get("kid"), jwk.get("alg")
    # A published private key is compromised: anyone who reads it could sign tokens.
    if jwk.get("use", "sig") != "sig" or not may_verify(jwk.get("key_ops", ["verify"])) or "d" in jwk:
        return None
    parse = JWK_PARSERS.get(str(jwk.get("kty")))
    if parse is None or not isinstance(name, str | None) or not isinstance(only, str | None):
        return None
    try:
        value = parse(jwk)
    except (jwt.PyJWTError, UnsupportedAlgorithm, KeyError, TypeError, ValueError, AttributeError):
        return None
    algorithms = algorithms_of(value)
    return VerificationKey(name, value, algorithms if only is None else algorithms & {only})


def may_verify(operations: object) -> bool:
    """Return whether a key's `key_ops` include verifying."""
    return isinstance(operations, list) and "verify" in operations


def keys_from_pem(text: bytes) -> list[VerificationKey]:
    """Return the public key in PEM. Raise ValueError if there is none."""
    try:
        value = load_pem_public_key(text)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    return [VerificationKey(None, value, algorithms_of(value))]


def keys_from_secret(secret: str) -> list[VerificationKey]:
    """Return the key of a shared secret. Raise ValueError if the secret is a public key."""
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(str(error)) from error
    return [VerificationKey(None, secret, HMAC)]


def algorithms_of(value: object) -> frozenset[str]:
    """Return the algorithms that a public key can verify."""
    match value:
        case RSAPublicKey(key_size=bits) if bits >= RSA_BITS:
            return RSA
        case EllipticCurvePublicKey(curve=curve):
            return CURVES.get(curve.name, frozenset())
        case Ed25519PublicKey():
            return EDWARDS
    return frozenset()


def configured_keys(name: str, issuer: IssuerSettings) -> FixedKeys | None:
    """Return the keys in the settings or in a file; None if they are at a URL. Raise BadSetting if there is no key."""
    if issuer.jwks_url:
        return None
    setting = "secret" if issuer.secret else "public_key_file" if issuer.public_key_file else "jwks_file"
    shown = "(hidden)" if issuer.secret else repr(getattr(issuer, setting))
    where = f"auth.issuers.{name}.{setting} = {shown}"
    try:
        keys = (
            keys_from_secret(issuer.secret.reveal())
            if issuer.secret
            else keys_from_pem(Path(issuer.public_key_file).read_bytes())
            if issuer.public_key_file
            else keys_from_jwks(Path(issuer.jwks_file).read_bytes())
        )
    except (OSError, ValueError) as error:
        raise BadSetting(f"{where}: no key can be read from it: {error}") from None
    if not any(key.algorithms & set(issuer.algorithms) for key in keys):
        raise BadSetting(f"{where}: it contains no key for {', '.join(issuer.algorithms)}")
    return FixedKeys(keys)
