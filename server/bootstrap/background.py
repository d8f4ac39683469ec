"""Background work: heartbeats, deleting old rows, and everything else that runs until the server stops.

**Law:** no background work ends before the server does. If it fails, that is logged and it is started again.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping

from actors.ports import LogUnavailable
from storage.log.event_log import PostgresEventLog
from storage.queries import FORGET_ROWS

logger = logging.getLogger(__name__)

Work = Callable[[], Coroutine[None, None, None]]
Purge = Callable[[], Awaitable[int]]
"""Deletes up to about `FORGET_ROWS` old rows and returns how many."""
RESTART_S = 1.0
HEARTBEAT_S = 2.0
PURGE_S = 3_600.0


def start_all(stack: contextlib.AsyncExitStack, works: Mapping[str, Work]) -> None:
    """Start each work in a task of its own. The tasks are cancelled when the stack is left."""
    for name, work in works.items():
        stack.push_async_callback(cancel, asyncio.create_task(run_forever(name, work)))


async def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def run_forever(name: str, work: Work, *, again_s: float = RESTART_S) -> None:
    """Run work that should never end, and restart it after `again_s` if it does."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("background work failed and is restarted: %s", name)
        else:
            logger.error("background work ended and is restarted: %s", name)
        await asyncio.sleep(again_s)


async def heartbeat(log: PostgresEventLog) -> None:
    """Note in the log every `HEARTBEAT_S` that this process is alive."""
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        with contextlib.suppress(LogUnavailable):
            await log.heartbeat()


async def purge(*stores: Purge) -> None:
    """Delete old rows every `PURGE_S`. A store that fails does not affect the others."""
    while True:
        for forget in stores:
            try:
                while await forget() >= FORGET_ROWS:
                    pass
            except LogUnavailable as error:
                logger.warning("old rows are deleted later: %s", error)
            except Exception:
                logger.exception("deleting old rows of one store failed")
        await asyncio.sleep(PURGE_S)
