"""Firebase Cloud Messaging, HTTP v1: one message to one device a request.

**Law:** a token is `Gone` only where FCM says so of the token itself; whatever may be our own fault, our settings' or
our message's, costs nobody their device.
"""

import asyncio
import logging
import time

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from server.http.client_responses import body_of, retry_after_s
from server.outbound.push.messages import Gone, Later, Message, Reception, Refused, Sent
from server.outbound.push.oauth import AccessTokens, NotGranted

logger = logging.getLogger(__name__)

REQUESTS = 100
"""Under way at once."""
QUOTA_S = 60.0
"""FCM's advice for 429 without `Retry-After`."""
INVALID_TOKEN = "The registration token is not a valid FCM registration token"  # noqa: S105
"""What FCM says of a malformed token, where it does not name the field."""
JSON = {"Content-Type": "application/json; charset=UTF-8"}


class Violation(Struct, frozen=True):
    field: str = ""


class Detail(Struct, frozen=True, rename="camel"):
    """google.firebase.fcm.v1.FcmError has a code, google.rpc.BadRequest has violations."""

    error_code: str = ""
    field_violations: list[Violation] = []


class Error(Struct, frozen=True):
    message: str = ""
    status: str = ""
    details: list[Detail] = []

    @property
    def code(self) -> str:
        """FCM's own code where there is one, Google's else."""
        return next((detail.error_code for detail in self.details if detail.error_code), self.status)

    def is_of_token(self) -> bool:
        """Say whether an invalid argument is the token: it is named, or FCM says so in its words."""
        fields = [violation.field for detail in self.details for violation in detail.field_violations]
        return "message.token" in fields or (not fields and self.message.startswith(INVALID_TOKEN))


class Answer(Struct, frozen=True):
    error: Error = Error()


class Fcm:
    """`url`: where FCM is; the project is the service account's."""

    reaches = True

    def __init__(self, http: aiohttp.ClientSession, tokens: AccessTokens, *, url: str, project_id: str) -> None:
        self._http = http
        self._tokens = tokens
        self._url = URL(f"{url.rstrip('/')}/v1/projects/{project_id}/messages:send", encoded=True)
        self._places = asyncio.Semaphore(REQUESTS)

    async def send(self, token: str, message: Message) -> Reception:
        encoded = msgspec.json.encode({"message": printed(token, message, time.time())})
        try:
            async with self._places:
                access = await self._tokens.get()
                status, reception = await self._attempt(access, encoded)
                if status == 401:
                    # Taken back before its time, or never good: another one tells.
                    access = await self._tokens.get(refused=access)
                    _, reception = await self._attempt(access, encoded)
        except NotGranted as failure:
            logger.warning("FCM: %s", failure.why)
            return Later(failure.why, failure.status, failure.retry_after_s)
        except (aiohttp.ClientError, TimeoutError) as error:
            return Later(type(error).__name__)
        return reception

    async def _attempt(self, access: str, encoded: bytes) -> tuple[int, Reception]:
        headers = {"Authorization": f"Bearer {access}", **JSON}
        async with self._http.post(self._url, data=encoded, headers=headers, allow_redirects=False) as response:
            body = await body_of(response)
        return response.status, received(response.status, body, retry_after_s(response.headers))


def printed(token: str, message: Message, now: float) -> dict[str, object]:
    """Print a message as FCM takes it."""
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


def received(status: int, body: bytes, retry_s: float | None) -> Reception:
    """Say what an answer means."""
    if status == 200:
        return Sent()
    try:
        error = msgspec.json.decode(body, type=Answer).error
    except msgspec.MsgspecError:
        error = Error()
    why = f"{error.code}: {error.message}"[:200] if error.code else f"status {status}"
    match status, error.code:
        case 404, "UNREGISTERED":
            return Gone()
        case 400, _ if error.is_of_token():
            return Gone()
        case 429, _:
            return Later(why, status, QUOTA_S if retry_s is None else retry_s)
        # The token is another project's. All of them are where the key file is the wrong one: none is dropped.
        case (400 | 413, _) | (403, "SENDER_ID_MISMATCH"):
            return Refused(why, status)
        # 401, other 403 and 404: the project, its keys or the settings, which somebody will put right.
        case _:
            return Later(why, status, retry_s)
