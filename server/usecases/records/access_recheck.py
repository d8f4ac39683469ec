"""The periodic access recheck: a long answer ends soon after its reader loses access to the session."""

import time
from collections.abc import Awaitable, Callable

from server.http.problems import Problem
from server.streams.slots import SlotRevoked

CHECK_S = 1.0
"""The interval at which a long answer checks that its reader still has access."""


def periodic_recheck(check: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Return a function that runs `check` at most once per `CHECK_S` and returns at once in between.

    The function raises SlotRevoked if `check` raises a Problem."""
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
