"""The server's clock, read so that clients can work their own offset out (docs/clock.md)."""

import time
from typing import Annotated

from msgspec import Meta, Struct

from actors.session.ids import Millis
from server.usecases.call import Call


class ClockQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`t0` is the client's clock when it sends the request, in milliseconds. The answer repeats it."""

    t0: Annotated[float, Meta(ge=-1e15, le=1e15)] | None = None


class Reading(Struct, frozen=True):
    t0: float | None
    t1: float
    """When the question came, in milliseconds since 1970."""


def now_ms() -> float:
    """Read the clock more finely than events are stamped."""
    return time.time_ns() / 1e6


def millis(at_ms: float) -> Millis:
    return Millis(int(at_ms))


async def now(parts: object, call: Call) -> Millis:
    return millis(now_ms())


async def clock(parts: object, call: Call) -> Reading:
    return Reading(call.query.t0, now_ms())
