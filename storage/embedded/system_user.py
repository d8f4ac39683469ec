"""Whom the embedded PostgreSQL runs as, which refuses to be root: a user of the system's, and where that one may go."""

import contextlib
import pwd
import subprocess
from pathlib import Path
from typing import NamedTuple, TypedDict

from storage.errors import EmbeddedError

NAMES = ("homeroom", "postgres")  # the first that exists; the very first is made if none does


class Account(NamedTuple):
    """The system user that PostgreSQL runs as when we are root: it refuses to run as root itself."""

    name: str
    uid: int
    gid: int


def account_for(home: Path) -> Account:
    """Choose whom PostgreSQL runs as: the owner of what exists, else a system user."""
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
        f"PostgreSQL refuses to run as root, and the system user {NAMES[0]} could not be made: "
        f"create it (useradd --system {NAMES[0]}), or run Homeroom as a normal user."
    )


def may_enter(account: Account, directory: Path) -> bool:
    """Try, rather than read the modes: an access control list may say otherwise."""
    command = ["/bin/sh", "-c", 'cd "$0"', str(directory)]
    return not subprocess.run(command, check=False, capture_output=True, **identity(account)).returncode  # noqa: S603


def ensure_reachable(directory: Path, home: Path, account: Account) -> None:
    """Make sure that PostgreSQL's user can reach `home`. The data directory is ours to open, those above it are not."""
    if not may_enter(account, home):
        directory.chmod(directory.stat().st_mode | 0o011)
    if not may_enter(account, home):
        closed = next((path for path in reversed(home.parents) if not may_enter(account, path)), home)
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and the system user {account.name} may not enter {closed}. "
            f"Choose a data directory elsewhere with --data (/var/lib/homeroom, say), run `chmod o+x {closed}`, "
            "or run Homeroom as a normal user."
        )


class ProcessIdentity(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[str | int] | None


def identity(account: Account | None) -> ProcessIdentity:
    if account is None:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def describe_user(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user {uid}"
