"""Servers in their own processes, which tests kill.

**Law:** only processes that were started here are killed, by process id.
"""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0

LIFTED: Mapping[str, Mapping[str, Any]] = {
    "server": {"log_level": "warning", "drain_s": 5.0},
    "auth": {
        "argon2_memory_kib": 1024,
        "argon2_time_cost": 1,
        "login_attempts_per_minute": 1_000_000,
        "hash_queue": 1_000,
    },
    "sessions": {"grace_s": 120.0},
    "limits": {
        "user_commands_per_s": 100_000,
        "user_burst": 100_000,
        "session_commands_per_s": 100_000,
        "user_reads_per_s": 100_000,
        "address_reads_per_s": 100_000,
        "join_attempts_per_minute": 1_000_000,
        "connections_per_ip": 10_000,
        "streams_per_user": 1_000,
    },
}
"""Settings for load: limits lifted, cheap hashes, and a grace time that outlasts a restart."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def directory(parent: str | None = None) -> Iterator[Path]:
    """Create a directory that PostgreSQL's user can enter, with a path short enough for its socket."""
    path = Path(tempfile.mkdtemp(prefix="homeroom-e2e-", dir=parent))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    def spelt(value: object) -> str:
        return {True: "true", False: "false"}.get(value, repr(value)) if isinstance(value, bool) else repr(value)

    sections = (
        "\n".join([f"[{name}]", *(f"{k} = {spelt(v)}" for k, v in keys.items())]) for name, keys in settings.items()
    )
    return "\n\n".join(sections) + "\n"


class Server:
    """`serve` on a data directory, started again and again on the same port."""

    def __init__(
        self, data: Path, *, dsn: str | None = None, settings: Mapping[str, Mapping[str, Any]] = LIFTED
    ) -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = data.with_name(f"{data.name}-{self.port}.log")
        self._environment = {**os.environ, **({"HOMEROOM_DATABASE__DSN": dsn} if dsn else {})}
        self._config = data.with_name(f"{data.name}-{self.port}.toml")
        self._config.write_text(toml(settings))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    async def spawn(self) -> None:
        """Start the server without waiting."""
        arguments = ["serve", "--config", str(self._config), "--port", str(self.port), "--data", str(self.data)]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "server", *arguments),
                cwd=ROOT,
                env=self._environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )

    async def start(self) -> float:
        """Start the server; return the seconds until it was ready."""
        began = time.monotonic()
        await self.spawn()
        await self.ready()
        return time.monotonic() - began

    async def ready(self) -> None:
        said = []
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            async for line in self.process.stdout:
                said.append(line.decode())
                if re.search(r"ready at http://", said[-1]):
                    return
        raise AssertionError(f"it ended without being ready: {said}\n{self.complaints()}")

    def complaints(self) -> str:
        return self.log.read_text()[-8_000:] if self.log.exists() else ""

    @property
    def dsn(self) -> str:
        """The DSN of the embedded PostgreSQL."""
        return f"host={self.data / 'postgres' / 'run'} user=postgres dbname=postgres"

    def postgres(self) -> list[psutil.Process]:
        """Return the processes of the embedded PostgreSQL, the postmaster first."""
        return family(int((self.data / "postgres" / "cluster" / "postmaster.pid").read_text().split()[0]))

    async def terminate(self) -> None:
        """Stop the server by SIGTERM, to be started again."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await self.process.wait() == 0, self.complaints()

    async def kill(self) -> None:
        """`kill -9` of the server alone."""
        self.process.kill()
        await self.process.wait()

    async def kill_all(self) -> None:
        """`kill -9` of the server and its database, at once."""
        postgres = self.postgres()
        self.process.kill()
        for process in postgres:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await self.process.wait()

    async def ended(self) -> tuple[int, str]:
        """Wait until the server ends by itself; return its status and its output."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            await self.process.stdout.read()
            return await self.process.wait(), self.complaints()

    async def stop(self) -> None:
        """Stop the server by SIGTERM if it runs."""
        if self._process is not None and self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self.process.wait()
            except TimeoutError:
                await self.kill_all()
                raise
        for path in (self._config, self.log):
            path.unlink(missing_ok=True)


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextlib.asynccontextmanager
async def homeroom(server: Server) -> Any:
    """Run a server during the block; kill its remaining processes afterwards."""
    try:
        await server.start()
        yield server
    finally:
        postgres = server.postgres() if (server.data / "postgres/cluster/postmaster.pid").exists() else []
        await server.stop()
        for process in postgres:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
