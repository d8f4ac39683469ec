import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from storage import migrate
from storage.errors import DatabaseUnavailable, NewerDatabase, StorageError, UnsupportedPostgres

ROOT = Path(__file__).parents[2]

FUNCTION = """
-- A body with semicolons, and a literal %.
create function one_percent(n int) returns text language plpgsql as $$
begin
    perform 1; perform 2;
    return (n / 100) || '%';
end $$;
select one_percent(200);
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0002_second.sql").write_text("alter table first add column added text;" + FUNCTION)
    (tmp_path / "0001_first.sql").write_text("create table first (id int);\ninsert into first values (1);")
    return tmp_path


@pytest.fixture
def empty(dsn: str) -> Iterator[str]:
    """A database without the real migrations."""
    name = f"{query(dsn, 'select current_database()')}_empty"
    query(dsn, f"create database {name}")
    yield make_dsn(dsn, dbname=name)
    query(dsn, f"drop database {name} with (force)")


def query(dsn: str, sql: str) -> object:
    connection = psycopg2.connect(dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]
    finally:
        connection.close()


def test_applies_in_order_once_and_silently(empty: str, directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert migrate.pending(empty, directory) == ["0001_first", "0002_second"]
    assert migrate.apply(empty, directory) == ["0001_first", "0002_second"]
    assert migrate.pending(empty, directory) == []
    assert migrate.apply(empty, directory) == []
    assert query(empty, "select one_percent(200)") == "2%"
    assert query(empty, "select count(*) from first") == 1
    assert capfd.readouterr() == ("", "")


def test_a_failing_migration_is_undone_and_named_and_those_before_it_stay(empty: str, directory: Path) -> None:
    last = directory / "0003_third.sql"
    last.write_text("create table third (); insert into nowhere values (1);")
    with pytest.raises(StorageError, match=r"0003_third.*nowhere"):
        migrate.apply(empty, directory)
    assert query(empty, "select to_regclass('third')") is None
    assert migrate.pending(empty, directory) == ["0003_third"]
    last.write_text("create table third ();")
    assert migrate.apply(empty, directory) == ["0003_third"]


def test_processes_that_start_at_once_apply_each_migration_once(empty: str, directory: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        applied = list(threads.map(lambda _: migrate.apply(empty, directory), range(4)))
    assert sorted(applied) == [[], [], [], ["0001_first", "0002_second"]]


def test_a_process_killed_in_the_middle_leaves_nothing_to_repair(
    empty: str, directory: Path, until: Callable[[Callable[[], object]], object]
) -> None:
    slow = directory / "0003_slow.sql"
    slow.write_text("create table third (); select pg_sleep(60);")
    code = "import sys, pathlib; from storage import migrate; migrate.apply(sys.argv[1], pathlib.Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", code, empty, str(directory)], cwd=ROOT)
    backend = (
        "select max(pid) from pg_stat_activity where application_name = 'homeroom migrate'"
        " and datname = current_database() and query like '%pg_sleep%' and pid <> pg_backend_pid()"
    )
    until(lambda: query(empty, backend))
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    # The server would find out within client_connection_check_interval.
    query(empty, f"select pg_terminate_backend(({backend}))")
    slow.write_text("create table third ();")
    assert migrate.apply(empty, directory) == ["0003_slow"]


def test_a_database_from_a_newer_version_is_left_alone(empty: str, directory: Path) -> None:
    migrate.apply(empty, directory)
    (directory / "0002_second.sql").unlink()
    (directory / "0003_third.sql").write_text("create table third ();")
    for look in (migrate.pending, migrate.apply):
        with pytest.raises(NewerDatabase, match=r"0002_second.*newer Homeroom") as caught:
            look(empty, directory)
        assert caught.value.unknown == ("0002_second",)
    assert query(empty, "select to_regclass('third')") is None


def test_an_old_postgres_is_refused(empty: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "OLDEST_POSTGRES", 99)  # no old server at hand
    with pytest.raises(UnsupportedPostgres, match=r"this is PostgreSQL \d+.*needs 99"):
        migrate.apply(empty, directory)


def test_no_server_and_no_migrations_say_so(empty: str, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match="cannot connect"):
        migrate.apply(make_dsn(empty, dbname="nobody_made_this"))
    with pytest.raises(StorageError, match="installation is incomplete"):
        migrate.apply(empty, tmp_path)


def test_the_real_migrations_apply(empty: str) -> None:
    assert migrate.apply(empty) == sorted(path.stem for path in migrate.DIRECTORY.glob("*.sql"))


def test_none_that_is_on_main_has_been_edited() -> None:
    lines = (migrate.DIRECTORY / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    for path in sorted(migrate.DIRECTORY.glob("*.sql")):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        assert path.name in sums, f"{path.name} is new: add its line to SHA256SUMS (sha256sum {path.name})"
        assert found == sums.pop(path.name), (
            f"{path.name} was edited. Databases have run it and will not run it again: restore its text "
            f"(git checkout origin/main -- {path.relative_to(ROOT)}), and alter what it made in a new file"
        )
    assert not sums, f"these are gone, and databases have run them: {sorted(sums)}"


EDITED = {
    "0006_outbox.sql": (
        "create index outbox_done on outbox (done_at)",
        "create index outbox_done on outbox (status, done_at)",
    ),
    "0009_bookings.sql": (
        "created_by uuid not null references users,",
        "created_by uuid not null, constraint bookings_creator check (created_by in (tutor_id, student_id)),",
    ),
}
"""Migrations that were edited while databases had run them: what stood there, and what was put there."""


@pytest.mark.parametrize("edited", [False, True])
def test_a_database_made_by_either_text_of_an_edited_migration_ends_as_the_same(
    empty: str, tmp_path: Path, edited: bool
) -> None:
    for path in migrate.DIRECTORY.glob("00*.sql"):
        if path.name < "0012":
            shutil.copy(path, tmp_path)
    for name, (first, then) in EDITED.items() if edited else ():
        text = (tmp_path / name).read_text()
        assert first in text
        (tmp_path / name).write_text(text.replace(first, then))
    migrate.apply(empty, tmp_path)
    assert ("(status," in str(query(empty, INDEX))) == edited

    assert migrate.apply(empty)[0] == "0012_references"
    assert str(query(empty, INDEX)).endswith("(status, done_at) WHERE (status <> 'pending'::text)")
    creator = "bookings_creator CHECK (((created_by = tutor_id) OR (created_by = student_id)))"
    assert query(empty, CONSTRAINTS) == [creator]


INDEX = "select pg_get_indexdef('outbox_done'::regclass)"
CONSTRAINTS = """
    select array_agg(conname || ' ' || pg_get_constraintdef(oid)) from pg_constraint
    where conrelid = 'bookings'::regclass and contype <> 'n' and pg_get_constraintdef(oid) ~ 'created_by'"""
