"""Connections to PostgreSQL, and the one place where psycopg2's errors stop.

The law: a connection goes back to the pool idle and alive, or it is closed; and an error says whether the statement
can have taken effect (`storage.errors`).

SQL is psycopg2's: `%s` or `%(name)s` for parameters, and with parameters a literal `%` is written `%%`.
"""

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import aiopg
import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INTRANS

from storage.errors import Conflict, StorageError, Unavailable, UnknownOutcome

Params: TypeAlias = Sequence[object] | Mapping[str, object]
Row: TypeAlias = tuple[Any, ...]

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0

# A restarting server says one of these until it is back. libpq gives a failed connect no SQLSTATE; the text has to do.
_SOON = (
    "closed the connection",
    "terminating connection",
    "Connection refused",
    "No such file or directory",
    "starting up",
    "shutting down",
    "recovery mode",
    "not yet accepting",
)
_RETRY_MIN_S, _RETRY_MAX_S = 0.02, 0.2

# SQLSTATE classes of errors that rolled the statement back for a passing reason:
# 40 serialization failure and deadlock, 53 out of resources, 57 operator intervention.
_PASSING = {"40", "53", "57"}


def translated(error: psycopg2.Error, *, lost: bool = False) -> StorageError:
    """Give storage's error for psycopg2's. `lost`: the connection is gone, and what it ran may have taken effect."""
    if isinstance(error, psycopg2.errors.UniqueViolation):
        return Conflict(error.diag.constraint_name or "")
    text = str(error).strip() or type(error).__name__
    if lost or error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return UnknownOutcome(text)
    if (error.pgcode or "")[:2] in _PASSING:
        return Unavailable(text)
    return StorageError(text)


