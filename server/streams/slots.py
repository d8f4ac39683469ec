"""Slots: downloads and replays count as streams of their user, and end when a stream would.

**Law:** a long answer does not outlive its login, its token or this process, just as a stream does not.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Protocol

from server.http.problems import Problem
from server.streams.format import Bye, StreamEncoder
from server.streams.hub import Hub
from server.streams.subscriber import Subscriber

SILENT = StreamEncoder(
    event=lambda visible, state: None,
    event_without_id=lambda visible, state: None,
    relayed=lambda event, by, at, state: None,
    snapshot=lambda state, viewer, now, shared: b"",
    first=lambda cursor, body: b"",
    resumed=lambda since, to, missed: b"",
    reset=lambda reason: b"",
    bye=lambda reason, retry_ms: b"",
    heartbeat=b"",
)


class Logins(Protocol):
    """Knows which logins have ended."""

    def require_open(self, login: str) -> None:
        """Raise Problem 401 if a login has ended."""


class SlotRevoked(Exception):
    """Raised when a long answer must end early, for the reason that a stream would have been closed."""

    def __init__(self, reason: Bye) -> None:
        super().__init__(reason)
        self.reason: Bye = reason


class StreamSlot(Subscriber):
    """A subscriber without a session: the hub counts it, and closes it when its time is up."""

    __slots__ = ()

    def __init__(self, user_id: str, login: str, expires_at: float) -> None:
        super().__init__(user_id, login, SILENT, cursor=None, expires_at=expires_at, limit=0)  # type: ignore[arg-type]

    def close(self, reason: Bye) -> None:
        """Revoke the slot."""
        if self.reason is None:
            self.reason = reason
            self.closed.set_result(None)


@contextlib.asynccontextmanager
async def hold_slot(hub: Hub, logins: Logins, slot: StreamSlot, *, limit: int) -> AsyncIterator[None]:
    """Hold a slot while the block runs; if the slot is revoked, cancel the block.

    `limit`: how many streams a user may have, for the message.
    Raise Problem 429 if the user has no slot left, 401 if their login is over; SlotRevoked if the slot was revoked."""
    if not hub.register(slot):
        raise Problem(429, "too_many_streams", f"You have {limit} streams open, as many as you may.", retry_s=5)
    task = asyncio.current_task()
    assert task is not None
    inside = True

    def leave(_: object) -> None:
        if inside:
            task.cancel()

    slot.closed.add_done_callback(leave)
    try:
        # From here on a logout closes the slot; one that came just before is noticed here.
        logins.require_open(slot.login)
        yield
    except asyncio.CancelledError:
        # Only the cancellation by `leave` is converted; any other continues.
        if slot.reason is None or task.uncancel():
            raise
        raise SlotRevoked(slot.reason) from None
    finally:
        inside = False
        hub.unregister(slot)
