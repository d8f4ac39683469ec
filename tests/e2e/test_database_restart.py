"""PostgreSQL goes away under load and comes back: so does Homeroom, by itself, having lost and doubled nothing."""

import asyncio
import os
import random
import signal
from pathlib import Path

import aiohttp
import pytest

from tests.e2e.checker import check
from tests.e2e.load import Load, Reader
from tests.e2e.process import Homeroom
from tests.server.client import Person


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["fast shutdown", "kill -9"])
async def test_load_goes_on_over_restarts_of_the_database(data: Path, how: signal.Signals) -> None:
    server = Homeroom(data)
    async with server, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        teacher = await Person.register(http, server.url, "Tess", "tess@example.org", "teacher")
        hosts = [await teacher.create(title=f"Class {n}") for n in range(8)]
        for host in hosts:
            await host.join()
        load = Load(server.url, [host.id for host in hosts], [teacher], random.Random(3))
        readers = [Reader(server.url, host.id, teacher) for host in hosts]
        async with asyncio.TaskGroup() as tasks:
            for number in range(8):
                tasks.create_task(load.write(http, teacher, f"w{number}"))
            for reader in readers:
                tasks.create_task(reader.keep_reading(http, load))
            for _ in range(2):
                await load.progress(200)
                postmaster = server.postgres()[0]
                os.kill(postmaster.pid, how)
                # What comes next can only have been written by the PostgreSQL that took its place.
                await asyncio.to_thread(postmaster.wait, 30)
                await load.progress(200)
            load.stopping = True
            await http.get(f"{server.url}/readyz")
            # The readers' streams stay open; ending the server ends them.
            await server.stop()
        assert all(reader.cuts == 1 for reader in readers), "a stream did not outlive the database"
        await server.start()
        check(server.dsn, load.acks, readers)
