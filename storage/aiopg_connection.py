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
        return DatabaseUnavailable(text)
    return StorageError(text)


class AiopgConnection(aiopg.Connection):
    """aiopg's connection with six faults mended, each shown by a test in tests/storage/test_pool.py."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        # 5: the queue of notifications, which nobody reads, keeps the error that ends a connection, and that keeps the
        # connection by its traceback. The queue keeps the first error that it is given.
        self._notifies_proxy.close(psycopg2.OperationalError("nobody listens"))

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

        Raises: DatabaseUnavailable, UnknownOutcome, Conflict, StorageError.
        """
        if self.closed:
            raise DatabaseUnavailable("the connection was lost earlier")
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


async def connect(dsn: str, setup: Sequence[str], deadline: float, statement_timeout_s: float) -> AiopgConnection:
    """Connect, and run `setup`; while the server restarts try again until `deadline`, in loop time.

    Raises: DatabaseUnavailable; StorageError if `setup` is at fault.
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
                    connection = AiopgConnection(
                        dsn, statement_timeout_s, enable_hstore=False, application_name="homeroom"
                    )
                    await connection
                    return await _set_up(connection, (limits, *setup))
                except (psycopg2.Error, TimeoutError, UnknownOutcome) as error:
                    reason = str(error).strip() or reason
                    if not any(phrase in reason for phrase in _SOON):
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
