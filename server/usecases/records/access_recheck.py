"""Who may read a session's records, and for how long."""

import time
from collections.abc import Awaitable, Callable

from server.http.problems import Problem
from server.streams.slots import SlotRevoked

CHECK_S = 1.0
"""How often a long answer looks whether its reader may still have it."""


def periodic_recheck(check: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Make what a long answer calls every so often: SlotRevoked, once its reader may not have it any more."""
    checked_at = time.monotonic()

    async def checked() -> None:
        nonlocal checked_at
        if time.monotonic() - checked_at >= CHECK_S:
            checked_at = time.monotonic()
            try:
                await check()
            except Problem as problem:
                raise SlotRevoked("kicked") from problem

    return checked
