from collections.abc import AsyncIterator

import pytest

from tests.support.stage import Process, process


@pytest.fixture
async def one() -> AsyncIterator[Process]:
    """A server's actors, without a session."""
    async with process() as one:
        yield one


@pytest.fixture
async def room(one: Process) -> Process:
    """A server's actors with a live session that its teacher, Ann and Ben have joined. Its log has 5 rows."""
    await one.open()
    return one
