"""Clocks that are wrong and links that are slow: two clients still agree where a track stands (docs/clock.md)."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from tests.server.usecases.audio.test_library import upload
from tests.support import audio_files
from tests.support.client import Client
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROBES = 8
AGREE_S = 0.050


@contextlib.asynccontextmanager
async def link(port: int, *, up_s: float, down_s: float, jitter_s: float) -> AsyncIterator[int]:
    """A slow, lopsided and unsteady way to a server; the port of its near end."""
    chance = random.Random(7)
    tasks: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        """Pass bytes on in their order, each chunk as late as the link is then."""
        on_its_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1_000)
        loop = asyncio.get_running_loop()

        async def arrive() -> None:
            while True:
                due, chunk = await on_its_way.get()
                await asyncio.sleep(due - loop.time())
                if not chunk:
                    break
                writer.write(chunk)
            writer.close()

        arriving = asyncio.ensure_future(arrive())
        try:
            while True:
                chunk = await reader.read(65_536)
                await on_its_way.put((loop.time() + delay_s + chance.uniform(0, jitter_s), chunk))
                if not chunk:
                    break
            await arriving
        finally:
            arriving.cancel()
            writer.close()

    async def join(near: asyncio.StreamReader, far: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection("127.0.0.1", port)
        for work in (carry(near, to_server[1], up_s), carry(to_server[0], far, down_s)):
            task = asyncio.create_task(work)
            tasks.add(task)

    server = await asyncio.start_server(join, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Listener:
    """A client with a clock of its own, which does what docs/clock.md says."""

    def __init__(self, client: Client, ahead_s: float) -> None:
        self.client = client
        self._ahead_s = ahead_s
        self.offset_s = 0.0
        self.playback: dict[str, Any] = {}

    def clock(self, at: float | None = None) -> float:
        """What this client's clock shows, in seconds; at an instant of the true time."""
        return (time.time() if at is None else at) + self._ahead_s

    async def synchronize(self) -> None:
        best_s = float("inf")
        for _ in range(PROBES):
            t0 = self.clock() * 1000
            answer = (await self.client.get("/v1/time", t0=repr(t0))).ok()
            t3 = self.clock() * 1000
            assert answer["t0"] == t0
            delay = (t3 - t0) - (answer["t2"] - answer["t1"])
            if delay < best_s:
                best_s = delay
                self.offset_s = ((answer["t1"] - t0) + (answer["t2"] - t3)) / 2 / 1000

    def position(self, at: float, offset_s: float | None = None) -> float:
        """Where this client has the track at an instant of the true time."""
        now = self.clock(at) + (self.offset_s if offset_s is None else offset_s)
        since_s = now - datetime.fromisoformat(self.playback["at"]).timestamp()
        return float(self.playback["position"] + since_s * self.playback["speed"])


async def test_the_clock_answers_with_what_it_was_asked(town: Town) -> None:
    before = time.time() * 1000
    answer = (await town.anyone.get("/v1/time", t0="-12.5")).ok()
    assert answer["t0"] == -12.5
    assert before <= answer["t1"] <= answer["t2"] <= time.time() * 1000
    assert datetime.fromisoformat(answer["server_time"]).timestamp() * 1000 == pytest.approx(answer["t2"], abs=1)
    assert (await town.anyone.get("/v1/time")).ok()["t0"] is None
    for wrong in ("now", "nan", "inf", "1e99", ""):
        (await town.anyone.get("/v1/time", t0=wrong)).refused(422, "invalid", "t0")
    (await town.anyone.get("/v1/time", t="1")).refused(422, "invalid", "t")


@pytest.mark.parametrize("speed", [1.0, 2.0])
async def test_two_clients_agree_on_the_position(town: Town, speed: float) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    piece = await upload(host.person, audio_files.wav(600))
    await host.do("select_audio", audio_id=piece["id"])
    async with (
        link(town.port, up_s=0.025, down_s=0.005, jitter_s=0.01) as slow_up,
        link(town.port, up_s=0.005, down_s=0.025, jitter_s=0.01) as slow_down,
        aiohttp.ClientSession() as http,
    ):
        one = Listener(Client(http, f"http://127.0.0.1:{slow_up}", anna.person.token), ahead_s=3.7)
        two = Listener(Client(http, f"http://127.0.0.1:{slow_down}", ben.person.token), ahead_s=-42.2)
        await asyncio.gather(one.synchronize(), two.synchronize())
        # One hears it begin; the other comes later, and gets it from the snapshot.
        async with one.client.stream(f"{host.path}/events") as stream:
            await stream.until("snapshot")
            played = (await host.do("play", position=30.0, speed=speed))["events"][0]
            one.playback = (await stream.until("audio_play")).data
        async with two.client.stream(f"{host.path}/events") as stream:
            two.playback = (await stream.until("snapshot")).data["playback"]

        assert one.playback["at"] == played["at"]
        assert two.playback["at"] > played["at"]
        now = time.time()
        truth = 30 + (now - datetime.fromisoformat(played["at"]).timestamp()) * speed
        apart_s = abs(one.position(now) - two.position(now))
        print(f"apart: {apart_s * 1000:.1f} ms")
        assert apart_s <= AGREE_S
        for each in (one, two):
            assert abs(each.position(now) - truth) <= AGREE_S
            # Without the offset they would be seconds apart: it is this that the method is for.
            assert abs(each.position(now, offset_s=0) - truth) > 3
