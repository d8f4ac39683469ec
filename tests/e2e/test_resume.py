"""Streams cut anywhere and reopened with `Last-Event-ID` get exactly what they missed, in order."""

import asyncio
import random
from pathlib import Path

import aiohttp

from tests.e2e.checker import check
from tests.e2e.load import Load, Reader
from tests.e2e.process import Homeroom
from tests.server.client import Person

CUTS = 1_000
READERS = 20


async def test_a_thousand_random_cuts_under_load(data: Path) -> None:
    dice = random.Random(11)
    server = Homeroom(data)
    connector = aiohttp.TCPConnector(limit=0)
    async with server, aiohttp.ClientSession(connector=connector) as http:
        teacher = await Person.register(http, server.url, "Tess", "tess@example.org", "teacher")
        hosts = [await teacher.create(title=f"Class {n}") for n in range(4)]
        for host in hosts:
            await host.join()
        people = [teacher]
        for n in range(7):
            student = await Person.register(http, server.url, f"Student {n}", f"s{n}@example.org", "student")
            for host in hosts:
                await student.at(host).join()
            people.append(student)
        load = Load(server.url, [host.id for host in hosts], people, dice)
        readers = [Reader(server.url, hosts[n % 4].id, people[n % 8]) for n in range(READERS)]

        async def cut_again_and_again(reader: Reader) -> None:
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as own:
                for _ in range(CUTS // READERS):
                    await reader.read(own, cut_after=dice.randint(1, 6_000))

        async with asyncio.TaskGroup() as tasks:
            writing = [tasks.create_task(load.write(http, person, f"w{n}")) for n, person in enumerate(people)]
            async with asyncio.TaskGroup() as cutting:
                for reader in readers:
                    cutting.create_task(cut_again_and_again(reader))
            load.stopping = True
            await asyncio.gather(*writing)
        assert sum(reader.cuts for reader in readers) == CUTS
        check(server.dsn, load.acks, readers)
        assert sum(len(reader.seqs) for reader in readers) > CUTS
        print(f"\n{CUTS} cuts, {sum(len(r.seqs) for r in readers)} events seen, {len(load.acks)} acknowledged")
