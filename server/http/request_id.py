"""The id of the request that the running code works for, so that every line it logs can name that request.

**Law:** code that works for many requests (a session's actor, the group commit, background work) runs without an id.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

CURRENT: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Tasks inherit it from the code that starts them, and so do callbacks of the event loop."""


@contextlib.contextmanager
def working_for(request_id: str | None) -> Iterator[None]:
    """Run the block on behalf of a request. For code that has no task of its own."""
    token = CURRENT.set(request_id)
    try:
        yield
    finally:
        CURRENT.reset(token)
