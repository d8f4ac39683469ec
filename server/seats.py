"""The places of long answers among the streams: downloads and replays count as one, and end when those would.

**Law:** what a stream may not outlive (its login, its token, this process), a long answer does not outlive either.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from server.errors import Problem
from server.formats import Bye, Format
from server.services import Services
from server.subscriber import Subscriber

SILENT = Format(
    event=lambda out: None,
    unplaced=lambda out: None,
    relayed=lambda event, by, at, state: None,
    snapshot=lambda state, viewer, now, shared: b"",
    first=lambda cursor, body: b"",
    resumed=lambda since, to, missed: b"",
    reset=lambda reason: b"",
    bye=lambda reason, retry_ms: b"",
    heartbeat=b"",
)


class Cut(Exception):
    """A long answer ends before its end."""

    def __init__(self, reason: Bye) -> None:
        super().__init__(reason)
        self.reason: Bye = reason


class Seat(Subscriber):
    """Takes part in no session: the hub counts it, and says when it has to go."""

    __slots__ = ()

    def __init__(self, user_id: str, login: str, expires_at: float) -> None:
        super().__init__(user_id, login, SILENT, cursor=None, expires_at=expires_at, limit=0)  # type: ignore[arg-type]

    def close(self, reason: Bye) -> None:
        if self.reason is None:
            self.reason = reason
            self.closed.set_result(None)


@contextlib.asynccontextmanager
async def seated(services: Services, seat: Seat) -> AsyncIterator[None]:
    """Hold a place while the block runs; when it is taken away the block is cancelled.

    Raises: Problem 429 when there is none, 401; Cut when it was taken away."""
    if not services.hub.register(seat):
        most = services.settings.limits.streams_per_user
        raise Problem(429, "too_many_streams", f"You have {most} streams open, as many as you may.", retry_s=5)
    task = asyncio.current_task()
    assert task is not None
    inside = True

    def leave(_: object) -> None:
        if inside:
            task.cancel()

    seat.closed.add_done_callback(leave)
    try:
        # From here on a logout finds the place; one that came just before has not.
        services.tokens.require_open(seat.login)
        yield
    except asyncio.CancelledError:
        # Our own cancelling is taken back; anyone else's goes on.
        if seat.reason is None or task.uncancel():
            raise
        raise Cut(seat.reason) from None
    finally:
        inside = False
        services.hub.unregister(seat)
