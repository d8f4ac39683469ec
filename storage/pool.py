"""Connections to PostgreSQL: a pool, and the writer's own.

**Law:** a connection goes back to the pool idle and alive, or it is closed.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from psycopg2.extensions import TRANSACTION_STATUS_INTRANS

from storage.aiopg_connection import CONNECT_TIMEOUT_S, STATEMENT_TIMEOUT_S, AiopgConnection, Params, Row, connect
from storage.errors import DatabaseUnavailable, StorageError, UnknownOutcome


class Transaction:
    """An open transaction: one statement at a time, in order. `Pool.transaction` creates it."""

    def __init__(self, connection: AiopgConnection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, params: Params = ()) -> list[Row]:
        """Run a statement and return its rows.

        Raise DatabaseUnavailable (also if the connection is lost, which rolls back), Conflict, StorageError.
        """
        return (await self._run(sql, params))[0]

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement and return the number of rows that it affected. Raise as `fetch` does."""
        return (await self._run(sql, params))[1]

    async def _run(self, sql: str, params: Params) -> tuple[list[Row], int]:
        try:
            return await self._connection.run(sql, params)
        except UnknownOutcome as error:
            raise DatabaseUnavailable(f"the transaction was rolled back: {error}") from error


class Pool:
    """At most `size` connections, opened when needed and kept. Callers do not notice a restart of PostgreSQL.

    This replaces aiopg's pool, which connects while holding the lock that is needed to return a connection, hands out
    connections that the server has closed, and raises bare time-outs. Any task of the loop may call; `async with`
    closes the pool.
    """

    def __init__(self, dsn: str, *, size: int, connect_timeout_s: float, statement_timeout_s: float) -> None:
        self._dsn = dsn
        self._size = size
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._slots = asyncio.Semaphore(size)
        self._idle: list[AiopgConnection] = []
        self._closed = False
        self.waiting = 0
        """Callers that wait for a connection to become free."""
        self.waits = 0
        self.waited_s = 0.0
        """How many callers have waited for a free connection, and how long in total."""

    @property
    def size(self) -> int:
        """The most connections that the pool has."""
        return self._size

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        size: int = 10,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> Self:
        """Return a new pool after opening one connection, so that a wrong DSN fails here.

        `connect_timeout_s` bounds the whole wait for a connection, free or new, and with it for a restarting server.
        libpq resolves a host name in `dsn` on the loop and blocks it: use an address or a socket.
        Raise DatabaseUnavailable.
        """
        pool = cls(dsn, size=size, connect_timeout_s=connect_timeout_s, statement_timeout_s=statement_timeout_s)
        async with pool._connection():
            return pool

    async def close(self) -> None:
        """Wait for running statements, and close every connection. Waiting and later calls raise DatabaseUnavailable.

        A second call does nothing.
        """
        if not self._closed:
            self._closed = True
            while self._idle:
                self._idle.pop().close()
            for _ in range(self._size):
                await self._slots.acquire()
            for _ in range(self._size):
                self._slots.release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def fetch(self, sql: str, params: Params = (), *, retry: bool = False) -> list[Row]:
        """Run one statement, in its own transaction, and return its rows ([] for a statement without rows).

        `retry`: the statement only reads, so repeat it once if the connection is lost meanwhile.
        Raise DatabaseUnavailable, UnknownOutcome, Conflict, StorageError.
        """
        try:
            async with self._connection() as connection:
                return (await connection.run(sql, params))[0]
        except UnknownOutcome as error:
            # A time-out is not retried: a second attempt would double the caller's wait.
            if not retry or isinstance(error.__cause__, TimeoutError):
                raise
        async with self._connection() as connection:
            return (await connection.run(sql, params))[0]

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement, in its own transaction, and return the number of rows that it affected.

        Raise DatabaseUnavailable, UnknownOutcome, Conflict, StorageError.
        """
        async with self._connection() as connection:
            return (await connection.run(sql, params))[1]

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction. It is committed when the block ends, and rolled back when the block raises.

        Raise DatabaseUnavailable on entry. At the end, raise UnknownOutcome if the connection is lost during the
        commit, and Conflict or StorageError if a deferred constraint fails or the block ignored a failed statement.
        """
        async with self._connection() as connection:
            try:
                await connection.run("begin", ())
            except UnknownOutcome as error:
                raise DatabaseUnavailable(str(error)) from error
            try:
                yield Transaction(connection)
            except BaseException:
                await _rolled_back(connection)
                raise
            # After a failed statement PostgreSQL answers COMMIT with a silent rollback.
            if not connection.closed and connection.raw.get_transaction_status() != TRANSACTION_STATUS_INTRANS:
                await _rolled_back(connection)
                raise StorageError("the transaction was rolled back: one of its statements had failed")
            if connection.closed:
                raise DatabaseUnavailable("the transaction was rolled back: its connection was lost")
            await connection.run("commit", ())

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[AiopgConnection]:
        deadline = asyncio.get_running_loop().time() + self._connect_timeout_s
        await self._wait_for_slot(deadline)
        try:
            connection = await self._take(deadline)
            try:
                yield connection
            finally:
                if connection.idle and not self._closed:
                    self._idle.append(connection)
                else:
                    connection.close()
        finally:
            self._slots.release()

    async def _wait_for_slot(self, deadline: float) -> None:
        if not self._slots.locked():
            await self._slots.acquire()
            return
        started = time.monotonic()
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise DatabaseUnavailable(f"no free connection within {self._connect_timeout_s:g} s") from error
        finally:
            self.waiting -= 1
            self.waits += 1
            self.waited_s += time.monotonic() - started

    async def _take(self, deadline: float) -> AiopgConnection:
        if self._closed:
            raise DatabaseUnavailable("the pool is closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                return connection
            connection.close()
        return await connect(self._dsn, (), deadline, self._statement_timeout_s)


async def _rolled_back(connection: AiopgConnection) -> None:
    """Roll back, or close the connection, which has the same effect. The caller already has an error to raise."""
    try:
        await connection.run("rollback", ())
    except StorageError:
        connection.close()


class Writer:
    """One connection with prepared statements, for the group commit.

    It connects on first use and again after a failure, and waits up to `connect_timeout_s` for a restarting server.
    It runs one statement at a time; further callers wait.
    """

    def __init__(
        self,
        dsn: str,
        prepare: Sequence[str] = (),
        *,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        self._dsn = dsn
        self._prepare = tuple(prepare)
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._turn = asyncio.Lock()
        self._connection: AiopgConnection | None = None

    async def fetch(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement, in its own transaction, and return its rows.

        Raise DatabaseUnavailable, UnknownOutcome, Conflict, StorageError.
        """
        async with self._turn:
            if self._connection is None or not self._connection.idle:
                self._drop()
                deadline = asyncio.get_running_loop().time() + self._connect_timeout_s
                self._connection = await connect(self._dsn, self._prepare, deadline, self._statement_timeout_s)
            return (await self._connection.run(sql, params))[0]

    async def close(self) -> None:
        """Close the connection after the current statement. A later use opens it again."""
        async with self._turn:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
