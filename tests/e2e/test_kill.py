"""The server ends under load, by `kill -9`, alone or with its database, or by SIGTERM. Nothing acknowledged is lost."""

from collections.abc import Awaitable, Callable, Sequence

import pytest

from tests.support.checker import check_log, check_streams, read
from tests.support.load import school
from tests.support.processes import Server, directory, homeroom

READY_S = 3.0


Way = Callable[[Server], Awaitable[None]]
KILLS: tuple[Way, ...] = (Server.kill, Server.kill_all)


async def ended(
    server: Server, ways: Sequence[Way], *, talkers: int, sessions: int, each: int, streams: int
) -> list[float]:
    """End and restart the server in these ways under load; check log and streams; return the seconds until ready."""
    ready = []
    async with homeroom(server), school(server, talkers=talkers, sessions=sessions, each=each) as full:
        await full.listen(streams)
        full.talk()
        for round, way in enumerate(ways):
            await full.ledger.grows(200 + 73 * round % 200)
            full.check()
            await way(server)
            ready.append(await server.start())
        await full.ledger.grows(200)
        await full.finish()
        log = read(server.dsn)
        figures = check_log(log, full.ledger)
        faults = [*figures.faults, *check_streams(log, full.listeners)]
        seen = sum(len(listener.frames) for listener in full.listeners)
        back = sum(listener.connections - 1 for listener in full.listeners)
        print(
            f"\n{len(ways)} times ended, {len(log)} sessions: {figures.acked} acknowledged, {figures.unacked} more "
            f"in the log, {full.ledger.retries} retries; {seen} frames seen over {back} resumptions; ready again in "
            f"{', '.join(f'{s:.2f}' for s in ready)} s; lost, doubled or out of order: {len(faults)}"
        )
        assert not faults, faults[:20]
        assert "Traceback" not in server.complaints(), server.complaints()
        assert figures.unacked == 0, "every message was repeated until it was acknowledged"
        assert back >= streams * len(ways)
    return ready


async def test_nothing_acknowledged_is_lost_when_the_server_is_killed_under_load(scratch: str | None) -> None:
    with directory(scratch) as data:
        ready = await ended(Server(data), KILLS, talkers=16, sessions=20, each=3, streams=8)
        assert max(ready) < 3 * READY_S, "a machine under test has other things to do; the long test is stricter"


async def test_nothing_acknowledged_is_lost_when_the_server_is_terminated_under_load(scratch: str | None) -> None:
    with directory(scratch) as data:
        await ended(Server(data), [Server.terminate] * 2, talkers=16, sessions=20, each=3, streams=8)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_a_thousand_sessions_survive_twenty_kills() -> None:
    with directory() as data:
        ready = await ended(Server(data), KILLS * 10, talkers=32, sessions=1_000, each=32, streams=32)
        assert max(ready) <= READY_S
