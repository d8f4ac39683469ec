"""Outgoing webhooks in the form of Standard Webhooks: subscriptions, signatures and sending.

**Law:** the `webhook-id` of a delivery never changes, so that receivers recognise repetitions; each attempt is signed
anew. A secret appears in no log, and only in the response that issues it.
"""

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable, Collection, Sequence

import aiohttp
from msgspec import Struct

from actors.ports import LogUnavailable
from actors.session.ids import SessionId, UserId
from server.http.client_responses import retry_after_s
from server.outbound.dispatcher import SendResult
from server.outbound.public_http import NotPublic, PublicHttpClient
from server.security.rate_limit import Rate
from server.security.secret_box import SecretBox, Unreadable
from storage.endpoints import DeliveryTarget, Endpoints
from storage.outbox import Delivery, Outbox

logger = logging.getLogger(__name__)

PREFIX = "whsec_"
"""What secrets begin with in Standard Webhooks."""
SECRET_BYTES = 32
MIN_SECRET_BYTES, MAX_SECRET_BYTES = 24, 64
GONE = 410
MESSAGE_ID = re.compile(r"evt_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})_([1-9][0-9]{0,8})")


def new_secret() -> bytes:
    """Return a new random secret."""
    return secrets.token_bytes(SECRET_BYTES)


def print_secret(secret: bytes) -> str:
    """Return a secret as text, as Standard Webhooks prints it."""
    return PREFIX + base64.b64encode(secret).decode()


def parse_secret(text: str) -> bytes:
    """Return a secret that an owner has chosen. Raise ValueError, whose message does not quote it."""
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("base64") from error
    if not text.startswith(PREFIX) or not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError("length")
    return secret


def message_id(session_id: SessionId, seq: int) -> str:
    """Return the `webhook-id` of an event: the same at each attempt, each replay and each endpoint."""
    return f"evt_{session_id.replace('-', '')}_{seq}"


def parse_message_id(text: str) -> tuple[SessionId, int] | None:
    """Return the session and the sequence number in a `webhook-id`; None if it is not one."""
    match = MESSAGE_ID.fullmatch(text)
    return None if match is None else (SessionId("-".join(match.groups()[:5])), int(match[6]))


