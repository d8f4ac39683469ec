"""Access tokens of a Google service account: an assertion signed with its key, exchanged for a bearer token (RFC 7523).

**Law:** a token is used until shortly before it expires or was refused, and there is one exchange at a time, whoever
waits for it. After an exchange that failed nobody tries another for a moment.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import aiohttp
import jwt
import msgspec
from msgspec import Meta, Struct

from server.http.client_responses import body_of, retry_after_s
from server.settings.types import SafeUrl

SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ALGORITHM = "RS256"
ASSERTION_S = 3_600
EARLY_S = 300.0
"""How long before it expires a token is exchanged; with a shorter life, after half of that."""
PAUSE_S = 1.0

NotEmpty = Annotated[str, Meta(min_length=1)]


class ServiceAccount(Struct, frozen=True):
    """A key file as Google's console gives it. It has more fields, which are passed over."""

    type: Literal["service_account"]
    project_id: Annotated[str, Meta(pattern=r"^[a-z0-9.:-]+$(?!\n)")]
    private_key_id: NotEmpty
    private_key: NotEmpty
    client_email: NotEmpty
    token_uri: SafeUrl


class Granted(Struct, frozen=True):
    access_token: NotEmpty
    expires_in: float = 3_600


class NotGranted(Exception):
    """No access token was to be had."""

    def __init__(self, why: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.retry_after_s = retry_after_s


def read_account(path: Path) -> ServiceAccount:
    """Read a key file, and see that its key signs. Raises: ValueError, which quotes nothing of it."""
    try:
        account = msgspec.json.decode(path.read_bytes(), type=ServiceAccount)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"it is no service account's key file ({error})") from None
    except msgspec.DecodeError:
        raise ValueError("it is not JSON") from None
    try:
        assertion(account, account.token_uri, 0)
    except (ValueError, jwt.PyJWTError):
        raise ValueError("its `private_key` is no RSA key in PEM form") from None
    return account


def assertion(account: ServiceAccount, audience: str, now: int) -> str:
    """Sign that this account asks; good for an hour from `now`, in unix seconds."""
    claims = {"iss": account.client_email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + ASSERTION_S}
    return jwt.encode(claims, account.private_key, algorithm=ALGORITHM, headers={"kid": account.private_key_id})


class AccessTokens:
    """`url`: where tokens are to be had; empty: where the key file says."""

    def __init__(
        self,
        account: ServiceAccount,
        http: aiohttp.ClientSession,
        *,
        url: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._account = account
        self._http = http
        self._url = url or account.token_uri
        self._clock = clock
        self._turn = asyncio.Lock()
        self._token = ""
        self._renew_at = 0.0
        self._failure: NotGranted | None = None
        self._failed_until = 0.0

    async def get(self, *, refused: str = "") -> str:
        """Give a token that is good for a while, and not the one that was `refused`. Raises: NotGranted."""
        if self._fresh(refused):
            return self._token
        async with self._turn:
            # Whoever waited finds what the one before them got.
            if not self._fresh(refused):
                await self._exchange()
            return self._token

    def _fresh(self, refused: str) -> bool:
        return self._token not in ("", refused) and self._clock() < self._renew_at

    async def _exchange(self) -> None:
        if self._failure is not None and self._clock() < self._failed_until:
            raise self._failure
        try:
            granted = await self._granted()
        except NotGranted as failure:
            self._failure, self._failed_until = failure, self._clock() + PAUSE_S
            raise
        self._failure = None
        self._token = granted.access_token
        self._renew_at = self._clock() + max(granted.expires_in - EARLY_S, granted.expires_in / 2)

    async def _granted(self) -> Granted:
        form = {"grant_type": GRANT, "assertion": assertion(self._account, self._url, int(time.time()))}
        try:
            async with self._http.post(self._url, data=form, allow_redirects=False) as response:
                body = await body_of(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotGranted(f"no access token: {type(error).__name__}") from error
        if response.status != 200:
            why = f"no access token: {response.status} {said(body)}"
            raise NotGranted(why, response.status, retry_after_s(response.headers))
        try:
            return msgspec.json.decode(body, type=Granted)
        except msgspec.MsgspecError as error:
            raise NotGranted("no access token: an answer that is none", response.status) from error


class Failure(Struct, frozen=True):
    """RFC 6749, 5.2."""

    error: str = ""
    error_description: str = ""


def said(body: bytes) -> str:
    try:
        failure = msgspec.json.decode(body, type=Failure)
    except msgspec.MsgspecError:
        return ""
    return f"{failure.error}: {failure.error_description}"[:200]
