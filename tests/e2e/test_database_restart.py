"""PostgreSQL restarts under load: the server recovers by itself, and subscribers receive every event once."""

import asyncio
import contextlib
import signal
from collections.abc import Callable

import psutil
import psycopg2
import pytest

from storage.embedded import server as embedded
from storage.embedded.server import Embedded
from tests.support.checker import check_log, check_streams, read
from tests.support.load import School, school
from tests.support.processes import Server, directory, family, homeroom

TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'homeroom'"


def fast(postgres: Embedded) -> None:
    psutil.Process(postgres.pid).send_signal(signal.SIGINT)


def immediate(postgres: Embedded) -> None:
    psutil.Process(postgres.pid).send_signal(signal.SIGQUIT)


def killed(postgres: Embedded) -> None:
    for process in family(postgres.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def killed_backend(postgres: Embedded) -> None:
    """Kill one backend: PostgreSQL restarts all of them by itself and reports that it is in recovery."""
    backends = [p for p in family(postgres.pid)[1:] if "postgres postgres [local]" in " ".join(p.cmdline())]
    backends[0].kill()


WAYS: tuple[Callable[[Embedded], None], ...] = (fast, immediate, killed, killed_backend)


async def restarted(postgres: Embedded, how: Callable[[Embedded], None]) -> None:
    how(postgres)
    if how is not killed_backend:
        await asyncio.to_thread(psutil.wait_procs, family(postgres.pid)[:1], 20)
        assert postgres.died
        await asyncio.to_thread(postgres.revive)


def hold(full: School, dsn: str) -> str:
    """Check log and streams; return a line to print."""
    log = read(dsn)
    figures = check_log(log, full.ledger)
    faults = [*figures.faults, *check_streams(log, full.listeners)]
    assert not faults, faults[:20]
    assert figures.unacked == 0
    away = [listener.user_id for listener in full.listeners if listener.connections != 1]
    assert not away, f"streams that had to come back: {away}"
    seen = sum(len(listener.frames) for listener in full.listeners)
    return f"{figures.acked} commands acknowledged after {full.ledger.retries} retries; {seen} frames seen"


@pytest.mark.parametrize(
    "rounds", [1, pytest.param(10, marks=[pytest.mark.long, pytest.mark.timeout(600)])], ids=["once", "again and again"]
)
async def test_nothing_is_lost_when_the_database_restarts_under_load(scratch: str | None, rounds: int) -> None:
    with directory(scratch) as place:
        (place / "server").mkdir()
        with await asyncio.to_thread(embedded.start, place / "database") as postgres:
            server = Server(place / "server" / "data", dsn=postgres.dsn)
            async with homeroom(server), school(server, talkers=16, sessions=20, each=3) as full:
                await full.listen(40)
                full.talk()
                for how in WAYS * rounds:
                    await full.ledger.grows(300)
                    await restarted(postgres, how)
                await full.ledger.grows(300)
                await full.finish()
                print("\n" + hold(full, postgres.dsn))


async def test_nothing_is_lost_when_the_embedded_database_is_killed_under_load(scratch: str | None) -> None:
    with directory(scratch) as data:
        server = Server(data)
        async with homeroom(server), school(server, talkers=16, sessions=20, each=3) as full:
            await full.listen(20)
            full.talk()
            await full.ledger.grows(300)
            for process in server.postgres():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            await full.ledger.grows(300)
            await full.finish()
            print("\n" + hold(full, server.dsn))


@pytest.mark.parametrize("times", [30, pytest.param(300, marks=pytest.mark.long)])
async def test_nothing_is_lost_when_every_database_connection_ends_repeatedly(scratch: str | None, times: int) -> None:
    with directory(scratch) as data:
        server = Server(data)
        async with homeroom(server), school(server, talkers=20, sessions=20, each=3) as full:
            await full.listen(20)
            full.talk()
            with contextlib.closing(psycopg2.connect(f"{server.dsn} application_name=adversary")) as connection:
                for _ in range(times):
                    await full.ledger.grows(40)
                    full.check()
                    with connection, connection.cursor() as cursor:
                        cursor.execute(TERMINATE)
            await full.ledger.grows(100)
            await full.finish()
            print("\n" + hold(full, server.dsn))
            assert full.ledger.slowest_s < 5.0
            assert "Traceback" not in server.complaints()
