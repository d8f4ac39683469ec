"""Idempotent creation: requests with the same Idempotency-Key create a thing only once.

**Law:** the statement that creates something also stores the key. (Why: docs/adr/0031)
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from actors.messages import KeyReused, Unavailable
from actors.ports import CreationKey, NotUnique
from server.http.problems import problem_of
from server.usecases.call import Call
from storage.creations import Creations, KeyedCreation

T = TypeVar("T")


async def idempotent(
    creations: Creations,
    call: Call,
    make: Callable[[CreationKey | None], Awaitable[T]],
    repeat: Callable[[KeyedCreation], Awaitable[T]],
) -> T:
    """Return `make(key)`, or `repeat(made)` if the call's key has created something before.

    `make` raises NotUnique("key") if a concurrent request with the same key was faster.
    Raise Problem 422 if the key was used for a different request, 503 if its result has just expired."""
    if call.key is None:
        return await make(None)
    key = CreationKey(call.principal.user_id, call.key.key, call.key.digest)
    made = await earlier_creation(creations, key)
    if made is None:
        try:
            return await make(key)
        except NotUnique as conflict:
            if conflict.what != "key":
                raise
        made = await earlier_creation(creations, key)
    if made is None:
        raise problem_of(Unavailable("what this Idempotency-Key had made was just forgotten", 1), "")
    return await repeat(made)


async def earlier_creation(creations: Creations, key: CreationKey) -> KeyedCreation | None:
    """Return what a key has created, if anything. Raise Problem 422 if the key was used for a different request."""
    made = await creations.find(key.user_id, key.key)
    if made is not None and made.digest != key.digest:
        raise problem_of(KeyReused(), "")
    return made
