"""Making something once, however often it is asked for under one Idempotency-Key.

**Law:** what a key has made is noted by the statement that makes it. (Why: docs/adr/0031)
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.messages import KeyReused, Unavailable
from actors.ports import CreationKey, NotUnique
from server.http.problems import problem_of
from server.usecases.call import Call
from server.usecases.services import Services
from storage.creations import Made

T = TypeVar("T")


async def idempotent(
    services: Services,
    call: Call,
    make: Callable[[CreationKey | None], Awaitable[T]],
    again: Callable[[Made], Awaitable[T]],
) -> T:
    """Make something, or give `again` of what the call's key has made before.

    `make` raises NotUnique("key") if meanwhile another has made it. Raises: Problem 422, 503."""
    if call.key is None:
        return await make(None)
    key = CreationKey(call.principal.user_id, call.key.key, call.key.digest)
    made = await before(services, key)
    if made is None:
        try:
            return await make(key)
        except NotUnique as conflict:
            if conflict.what != "key":
                raise
        made = await before(services, key)
    if made is None:
        raise problem_of(Unavailable("what this Idempotency-Key had made was just forgotten", 1), "")
    return await again(made)


async def before(services: Services, key: CreationKey) -> Made | None:
    """Find what a key has made. Raises: Problem 422 if it was for something else."""
    made = await services.creations.find(key.user_id, key.key)
    if made is not None and made.digest != key.digest:
        raise problem_of(KeyReused(), "")
    return made
