"""What a server does by itself, beside its requests: it beats, tidies up, and whatever else goes on until it stops.

**Law:** none of it ends before the server does: what breaks off is logged, and begins again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping

from actors.ports import LogUnavailable
from storage.event_log import PostgresEventLog
from storage.queries import FORGET_ROWS

logger = logging.getLogger(__name__)

Work = Callable[[], Coroutine[None, None, None]]
Forget = Callable[[], Awaitable[int]]
"""Drops old rows, `FORGET_ROWS` or so at once; gives how many."""
AGAIN_S = 1.0
BEAT_S = 2.0
TIDY_S = 3_600.0


def start_all(stack: contextlib.AsyncExitStack, works: Mapping[str, Work]) -> None:
    """Begin what goes on until the stack is left."""
    for name, work in works.items():
        stack.push_async_callback(cancelled, asyncio.create_task(going_on(name, work)))


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def going_on(name: str, work: Work, *, again_s: float = AGAIN_S) -> None:
    """Do what has no end, until cancelled. An end that it comes to all the same is a mistake of ours."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s broke off; it begins again", name)
        else:
            logger.error("%s has come to an end; it begins again", name)
        await asyncio.sleep(again_s)


async def heartbeat(log: PostgresEventLog) -> None:
    """Say every so often that this process is alive."""
    while True:
        await asyncio.sleep(BEAT_S)
        with contextlib.suppress(LogUnavailable):
            await log.heartbeat()


async def purge(*stores: Forget) -> None:
    """Have what has served its time dropped. What cannot be dropped now keeps nothing else from it."""
    while True:
        for forget in stores:
            try:
                while await forget() >= FORGET_ROWS:
                    pass
            except LogUnavailable as error:
                logger.warning("tidying up later: %s", error)
            except Exception:
                logger.exception("tidying up failed; the rest is done")
        await asyncio.sleep(TIDY_S)
