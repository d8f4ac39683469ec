"""A server is killed while it notifies users: committed notifications still reach them."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import psycopg2

from tests.support import fcm as fake
from tests.support.client import PATIENCE_S, Client, Person, Seat
from tests.support.processes import LIFTED, Server, homeroom

NAMES = ("phone", "tablet", "watch")


def query(dsn: str, sql: str) -> list[tuple[Any, ...]]:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


async def hosting(http: aiohttp.ClientSession, url: str, count: int) -> list[Seat]:
    teacher = await Person.register(http, url, "Tess", "tess@example.org", "teacher")
    seats = [await teacher.create(title=f"Class {number}") for number in range(count)]
    for seat in seats:
        await seat.join()
    return seats


async def test_a_killed_server_sends_each_invitation_to_every_device_after_its_restart(
    dsn: str, tmp_path: Path, fcm: fake.Fcm
) -> None:
    async with aiohttp.ClientSession() as http:
        push = {"provider": "fcm", "fcm_key_file": str(fcm.key_file(tmp_path / "key.json")), "fcm_url": fcm.url}
        quick = {"poll_s": 0.05, "backoff_s": 0.05, "attempt_s": 300.0}
        settings = {**LIFTED, "push": {**push, "timeout_s": 300.0}, "outbox": quick}
        async with homeroom(Server(tmp_path / "data", dsn=dsn, settings=settings)) as server:
            (host,) = await hosting(http, server.url, 1)
            anna = await Person.register(http, server.url, "Anna", "anna@example.org", "student")
            for name in NAMES:
                (await anna.call("PUT", f"/v1/me/devices/{name}", {"platform": "android"})).ok()
            # One device got the message, one got it without an answer to the server, one did not get it.
            fcm.answers("tablet", fake.SILENT)
            fcm.answers("watch", fake.HANGS)
            await host.do("invite", user_id=anna.id)
            await fcm.until(
                lambda: len(fcm.to("phone")) == 1 and fcm.tries["watch"] == 1 and len(fcm.to("tablet")) == 1
            )
            async with asyncio.timeout(PATIENCE_S):
                while not query(dsn, "select token from push_settled"):  # noqa: ASYNC110 - the database has no event
                    await asyncio.sleep(0.01)
            await server.kill()
            await server.start()
            # The row is claimed again after its lease, which is shortened here.
            query(dsn, "update outbox set leased_until = now()")
            await fcm.until(lambda: len(fcm.to("watch")) == 1 and len(fcm.to("tablet")) == 2)
            assert len(fcm.to("phone")) == 1
            assert fcm.to("tablet")[0]["android"] == fcm.to("tablet")[1]["android"], "one tag: seen once"


async def test_a_notification_stream_resumes_without_loss_after_the_server_is_killed(dsn: str, tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http, homeroom(Server(tmp_path / "data", dsn=dsn, settings=LIFTED)) as server:
        hosts = await hosting(http, server.url, 30)
        anna = await Person.register(http, server.url, "Anna", "anna@example.org", "student")
        seen: list[str] = []
        cursor: str | None = None
        for part in range(3):
            async with Client(http, server.url, anna.token).stream("/v1/me/events", last_event_id=cursor) as stream:
                first = await stream.next()
                assert first.event == ("resumed" if cursor else "snapshot")
                for host in hosts[10 * part : 10 * part + 8]:
                    await host.insist("invite", user_id=anna.id)
                for _ in range(5 if part < 2 else 24 - len(seen)):
                    frame = await stream.until("session_invitation")
                    seen.append(frame.data["session"]["id"])
                    cursor = frame.id
            if part < 2:
                await server.kill()
                await server.start()
        assert seen == [host.id for part in range(3) for host in hosts[10 * part : 10 * part + 8]]
