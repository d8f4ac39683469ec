"""What storage raises. Callers see these and never a driver's error.

The law: `Unavailable` promises that nothing was changed, so trying again is safe; `UnknownOutcome` promises nothing.
"""

from actors.ports import LogUnavailable


class StorageError(Exception):
    """Say that storage refused or failed; the cause is chained. By itself: a fault in the statement or the data."""


class Unavailable(StorageError, LogUnavailable):
    """Say that the database could not serve this now, and that the statement certainly had no effect: try again."""


class UnknownOutcome(Unavailable):
    """Say that the connection was lost, or time ran out, while a statement ran: it may or may not have taken effect.

    Never resend a write after it; read what is there first.
    """


class Conflict(StorageError):
    """Say that a unique constraint holds such a row already.

    `constraint` is its name as in the migrations.
    """

    def __init__(self, constraint: str) -> None:
        super().__init__(f"unique constraint {constraint} holds such a row already")
        self.constraint = constraint


class NewerDatabase(StorageError):
    """Say that a newer Homeroom has migrated this database.

    `unknown` holds the migrations that this version lacks, in order.
    """

    def __init__(self, unknown: tuple[str, ...]) -> None:
        super().__init__(
            f"the database holds migrations that this version does not know: {', '.join(unknown)}. "
            "A newer Homeroom has used it: run that one, or restore a backup taken before the upgrade."
        )
        self.unknown = unknown


class UnsupportedPostgres(StorageError):
    """Say that the server is older than Homeroom's statements need."""


class EmbeddedError(StorageError):
    """Say that the embedded PostgreSQL could not be started, and what to do about it."""


class DataDirectoryInUse(EmbeddedError):
    """Say that another live Homeroom holds the data directory.

    `pid` is its process id, None if it has not been written yet.
    """

    def __init__(self, directory: str, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"the data directory {directory} is in use by {holder}, a running Homeroom. "
            "Stop that one first, or give this one a data directory of its own."
        )
        self.pid = pid
