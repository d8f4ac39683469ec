"""What goes on by itself: whatever becomes of it, it goes on."""

import asyncio
import logging

import pytest

from actors.ports import LogUnavailable
from server.bootstrap.background import going_on, purge
from storage.queries import FORGET_ROWS
from tests.support.client import PATIENCE_S


async def test_what_breaks_off_or_ends_is_logged_and_begins_again(caplog: pytest.LogCaptureFixture) -> None:
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
        task = asyncio.create_task(going_on("counting", work, again_s=0))
        async with asyncio.timeout(PATIENCE_S):
            await third.wait()
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "counting broke off", "counting has come to an end",
    ]  # fmt: skip
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_cannot_be_dropped_keeps_nothing_else_from_it() -> None:
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
