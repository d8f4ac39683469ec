"""A server is killed while it creates a room: in the end a session has the room, or the room is deleted."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import psycopg2
import pytest

from server.demo import daily
from server.demo.daily import FakeDaily, Fault
from tests.support.client import Client, Person
from tests.support.processes import LIFTED, PATIENCE_S, Server, homeroom

ACCOUNT = "the key of an account at Daily, for tests"
WAITING = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


class Making:
    """A server with rooms at Daily, a teacher, and a direct connection to the database."""

    def __init__(self, server: Server, fake: FakeDaily, teacher: Client, dsn: str) -> None:
        self.server = server
        self.fake = fake
        self.teacher = teacher
        self.connection = psycopg2.connect(dsn)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    @contextlib.asynccontextmanager
    async def killed_when(self, there: Callable[[], object]) -> AsyncIterator[None]:
        """Request a session with a room. When the condition holds, the server is stopped; after the block it is killed,
        and another one starts."""
        asking = asyncio.create_task(self.teacher.post("/v1/sessions", {"title": "Physics", "room": True}))
        await until(there)
        self.server.process.send_signal(signal.SIGSTOP)
        yield
        await self.server.kill()
        with pytest.raises(aiohttp.ClientError):
            await asking
        # Creating a room may take ten minutes; they are over now.
        self.query("update rooms set due_at = now() where due_at is not null")
        await self.server.start()

    async def listed(self) -> list[Any]:
        return list((await self.teacher.get("/v1/sessions")).ok()["items"])


@pytest.fixture
async def making(dsn: str, tmp_path: Path) -> AsyncIterator[Making]:
    async with daily.serving(FakeDaily(ACCOUNT)) as fake, aiohttp.ClientSession() as http:
        rooms = {"provider": "daily", "daily_api_key": ACCOUNT, "daily_api_url": f"{fake.url}/v1"}
        settings = {**LIFTED, "rooms": {**rooms, "daily_webhook_secret": fake.secret}}
        async with homeroom(Server(tmp_path / "data", dsn=dsn, settings=settings)) as server:
            teacher = await Person.register(http, server.url, "Tess", "tess@example.org", "teacher")
            making = Making(server, fake, teacher, dsn)
            yield making
            making.connection.close()


async def until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not there():  # noqa: ASYNC110 - neither the database nor the stand-in has an event
            await asyncio.sleep(0.01)


async def test_a_room_is_deleted_if_the_server_dies_before_the_provider_answers(making: Making) -> None:
    making.fake.faults.append(Fault("POST", "/rooms", silent_s=2.0))
    async with making.killed_when(lambda: making.fake.rooms):
        assert making.query("select session_id from rooms") == [(None,)]
    await until(lambda: not making.fake.rooms and not making.query("select name from rooms"))
    assert await making.listed() == []


@pytest.mark.parametrize("committed", [True, False])
async def test_a_room_is_kept_only_if_the_commit_that_the_server_died_in_succeeded(
    making: Making, committed: bool
) -> None:
    with making.connection.cursor() as cursor:
        cursor.execute("lock table sessions in share mode")
        async with making.killed_when(lambda: waiting(cursor)):
            if committed:
                making.connection.commit()
                await until(lambda: making.query("select name from sessions"))
            else:
                cursor.execute(f"select pg_terminate_backend(pid, 5000) from ({WAITING}) waiting")
                making.connection.commit()
    if committed:
        (session,) = await making.listed()
        assert making.fake.rooms.keys() == {session["room"]["name"]}
        assert making.query("select due_at from rooms where session_id is not null") == [(None,)]
    else:
        await until(lambda: not making.fake.rooms and not making.query("select name from rooms"))
        assert await making.listed() == []


def waiting(cursor: Any) -> bool:
    cursor.execute(WAITING)
    return bool(cursor.fetchall())
