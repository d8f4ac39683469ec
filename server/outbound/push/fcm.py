"""Firebase Cloud Messaging, HTTP v1: each request sends one message to one device.

**Law:** a device is `DeviceGone` only if FCM says so about its token. An error that our settings or our message may
have caused never removes a device.
"""

import asyncio
import logging
import time

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from server.http.client_responses import body_of, retry_after_s
from server.outbound.push.messages import DeviceGone, PushLater, PushMessage, PushRefused, PushResult, PushSent
from server.outbound.push.oauth import AccessTokens, TokenUnavailable

logger = logging.getLogger(__name__)

REQUESTS = 100
"""The most requests at the same time."""
QUOTA_S = 60.0
"""How long to wait after 429 without `Retry-After`, as FCM recommends."""
INVALID_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105
"""FCM's message for a malformed token when it does not name the field."""
JSON = {"Content-Type": "application/json; charset=UTF-8"}


class FieldViolation(Struct, frozen=True):
    """A wrong field of a request."""

    field: str = ""


class FcmErrorDetail(Struct, frozen=True, rename="camel"):
    """A detail of an error: google.firebase.fcm.v1.FcmError has a code, google.rpc.BadRequest has violations."""

    error_code: str = ""
    field_violations: list[FieldViolation] = []


class FcmError(Struct, frozen=True):
    """An error as Google's APIs report it."""

    message: str = ""
    status: str = ""
    details: list[FcmErrorDetail] = []

    @property
    def code(self) -> str:
        """FCM's own code if there is one, else Google's."""
        return next((detail.error_code for detail in self.details if detail.error_code), self.status)

    def is_of_token(self) -> bool:
        """Return whether the invalid argument is the token: FCM names the field, or says so in its message."""
        fields = [violation.field for detail in self.details for violation in detail.field_violations]
        return "message.token" in fields or (not fields and self.message.startswith(INVALID_TOKEN))


class FcmResponse(Struct, frozen=True):
    """The body of a response that is not 200."""

    error: FcmError = FcmError()


class Fcm:
    """The provider FCM. `url` is its base URL, `project_id` the project of the service account."""

    reaches = True

    def __init__(self, http: aiohttp.ClientSession, tokens: AccessTokens, *, url: str, project_id: str) -> None:
        self._http = http
        self._tokens = tokens
        self._url = URL(f"{url.rstrip('/')}/v1/projects/{project_id}/messages:send", encoded=True)
        self._slots = asyncio.Semaphore(REQUESTS)

    async def send(self, token: str, message: PushMessage) -> PushResult:
        """Send a message to the device with this registration token."""
        encoded = msgspec.json.encode({"message": fcm_message(token, message, time.time())})
        try:
            async with self._slots:
                access = await self._tokens.get()
                status, reception = await self._attempt(access, encoded)
                if status == 401:
                    # The access token was revoked early, or never valid. A new one shows which.
                    access = await self._tokens.get(refused=access)
                    _, reception = await self._attempt(access, encoded)
        except TokenUnavailable as failure:
            logger.warning("FCM: %s", failure.why)
            return PushLater(failure.why, failure.status, failure.retry_after_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            return PushLater(type(error).__name__)
        return reception

    async def _attempt(self, access: str, encoded: bytes) -> tuple[int, PushResult]:
        headers = {"Authorization": f"Bearer {access}", **JSON}
        async with self._http.post(self._url, data=encoded, headers=headers, allow_redirects=False) as response:
            body = await body_of(response)
        return response.status, result_of(response.status, body, retry_after_s(response.headers))


def fcm_message(token: str, message: PushMessage, now: float) -> dict[str, object]:
    """Return the body of a request to FCM."""
    return {
        "token": token,
        "notification": {"title": message.title, "body": message.body},
        "data": message.data,
        "android": {"priority": "high", "ttl": f"{message.ttl_s}s", "notification": {"tag": message.tag}},
        "apns": {
            "headers": {
                "apns-priority": "10",
                "apns-expiration": str(int(now) + message.ttl_s),
                "apns-collapse-id": message.tag,
            },
            "payload": {"aps": {"sound": "default"}},
        },
    }


def result_of(status: int, body: bytes, retry_s: float | None) -> PushResult:
    """Return what FCM's response means for the message and the device."""
    if status == 200:
        return PushSent()
    try:
        error = msgspec.json.decode(body, type=FcmResponse).error
    except msgspec.MsgspecError:
        error = FcmError()
    why = f"{error.code}: {error.message}"[:200] if error.code else f"status {status}"
    match status, error.code:
        case 404, "UNREGISTERED":
            return DeviceGone()
        case 400, _ if error.is_of_token():
            return DeviceGone()
        case 429, _:
            return PushLater(why, status, QUOTA_S if retry_s is None else retry_s)
        # SENDER_ID_MISMATCH: the token belongs to another project. With a wrong key file that holds for all devices,
        # so none is removed.
        case (400 | 413, _) | (403, "SENDER_ID_MISMATCH"):
            return PushRefused(why, status)
        # 401 and other 403 and 404: the project, its keys or the settings are wrong, and will be corrected.
        case _:
            return PushLater(why, status, retry_s)
