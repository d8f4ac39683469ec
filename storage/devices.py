"""Devices that receive push messages, identified by the tokens of the push provider.

**Law:** a token belongs to the last user who registered it, and is deleted with the login that registered it.
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
"""Enough for several phones, tablets and browsers. More are left over from removed installations."""


class Device(Struct, frozen=True):
    token: str
    platform: Platform
    registered_at: Millis


class Devices:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def put(self, user_id: UserId, login: str, token: str, platform: Platform) -> Device | None:
        """Register a device, also if another user had it. Above the limit, drop the user's oldest device.

        Return None if the login has ended. A login of an external issuer is not in the database, and passes.
        """
        params = {
            "user_id": user_id, "login": login, "login_id": login if UUID.fullmatch(login) else None,
            "token": token, "platform": platform, "most": DEVICES_PER_USER,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["put"], params)
        return Device(token, platform, Millis(rows[0][0])) if rows else None

    async def remove(self, user_id: UserId, token: str) -> bool:
        """Remove a device of this user. Return whether it existed."""
        return await self._pool.execute(SQL["remove"], {"user_id": user_id, "token": token}) > 0

    async def forget(self, token: str) -> None:
        """Remove a device that no longer exists according to the provider."""
        await self._pool.execute(SQL["forget"], {"token": token})

    async def of_user(self, user_id: UserId) -> list[Device]:
        """Return a user's devices, the latest registered first."""
        params = {"user_id": user_id, "most": DEVICES_PER_USER}
        return [Device(*row) for row in await self._pool.fetch(SQL["of_user"], params, retry=True)]

    async def waiting(self, outbox_id: int, user_id: UserId, session_id: SessionId) -> list[str]:
        """Return the tokens of devices that have not received an invitation yet; [] if it is no longer open."""
        params = {
            "outbox_id": outbox_id, "user_id": user_id, "session_id": session_id, "most": DEVICES_PER_USER,
        }  # fmt: skip
        return [row[0] for row in await self._pool.fetch(SQL["waiting"], params, retry=True)]

    async def settle(self, outbox_id: int, token: str) -> None:
        """Record that a device has received the push of this outbox row, or never will."""
        await self._pool.execute(SQL["settle"], {"outbox_id": outbox_id, "token": token})
