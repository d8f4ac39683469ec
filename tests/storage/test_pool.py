import asyncio
import contextlib
import gc
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiopg
import psycopg2
import pytest

from storage.embedded import server as embedded
from storage.errors import Conflict, DatabaseUnavailable, StorageError, UnknownOutcome
from storage.pool import Pool, Writer

TABLE = (
    "create table fruit (name text constraint fruit_name_key unique,"
    " weight int constraint fruit_weight_key unique deferrable initially deferred)"
)
MY_PID = "select pg_backend_pid()"


class Administrator:
    """Another session, for looking at the pool's and for killing them."""

    def __init__(self, dsn: str, until: Callable[[Callable[[], object]], object]) -> None:
        self._until = until
        self._connection = psycopg2.connect(dsn)
        self._connection.autocommit = True

    def query(self, sql: str, *params: object) -> object:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, params or None)
            row = cursor.fetchone()
            return row[0] if row else None

    def connections(self) -> object:
        return self.query(
            "select count(*) from pg_stat_activity where application_name = 'homeroom' and datname = current_database()"
        )

    def terminate(self, pid: object) -> None:
        """End a session, and wait until it is gone."""
        assert self.query("select pg_terminate_backend(%s, 5000)", pid)

    async def waiting(self) -> object:
        """Give the process id of the session that runs `STUCK`, as soon as there is one."""
        waiting = "select max(pid) from pg_locks where locktype = 'advisory' and objid = 7 and not granted"
        return await asyncio.to_thread(self._until, lambda: self.query(waiting))

    def close(self) -> None:
        self._connection.close()


# Runs until `administrator` gives its lock back, so that the tests need no clock.
STUCK = "select pg_advisory_lock(7), pg_advisory_unlock(7), 'done'"


@pytest.fixture
def administrator(dsn: str, until: Callable[[Callable[[], object]], object]) -> Iterator[Administrator]:
    administrator = Administrator(dsn, until)
    administrator.query("select pg_advisory_lock(7)")
    yield administrator
    administrator.close()


@pytest.fixture
async def pool(
    dsn: str, administrator: Administrator, until: Callable[[Callable[[], object]], object]
) -> AsyncIterator[Pool]:
    async with await Pool.open(dsn, size=3, connect_timeout_s=2, statement_timeout_s=10) as pool:
        await pool.execute(TABLE)
        yield pool
    until(lambda: administrator.connections() == 0)
    gc.collect()  # a connection that nobody closed would warn here, and warnings are errors


async def test_fetch_and_execute(pool: Pool) -> None:
    assert await pool.execute("insert into fruit values (%s, %s), (%s, %s)", ("fig", 1, "plum", 2)) == 2
    assert await pool.fetch("select name, weight from fruit order by name") == [("fig", 1), ("plum", 2)]
    assert await pool.fetch("select name from fruit where weight = %(weight)s", {"weight": 2}) == [("plum",)]
    assert await pool.fetch("delete from fruit") == []
    assert await pool.fetch("select '%'") == [("%",)]
    assert await pool.fetch("select '%%', %s", (1,)) == [("%", 1)]


async def test_a_unique_violation_names_its_constraint(pool: Pool) -> None:
    await pool.execute("insert into fruit values ('fig')")
    with pytest.raises(Conflict) as caught:
        await pool.execute("insert into fruit values ('fig')")
    assert caught.value.constraint == "fruit_name_key"


@pytest.mark.parametrize("sql", ["select 1/0", "selec", "select %s", "insert into nowhere values (1)"])
async def test_other_errors_are_storage_errors_and_the_connection_stays(pool: Pool, sql: str) -> None:
    before = await pool.fetch(MY_PID)
    with pytest.raises(StorageError) as caught:
        await pool.fetch(sql, (object(),) if "%s" in sql else ())
    assert type(caught.value) is StorageError
    assert isinstance(caught.value.__cause__, psycopg2.Error)
    assert await pool.fetch(MY_PID) == before


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_a_text_that_postgres_cannot_hold_is_a_storage_error(pool: Pool, text: str) -> None:
    before = await pool.fetch(MY_PID)
    with pytest.raises(StorageError, match="parameter"):
        await pool.execute("insert into fruit values (%s)", (text,))
    assert await pool.fetch(MY_PID) == before


