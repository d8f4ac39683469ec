"""Background work: a failure restarts it."""

import asyncio
import logging

import pytest

from actors.ports import LogUnavailable
from server.bootstrap.background import purge, run_forever
from storage.queries import FORGET_ROWS
from tests.support.client import PATIENCE_S


async def test_work_that_fails_or_ends_is_logged_and_restarted(caplog: pytest.LogCaptureFixture) -> None:
    begun, third = 0, asyncio.Event()

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun == 1:
            raise ZeroDivisionError
        if begun == 3:
            third.set()
            await asyncio.Event().wait()

    with caplog.at_level(logging.ERROR):
        task = asyncio.create_task(run_forever("counting", work, again_s=0))
        async with asyncio.timeout(PATIENCE_S):
            await third.wait()
    assert [record.getMessage() for record in caplog.records] == [
        "background work failed and is restarted: counting",
        "background work ended and is restarted: counting",
    ]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_store_that_fails_does_not_keep_the_others_from_being_purged() -> None:
    left, done = [FORGET_ROWS, FORGET_ROWS + 1, 7], asyncio.Event()

    async def away() -> int:
        raise LogUnavailable("for now")

    async def broken() -> int:
        raise ZeroDivisionError

    async def whole() -> int:
        return left.pop(0)

    async def last() -> int:
        done.set()
        return 0

    task = asyncio.create_task(purge(away, broken, whole, last))
    async with asyncio.timeout(PATIENCE_S):
        await done.wait()
    assert left == [], "part by part"
    task.cancel()
