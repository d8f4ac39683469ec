"""Who may read a session's records, and for how long."""

import time
from collections.abc import Awaitable, Callable

from actors.session.aspects import lifecycle
from actors.session.ids import SessionId
from actors.session.state import Session
from server.http.problems import Problem
from server.security.principal import Principal
from server.streams.slots import SlotRevoked
from server.usecases.services import Services

CHECK_S = 1.0
"""How often a long answer looks whether its reader may still have it."""


async def took_part(services: Services, session_id: SessionId, principal: Principal, ref: str) -> Session:
    """Find a session for someone who may see what everyone in it could: who is in it, or, once it is over, was.

    Raises: Problem 404, 403."""
    found = await services.visible(session_id, principal, ref)
    was_in = found.place == "left" and found.joined and found.session.status in lifecycle.CLOSED
    if found.session.owner_id != principal.user_id and found.place != "joined" and not was_in:
        raise Problem(403, "not_joined", "Join the session first.")
    return found.session


async def moderates(services: Services, session_id: SessionId, principal: Principal, ref: str) -> Session:
    return (await services.moderated(session_id, principal, ref)).session


def still(check: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
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
