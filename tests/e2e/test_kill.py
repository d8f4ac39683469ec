"""`kill -9` under load: of the server, and of the server with its database. Nothing acknowledged is lost or doubled."""

import random
import time

import pytest

from tests.e2e.checker import check_log, check_streams, read
from tests.e2e.load import school
from tests.e2e.processes import Server, directory, homeroom

READY_S = 3.0


async def killed(server: Server, *, kills: int, talkers: int, sessions: int, each: int, streams: int) -> list[float]:
    """Kill and restart under load, database included every other time; check everything; give the times to be ready."""
    dice = random.Random(kills)
    ready = []
    async with homeroom(server), school(server, talkers=talkers, sessions=sessions, each=each) as full:
        await full.listen(streams)
        full.talk()
        for number in range(kills):
            await full.ledger.grows(dice.randint(200, 400))
            full.check()
            await (server.kill_all() if number % 2 else server.kill())
            ready.append(await server.start())
        await full.ledger.grows(200)
        await full.finish()
        log = read(server.dsn)
        figures = check_log(log, full.ledger)
        faults = [*figures.faults, *check_streams(log, full.listeners)]
        seen = sum(len(listener.frames) for listener in full.listeners)
        back = sum(listener.connections - 1 for listener in full.listeners)
        print(
            f"\n{kills} kills, {len(log)} sessions: {figures.acked} commands acknowledged, {figures.unacked} more in "
            f"the log, {full.ledger.retries} retries; {seen} frames seen over {back} resumptions; ready again in "
            f"{', '.join(f'{s:.2f}' for s in ready)} s; lost, doubled or out of order: {len(faults)}"
        )
        assert not faults, faults[:20]
        assert figures.unacked == 0, "every message was repeated until it was acknowledged"
    return ready


async def test_killed_under_load(scratch: str | None) -> None:
    with directory(scratch) as data:
        began = time.monotonic()
        ready = await killed(Server(data), kills=2, talkers=16, sessions=20, each=3, streams=8)
        print(f"{time.monotonic() - began:.1f} s in all")
        assert max(ready) < 3 * READY_S, "a machine under test has other things to do; the long test is stricter"


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_killed_twenty_times_with_a_thousand_sessions() -> None:
    with directory() as data:
        ready = await killed(Server(data), kills=20, talkers=32, sessions=1_000, each=32, streams=32)
        assert max(ready) <= READY_S
