"""One connection to PostgreSQL through aiopg and psycopg2, whose errors stop here.

**Law:** an error says whether the statement can have taken effect (`storage.errors`).

SQL is psycopg2's: `%s` or `%(name)s` for parameters, and with parameters a literal `%` is written `%%`.
"""

import asyncio
import select
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import aiopg
import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from storage.errors import Conflict, DatabaseUnavailable, StorageError, UnknownOutcome

Params: TypeAlias = Sequence[object] | Mapping[str, object]
Row: TypeAlias = tuple[Any, ...]

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 10.0

# Messages of a server that restarts. libpq gives a failed connect no SQLSTATE, so the text must be matched.
_RESTARTING = (
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

# SQLSTATE classes of errors that rolled the statement back for a transient reason:
# 40 serialization failure and deadlock, 53 out of resources, 57 operator intervention.
_TRANSIENT = {"40", "53", "57"}


def translated(error: psycopg2.Error, *, lost: bool = False) -> StorageError:
    """Return the error of storage for one of psycopg2. `lost`: the connection ended while a statement ran."""
    if isinstance(error, psycopg2.errors.UniqueViolation):
        return Conflict(error.diag.constraint_name or "")
    text = str(error).strip() or type(error).__name__
    if lost or error.diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return UnknownOutcome(text)
    if (error.pgcode or "")[:2] in _TRANSIENT:
        return DatabaseUnavailable(text)
    return StorageError(text)


class AiopgConnection(aiopg.Connection):
    """aiopg's connection with six defects fixed, each covered by a test in tests/storage/test_pool.py."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        # 5: the queue of notifications, which is never read, keeps the error that ends a connection, whose traceback
        # keeps the connection in memory. The queue keeps only its first error, so it gets a harmless one here.
        self._notifies_proxy.close(psycopg2.OperationalError("notifications are not used"))

    @staticmethod
    def _ready(weak_self: Any) -> None:
        self = cast("AiopgConnection | None", weak_self())
        try:
            aiopg.Connection._ready(weak_self)
        except ValueError as error:
            # 1: on any SQL error aiopg calls select() on the socket, which refuses descriptors from 1024 up: on a
            # server with a thousand clients every unique violation became a time-out. The error is the context.
            if self is not None and self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error.__context__ or error)
        if self is None:
            return
        # 2: a connection that the server closed while idle stayed registered with the loop, under a descriptor that
        # the next socket gets.
        if self.closed:
            self._close()
        # 4: uvloop reports a failed socket once, and the server's last message is read first. Without this, the
        # statement would wait for its time-out although no answer can come.
        elif self._waiter is not None and not self._waiter.done() and self._failed:
            self._loop.call_soon(self._ready, weak_self)

    def _close(self) -> None:
        super()._close()
        # 6: closed twice, it unregistered the next owner of the descriptor, which then waited until its time-out.
        self._fileno = None

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:  # noqa: ASYNC109 - as in aiopg
        # 3: aiopg turns the server's "canceling statement" into a CancelledError of the calling task.
        self._ready(self._weakref)
        expiry = self._loop.call_later(timeout, _expire, waiter)
        try:
            await waiter
        except (asyncio.CancelledError, TimeoutError):
            self._close()  # busy: it must not be used again
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

        A restart of the server shows only as a readable socket until it is read.
        """
        if self.closed or self.raw.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            return False
        return not self._events(select.POLLIN)

    def _events(self, mask: int) -> int:
        """Return the events of the socket: those in `mask`, and failures."""
        poll = select.poll()
        descriptor = self.raw.fileno()
        if descriptor < 0:
            return 0
        poll.register(descriptor, mask)
        return next((events for _, events in poll.poll(0)), 0)

    async def run(self, sql: str, params: Params) -> tuple[list[Row], int]:
        """Run one statement. Return its rows and its row count.

        Raise DatabaseUnavailable, UnknownOutcome, Conflict, StorageError.
        """
        if self.closed:
            raise DatabaseUnavailable("the connection was lost earlier")
        # This repeats aiopg's cursor, which would cost as much as the rest of this method.
        cursor = self.raw.cursor()
        waiter = self._create_waiter("run")
        try:
            cursor.execute(sql, params or None)
            await self._poll(waiter, self.timeout)
            rows = cursor.fetchall() if cursor.description else []
            return rows, cursor.rowcount
        # The waiter keeps its error, whose traceback keeps this frame, which keeps the waiter. Without the traceback,
        # they and the parameters are freed at once and not by a full collection.
        except TimeoutError as error:
            raise UnknownOutcome(f"no answer within {self.timeout:g} s") from error.with_traceback(None)
        except psycopg2.Error as error:
            lost = bool(self.closed)
            if lost:
                self._close()  # the driver closed the socket, perhaps while sending: the descriptor is already free
            raise translated(error, lost=lost) from error.with_traceback(None)
        except ValueError as error:  # from the driver, before anything is sent: a NUL or half a surrogate in a text
            raise StorageError(f"a parameter cannot be stored: {error}") from error
        finally:
            self._waiter = None
            cursor.close()


def _expire(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())


async def connect(dsn: str, setup: Sequence[str], deadline: float, statement_timeout_s: float) -> AiopgConnection:
    """Return a new connection after running `setup`. While the server restarts, retry until `deadline` (loop time).

    Raise DatabaseUnavailable, and StorageError if `setup` fails.
    """
    # The server cancels a statement shortly after we stop waiting, so that it does not hold its locks for long. The
    # same holds for a process frozen inside a transaction: the next owner of its sessions waits for those locks.
    limit_ms = round(statement_timeout_s * 1000) + 500
    limits = f"set statement_timeout = {limit_ms}; set idle_in_transaction_session_timeout = {limit_ms}"
    pause_s = _RETRY_MIN_S
    reason = "no answer"
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    # Support for hstore costs a query on every connect.
                    connection = AiopgConnection(
                        dsn, statement_timeout_s, enable_hstore=False, application_name="homeroom"
                    )
                    await connection
                    return await _set_up(connection, (limits, *setup))
                except (psycopg2.Error, TimeoutError, UnknownOutcome) as error:
                    reason = str(error).strip() or reason
                    if not any(phrase in reason for phrase in _RESTARTING):
                        raise DatabaseUnavailable(f"cannot connect: {reason}") from error
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _RETRY_MAX_S)
    except TimeoutError as error:
        raise DatabaseUnavailable(f"cannot connect in time: {reason}") from error


async def _set_up(connection: AiopgConnection, setup: Sequence[str]) -> AiopgConnection:
    try:
        for sql in setup:
            await connection.run(sql, ())
    except BaseException:
        connection.close()
        raise
    return connection