def signature_headers(signing: Sequence[bytes], id_: str, at_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of a message, with a signature for each secret: a receiver needs to know only one of them."""
    content = b"%b.%d.%b" % (id_.encode(), at_s, body)
    signatures = (base64.b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in signing)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
        "Content-Type": "application/json",
    }


class EventSubscriptions:
    """The event types that the endpoints of each owner subscribe to, in memory: actors ask at every turn.

    It may list too many types: the commit itself checks the endpoints. It lacks a type only if another process has
    changed an endpoint within the last `reread_s`. A change in this process counts before it is answered."""

    def __init__(self, endpoints: Endpoints, every: Collection[str], reread_s: float) -> None:
        self.every = frozenset(every)
        """The types that an endpoint without a selection gets."""
        self._endpoints = endpoints
        self._reread_s = reread_s
        self._types: dict[UserId, frozenset[str]] = {}
        # Of two reads the one that was requested later must also query later.
        self._turn = asyncio.Lock()

    def __call__(self, owner_id: UserId) -> Collection[str]:
        """Return the types that an owner's endpoints subscribe to."""
        return self._types.get(owner_id, ())

    async def read(self, owner_id: UserId | None = None) -> None:
        """Read the subscriptions of one owner or of all. Raise LogUnavailable."""
        async with self._turn:
            types: dict[UserId, frozenset[str]] = {}
            for owner, wanted in await self._endpoints.subscriptions(owner_id):
                types[owner] = types.get(owner, frozenset()) | (frozenset(wanted) or self.every)
            if owner_id is None:
                self._types = types
            elif owner_id in types:
                self._types[owner_id] = types[owner_id]
            else:
                self._types.pop(owner_id, None)

    async def run(self) -> None:
        """Read all every `reread_s` until cancelled, since other processes change them."""
        while True:
            await asyncio.sleep(self._reread_s)
            try:
                await self.read()
            except LogUnavailable as error:
                logger.warning("webhook endpoints cannot be read, keeping the known ones: %s", error)
            except Exception:
                logger.exception("webhook endpoints cannot be read, keeping the known ones")


class WebhookMessage(Struct, frozen=True):
    """A message to send. `id_` is its `webhook-id`."""

    id_: str
    body: bytes


class WebhookSender:
    """Sends deliveries of kind `webhook`. `print_body` encodes the body of one, given the owner of its session."""

    def __init__(
        self,
        endpoints: Endpoints,
        outward: PublicHttpClient,
        secret_box: SecretBox,
        print_body: Callable[[Delivery, UserId], bytes],
        *,
        attempt_s: float,
        answer_bytes: int,
    ) -> None:
        self._endpoints = endpoints
        self._outward = outward
        self._secret_box = secret_box
        self._print_body = print_body
        self._attempt_s = attempt_s
        self._answer_bytes = answer_bytes

    async def send(self, delivery: Delivery) -> SendResult:
        """Send one delivery to its endpoint. Disable an endpoint that answers 410."""
        session = delivery.session
        id_ = message_id(session.id, delivery.recorded.seq)
        message = WebhookMessage(id_, self._print_body(delivery, session.owner_id))
        result = await self.post(delivery.target_id, message)
        if result.status == GONE:
            await self._endpoints.disable(delivery.target_id, "gone")
            return SendResult(GONE, "the answer was 410: the endpoint is now disabled", final=True)
        return result

    async def give_up(self, target_id: str, reason: str) -> None:
        """Disable the endpoint."""
        await self._endpoints.disable(target_id, "failing" if reason == "failing" else "behind")

    async def post(self, endpoint_id: str, message: WebhookMessage, *, disabled_too: bool = False) -> SendResult:
        """Make one attempt to send a message to an endpoint. Return failures instead of raising them."""
        target = await self._endpoints.target(endpoint_id, disabled_too=disabled_too)
        if target is None:
            return SendResult(error="the endpoint is disabled or deleted", final=True)
        try:
            headers = signature_headers(self._signing(endpoint_id, target), message.id_, int(time.time()), message.body)
            async with self._outward.post(target.url, message.body, headers, timeout_s=self._attempt_s) as response:
                return await self._answer(response)
        except TimeoutError:
            return SendResult(error=f"no answer within {self._attempt_s:g} s")
        except Unreadable:
            return SendResult(error="its secret cannot be read, as the server's signing key has changed: rotate it")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return SendResult(error=failure_text(error))

    def _signing(self, endpoint_id: str, target: DeliveryTarget) -> list[bytes]:
        """Return the secrets to sign with. Skip an unreadable old one; raise Unreadable for the present one."""
        present, *old = target.secrets
        signing = [self._secret_box.decrypt(present, endpoint_id)]
        for secret in old:
            with contextlib.suppress(Unreadable):
                signing.append(self._secret_box.decrypt(secret, endpoint_id))
        return signing

    async def _answer(self, response: aiohttp.ClientResponse) -> SendResult:
        status = response.status
        if 200 <= status < 300:
            # The body is of no interest; it is read only so that the connection can be used again.
            try:
                await response.content.readexactly(self._answer_bytes)
            except (asyncio.IncompleteReadError, aiohttp.ClientError, OSError):
                return SendResult(status)
            response.close()
            return SendResult(status)
        response.close()
        return SendResult(status, f"the answer was {status}", retry_after_s=retry_after_s(response.headers))


def failure_text(error: Exception) -> str:
    """Return for the delivery log why there was no response."""
    match error:
        case NotPublic() | aiohttp.ClientConnectorError(os_error=NotPublic()):
            return "its host leads to an address that is not public"
        case aiohttp.ClientConnectorDNSError():
            return f"{error.host} cannot be resolved"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"no trusted TLS connection to {error.host}"
        case aiohttp.ClientConnectorError(os_error=cause):
            return f"no connection to {error.host}:{error.port}: {cause.strerror or 'refused'}"
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return "the connection was closed before there was an answer"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "the answer was not HTTP"
        case ValueError() if not isinstance(error, aiohttp.ClientError):
            return f"its URL {error}"
    return type(error).__name__


class Webhooks(Struct, frozen=True):
    """The parts that the use cases of webhooks need. `probes` limits a user's pings and look-ups of hosts."""

    endpoints: Endpoints
    outbox: Outbox
    outward: PublicHttpClient
    secret_box: SecretBox
    wanted: EventSubscriptions
    sender: WebhookSender
    probes: Rate
