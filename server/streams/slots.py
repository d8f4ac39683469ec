"""The places of long answers among the streams: downloads and replays count as one, and end when those would.

**Law:** what a stream may not outlive (its login, its token, this process), a long answer does not outlive either.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from server.http.problems import Problem
from server.security.tokens import Tokens
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


class SlotRevoked(Exception):
    """A long answer ends before its end."""

    def __init__(self, reason: Bye) -> None:
        super().__init__(reason)
        self.reason: Bye = reason


class StreamSlot(Subscriber):
    """Takes part in no session: the hub counts it, and says when it has to go."""

    __slots__ = ()

    def __init__(self, user_id: str, login: str, expires_at: float) -> None:
        super().__init__(user_id, login, SILENT, cursor=None, expires_at=expires_at, limit=0)  # type: ignore[arg-type]

    def close(self, reason: Bye) -> None:
        if self.reason is None:
            self.reason = reason
            self.closed.set_result(None)


@contextlib.asynccontextmanager
async def hold_slot(hub: Hub, tokens: Tokens, slot: StreamSlot, *, limit: int) -> AsyncIterator[None]:
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
        # From here on a logout finds the place; one that came just before has not.
        tokens.require_open(slot.login)
        yield
    except asyncio.CancelledError:
        # Our own cancelling is taken back; anyone else's goes on.
        if slot.reason is None or task.uncancel():
            raise
        raise SlotRevoked(slot.reason) from None
    finally:
        inside = False
        hub.unregister(slot)
