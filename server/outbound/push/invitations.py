"""Sends invitations to the devices of invited users: the outbox's sender of kind `push`.

**Law:** each device's final result is stored as soon as it is known. A repeated delivery goes only to devices without
one.
"""

import asyncio
import logging
from collections import Counter

from actors.session.ids import UserId
from actors.session.state import Kind, Session
from server.outbound.dispatcher import SendResult
from server.outbound.push.messages import (
    DeviceGone,
    PushLater,
    PushMessage,
    PushProvider,
    PushRefused,
    PushResult,
    PushSent,
)
from storage.devices import Devices
from storage.outbox import Delivery
from storage.users import Users

logger = logging.getLogger(__name__)

TITLE = "Session Invitation"
TTL_S = 86_400
RESULT_NAMES: dict[type[PushResult], str] = {
    PushSent: "sent", DeviceGone: "gone", PushRefused: "refused", PushLater: "later",
}  # fmt: skip
NUMBERED: frozenset[Kind] = frozenset({"classroom", "tutoring"})
"""Kinds of sessions whose clients use numbers as ids; the clients of other kinds use UUIDs."""


class Invitations:
    """Sends deliveries of kind `push`."""

    def __init__(self, push: PushProvider, devices: Devices, users: Users) -> None:
        self._push = push
        self._devices = devices
        self._users = users
        self.results: Counter[str] = Counter(dict.fromkeys(RESULT_NAMES.values(), 0))
        """Attempts by result, as the metrics name it."""

    async def count(self, user_id: UserId) -> int:
        """Return to how many devices an invitation of this user is sent."""
        return len(await self._devices.of_user(user_id)) if self._push.reaches else 0

    async def send(self, delivery: Delivery) -> SendResult:
        """Send an invitation to all devices of the invited user that do not have it yet."""
        if not self._push.reaches or delivery.session.status in ("ended", "cancelled"):
            return SendResult()
        user_id = UserId(delivery.target_id)
        tokens = await self._devices.waiting(delivery.id, user_id, delivery.session.id)
        if not tokens:
            return SendResult()
        message = invitation(delivery, await self._inviter(delivery))
        results = await asyncio.gather(*(self._send_to(delivery.id, token, message) for token in tokens))
        return combined(results)

    async def _inviter(self, delivery: Delivery) -> str:
        actor_id = delivery.recorded.actor_id
        known = {} if actor_id is None else await self._users.people([actor_id])
        return known[actor_id].name if actor_id in known else delivery.session.owner_name

    async def _send_to(self, outbox_id: int, token: str, message: PushMessage) -> PushResult:
        result = await self._push.send(token, message)
        self.results[RESULT_NAMES[type(result)]] += 1
        match result:
            case PushLater():
                return result
            case DeviceGone():
                await self._devices.forget(token)
            case PushRefused(why=why):
                logger.warning("an invitation was not sent to a device: %s", why)
                await self._devices.settle(outbox_id, token)
            case _:
                await self._devices.settle(outbox_id, token)
        return result

    async def give_up(self, target_id: str, reason: str) -> None:
        """Do nothing: devices are removed only when the provider says that they are gone."""


def invitation(delivery: Delivery, inviter: str) -> PushMessage:
    """Return the message of an invitation."""
    session = delivery.session
    return PushMessage(
        title=TITLE,
        body=f"{inviter} invited you to join '{session.title}'",
        data={
            "type": "session_invitation",
            "session_id": client_facing_id(session),
            "session_uuid": session.id,
            "session_number": str(session.number),
        },
        tag=f"{session.id}-{delivery.recorded.seq}",
        ttl_s=TTL_S,
    )


def client_facing_id(session: Session) -> str:
    """Return a session's id as the clients of its product know it."""
    return str(session.number) if session.kind in NUMBERED else session.id


def combined(results: list[PushResult]) -> SendResult:
    """Return the result for all devices: repeat if any must be repeated; a failure only if all were refused."""
    later = [each for each in results if isinstance(each, PushLater)]
    if later:
        waits = [each.retry_after_s for each in later if each.retry_after_s is not None]
        return SendResult(later[0].status, later[0].why, max(waits, default=None))
    refused = [each for each in results if isinstance(each, PushRefused)]
    if refused and len(refused) == len(results):
        return SendResult(refused[0].status, refused[0].why, final=True)
    return SendResult(status=200)
