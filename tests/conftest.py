"""Fixtures that every test directory may use: a real PostgreSQL, and a database of its own for each test."""

import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import make_dsn
from pytest_aiohttp import AiohttpServer

from storage import migrate
from storage.embedded import server as embedded_postgres
from storage.embedded.server import Embedded
from tests.support.fcm import Fcm
from tests.support.fcm import serve as serve_fcm

_number = itertools.count()


def _administer(dsn: str, statement: sql.Composable) -> None:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
    finally:
        connection.close()


@pytest.fixture(scope="session")
def scratch() -> str | None:
    """Return where to create data directories: in memory if there is room, which makes a database ten times faster.

    Not in pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    """
    memory = "/dev/shm"
    roomy = Path(memory).is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30
    return memory if roomy else None


@pytest.fixture(scope="session")
def embedded(scratch: str | None) -> Iterator[Embedded]:
    """An embedded PostgreSQL server, shared by the whole run: do not stop it."""
    directory = Path(tempfile.mkdtemp(prefix="homeroom-test-", dir=scratch))
    # Nothing here outlives the run, so no write waits for the disk; tests of durability start their own server.
    with embedded_postgres.start(directory, settings={"fsync": "off", "max_connections": "100"}) as server:
        yield server
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def _server_dsn(request: pytest.FixtureRequest) -> str:
    """The server under test: HOMEROOM_TEST_DSN (of a user who may create databases), else the embedded one."""
    given = os.environ.get("HOMEROOM_TEST_DSN")
    if given:
        return given
    server: Embedded = request.getfixturevalue("embedded")
    return server.dsn


@pytest.fixture(scope="session")
def _template(_server_dsn: str) -> Iterator[str]:
    name = f"homeroom_template_{os.getpid()}"
    _administer(_server_dsn, sql.SQL("create database {}").format(sql.Identifier(name)))
    if any(migrate.DIRECTORY.glob("*.sql")):
        migrate.apply(make_dsn(_server_dsn, dbname=name))
    yield name
    _administer(_server_dsn, sql.SQL("drop database {}").format(sql.Identifier(name)))


@pytest.fixture
def dsn(_server_dsn: str, _template: str) -> Iterator[str]:
    """A fresh database with every migration applied."""
    name = f"homeroom_test_{os.getpid()}_{next(_number)}"
    copy = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(_template))
    _administer(_server_dsn, copy)
    yield make_dsn(_server_dsn, dbname=name)
    _administer(_server_dsn, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
async def fcm(aiohttp_server: AiohttpServer) -> Fcm:
    """A fake FCM, for tests of push notifications."""
    return await serve_fcm(aiohttp_server)


@pytest.fixture(scope="session")
def _s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server that speaks S3 in its own process; return its URL."""
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text())):
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield found[0]
    finally:
        server.terminate()
        server.wait(10)


class Bucket(NamedTuple):
    """A bucket that one test uses alone."""

    endpoint: str
    name: str

    def keys(self) -> list[str]:
        return self._listed("")

    def unfinished(self) -> list[str]:
        """Return the keys of uploads that have parts but were not completed."""
        return self._listed("?uploads")

    def _listed(self, query: str) -> list[str]:
        with urllib.request.urlopen(f"{self.endpoint}/{self.name}{query}", timeout=10) as answer:
            return re.findall("<Key>(.*?)</Key>", answer.read().decode())


@pytest.fixture
def bucket(_s3_server: str) -> Bucket:
    made = Bucket(_s3_server, f"homeroom-{next(_number)}")
    request = urllib.request.Request(f"{made.endpoint}/{made.name}", method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
    return made
