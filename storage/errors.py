"""The errors that storage raises. A driver's error never leaves storage.

**Law:** `DatabaseUnavailable` promises that nothing was changed, so trying again is safe. `UnknownOutcome` promises
nothing.
"""

from actors.ports import LogUnavailable


class StorageError(Exception):
    """Storage refused or failed; the cause is chained. This very class means a fault in the statement or the data."""


class DatabaseUnavailable(StorageError, LogUnavailable):
    """The database cannot serve this now, and the statement had no effect: try again."""


class UnknownOutcome(DatabaseUnavailable):
    """The connection was lost, or time ran out, while a statement ran: it may or may not have taken effect.

    Never resend a write after this error; read the current state first.
    """


class Conflict(StorageError):
    """A unique constraint refused the row. `constraint` is its name in the migrations."""

    def __init__(self, constraint: str) -> None:
        super().__init__(f"unique constraint {constraint} holds such a row already")
        self.constraint = constraint


class NewerDatabase(StorageError):
    """A newer Homeroom has migrated this database. `unknown` lists the migrations that this version lacks, in order."""

    def __init__(self, unknown: tuple[str, ...]) -> None:
        super().__init__(
            f"the database holds migrations that this version does not know: {', '.join(unknown)}. "
            "A newer Homeroom has used it: run that one, or restore a backup taken before the upgrade."
        )
        self.unknown = unknown


class UnsupportedPostgres(StorageError):
    """The server is older than Homeroom's statements need."""


class EmbeddedError(StorageError):
    """The embedded PostgreSQL could not be started. The message says what to do about it."""


class DataDirectoryInUse(EmbeddedError):
    """Another running Homeroom uses the data directory. `pid` is its process id; None: not written yet."""

    def __init__(self, directory: str, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"the data directory {directory} is in use by {holder}, a running Homeroom. "
            "Stop that one first, or choose another data directory with --data."
        )
        self.pid = pid
