"""Outgoing webhooks, as Standard Webhooks has them: who wants what, how it is signed, and how it is sent.

**Law:** a delivery's `webhook-id` never changes, so that a receiver can tell a repetition; it is signed anew at each
attempt. No secret is in a log or in an answer, but in the one that hands it out.
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
from server.outbound.dispatcher import Outcome
from server.outbound.public_http import NotPublic, PublicHttpClient
from server.security.rate_limit import Rate
from server.security.secret_box import SecretBox, Unreadable
from storage.endpoints import Aim, Endpoints
from storage.outbox import Delivery, Outbox

logger = logging.getLogger(__name__)

PREFIX = "whsec_"
SECRET_BYTES = 32
LEAST_BYTES, MOST_BYTES = 24, 64
GONE = 410
MESSAGE_ID = re.compile(r"evt_([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})_([1-9][0-9]{0,8})")


def new_secret() -> bytes:
    return secrets.token_bytes(SECRET_BYTES)


def printed_secret(secret: bytes) -> str:
    return PREFIX + base64.b64encode(secret).decode()


def parsed_secret(text: str) -> bytes:
    """Read a secret that somebody has chosen. Raises: ValueError, which does not quote it."""
    try:
        secret = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise ValueError("base64") from error
    if not text.startswith(PREFIX) or not LEAST_BYTES <= len(secret) <= MOST_BYTES:
        raise ValueError("length")
    return secret


def message_id(session_id: SessionId, seq: int) -> str:
    """Name a row of a log to receivers: the same at each attempt and each replay, and at each endpoint."""
    return f"evt_{session_id.replace('-', '')}_{seq}"


def parsed_message_id(text: str) -> tuple[SessionId, int] | None:
    match = MESSAGE_ID.fullmatch(text)
    return None if match is None else (SessionId("-".join(match.groups()[:5])), int(match[6]))


def signed(signing: Sequence[bytes], id_: str, at_s: int, body: bytes) -> dict[str, str]:
    """Give the headers of a message: a signature for each secret, so that a receiver may know any of them."""
    content = b"%b.%d.%b" % (id_.encode(), at_s, body)
    made = (base64.b64encode(hmac.digest(secret, content, "sha256")).decode() for secret in signing)
    return {
        "webhook-id": id_,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in made),
        "Content-Type": "application/json",
    }


class EventSubscriptions:
    """Which events of whose sessions somebody may want: known without asking, for the actors' every turn.

    It may know too much (the commit itself looks who wants what), and too little only of what another process has
    changed within the last `reread_s`. A change made here counts before it is answered."""

    def __init__(self, endpoints: Endpoints, every: Collection[str], reread_s: float) -> None:
        self.every = frozenset(every)
        """What those get that want all."""
        self._endpoints = endpoints
        self._reread_s = reread_s
        self._types: dict[UserId, frozenset[str]] = {}
        # What was asked for later is also read later.
        self._turn = asyncio.Lock()

    def __call__(self, owner_id: UserId) -> Collection[str]:
        return self._types.get(owner_id, ())

    async def read(self, owner_id: UserId | None = None) -> None:
        """Read what the endpoints want: a user's, or everybody's. Raises: LogUnavailable."""
        async with self._turn:
            types: dict[UserId, frozenset[str]] = {}
            for owner, wanted in await self._endpoints.wanted(owner_id):
                types[owner] = types.get(owner, frozenset()) | (frozenset(wanted) or self.every)
            if owner_id is None:
                self._types = types
            elif owner_id in types:
                self._types[owner_id] = types[owner_id]
            else:
                self._types.pop(owner_id, None)

    async def run(self) -> None:
        """Read it again and again, as other processes change it, until cancelled."""
        while True:
            await asyncio.sleep(self._reread_s)
            try:
                await self.read()
            except LogUnavailable as error:
                logger.warning("endpoints cannot be read, going on with those known: %s", error)
            except Exception:
                logger.exception("endpoints cannot be read, going on with those known")


class Message(Struct, frozen=True):
    """What is sent: `id_` names it to the receiver."""

    id_: str
    body: bytes


class WebhookSender:
    """The outbox's sender of kind `webhook`. `printed` makes a delivery's body."""

    def __init__(
        self,
        endpoints: Endpoints,
        outward: PublicHttpClient,
        secret_box: SecretBox,
        printed: Callable[[Delivery, UserId], bytes],
        *,
        attempt_s: float,
        answer_bytes: int,
    ) -> None:
        self._endpoints = endpoints
        self._outward = outward
        self._secret_box = secret_box
        self._printed = printed
        self._attempt_s = attempt_s
        self._answer_bytes = answer_bytes

    async def send(self, delivery: Delivery) -> Outcome:
        session = delivery.session
        message = Message(message_id(session.id, delivery.recorded.seq), self._printed(delivery, session.owner_id))
        outcome = await self.post(delivery.target_id, message)
        if outcome.status == GONE:
            await self._endpoints.disable(delivery.target_id, "gone")
            return Outcome(GONE, "the answer was 410: the endpoint is disabled", final=True)
        return outcome

    async def give_up(self, target_id: str, reason: str) -> None:
        await self._endpoints.disable(target_id, "failing" if reason == "failing" else "behind")

    async def post(self, endpoint_id: str, message: Message, *, disabled_too: bool = False) -> Outcome:
        """Make one attempt at an endpoint. What goes wrong is told, not raised."""
        aim = await self._endpoints.aim(endpoint_id, disabled_too=disabled_too)
        if aim is None:
            return Outcome(error="the endpoint is disabled or deleted", final=True)
        try:
            headers = signed(self._signing(endpoint_id, aim), message.id_, int(time.time()), message.body)
            async with self._outward.post(aim.url, message.body, headers, timeout_s=self._attempt_s) as response:
                return await self._answer(response)
        except TimeoutError:
            return Outcome(error=f"no answer within {self._attempt_s:g} s")
        except Unreadable:
            return Outcome(error="its secret cannot be read since the server's signing key is another: rotate it")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Outcome(error=notify(error))

    def _signing(self, endpoint_id: str, aim: Aim) -> list[bytes]:
        """Open the secrets; a rotated one that cannot be read any more is passed over. Raises: Unreadable."""
        present, *old = aim.secrets
        signing = [self._secret_box.decrypt(present, endpoint_id)]
        for secret in old:
            with contextlib.suppress(Unreadable):
                signing.append(self._secret_box.decrypt(secret, endpoint_id))
        return signing

    async def _answer(self, response: aiohttp.ClientResponse) -> Outcome:
        status = response.status
        if 200 <= status < 300:
            # What it says is not wanted: read as far as it takes to use the connection again, and no further.
            try:
                await response.content.readexactly(self._answer_bytes)
            except (asyncio.IncompleteReadError, aiohttp.ClientError, OSError):
                return Outcome(status)
            response.close()
            return Outcome(status)
        response.close()
        return Outcome(status, f"the answer was {status}", retry_after_s=retry_after_s(response.headers))


def notify(error: Exception) -> str:
    """Say for the delivery log why there was no answer."""
    match error:
        case NotPublic() | aiohttp.ClientConnectorError(os_error=NotPublic()):
            return "its host leads to an address that is not public"
        case aiohttp.ClientConnectorDNSError():
            return f"{error.host} cannot be found"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return f"no trusted TLS connection to {error.host}"
        case aiohttp.ClientConnectorError(os_error=cause):
            return f"no connection to {error.host}:{error.port}: {cause.strerror or 'refused'}"
        case aiohttp.ServerDisconnectedError() | ConnectionError():
            return "the connection was closed before there was an answer"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError():
            return "the answer was no HTTP"
        case ValueError() if not isinstance(error, aiohttp.ClientError):
            return f"its URL {error}"
    return type(error).__name__


class Webhooks(Struct, frozen=True):
    """What the API's webhooks work with. `probes`: how often a user may have a host looked up or a ping sent."""

    endpoints: Endpoints
    outbox: Outbox
    outward: PublicHttpClient
    secret_box: SecretBox
    wanted: EventSubscriptions
    sender: WebhookSender
    probes: Rate
