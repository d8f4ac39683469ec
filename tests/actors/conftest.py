from collections.abc import AsyncIterator

import pytest

from tests.support.stage import Process, process


@pytest.fixture
async def one() -> AsyncIterator[Process]:
    """A server's actors, with nothing made yet."""
    async with process() as one:
        yield one


@pytest.fixture
async def room(one: Process) -> Process:
    """The same, with a live session that its teacher, Ann and Ben have joined; its log is 5 rows long."""
    await one.open()
    return one