async def test_an_error_on_a_high_descriptor_is_that_error(pool: Pool, dsn: str) -> None:
    # aiopg calls select() on errors; it refuses descriptors from 1024 up, which a busy server has.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    taken = [os.dup(0) for _ in range(1100)]
    try:
        async with await Pool.open(dsn, size=1, statement_timeout_s=3) as high:
            await high.execute("insert into fruit values ('fig')")
            with pytest.raises(Conflict):
                await high.execute("insert into fruit values ('fig')")
            (pid,) = (await high.fetch(MY_PID))[0]
            await pool.fetch("select pg_terminate_backend(%s, 5000)", (pid,))
            await asyncio.sleep(0)  # the loop sees the end of it before we use it
            assert await high.fetch(MY_PID) != [(pid,)]
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_transaction_commits_at_the_end_and_rolls_back_on_an_error(pool: Pool) -> None:
    async with pool.transaction() as tx:
        assert await tx.execute("insert into fruit values ('fig')") == 1
        assert await pool.fetch("select name from fruit") == []
        assert await tx.fetch("select name from fruit") == [("fig",)]

    async def fail() -> None:
        async with pool.transaction() as tx:
            await tx.execute("insert into fruit values ('plum')")
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert await pool.fetch("select name from fruit") == [("fig",)]


async def test_a_transaction_whose_failure_was_passed_over_is_not_taken_for_committed(pool: Pool) -> None:
    async def pass_over() -> None:
        async with pool.transaction() as tx:
            await tx.execute("insert into fruit values ('fig')")
            with pytest.raises(Conflict):
                await tx.execute("insert into fruit values ('fig')")

    with pytest.raises(StorageError, match="rolled back"):
        await pass_over()
    assert await pool.fetch("select name from fruit") == []


async def test_a_conflict_may_come_with_the_commit(pool: Pool) -> None:
    with pytest.raises(Conflict) as caught:
        async with pool.transaction() as tx:
            await tx.execute("insert into fruit values ('fig', 1), ('plum', 1)")
    assert caught.value.constraint == "fruit_weight_key"
    assert await pool.fetch("select name from fruit") == []


async def test_a_transaction_that_lost_its_connection_did_certainly_nothing(
    pool: Pool, administrator: Administrator
) -> None:
    async def lose(*, then_use: bool) -> None:
        async with pool.transaction() as tx:
            await tx.execute("insert into fruit values ('fig')")
            administrator.terminate((await tx.fetch(MY_PID))[0][0])
            if then_use:
                await tx.execute("insert into fruit values ('plum')")

    with pytest.raises(DatabaseUnavailable) as caught:
        await lose(then_use=True)
    assert type(caught.value) is DatabaseUnavailable
    with pytest.raises(UnknownOutcome):  # it was the commit that was sent
        await lose(then_use=False)
    assert await pool.fetch("select name from fruit") == []


async def test_a_commit_that_gets_no_answer_has_an_unknown_outcome(pool: Pool, administrator: Administrator) -> None:
    await pool.execute(
        "create function wait() returns trigger language plpgsql as"
        " $$ begin perform pg_advisory_lock(7); return null; end $$"
    )
    await pool.execute(
        "create constraint trigger wait after insert on fruit deferrable initially deferred"
        " for each row execute function wait()"
    )

    async def commit() -> None:
        async with pool.transaction() as tx:
            await tx.execute("insert into fruit values ('fig')")

    task = asyncio.create_task(commit())
    administrator.terminate(await administrator.waiting())
    with pytest.raises(UnknownOutcome):
        await task


async def test_callers_beyond_the_size_wait_in_turn_and_not_for_ever(dsn: str, administrator: Administrator) -> None:
    async with await Pool.open(dsn, size=1, connect_timeout_s=0.2) as pool:
        first = asyncio.create_task(pool.fetch(STUCK))
        await administrator.waiting()
        with pytest.raises(DatabaseUnavailable, match="no free connection"):
            await pool.fetch("select 1")
        second = asyncio.create_task(pool.fetch("select 2"))
        await asyncio.sleep(0)
        administrator.query("select pg_advisory_unlock(7)")
        assert (await first)[0][2] == "done"
        assert await second == [(2,)]
        assert administrator.connections() == 1


async def test_a_cancelled_caller_leaves_no_busy_connection_behind(pool: Pool, administrator: Administrator) -> None:
    task = asyncio.create_task(pool.fetch(STUCK))
    pid = await administrator.waiting()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pool.fetch(MY_PID) != [(pid,)]
    administrator.terminate(pid)


