"""Access tokens of a Google service account: an assertion signed with its key, exchanged for a bearer token (RFC 7523).

**Law:** a token is used until shortly before it expires, or until it is refused. There is one exchange at a time, for
all callers. After a failed exchange none is made for `PAUSE_S`. ADR 34 says why this is not google-auth.
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
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ALGORITHM = "RS256"
ASSERTION_S = 3_600
EARLY_S = 300.0
"""How long before its expiry a token is renewed. A token with a short life is renewed after half of it."""
PAUSE_S = 1.0

NotEmpty = Annotated[str, Meta(min_length=1)]


class ServiceAccount(Struct, frozen=True):
    """The fields of a key file from Google's console that are needed here."""

    type: Literal["service_account"]
    project_id: Annotated[str, Meta(pattern=r"^[a-z0-9.:-]+$(?!\n)")]
    private_key_id: NotEmpty
    private_key: NotEmpty
    client_email: NotEmpty
    token_uri: SafeUrl


class TokenGrant(Struct, frozen=True):
    """A successful response of the token endpoint."""

    access_token: NotEmpty
    expires_in: float = 3_600


class TokenUnavailable(Exception):
    """The token endpoint gave no access token."""

    def __init__(self, why: str, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.retry_after_s = retry_after_s


def read_account(path: Path) -> ServiceAccount:
    """Return the service account in a key file. Raise ValueError, whose message quotes nothing of the file."""
    try:
        account = msgspec.json.decode(path.read_bytes(), type=ServiceAccount)
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from None
    except msgspec.ValidationError as error:
        raise ValueError(f"it is not a key file of a service account ({error})") from None
    except msgspec.DecodeError:
        raise ValueError("it is not JSON") from None
    try:
        assertion(account, account.token_uri, 0)
    except (ValueError, jwt.PyJWTError):
        raise ValueError("its `private_key` is not an RSA key in PEM form") from None
    return account


def assertion(account: ServiceAccount, audience: str, now: int) -> str:
    """Return a signed assertion that asks for a token. It is valid for an hour from `now` (Unix s)."""
    claims = {"iss": account.client_email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + ASSERTION_S}
    return jwt.encode(claims, account.private_key, algorithm=ALGORITHM, headers={"kid": account.private_key_id})


class AccessTokens:
    """Gets access tokens and keeps the latest. `url` is the token endpoint; if empty, the one in the key file."""

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
        self._failure: TokenUnavailable | None = None
        self._failed_until = 0.0

    async def get(self, *, refused: str = "") -> str:
        """Return a token that is valid for a while and is not `refused`. Raise TokenUnavailable."""
        if self._fresh(refused):
            return self._token
        async with self._turn:
            # Another caller may have renewed it while this one waited.
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
        except TokenUnavailable as failure:
            self._failure, self._failed_until = failure, self._clock() + PAUSE_S
            raise
        self._failure = None
        self._token = granted.access_token
        self._renew_at = self._clock() + max(granted.expires_in - EARLY_S, granted.expires_in / 2)

    async def _granted(self) -> TokenGrant:
        form = {"grant_type": GRANT_TYPE, "assertion": assertion(self._account, self._url, int(time.time()))}
        try:
            async with self._http.post(self._url, data=form, allow_redirects=False) as response:
                body = await body_of(response)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TokenUnavailable(f"no access token: {type(error).__name__}") from error
        if response.status != 200:
            why = f"no access token: {response.status} {error_text(body)}"
            raise TokenUnavailable(why, response.status, retry_after_s(response.headers))
        try:
            return msgspec.json.decode(body, type=TokenGrant)
        except msgspec.MsgspecError as error:
            raise TokenUnavailable("no access token: the response has none", response.status) from error


class TokenError(Struct, frozen=True):
    """An error response of the token endpoint (RFC 6749, section 5.2)."""

    error: str = ""
    error_description: str = ""


def error_text(body: bytes) -> str:
    """Return the error in a response, at most 200 characters; empty if there is none."""
    try:
        failure = msgspec.json.decode(body, type=TokenError)
    except msgspec.MsgspecError:
        return ""
    return f"{failure.error}: {failure.error_description}"[:200]
