"""The server's clock. Clients compute their own offset from the answer (docs/clock.md)."""

import time
from typing import Annotated

from msgspec import Meta, Struct

from actors.session.ids import Millis
from server.usecases.call import Call


class ClockQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`t0` is the client's clock when it sends the request, in milliseconds. The answer repeats it."""

    t0: Annotated[float, Meta(ge=-1e15, le=1e15)] | None = None


class Reading(Struct, frozen=True):
    """The server's clock, and the client's clock from the query."""

    t0: float | None
    t1: float
    """When the question came, in milliseconds since 1970."""


def now_ms() -> float:
    """Return the time in milliseconds since 1970, with fractions, more precise than the times of events."""
    return time.time_ns() / 1e6


def millis(at_ms: float) -> Millis:
    """Return a time in whole milliseconds."""
    return Millis(int(at_ms))


async def now(parts: object, call: Call) -> Millis:
    """Return the time in whole milliseconds."""
    return millis(now_ms())


async def clock(parts: object, call: Call) -> Reading:
    """Return the server's time, and the client's time from the query."""
    return Reading(call.query.t0, now_ms())
