"""The measured servers: start and stop each, create its rooms, and read its CPU and memory."""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.error import URLError
from urllib.request import urlopen

from aiohttp import ClientSession, ClientTimeout, TCPConnector
from psycopg2.extensions import make_dsn

from benchmarks.cores import SERVER_CORES, cpu_s, family, pinned, rss_kib
from benchmarks.load import TEXT, Room
from storage.embedded import server as embedded

ROOT = Path(__file__).parent.parent
START_WITHIN_S = 60.0
STOP_WITHIN_S = 30.0
AT_ONCE = 32
"""The maximum number of concurrent requests while a scenario is set up."""


class StartError(Exception):
    """A server did not start, or refused a request that sets up a scenario."""


def get(path: str, headers: str = "") -> bytes:
    """Return the bytes of a GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{headers}\r\n".encode()


def post(path: str, body: object, headers: str = "") -> bytes:
    """Return the bytes of a POST request with a JSON body."""
    content = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n{headers}\r\n{content}"
    ).encode()


class Server(ABC):
    """A server in a process with its own port, directory and core; a context manager that starts and stops it."""

    name: ClassVar[str]
    ready: ClassVar[str] = "/readyz"
    stop_signal: ClassVar[signal.Signals] = signal.SIGKILL
    """The peers have nothing to save, and on SIGTERM they would wait for their streams to end."""

    def __init__(self, *, database_cores: set[int]) -> None:
        self.port = _free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="homeroom-bench-"))
        self.directory.chmod(0o711)  # PostgreSQL, which never runs as root, has to reach its own directory
        self.database_cores = database_cores
        self.database_pid: int | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that serves on `port`. Create the files that it needs."""

    @abstractmethod
    def rooms(self, number: int) -> list[Room]:
        """Create rooms that are open and empty."""

    def environment(self) -> dict[str, str]:
        return {}

    def __enter__(self) -> Self:
        try:
            self._log = (self.directory / "server.log").open("wb")
            with pinned(SERVER_CORES):
                self._process = subprocess.Popen(
                    self.command(), cwd=ROOT, env=os.environ | self.environment(), stdout=self._log, stderr=self._log
                )
            self._wait_until_ready()
            self._place_database()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        if hasattr(self, "_process"):
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        return cpu_s(self.pid)

    def database_cpu_s(self) -> float:
        return sum(cpu_s(pid) for pid in family(self.database_pid)) if self.database_pid else 0.0

    def rss_kib(self) -> int:
        return rss_kib(self.pid)

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + START_WITHIN_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                with urlopen(f"http://127.0.0.1:{self.port}{self.ready}", timeout=1) as answer:
                    answer.read()
                return
            except (URLError, OSError):
                time.sleep(0.02)
        raise StartError(f"{self.name} did not start:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """Return the last 600 characters that the server printed."""
        return (self.directory / "server.log").read_text(errors="replace")[-600:]

    def _place_database(self) -> None:
        if self.database_pid:
            for pid in family(self.database_pid):
                os.sched_setaffinity(pid, self.database_cores)


class FastApi(Server):
    """The FastAPI peer."""

    name = "fastapi"
    module = "fastapi_queue"

    def command(self) -> list[str]:
        options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
        return [
            sys.executable,
            "-m",
            "uvicorn",
            f"benchmarks.peers.{self.module}:app",
            "--port",
            str(self.port),
            *options,
        ]

    def rooms(self, number: int) -> list[Room]:
        return _open_rooms(number)


class FastApiSql(FastApi):
    """A peer with one commit per request, on a PostgreSQL with the same settings as Homeroom's."""

    name = "fastapi-sql"
    module = "fastapi_sql"

    def environment(self) -> dict[str, str]:
        dsn = dict(word.split("=", 1) for word in self._database.dsn.split())
        return {
            "DATABASE_URL": f"postgresql+asyncpg://{dsn['user']}@/{dsn['dbname']}?host={dsn['host'].strip(chr(39))}"
        }

    def __enter__(self) -> Self:
        self._database = embedded.start(self.directory / "data")
        self.database_pid = self._database.pid
        return super().__enter__()

    def stop(self) -> None:
        super().stop()
        self._database.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class AiohttpSse(Server):
    """The aiohttp-sse peer."""

    name = "aiohttp-sse"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.peers.aiohttp_sse_queue", str(self.port)]

    def rooms(self, number: int) -> list[Room]:
        return _open_rooms(number)


class Nchan(Server):
    """nginx with nchan, in C, if both are installed. HOMEROOM_BENCH_NGINX names an nginx outside PATH."""

    name = "nchan"
    ready = "/"

    @staticmethod
    def nginx() -> Path | None:
        program = os.environ.get("HOMEROOM_BENCH_NGINX") or shutil.which("nginx")
        return Path(program) if program and (Path(program).parents[1] / MODULE).exists() else None

    def command(self) -> list[str]:
        nginx = self.nginx()
        if nginx is None:
            raise StartError("nchan needs nginx and its nchan module (Debian: libnginx-mod-nchan)")
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            NGINX_CONF.format(module=nginx.parents[1] / MODULE, port=self.port, directory=self.directory)
        )
        return [str(nginx), "-c", str(configuration), "-p", str(self.directory), "-e", "stderr"]

    def rooms(self, number: int) -> list[Room]:
        return _open_rooms(number)


