"""Plain-SQL migrations, in order of their file names, each at most once.

**Law:** a migration and the row that records it are one transaction, under a lock that ends with the connection. A
process that is killed at any point, or two that start at once, leave nothing to repair. (Why not yoyo: docs/adr/0003)
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection

from storage.aiopg_connection import CONNECT_TIMEOUT_S, translated
from storage.errors import DatabaseUnavailable, NewerDatabase, StorageError, UnsupportedPostgres

DIRECTORY = Path(__file__).parent / "sql" / "migrations"
OLDEST_POSTGRES = 14

_LOCK = 0x686F6D65  # "home": any number that nothing else in this database locks
_LOCK_TIMEOUT_S = 60


def pending(dsn: str, directory: Path = DIRECTORY) -> list[str]:
    """Return the names of the migrations that `apply` would run, in order. Change nothing.

    Raise DatabaseUnavailable, NewerDatabase, UnsupportedPostgres, StorageError.
    """
    with _connected(dsn) as connection:
        return [path.stem for path in _missing(connection, directory)]


def apply(dsn: str, directory: Path = DIRECTORY) -> list[str]:
    """Apply the pending migrations, and return their names, in order. Blocks: call it in a thread.

    Wait up to a minute for another process that migrates. If a migration fails, those before it stay applied.
    Raise DatabaseUnavailable, NewerDatabase, UnsupportedPostgres, StorageError (naming the migration).
    """
    with _connected(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"set lock_timeout = '{_LOCK_TIMEOUT_S}s'")
        try:
            cursor.execute("select pg_advisory_lock(%s)", (_LOCK,))
        except psycopg2.errors.LockNotAvailable as error:
            raise DatabaseUnavailable(
                "another process has been migrating this database for a minute: find out what it waits for"
            ) from error
        cursor.execute("reset lock_timeout")
        cursor.execute(
            "create table if not exists schema_migrations"
            " (id text primary key, applied_at timestamptz not null default now())"
        )
        applied = []
        for path in _missing(connection, directory):
            try:
                cursor.execute("begin")
                # The whole file at once, so that the server separates the statements.
                cursor.execute(path.read_text("utf-8"))
                cursor.execute("insert into schema_migrations (id) values (%s)", (path.stem,))
                cursor.execute("commit")
            except psycopg2.Error as error:
                raise StorageError(f"migration {path.stem} failed and was undone: {str(error).strip()}") from error
            applied.append(path.stem)
        return applied


def _missing(connection: Connection, directory: Path) -> list[Path]:
    known = {path.stem: path for path in sorted(directory.glob("*.sql"))}
    if not known:
        raise StorageError(f"no migrations in {directory}: the installation is incomplete")
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('schema_migrations')")
        applied = set[str]()
        if cursor.fetchone() != (None,):
            cursor.execute("select id from schema_migrations")
            applied = {row[0] for row in cursor.fetchall()}
    unknown = tuple(sorted(applied - known.keys()))
    if unknown:
        raise NewerDatabase(unknown)
    return [path for name, path in known.items() if name not in applied]


@contextlib.contextmanager
def _connected(dsn: str) -> Iterator[Connection]:
    try:
        connection = psycopg2.connect(
            dsn, application_name="homeroom migrate", connect_timeout=round(CONNECT_TIMEOUT_S)
        )
    except psycopg2.ProgrammingError:
        # The driver's message quotes the DSN, which may contain a password.
        raise DatabaseUnavailable(
            'this is not a DSN: write "postgresql://user:password@host:5432/homeroom" or "host=… dbname=…"'
        ) from None
    except psycopg2.Error as error:
        raise DatabaseUnavailable(f"cannot connect: {str(error).strip()}") from error
    try:
        connection.autocommit = True
        if connection.server_version < OLDEST_POSTGRES * 10_000:
            raise UnsupportedPostgres(
                f"this is PostgreSQL {connection.info.parameter_status('server_version')}; "
                f"Homeroom needs {OLDEST_POSTGRES} or later. Upgrade it, "
                "or remove [database] dsn to use the embedded PostgreSQL."
            )
        yield connection
    except psycopg2.Error as error:
        raise translated(error, lost=bool(connection.closed)) from error
    finally:
        connection.close()
