"""Starting despite obstacles: another server, a concurrent start, a bad setting."""

import asyncio
import socket
from pathlib import Path

import aiohttp
import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from tests.support.processes import LIFTED, Server, directory, homeroom


@pytest.fixture
def bare(dsn: str) -> str:
    """An empty database, as at a first start."""
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("drop schema public cascade; create schema public")
    finally:
        connection.close()
    return dsn


async def is_ready(server: Server) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{server.url}/readyz") as response:
        return response.status == 200


async def test_two_servers_can_start_at_once_on_an_empty_database(bare: str, tmp_path: Path) -> None:
    first, second = (Server(tmp_path / name, dsn=bare) for name in ("one", "two"))
    try:
        await asyncio.gather(first.spawn(), second.spawn())
        await asyncio.gather(first.ready(), second.ready())
        assert await is_ready(first)
        assert await is_ready(second)
    finally:
        await asyncio.gather(first.stop(), second.stop())


async def test_a_second_server_on_the_same_data_is_refused(scratch: str | None) -> None:
    with directory(scratch) as place:
        first = Server(place / "data")
        async with homeroom(first):
            second = Server(place / "data")
            await second.spawn()
            status, said = await second.ended()
            assert status == 1
            assert f"process {first.process.pid}" in said
            assert "Stop that one first, or choose another data directory with --data" in said
            assert "Traceback" not in said
            assert await is_ready(first)
            await second.stop()


async def test_a_port_in_use_is_reported_before_a_database_is_created(tmp_path: Path) -> None:
    server = Server(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", server.port))
        taken.listen()
        await server.spawn()
        status, said = await server.ended()
    assert status == 1
    assert f"server.port = {server.port}" in said
    assert "Choose another port, or stop the process that uses it" in said
    assert "Traceback" not in said
    assert "PostgreSQL" not in said
    await server.stop()


@pytest.mark.parametrize(
    ("section", "key", "value", "allowed"),
    [
        ("limits", "mailbox", 0, "a whole number from 1 to"),
        ("server", "log_level", "loud", 'one of "debug"'),
        ("sessions", "grace_s", "ten", "a number from"),
    ],
)
async def test_a_bad_setting_stops_the_start(
    dsn: str, tmp_path: Path, section: str, key: str, value: object, allowed: str
) -> None:
    server = Server(tmp_path / "data", dsn=dsn, settings={**LIFTED, section: {**LIFTED.get(section, {}), key: value}})
    await server.spawn()
    status, said = await server.ended()
    assert status == 1
    assert f"{section}.{key} = " in said
    assert allowed in said
    assert str(value) in said
    assert "Traceback" not in said
    await server.stop()


async def test_an_unreachable_database_stops_the_start(dsn: str, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", dsn=make_dsn(dsn, dbname="no_such_database"))
    await server.spawn()
    status, said = await server.ended()
    assert status == 1
    assert 'database "no_such_database" does not exist' in said
    assert "Traceback" not in said
    await server.stop()


async def test_a_database_of_a_newer_version_is_refused(dsn: str, tmp_path: Path) -> None:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("insert into schema_migrations (id) values ('9999_from_the_future')")
    finally:
        connection.close()
    server = Server(tmp_path / "data", dsn=dsn)
    await server.spawn()
    status, said = await server.ended()
    assert status == 1
    assert "9999_from_the_future" in said
    assert "newer Homeroom" in said
    await server.stop()
