"""The keys of an outside issuer of tokens: a secret, or public keys from a file or a URL.

**Law:** a key serves the algorithms of its own kind and no others, so that a public key never passes for a secret.
However many tokens name keys that there are not, fetching keeps to its rate; keys fetched stay until others are.
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

from server.settings.sections import BadSetting, Issuer

logger = logging.getLogger(__name__)

HMAC = frozenset({"HS256"})
RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
EDWARDS = frozenset({"EdDSA"})
CURVES = {"secp256r1": frozenset({"ES256"}), "secp384r1": frozenset({"ES384"}), "secp521r1": frozenset({"ES512"})}
RSA_BITS = 2048
"""RFC 7518, 3.3: at least so many."""
KINDS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "RSA": RSAAlgorithm.from_jwk,
    "EC": ECAlgorithm.from_jwk,
    "OKP": OKPAlgorithm.from_jwk,
}
KEYS = 32
"""In one set at most: a token that names none is tried with all that suit it."""
SET_BYTES = 262_144


class VerificationKey(Struct, frozen=True):
    """One key. `name` is its `kid`; None: it has none, and may be any token's."""

    name: str | None
    value: Any
    algorithms: frozenset[str]


class KeysUnavailable(Exception):
    """The keys cannot be had now."""

    def __init__(self, retry_s: float) -> None:
        super().__init__(retry_s)
        self.retry_s = retry_s


class KeySource(Protocol):
    async def find(self, name: str | None, algorithm: str) -> list[VerificationKey]:
        """Give the keys that may have signed a token with this `kid` and `alg`. Raises: KeysAway."""


class FixedKeys:
    def __init__(self, keys: Sequence[VerificationKey]) -> None:
        self._keys = keys

    async def find(self, name: str | None, algorithm: str) -> list[VerificationKey]:
        return suitable(self._keys, name, algorithm)


class FetchedKeys:
    """The keys at a URL, fetched when first needed, when they are `ttl_s` old, and when a token names another.

    `changed` is called when others have come: what the old ones verified may not be good any more."""

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
        found = suitable(self._keys, name, algorithm)
        if found and now - self._fetched_at > self._ttl_s:
            # Nobody waits for what only confirms them.
            self._begin(now)
        if not found and (fetching := self._begin(now)) is not None:
            # One who stops waiting must not stop the others.
            await asyncio.shield(fetching)
            found = suitable(self._keys, name, algorithm)
        if not found and self._failed:
            raise KeysUnavailable(self._tried_at + self._cooldown_s - time.monotonic())
        return found

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait({self._fetching})

    def _begin(self, now: float) -> asyncio.Task[None] | None:
        """Give the fetch that is under way, or that may begin; None: it is too early for another."""
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
            keys = from_set(body)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._failed = True
            logger.warning("no keys from %s, those of before stay: %s", self._url, str(error) or type(error).__name__)
            return
        self._failed, self._fetched_at = False, time.monotonic()
        before, self._body, self._keys = self._body, body, keys
        if before not in (None, body):
            self._changed()

    async def _read(self) -> bytes:
        # A redirect could lead to where nobody has said that keys are.
        async with self._http.get(self._url, allow_redirects=False, timeout=self._timeout) as answer:
            if answer.status != 200:
                raise ValueError(f"it answered {answer.status}")
            parts, size = [], 0
            async for part in answer.content.iter_any():
                parts.append(part)
                size += len(part)
                if size > SET_BYTES:
                    raise ValueError(f"it sent more than {SET_BYTES} bytes")
            return b"".join(parts)


def client() -> aiohttp.ClientSession:
    """Make a client to fetch keys with."""
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity"},
        auto_decompress=False,
    )


def suitable(keys: Sequence[VerificationKey], name: str | None, algorithm: str) -> list[VerificationKey]:
    return [key for key in keys if algorithm in key.algorithms and (name is None or key.name in (None, name))]


class KeySet(Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517, 5)."""

    keys: list[dict[str, Any]]


def from_set(body: bytes) -> list[VerificationKey]:
    """Read the keys of a JSON Web Key Set; those that verify nothing here are passed over. Raises: ValueError."""
    try:
        jwks = msgspec.json.decode(body, type=KeySet).keys
    except RecursionError as error:
        raise ValueError("it is no JSON Web Key Set") from error
    if len(jwks) > KEYS:
        raise ValueError(f"it has more than {KEYS} keys")
    return [key for jwk in jwks if (key := from_jwk(jwk)) is not None]


def from_jwk(jwk: dict[str, Any]) -> VerificationKey | None:
    """Read one key; None: it verifies nothing here."""
    name, only = jwk.get("kid"), jwk.get("alg")
    # A private key has no place among public ones: whoever reads them could sign.
    if jwk.get("use", "sig") != "sig" or not may_verify(jwk.get("key_ops", ["verify"])) or "d" in jwk:
        return None
    read = KINDS.get(str(jwk.get("kty")))
    if read is None or not isinstance(name, str | None) or not isinstance(only, str | None):
        return None
    try:
        value = read(jwk)
    except (jwt.PyJWTError, UnsupportedAlgorithm, KeyError, TypeError, ValueError, AttributeError):
        return None
    algorithms = algorithms_of(value)
    return VerificationKey(name, value, algorithms if only is None else algorithms & {only})


def may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def from_pem(text: bytes) -> list[VerificationKey]:
    """Read a public key. Raises: ValueError."""
    try:
        value = load_pem_public_key(text)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    return [VerificationKey(None, value, algorithms_of(value))]


def from_secret(secret: str) -> list[VerificationKey]:
    """Raises: ValueError for a public key in the place of a secret."""
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except jwt.InvalidKeyError as error:
        raise ValueError(str(error)) from error
    return [VerificationKey(None, secret, HMAC)]


def algorithms_of(value: object) -> frozenset[str]:
    """Say what a public key verifies."""
    match value:
        case RSAPublicKey(key_size=bits) if bits >= RSA_BITS:
            return RSA
        case EllipticCurvePublicKey(curve=curve):
            return CURVES.get(curve.name, frozenset())
        case Ed25519PublicKey():
            return EDWARDS
    return frozenset()


def kept(name: str, issuer: Issuer) -> FixedKeys | None:
    """Read the keys that the settings hold or that are in files; None: they are to be fetched. Raises: BadSetting."""
    if issuer.jwks_url:
        return None
    setting = "secret" if issuer.secret else "public_key_file" if issuer.public_key_file else "jwks_file"
    shown = "(hidden)" if issuer.secret else repr(getattr(issuer, setting))
    what = f"auth.issuers.{name}.{setting} = {shown}"
    try:
        keys = (
            from_secret(issuer.secret.reveal())
            if issuer.secret
            else from_pem(Path(issuer.public_key_file).read_bytes())
            if issuer.public_key_file
            else from_set(Path(issuer.jwks_file).read_bytes())
        )
    except (OSError, ValueError) as error:
        raise BadSetting(f"{what}: no key can be read from it: {error}") from None
    if not any(key.algorithms & set(issuer.algorithms) for key in keys):
        raise BadSetting(f"{what}: it holds no key for {', '.join(issuer.algorithms)}")
    return FixedKeys(keys)