class _Connection(aiopg.Connection):
    """aiopg's connection with six faults mended, each shown by a test in tests/storage/test_pool.py."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        # 5: the queue of notifications, which nobody reads, keeps the error that ends a connection, and that keeps the
        # connection by its traceback. The queue keeps the first error that it is given.
        self._notifies_proxy.close(psycopg2.OperationalError("nobody listens"))

    @staticmethod
    def _ready(weak_self: Any) -> None:
        self = cast("_Connection | None", weak_self())
        try:
            aiopg.Connection._ready(weak_self)
        except ValueError as error:
            # 1: on any SQL error aiopg calls select() on the socket, which refuses descriptors from 1024 up: on a
            # server with a thousand clients every unique violation became a time-out. The error is the context.
            if self is not None and self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error.__context__ or error)
        if self is None:
            return
        # 2: a connection that the server closed while idle stayed registered with the loop under a number that the next
        # socket gets.
        if self.closed:
            self._close()
        # 4: of a socket that has failed uvloop tells once, and the server's last words are then read alone: without
        # this the statement would wait for its time-out to learn that there is no answer.
        elif self._waiter is not None and not self._waiter.done() and self._failed:
            self._loop.call_soon(self._ready, weak_self)

    def _close(self) -> None:
        super()._close()
        # 6: closed twice, it took the number's next owner off the loop, who then waited for answers until the time-out.
        self._fileno = None

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:  # noqa: ASYNC109 - as in aiopg
        # 3: aiopg turns the server's "canceling statement" into a CancelledError of our own task.
        self._ready(self._weakref)
        expiry = self._loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        except (asyncio.CancelledError, TimeoutError):
            self._close()  # busy: nobody may use it again
            raise
        finally:
            expiry.cancel()
            self._waiter = None

    @property
    def _failed(self) -> bool:
        return bool(self._events(0) & select.POLLERR)

    @property
    def idle(self) -> bool:
        """Whether a statement may be sent: alive, outside a transaction, and nothing unread from the server.

        A restarted server shows only as a readable socket until somebody reads it.
        """
        if self.closed or self.raw.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            return False
        return not self._events(select.POLLIN)

    def _events(self, mask: int) -> int:
        """Give what the socket has to say now, of `mask` and of failure."""
        poll = select.poll()
        descriptor = self.raw.fileno()
        if descriptor < 0:
            return 0
        poll.register(descriptor, mask)
        return next((events for _, events in poll.poll(0)), 0)

    async def run(self, sql: str, params: Params) -> tuple[list[Row], int]:
        """Run one statement; give its rows and its row count.

        Raises: Unavailable, UnknownOutcome, Conflict, StorageError.
        """
        if self.closed:
            raise Unavailable("the connection was lost earlier")
        # As aiopg's cursor does it, without one: it costs as much as the rest of this.
        cursor = self.raw.cursor()
        waiter = self._create_waiter("run")
        try:
            cursor.execute(sql, params or None)
            await self._poll(waiter, self.timeout)
            rows = cursor.fetchall() if cursor.description else []
            return rows, cursor.rowcount
        # The waiter keeps its error, whose traceback keeps this frame, which has the waiter: without its traceback none
        # of them, nor the parameters, wait for a full collection.
        except TimeoutError as error:
            raise UnknownOutcome(f"no answer within {self.timeout:g} s") from error.with_traceback(None)
        except psycopg2.Error as error:
            lost = bool(self.closed)
            if lost:
                self._close()  # the driver has closed the socket, perhaps while it sent: its number is free already
            raise translated(error, lost=lost) from error.with_traceback(None)
        except ValueError as error:  # from the driver, before anything is sent: a NUL or half a surrogate in a text
            raise StorageError(f"a parameter cannot be stored: {error}") from error
        finally:
            self._waiter = None
            cursor.close()


def _expire(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


async def _connect(dsn: str, setup: Sequence[str], deadline: float, statement_timeout_s: float) -> _Connection:
    """Connect, and run `setup`; while the server restarts try again until `deadline`, in loop time.

    Raises: Unavailable; StorageError if `setup` is at fault.
    """
    # The server gives up a little after us, so that what we abandoned does not hold its locks for long. A process
    # frozen inside a transaction must not hold them either: the next owner of its sessions waits for them.
    limit_ms = round(statement_timeout_s * 1000) + 500
    limits = f"set statement_timeout = {limit_ms}; set idle_in_transaction_session_timeout = {limit_ms}"
    pause_s = _RETRY_MIN_S
    reason = "no answer"
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    # hstore would cost a query on every connect.
                    connection = _Connection(dsn, statement_timeout_s, enable_hstore=False, application_name="homeroom")
                    await connection
                    return await _set_up(connection, (limits, *setup))
                except (psycopg2.Error, TimeoutError, UnknownOutcome) as error:
                    reason = str(error).strip() or reason
                    if not any(phrase in reason for phrase in _SOON):
                        raise Unavailable(f"cannot connect: {reason}") from error
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)
    except TimeoutError as error:
        raise Unavailable(f"cannot connect in time: {reason}") from error


async def _set_up(connection: _Connection, setup: Sequence[str]) -> _Connection:
    try:
        for sql in setup:
            await connection.run(sql, ())
    except BaseException:
        connection.close()
        raise
    return connection


class Transaction:
    """An open transaction: one statement at a time, in order. Made by `Pool.transaction`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, params: Params = ()) -> list[Row]:
        """Run a statement and give its rows.

        Raises: Unavailable (also when the connection is lost: that rolls back), Conflict, StorageError.
        """
        return (await self._run(sql, params))[0]

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run a statement and give the number of rows that it touched. Raises: as `fetch`."""
        return (await self._run(sql, params))[1]

    async def _run(self, sql: str, params: Params) -> tuple[list[Row], int]:
        try:
            return await self._connection.run(sql, params)
        except UnknownOutcome as error:
            raise Unavailable(f"the transaction was rolled back: {error}") from error


class Pool:
    """At most `size` connections, made when needed and kept; a restart of PostgreSQL is survived without being told.

    Not aiopg's own pool: that one connects under the lock that givers-back need, hands out connections that the server
    has closed, and raises its time-outs bare. Any task of the loop may call; `async with` closes it.
    """

    def __init__(self, dsn: str, *, size: int, connect_timeout_s: float, statement_timeout_s: float) -> None:
        self._dsn = dsn
        self._size = size
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._slots = asyncio.Semaphore(size)
        self._idle: list[_Connection] = []
        self._closed = False

    @classmethod
    async def open(
        cls,
        dsn: str,
        *,
        size: int = 10,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        statement_timeout_s: float = STATEMENT_TIMEOUT_S,
    ) -> Self:
        """Open a pool, with one connection made to see that it works.

        `connect_timeout_s` bounds the whole wait for a connection, free or new, and with it for a restarting server.
        A host name in `dsn` is resolved on the loop (libpq cannot do otherwise): give an address or a socket.
        Raises: Unavailable.
        """
        pool = cls(dsn, size=size, connect_timeout_s=connect_timeout_s, statement_timeout_s=statement_timeout_s)
        async with pool._connection():
            return pool

    async def close(self) -> None:
        """Close it: waits for the statements that run; later and waiting calls get Unavailable. Again: nothing."""
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
        """Run one statement, in its own transaction, and give its rows ([] for a statement without rows).

        `retry`: the statement only reads, so run it once more if the connection is lost under it.
        Raises: Unavailable, UnknownOutcome, Conflict, StorageError.
        """
        try:
            async with self._connection() as connection:
                return (await connection.run(sql, params))[0]
        except UnknownOutcome as error:
            # Out of time is out of time: a second attempt would double the caller's wait.
            if not retry or isinstance(error.__cause__, TimeoutError):
                raise
        async with self._connection() as connection:
            return (await connection.run(sql, params))[0]

    async def execute(self, sql: str, params: Params = ()) -> int:
        """Run one statement, in its own transaction, and give the number of rows that it touched.

        Raises: Unavailable, UnknownOutcome, Conflict, StorageError.
        """
        async with self._connection() as connection:
            return (await connection.run(sql, params))[1]

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction: committed when the block ends, rolled back when it raises.

        Raises: Unavailable on entry; at the end UnknownOutcome if the connection is lost during the commit, Conflict
        or StorageError if a deferred constraint fails or a failed statement was passed over.
        """
        async with self._connection() as connection:
            try:
                await connection.run("begin", ())
            except UnknownOutcome as error:
                raise Unavailable(str(error)) from error
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
                raise Unavailable("the transaction was rolled back: its connection was lost")
            await connection.run("commit", ())

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[_Connection]:
        deadline = asyncio.get_running_loop().time() + self._connect_timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError as error:
            raise Unavailable(f"no free connection within {self._connect_timeout_s:g} s") from error
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

    async def _take(self, deadline: float) -> _Connection:
        if self._closed:
            raise Unavailable("the pool is closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.idle:
                return connection
            connection.close()
        return await _connect(self._dsn, (), deadline, self._statement_timeout_s)


async def _rolled_back(connection: _Connection) -> None:
    """Roll back, or close: either way the server undoes it. A failure is not news: the caller has an error to raise."""
    try:
        await connection.run("rollback", ())
    except StorageError:
        connection.close()


class Writer:
    """One connection of its own, with statements prepared on it; for the group commit.

    It connects on first use and again after a failure, and waits for a restarting server within `connect_timeout_s`.
    One statement at a time: further callers queue.
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
        self._connection: _Connection | None = None

    async def fetch(self, sql: str, params: Params = ()) -> list[Row]:
        """Run one statement, in its own transaction, and give its rows.

        Raises: Unavailable, UnknownOutcome, Conflict, StorageError.
        """
        async with self._turn:
            if self._connection is None or not self._connection.idle:
                self._drop()
                deadline = asyncio.get_running_loop().time() + self._connect_timeout_s
                self._connection = await _connect(self._dsn, self._prepare, deadline, self._statement_timeout_s)
            return (await self._connection.run(sql, params))[0]

    async def close(self) -> None:
        """Close the connection, after the statement that runs. A later use opens it again."""
        async with self._turn:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
