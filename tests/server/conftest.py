"""A server for the whole run, for tests that need no special settings."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import psycopg2
import pytest
import pytest_asyncio
import uvloop
from psycopg2 import sql
from psycopg2.extensions import make_dsn

from tests.support.serving import Town, serving

_towns = itertools.count(1)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use the loop that production runs on: its transports are not asyncio's."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def town_dsn(_server_dsn: str, _template: str) -> Iterator[str]:
    # Each directory of tests that imports these fixtures has its own town.
    name = f"homeroom_town_{os.getpid()}_{next(_towns)}"
    connection = psycopg2.connect(_server_dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        named = sql.Identifier(name)
        cursor.execute(sql.SQL("create database {} template {}").format(named, sql.Identifier(_template)))
        yield make_dsn(_server_dsn, dbname=name)
        cursor.execute(sql.SQL("drop database {} with (force)").format(named))
    connection.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def town(town_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    """The shared server, with limits lifted and cheap hashes. Tests that use it run on the session's loop."""
    async with serving(town_dsn, tmp_path_factory.mktemp("town")) as town:
        yield town


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory for a test's own server."""
    return tmp_path / "data"