MODULE = "lib/nginx/modules/ngx_nchan_module.so"
NGINX_CONF = """
load_module {module};
daemon off; master_process off; pid {directory}/nginx.pid; error_log stderr crit;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {directory}; proxy_temp_path {directory};
  fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
  nchan_shared_memory_size 256M;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location = / {{ return 200; }}
    location ~ ^/rooms/(\\w+)/messages$ {{
      nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 50; nchan_message_timeout 5m;
    }}
    location ~ ^/rooms/(\\w+)/events$ {{ nchan_subscriber eventsource; nchan_channel_id $1; }}
  }}
}}
"""


class Homeroom(Server):
    """Homeroom as in production: authenticated, durable, with metrics. Only its limits are raised."""

    name = "homeroom"
    stop_signal = signal.SIGTERM
    students = 16

    def __init__(self, *, database_cores: set[int]) -> None:
        super().__init__(database_cores=database_cores)
        self._users = count(1)

    def command(self) -> list[str]:
        config = self.directory / "config.toml"
        config.write_text(HOMEROOM_CONFIG.format(key=secrets.token_hex(32)))
        options = ["--config", str(config), "--port", str(self.port), "--data", str(self.directory / "data")]
        return [sys.executable, "-m", "server", "serve", *options]

    def _place_database(self) -> None:
        lines = (self.directory / "data/postgres/cluster/postmaster.pid").read_text().splitlines()
        self.database_pid = int(lines[0])
        self.dsn = make_dsn(host=lines[4], user="postgres", dbname="postgres")
        super()._place_database()

    def rooms(self, number: int) -> list[Room]:
        return asyncio.run(self._rooms(number))

    async def _rooms(self, number: int) -> list[Room]:
        async with self.client() as client:
            teacher = await self._register(client, "teacher")
            students = [await self._register(client, "student") for _ in range(self.students)]
            sessions = await self._sessions(client, teacher, number)
            await _all(
                self.call(client, "/v1/sessions/join", {"code": session["code"]}, student)
                for session in sessions
                for student in students
            )
            return [self._room(session["id"], students) for session in sessions]

    def idle_sessions(self, number: int) -> None:
        """Start sessions that nobody uses."""

        async def make() -> None:
            async with self.client() as client:
                await self._sessions(client, await self._register(client, "teacher"), number)

        asyncio.run(make())

    @staticmethod
    def _room(session_id: str, tokens: list[str]) -> Room:
        path, headers = f"/v1/sessions/{session_id}", [f"Authorization: Bearer {token}\r\n" for token in tokens]
        message = {"type": "send_message", "text": TEXT}
        return Room(
            subscribe=[get(f"{path}/events", header) for header in headers],
            publish=[post(f"{path}/commands", message, header) for header in headers],
        )

    async def _sessions(self, client: ClientSession, teacher: str, number: int) -> list[dict[str, Any]]:
        new = {"title": "Physics 101", "kind": "classroom", "capacity": 5000}
        sessions = await _all(self.call(client, "/v1/sessions", new, teacher) for _ in range(number))
        await _all(
            self.call(client, f"/v1/sessions/{session['id']}/commands", {"type": "start"}, teacher)
            for session in sessions
        )
        return sessions

    async def _register(self, client: ClientSession, role: str) -> str:
        return (await self.account(client, role))[0]

    async def account(self, client: ClientSession, role: str) -> tuple[str, str]:
        """Return the token and the id of a new user."""
        number = next(self._users)
        user = {
            "name": f"{role} {number}",
            "email": f"{role}{number}@example.org",
            "password": "correct horse",
            "role": role,
        }
        login = await self.call(client, "/v1/auth/register", user)
        return login["access_token"], login["user"]["id"]

    def client(self) -> ClientSession:
        return ClientSession(
            f"http://127.0.0.1:{self.port}", connector=TCPConnector(limit=AT_ONCE), timeout=ClientTimeout(120)
        )

    async def call(self, client: ClientSession, path: str, body: object, token: str = "") -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with client.post(path, json=body, headers=headers) as answer:
            if answer.status not in (200, 201):
                raise StartError(f"POST {path}: {answer.status} {await answer.text()}")
            content: dict[str, Any] = await answer.json()
            return content


# At this level Homeroom writes no request log; the peers write none either.
HOMEROOM_CONFIG = """
[server]
log_level = "warning"

[auth]
issuer = "homeroom"
audience = "homeroom"
signing_key = "{key}"
login_attempts_per_minute = 100000
address_attempts_per_minute = 100000

[limits]
user_commands_per_s = 1000000
user_burst = 1000000
session_commands_per_s = 1000000
user_reads_per_s = 1000000
address_reads_per_s = 1000000
join_attempts_per_minute = 1000000
connections_per_ip = 100000
streams_per_user = 100000
mailbox = 100000
"""

SERVERS: dict[str, type[Server]] = {
    server.name: server for server in (Homeroom, FastApi, AiohttpSse, FastApiSql, Nchan)
}


def _open_rooms(count: int) -> list[Room]:
    """Return rooms of the peers, which create a room on its first request and need no credentials."""
    message = {"type": "send_message", "text": TEXT}
    return [
        Room(subscribe=[get(f"/rooms/{number}/events")], publish=[post(f"/rooms/{number}/messages", message)])
        for number in range(count)
    ]


async def _all(calls: Iterable[Awaitable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the results of all calls in their order. At most `AT_ONCE` run concurrently."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def limited(call: Awaitable[dict[str, Any]]) -> dict[str, Any]:
        async with slots:
            return await call

    return await asyncio.gather(*map(limited, calls))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
