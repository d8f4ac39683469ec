"""A server as `homeroom serve` runs it, and a browser in front of it."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server.bootstrap.lifecycle import Running
from server.bootstrap.lifecycle import running as serving
from tests.support import chromium
from tests.support.chromium import Chromium
from tests.support.serving import settings


@pytest.fixture
async def server(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(settings(dsn, tmp_path)) as server:
        yield server


@pytest.fixture
async def hasty_server(dsn: str, tmp_path: Path) -> AsyncIterator[Running]:
    """A server that ends every stream after half a second, so that each page reconnects again and again."""
    hasty = {"lifetime_s": 0.5, "heartbeat_s": 0.3}
    async with serving(settings(dsn, tmp_path, streams=hasty)) as server:
        yield server


@pytest.fixture
async def browser(scratch: str | None) -> AsyncIterator[Chromium]:
    binary = chromium.found()
    if binary is None:
        pytest.skip("there is no Chromium on this machine; on Debian: apt-get install chromium")
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as profile:
        async with chromium.running(binary, Path(profile)) as browser:
            yield browser
