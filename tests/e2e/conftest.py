"""What the end-to-end tests share."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2 import sql
from psycopg2.extensions import make_dsn

from tests.conftest import _administer


@pytest.fixture
def data(scratch: str | None) -> Iterator[Path]:
    """A data directory that PostgreSQL's user may reach, removed afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="homeroom-e2e-", dir=scratch))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def empty_dsn(_server_dsn: str) -> Iterator[str]:
    """A database that no migration has seen."""
    name = sql.Identifier(f"homeroom_empty_{os.getpid()}")
    _administer(_server_dsn, sql.SQL("create database {}").format(name))
    yield make_dsn(_server_dsn, dbname=name.string)
    _administer(_server_dsn, sql.SQL("drop database {} with (force)").format(name))
