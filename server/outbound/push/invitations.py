"""Sends an invitation to the devices of whoever is invited: what the outbox's `push` rows are for.

**Law:** a device that has got an invitation, or never will, is noted before the next is waited for, and is not tried
again with those that are still to get it.
"""

import asyncio
import logging
from collections import Counter

from actors.session.ids import UserId
from actors.session.state import Kind, Session
from server.outbound.dispatcher import Outcome
from server.outbound.push.messages import Gone, Later, Message, Push, Reception, Refused
from storage.devices import Devices
from storage.outbox import Delivery
from storage.users import Users

logger = logging.getLogger(__name__)

TITLE = "Session Invitation"
TTL_S = 86_400
NUMBERED: frozenset[Kind] = frozenset({"classroom", "tutoring"})
"""Kinds whose products' clients know sessions by number; the others' know them by id."""


class Invitations:
    def __init__(self, push: Push, devices: Devices, users: Users) -> None:
        self._push = push
        self._devices = devices
        self._users = users
        self.receptions: Counter[str] = Counter()

    async def count(self, user_id: UserId) -> int:
        """Say to how many devices an invitation of this user goes."""
        return len(await self._devices.of_user(user_id)) if self._push.reaches else 0

    async def send(self, delivery: Delivery) -> Outcome:
        if not self._push.reaches or delivery.session.status in ("ended", "cancelled"):
            return Outcome()
        user_id = UserId(delivery.target_id)
        tokens = await self._devices.waiting(delivery.id, user_id, delivery.session.id)
        if not tokens:
            return Outcome()
        message = invitation(delivery, await self._inviter(delivery))
        receptions = await asyncio.gather(*(self._bring(delivery.id, token, message) for token in tokens))
        return outcome(receptions)

    async def _inviter(self, delivery: Delivery) -> str:
        actor_id = delivery.recorded.actor_id
        known = {} if actor_id is None else await self._users.people([actor_id])
        return known[actor_id].name if actor_id in known else delivery.session.owner_name

    async def _bring(self, outbox_id: int, token: str, message: Message) -> Reception:
        reception = await self._push.send(token, message)
        self.receptions[type(reception).__name__.lower()] += 1
        match reception:
            case Later():
                return reception
            case Gone():
                await self._devices.forget(token)
            case Refused(why=why):
                logger.warning("a device does not get an invitation: %s", why)
                await self._devices.settle(outbox_id, token)
            case _:
                await self._devices.settle(outbox_id, token)
        return reception

    async def give_up(self, target_id: str, reason: str) -> None:
        """Devices stay as they are: if they are gone, the provider says so."""


def invitation(delivery: Delivery, inviter: str) -> Message:
    session = delivery.session
    return Message(
        title=TITLE,
        body=f"{inviter} invited you to join '{session.title}'",
        data={
            "type": "session_invitation",
            "session_id": printed_id(session),
            "session_uuid": session.id,
            "session_number": str(session.number),
        },
        tag=f"{session.id}-{delivery.recorded.seq}",
        ttl_s=TTL_S,
    )


def printed_id(session: Session) -> str:
    """Give a session's id as its product's clients know it."""
    return str(session.number) if session.kind in NUMBERED else session.id


def outcome(receptions: list[Reception]) -> Outcome:
    """Say what came of all devices together: who waits is waited for; who was refused, only if nobody got it."""
    later = [one for one in receptions if isinstance(one, Later)]
    if later:
        waits = [one.retry_after_s for one in later if one.retry_after_s is not None]
        return Outcome(later[0].status, later[0].why, max(waits, default=None))
    refused = [one for one in receptions if isinstance(one, Refused)]
    if refused and len(refused) == len(receptions):
        return Outcome(refused[0].status, refused[0].why, final=True)
    return Outcome(status=200)
