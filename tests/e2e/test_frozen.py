"""Processes that are stopped (SIGSTOP) and continue later: a server, one backend of the database, the whole database.

Nothing acknowledged is lost or executed twice, no client receives an event that is not in the log, and no client waits
longer than the settings say.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterable, Iterator

import psycopg2
import pytest

from storage.embedded import server as embedded
from tests.e2e.test_database_restart import hold
from tests.support.load import PATIENCE_S, School, school
from tests.support.processes import LIFTED, Server, directory, homeroom

KEYED = {**LIFTED, "auth": {**LIFTED["auth"], "signing_key": "one key for both of these servers"}}
HASTY = {**LIFTED, "database": {"statement_timeout_s": 0.5, "connect_timeout_s": 1.0}}
LEASE_OVER = "select count(*) from nodes where seen_at < now() - interval '6 s'"
WRITERS = "select pid from pg_stat_activity where application_name = 'homeroom' and query like 'execute append%'"


def query(dsn: str, sql: str) -> list[int]:
    connection = psycopg2.connect(dsn)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()


@contextlib.contextmanager
def frozen(pids: Iterable[int]) -> Iterator[None]:
    stopped = list(pids)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def refusals(full: School) -> None:
    """Wait until a client has been told to try again."""
    before = full.ledger.statuses.get(503, 0)
    async with asyncio.timeout(PATIENCE_S):
        while full.ledger.statuses.get(503, 0) == before:
            full.check()
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("lease", ["kept", pytest.param("over", marks=pytest.mark.long)])
async def test_a_frozen_server_gives_up_sessions_that_another_server_claimed(scratch: str | None, lease: str) -> None:
    with directory(scratch) as place:
        for name in ("one", "two"):
            (place / name).mkdir()
        with await asyncio.to_thread(embedded.start, place / "database") as postgres:
            one, two = (Server(place / name / "data", dsn=postgres.dsn, settings=KEYED) for name in ("one", "two"))
            async with homeroom(one), homeroom(two), school(one, talkers=12, sessions=8, each=3) as full:
                await full.listen(16)
                for talker in full.talkers[::2]:
                    talker.url = two.url
                full.talk()
                for _ in range(2):
                    await full.ledger.grows(200)
                    with frozen([one.process.pid]):
                        await full.ledger.grows(300)
                        while lease == "over" and not query(postgres.dsn, LEASE_OVER)[0]:
                            await full.ledger.grows(100)
                await full.ledger.grows(200)
                await full.finish()
                print("\n" + hold(full, postgres.dsn))
                assert "Traceback" not in one.complaints() + two.complaints()


async def test_commands_get_503_while_the_database_is_frozen_and_succeed_afterwards(scratch: str | None) -> None:
    """Stop the backends that commit, then all. Waiting clients get 503; a repeated command is executed once."""
    with directory(scratch) as data:
        server = Server(data, settings=HASTY)
        async with homeroom(server), school(server, talkers=16, sessions=16, each=2) as full:
            await full.listen(16)
            full.talk()
            await full.ledger.grows(200)
            with frozen(query(server.dsn, WRITERS)):
                await refusals(full)
                # The other sessions commit on a new connection.
                await full.ledger.grows(200)
            with frozen(process.pid for process in server.postgres()):
                await refusals(full)
            await full.ledger.grows(200)
            await full.finish()
            print("\n" + hold(full, server.dsn))
            assert full.ledger.slowest_s < 5.0
            assert "Traceback" not in server.complaints()