async def test_a_cancelled_transaction_is_rolled_back(pool: Pool, administrator: Administrator) -> None:
    async def change() -> None:
        async with pool.transaction() as tx:
            await tx.execute("insert into fruit values ('fig')")
            await tx.fetch(STUCK)

    task = asyncio.create_task(change())
    pid = await administrator.waiting()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    administrator.terminate(pid)
    await pool.execute("insert into fruit values ('fig')")


async def test_a_statement_that_takes_too_long_has_an_unknown_outcome(dsn: str, administrator: Administrator) -> None:
    async with await Pool.open(dsn, size=1, statement_timeout_s=0.1) as pool:
        with pytest.raises(UnknownOutcome, match=r"within 0\.1 s"):
            await pool.fetch(STUCK, retry=True)  # a time-out is not tried again
        assert await pool.fetch("select 1") == [(1,)]


async def test_the_servers_cancellation_is_an_error_and_not_ours(pool: Pool, administrator: Administrator) -> None:
    task = asyncio.create_task(pool.fetch(STUCK))
    administrator.query("select pg_cancel_backend(%s)", await administrator.waiting())
    with pytest.raises(DatabaseUnavailable, match="canceling statement"):
        await task


async def test_idle_connections_that_died_are_replaced_before_anything_is_sent(
    pool: Pool, administrator: Administrator
) -> None:
    @asynccontextmanager
    async def three() -> AsyncIterator[list[object]]:
        async with pool.transaction() as a, pool.transaction() as b, pool.transaction() as c:
            yield [(await tx.fetch(MY_PID))[0][0] for tx in (a, b, c)]

    async with three() as before:
        pass
    for pid in before:
        administrator.terminate(pid)
    assert await pool.execute("insert into fruit values ('fig')") == 1
    async with three() as after:
        assert not set(before) & set(after)


async def test_losing_the_connection_under_a_write_is_an_unknown_outcome_and_a_read_is_repeated(
    pool: Pool, administrator: Administrator
) -> None:
    write = asyncio.create_task(pool.execute(STUCK))
    administrator.terminate(await administrator.waiting())
    with pytest.raises(UnknownOutcome):
        await write
    read = asyncio.create_task(pool.fetch(STUCK, retry=True))
    administrator.terminate(await administrator.waiting())
    await administrator.waiting()
    administrator.query("select pg_advisory_unlock(7)")
    assert (await read)[0][2] == "done"


async def test_what_a_lost_connection_held_is_gone_with_it(pool: Pool, administrator: Administrator) -> None:
    """Without a collection, which may be hours away: a commit is large, and a bad day may lose thousands."""

    class Large(str):  # a plain one cannot be watched
        pass

    def counted(kind: type) -> int:
        return sum(isinstance(one, kind) for one in gc.get_objects())

    gc.collect()
    connections = counted(aiopg.Connection)
    gc.disable()
    try:
        for _ in range(3):
            write = asyncio.create_task(pool.execute(f"{STUCK}, %s", (Large("x" * 100_000),)))
            administrator.terminate(await administrator.waiting())
            with pytest.raises(UnknownOutcome):
                await write
            with pytest.raises(StorageError):
                await pool.execute("select nothing, %s", (Large("x" * 100_000),))
            del write
        assert counted(Large) == 0
        assert counted(aiopg.Connection) == connections
    finally:
        gc.enable()


async def test_a_session_ended_before_it_read_the_statement_is_an_unknown_outcome_at_once(data: Path) -> None:
    # Its last words and the failure of the socket then come as one event, and the loop tells of a failure once.
    with embedded.start(data) as server:
        async with await Pool.open(server.dsn, size=1) as pool:
            (pid,) = (await pool.fetch(MY_PID))[0]
            os.kill(pid, signal.SIGSTOP)
            read = asyncio.create_task(pool.fetch("select 1"))
            await asyncio.sleep(0)
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
            await_the_end_of(pid)  # without the loop: it is to see all of it in one piece
            with pytest.raises(UnknownOutcome, match=r"terminating connection|closed the connection"):
                await read
            assert await pool.fetch("select 1") == [(1,)]


def await_the_end_of(pid: int) -> None:
    deadline = time.monotonic() + 15
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(pid, 0)
            assert time.monotonic() < deadline, "it did not end"
            time.sleep(0.01)


