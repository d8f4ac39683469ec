"""`kill -9` under load: what was acknowledged is in the log, once, at its place; the server is back in seconds."""

import asyncio
import random
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.checker import check
from tests.e2e.load import Load, Reader
from tests.e2e.process import Homeroom
from tests.server.client import Person

READY_WITHIN_S = 3.0


async def school(
    http: aiohttp.ClientSession, url: str, *, sessions: int, people: int
) -> tuple[list[str], list[Person]]:
    """Make accounts, and live sessions that all of them are in."""
    everyone = [
        await Person.register(http, url, f"Person {n}", f"p{n}@example.org", "student" if n else "teacher")
        for n in range(people)
    ]
    teacher, *students = everyone
    made = []
    for n in range(sessions):
        host = await teacher.create(title=f"Class {n}")
        await host.join()
        made.append(host)
    # Those whom the load uses; the others are there to be many.
    for host in made[:BUSY]:
        for student in students:
            await student.at(host).join()
    return [host.id for host in made], everyone


BUSY = 20


async def killed(data: Path, *, kills: int, sessions: int, writers: int, between_s: float) -> list[float]:
    """Kill the server so many times under load, every other time with its database; give how long each start took."""
    server = Homeroom(data)
    ready = []
    async with server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        ids, people = await school(http, server.url, sessions=sessions, people=writers)
        load = Load(server.url, ids[:BUSY], people, random.Random(7))
        readers = [Reader(server.url, session_id, people[0]) for session_id in ids[:4]]
        async with asyncio.TaskGroup() as tasks:
            for number, person in enumerate(people):
                tasks.create_task(load.write(http, person, f"w{number}"))
            for reader in readers:
                tasks.create_task(reader.keep_reading(http, load))
            for number in range(kills):
                await load.progress(round(50 * writers * between_s))
                await server.kill(database=number % 2 == 1)
                ready.append(await server.start())
            await load.progress(5 * writers)
            load.stopping = True
            await server.stop()
        await server.start()
        check(server.dsn, load.acks, readers)
        assert load.resent > 0, "no kill came in the middle of anything"
        assert all(len(reader.seqs) > 0 for reader in readers)
        print(f"\n{len(load.acks)} acknowledged, {load.resent} sent again, ready again in {max(ready):.2f} s at most")
    return ready


async def test_killed_twice(data: Path) -> None:
    ready = await killed(data, kills=2, sessions=40, writers=12, between_s=0.5)
    assert max(ready) < 10 * READY_WITHIN_S  # the mark itself is for a machine that does nothing else: see below


@pytest.mark.long
async def test_killed_twenty_times_with_a_thousand_sessions(data: Path) -> None:
    ready = await killed(data, kills=20, sessions=1_000, writers=24, between_s=1.0)
    assert max(ready) <= READY_WITHIN_S
