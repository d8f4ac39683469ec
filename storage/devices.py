"""Devices that take push messages, by the tokens that the provider gave them.

**Law:** a token belongs to the last user who registered it, and goes with the login that it was registered under.
"""

from typing import Literal

from msgspec import Struct

from actors.session.ids import Millis, SessionId, UserId
from storage import queries
from storage.pool import Pool
from storage.sessions import UUID

SQL = queries.load("devices")
Platform = Literal["android", "ios", "web"]
DEVICES_PER_USER = 20
"""A phone, a tablet and browsers, several times over: more are leftovers of installations that are gone."""


class Device(Struct, frozen=True):
    token: str
    platform: Platform
    registered_at: Millis


class Devices:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, user_id: UserId, login: str, token: str, platform: Platform) -> Device | None:
        """Register a device, whoever had it before; of too many, the user's oldest drops out.

        None: the login is over. It need not be one of ours; those of outside issuers are known to nobody here."""
        params = {
            "user_id": user_id, "login": login, "login_id": login if UUID.fullmatch(login) else None,
            "token": token, "platform": platform, "most": DEVICES_PER_USER,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["put"], params)
        return Device(token, platform, Millis(rows[0][0])) if rows else None

    async def remove(self, user_id: UserId, token: str) -> bool:
        """Remove one of a user's own devices; say whether it was there."""
        return await self._pool.execute(SQL["remove"], {"user_id": user_id, "token": token}) > 0

    async def forget(self, token: str) -> None:
        """Remove a device that the provider says is gone."""
        await self._pool.execute(SQL["forget"], {"token": token})

    async def of_user(self, user_id: UserId) -> list[Device]:
        """Give a user's devices, the latest registered first."""
        params = {"user_id": user_id, "most": DEVICES_PER_USER}
        return [Device(*row) for row in await self._pool.fetch(SQL["of_user"], params, retry=True)]

    async def waiting(self, outbox_id: int, user_id: UserId, session_id: SessionId) -> list[str]:
        """Give the tokens of devices that an invitation of the outbox has yet to get to; none once it is over."""
        params = {
            "outbox_id": outbox_id, "user_id": user_id, "session_id": session_id, "most": DEVICES_PER_USER,
        }  # fmt: skip
        return [row[0] for row in await self._pool.fetch(SQL["waiting"], params, retry=True)]

    async def settle(self, outbox_id: int, token: str) -> None:
        """Note that a device has got what the outbox has for it, or never will."""
        await self._pool.execute(SQL["settle"], {"outbox_id": outbox_id, "token": token})
