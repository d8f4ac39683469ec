"""Homeroom as its operator runs it: a process of its own, that can be killed and started again where it was."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import aiohttp
import psutil

ROOT = Path(__file__).parents[2]
START_WITHIN_S = 30.0
CONFIG = """
[server]
log_level = "error"
[auth]
argon2_memory_kib = 128
argon2_time_cost = 1
login_attempts_per_minute = 100000
[sessions]
grace_s = 60.0
[limits]
user_commands_per_s = 100000
user_burst = 100000
session_commands_per_s = 100000
connections_per_ip = 10000
streams_per_user = 1000
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Homeroom:
    """A server whose port and data directory stay the same over restarts. Without `dsn`, PostgreSQL is its own."""

    def __init__(self, data: Path, dsn: str = "") -> None:
        self.data = data
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = data / "test.toml"
        self.config.write_text(CONFIG)
        self._env = {**os.environ, "HOMEROOM_DATABASE__DSN": dsn} if dsn else dict(os.environ)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def dsn(self) -> str:
        """Where its own PostgreSQL listens."""
        return f"host={self.data / 'postgres' / 'run'} user=postgres dbname=postgres"

    async def spawn(self) -> asyncio.subprocess.Process:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve", "--config", str(self.config)),
            *("--port", str(self.port), "--data", str(self.data)),
            cwd=ROOT,
            env=self._env,
            stdout=asyncio.subprocess.DEVNULL,
        )
        return self._process

    async def start(self) -> float:
        """Start it; give how many seconds it took to be ready."""
        started = time.monotonic()
        process = await self.spawn()
        async with asyncio.timeout(START_WITHIN_S), aiohttp.ClientSession() as http:
            while True:
                assert process.returncode is None, "the server ended instead of starting"
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200:
                            return time.monotonic() - started
                await asyncio.sleep(0.01)

    async def kill(self, *, database: bool) -> None:
        """`kill -9` it; with `database`, its PostgreSQL and all of that one's processes too."""
        assert self._process is not None
        victims = self.postgres() if database else []
        os.kill(self.pid, signal.SIGKILL)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        await self._process.wait()

    def postgres(self) -> list[psutil.Process]:
        """Give its postmaster, and then the processes of that."""
        pid = int((self.data / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n")[0])
        postmaster = psutil.Process(pid)
        return [postmaster, *postmaster.children(recursive=True)]

    async def stop(self) -> int:
        """SIGTERM; give its exit status."""
        if self._process is None:
            return 0
        if self._process.returncode is None:
            self._process.terminate()
        async with asyncio.timeout(START_WITHIN_S):
            return await self._process.wait()

    async def __aenter__(self) -> "Homeroom":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            await self.stop()
