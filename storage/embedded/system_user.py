"""The system user that the embedded PostgreSQL runs as if Homeroom is root, and the directories it may enter."""

import contextlib
import pwd
import subprocess
from pathlib import Path
from typing import NamedTuple, TypedDict

from storage.errors import EmbeddedError

NAMES = ("homeroom", "postgres")  # the first that exists; if none does, the first is created


class Account(NamedTuple):
    """The system user that PostgreSQL runs as if Homeroom is root: PostgreSQL refuses to run as root."""

    name: str
    uid: int
    gid: int


def account_for(home: Path) -> Account:
    """Return the owner of `home` if it exists, else a system user, created if need be. Raise EmbeddedError."""
    with contextlib.suppress(FileNotFoundError, KeyError):
        if owner := home.lstat().st_uid:
            entry = pwd.getpwuid(owner)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    for name in (*NAMES, None):
        if name is None:
            with contextlib.suppress(FileNotFoundError):
                command = [
                    "useradd",
                    "--system",
                    "--user-group",
                    "--no-create-home",
                    "--shell",
                    "/bin/false",
                    NAMES[0],
                ]
                subprocess.run(command, check=False, capture_output=True)  # noqa: S603 - constant words
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name or NAMES[0])
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedError(
        f"PostgreSQL refuses to run as root, and the system user {NAMES[0]} could not be created: "
        f"create it (useradd --system {NAMES[0]}), or run Homeroom as a normal user."
    )


def may_enter(account: Account, directory: Path) -> bool:
    """Return whether an account can enter a directory. Try it: the mode does not show access control lists."""
    command = ["/bin/sh", "-c", 'cd "$0"', str(directory)]
    return not subprocess.run(command, check=False, capture_output=True, **identity(account)).returncode  # noqa: S603


def ensure_reachable(directory: Path, home: Path, account: Account) -> None:
    """Let PostgreSQL's user reach `home`: open the data directory, but change nothing above it. Raise EmbeddedError."""
    if not may_enter(account, home):
        directory.chmod(directory.stat().st_mode | 0o011)
    if not may_enter(account, home):
        closed = next((path for path in reversed(home.parents) if not may_enter(account, path)), home)
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and the system user {account.name} may not enter {closed}. "
            f"Choose another data directory with --data, such as /var/lib/homeroom, run `chmod o+x {closed}`, "
            "or run Homeroom as a normal user."
        )


class ProcessIdentity(TypedDict):
    """The arguments of `subprocess` that choose the user of a child process."""

    user: int | None
    group: int | None
    extra_groups: list[str | int] | None


def identity(account: Account | None) -> ProcessIdentity:
    """Return the arguments that run a child process as an account; None: as the current user."""
    if account is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def describe_user(uid: int) -> str:
    """Return "the user NAME", or "the user UID" if the id has no name."""
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
