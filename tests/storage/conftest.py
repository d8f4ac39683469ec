"""What the storage tests share: a data directory that PostgreSQL's user can reach, and waiting for things."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop

from storage.embedded import server as embedded


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Use the loop that production runs on: of a socket that has failed it tells once only."""
    return {"uvloop": uvloop.new_event_loop}


@contextmanager
def _directory(scratch: str | None) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="homeroom-test-", dir=scratch))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def empty_data(scratch: str | None) -> Iterator[Path]:
    """An empty data directory."""
    with _directory(scratch) as directory:
        yield directory


@pytest.fixture(scope="session")
def data(scratch: str | None) -> Iterator[Path]:
    """A data directory that has been used and stopped. Shared, as to make one takes long: leave it working."""
    with _directory(scratch) as directory:
        embedded.start(directory).stop()
        yield directory


@pytest.fixture
def until() -> Callable[[Callable[[], object]], object]:
    """Wait until something is true, and give it; in a thread of its own where the loop must go on."""

    def wait(true: Callable[[], object]) -> object:
        deadline = time.monotonic() + 15
        while not (value := true()):
            assert time.monotonic() < deadline, "it did not become true"
            time.sleep(0.01)
        return value

    return wait