async def test_a_backend_killed_hard_is_an_unknown_outcome(data: Path) -> None:
    with embedded.start(data) as server:
        async with await Pool.open(server.dsn, size=2) as pool:
            (pid,) = (await pool.fetch(MY_PID))[0]
            with pytest.raises(UnknownOutcome):
                await asyncio.gather(pool.fetch("select pg_sleep(20)"), _kill(pid))
            # PostgreSQL ends every session after such a crash and recovers; that is waited for.
            assert await pool.fetch("select 1", retry=True) == [(1,)]


async def _kill(pid: int) -> None:
    os.kill(pid, 9)


async def test_a_lost_connection_takes_nothing_from_the_next_one_of_its_number(data: Path) -> None:
    class Killing:
        """A parameter that kills the session just before it is sent: so large that the driver notices."""

        def __conform__(self, protocol: object) -> "Killing":
            return self

        def getquoted(self) -> bytes:
            os.kill(pid, signal.SIGKILL)
            await_the_end_of(pid)
            return b"'%b'" % (b"x" * 100_000)

    with embedded.start(data) as server:
        writer = Writer(server.dsn)
        (pid,) = (await writer.fetch(MY_PID))[0]
        with pytest.raises(UnknownOutcome):
            await writer.fetch("select %s", (Killing(),))
        async with await Pool.open(server.dsn, size=1, statement_timeout_s=3) as pool:
            assert await writer.fetch("select 1") == [(1,)]
            assert await pool.fetch("select 1") == [(1,)]
        await writer.close()


async def test_a_restart_of_postgres_goes_unnoticed_between_statements(data: Path) -> None:
    first = embedded.start(data)
    async with await Pool.open(first.dsn, size=4) as pool:
        writer = Writer(first.dsn, ["prepare one as select 1"])
        await asyncio.gather(*(pool.fetch("select pg_sleep(0.02)") for _ in range(4)), writer.fetch("execute one"))
        await asyncio.to_thread(first.stop)
        calls: list[asyncio.Task[object]] = [asyncio.create_task(pool.execute("select 1")) for _ in range(8)]
        calls += [asyncio.create_task(pool.fetch("select 1")) for _ in range(8)]
        calls.append(asyncio.create_task(writer.fetch("execute one")))
        second = await asyncio.to_thread(embedded.start, data)
        await asyncio.gather(*calls)
        await writer.close()
    await asyncio.to_thread(second.stop)


async def test_no_server_is_said_at_once_or_after_the_time_that_was_given(dsn: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r'cannot connect: .*"nobody_made_this" does not exist'):
        await Pool.open(f"{dsn} dbname=nobody_made_this", size=1)
    with pytest.raises(DatabaseUnavailable, match=r"cannot connect in time: .*No such file"):
        await Pool.open(f"host={tmp_path}", size=1, connect_timeout_s=0.1)


async def test_closing_waits_for_what_runs_and_refuses_the_rest(dsn: str, administrator: Administrator) -> None:
    pool = await Pool.open(dsn, size=1)
    running = asyncio.create_task(pool.fetch(STUCK))
    await administrator.waiting()
    waiting = asyncio.create_task(pool.fetch("select 1"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close())
    await asyncio.sleep(0)
    administrator.query("select pg_advisory_unlock(7)")
    assert (await running)[0][2] == "done"
    await closing
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await waiting
    with pytest.raises(DatabaseUnavailable, match="closed"):
        await pool.fetch("select 1")
    await pool.close()


async def test_a_writer_prepares_on_every_connect(dsn: str, administrator: Administrator) -> None:
    writer = Writer(dsn, ["prepare add_one (int) as select $1 + 1"])
    assert await writer.fetch("execute add_one (%s)", (1,)) == [(2,)]
    (pid,) = (await writer.fetch(MY_PID))[0]
    administrator.terminate(pid)
    assert await writer.fetch("execute add_one (%s)", (2,)) == [(3,)]
    stuck = asyncio.create_task(writer.fetch(STUCK))
    administrator.terminate(await administrator.waiting())
    with pytest.raises(UnknownOutcome):
        await stuck
    # Callers at the same time take turns on the one connection.
    assert await asyncio.gather(*(writer.fetch("execute add_one (%s)", (n,)) for n in range(5))) == [
        [(n + 1,)] for n in range(5)
    ]
    assert administrator.connections() == 1
    await writer.close()
    await writer.close()


async def test_a_writer_whose_statement_cannot_be_prepared_says_so(dsn: str) -> None:
    writer = Writer(dsn, ["prepare nonsense as selec"])
    with pytest.raises(StorageError, match="selec") as caught:
        await writer.fetch("execute nonsense")
    assert type(caught.value) is StorageError
    await writer.close()
