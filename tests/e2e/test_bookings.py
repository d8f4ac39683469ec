"""The server is killed while bookings get their sessions: each booking has one session afterwards."""

import asyncio
import contextlib
from typing import Any

import aiohttp
import psycopg2

from tests.support.booking import book
from tests.support.client import Person
from tests.support.processes import Server, directory, homeroom

BOOKINGS = 24
CALLS = 3
"""For each booking, at once."""


def query(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()
    finally:
        connection.close()


async def asked(person: Person, booking: Any, told: dict[str, set[str]]) -> None:
    """Request a booking's session until there is an answer; record every answer."""
    while True:
        with contextlib.suppress(aiohttp.ClientError):
            reply = await person.post(f"/v1/bookings/{booking['id']}/session")
            if reply.status == 200:
                told[booking["id"]].add(reply.json["id"])
                return
            assert reply.status == 503, reply.body
        await asyncio.sleep(0.02)


async def test_a_booking_has_one_session_though_the_server_is_killed_while_creating_it(scratch: str | None) -> None:
    with directory(scratch) as data:
        server = Server(data)
        async with homeroom(server), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            tess = await Person.register(http, server.url, "Tess", "tess@example.org", "teacher")
            anna = await Person.register(http, server.url, "Anna", "anna@example.org", "student")
            told: dict[str, set[str]] = {}
            for way in (server.kill, server.kill_all):
                bookings = [await book(tess, anna) for _ in range(BOOKINGS)]
                told |= {booking["id"]: set() for booking in bookings}
                calls = [
                    asyncio.create_task(asked((tess, anna)[number % 2], booking, told))
                    for number in range(CALLS)
                    for booking in bookings
                ]
                await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                assert not all(call.done() for call in calls), "there is something left to break"
                await way()
                await server.start()
                async with asyncio.timeout(20):
                    await asyncio.gather(*calls)
            made = dict(query(server.dsn, "select booking_id::text, session_id::text from bookings"))
            assert told == {booking_id: {session_id} for booking_id, session_id in made.items()}
            for table in ("sessions", "session_head", "session_log"):
                rows = query(server.dsn, f"select distinct session_id::text from {table}")
                assert sorted(session_id for (session_id,) in rows) == sorted(made.values()), table
            assert "Traceback" not in server.complaints(), server.complaints()
