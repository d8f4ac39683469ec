"""The fixtures of the server's tests serve here too; and sessions of all products, shared by what leaves them alone."""

import pytest_asyncio

from tests.support.dialects.products import Cast, Held, held
from tests.support.dialects.rows import DIALECTS
from tests.support.serving import Town


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cast(town: Town) -> Cast:
    return Cast(await town.teacher(), await town.student("Anna"), await town.student("Ben"))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def hold(town: Town, cast: Cast) -> dict[str, list[Held]]:
    """Two sessions of each product that nobody has come into, all of one teacher."""
    return {product: [await held(town, product, cast) for _ in range(2)] for product in DIALECTS}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def full(town: Town, cast: Cast) -> dict[str, Held]:
    """A session of each product with people in it."""
    return {product: await held(town, product, cast, joined=True) for product in DIALECTS}
