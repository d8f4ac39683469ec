"""The real server, in this process, on a free port."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import psycopg2
from msgspec import structs

from actors.messages import Passivate
from actors.runtime import tell
from actors.session.ids import SessionId
from actors.session_actor import SessionActor
from server.api.routes import Api
from server.bootstrap.lifecycle import Running, running, wait_until_idle
from server.settings.sections import (
    AuthSettings,
    DatabaseSettings,
    DataSettings,
    LimitsSettings,
    ServerSettings,
    SessionsSettings,
    Settings,
    StreamsSettings,
)
from server.settings.types import Secret
from tests.support.client import PATIENCE_S, Client, Person, Seat, Stream

KEY = "a signing key of thirty-two bytes or more"
_numbers = itertools.count(1)


def settings(dsn: str, data: Path, **changed: dict[str, Any]) -> Settings:
    """Return settings for tests, with limits lifted and cheap hashes. `changed` overrides them, section by section."""
    base = Settings(
        server=ServerSettings(port=0, log_level="error", drain_s=5),
        data=DataSettings(dir=str(data)),
        database=DatabaseSettings(dsn=Secret(dsn)),
        auth=AuthSettings(
            signing_key=Secret(KEY),
            argon2_memory_kib=128,
            argon2_time_cost=1,
            login_attempts_per_minute=100_000,
            address_attempts_per_minute=100_000,
        ),
        sessions=SessionsSettings(grace_s=30),
        limits=LimitsSettings(
            user_commands_per_s=10_000,
            user_burst=10_000,
            session_commands_per_s=100_000,
            user_reads_per_s=10_000,
            address_reads_per_s=10_000,
            join_attempts_per_minute=10_000,
            guests_per_minute=100_000,
            connections_per_ip=10_000,
        ),
        streams=StreamsSettings(heartbeat_s=15),
    )
    return structs.replace(
        base, **{section: structs.replace(getattr(base, section), **keys) for section, keys in changed.items()}
    )


class Town:
    """A running server and its users."""

    def __init__(self, server: Running, http: aiohttp.ClientSession, dsn: str) -> None:
        self.server = server
        self.http = http
        self.dsn = dsn
        self.url = server.url
        self.port = int(server.url.rpartition(":")[2])
        self.anyone = Client(http, server.url)

    async def person(self, role: str, name: str) -> Person:
        email = f"{name}-{next(_numbers)}@example.org".lower()
        return await Person.register(self.http, self.url, name, email, role)

    async def teacher(self, name: str = "Tess") -> Person:
        return await self.person("teacher", name)

    async def student(self, name: str = "Anna") -> Person:
        return await self.person("student", name)

    async def classroom(self, *names: str, **fields: Any) -> list[Seat]:
        """Start a session; return its participants, the teacher first, then one for each name."""
        host = await (await self.teacher()).create(**fields)
        await host.do("start")
        await host.join()
        seats = [host]
        for name in names:
            seat = (await self.student(name)).at(host)
            await seat.join()
            seats.append(seat)
        return seats

    def query(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        """Query the database directly."""
        connection = psycopg2.connect(self.dsn)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, params)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def frozen(self, seat: Seat) -> contextlib.AbstractContextManager[None]:
        """Block every commit of a session during the block."""
        return self.locked("session_head", "session_id", seat.id)

    @contextlib.contextmanager
    def locked(self, table: str, column: str, value: str) -> Iterator[None]:
        """Block every change of a row during the block."""
        connection = psycopg2.connect(self.dsn)
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"select from {table} where {column} = %s for update", (value,))
            yield
        finally:
            connection.close()

    def actor(self, seat: Seat) -> SessionActor:
        """Return the running actor of a session."""
        [actor] = [actor for actor in self.server.services.directory if actor.session_id == seat.id]
        return actor

    async def committed(self) -> None:
        """Wait until everything queued has been written, snapshots too."""
        async with asyncio.timeout(PATIENCE_S):
            await wait_until_idle(self.server.persistence)

    async def passivate(self, seat: Seat) -> None:
        """Passivate a session. Its streams must be closed."""
        directory = self.server.services.directory
        session_id = SessionId(seat.id)
        async with asyncio.timeout(PATIENCE_S):
            while session_id in directory:
                tell(self.actor(seat).actor_ref, Passivate(float("inf")))
                await asyncio.sleep(0.005)
        await self.committed()

    def fence(self, seat: Seat) -> None:
        """Fence a session's actor, as another server's claim does."""
        self.query("update session_head set owner = 'another', epoch = epoch + 1 where session_id = %s", seat.id)

    async def open_socket(
        self, *, receive_buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a bare TCP connection."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        return await asyncio.open_connection(sock=sock, limit=2**16)

    async def exchange(self, sent: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes unchanged and read one answer."""
        reader, writer = await self.open_socket()
        try:
            writer.write(sent)
            async with asyncio.timeout(PATIENCE_S):
                return await read_answer(reader)
        finally:
            writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read an answer with a Content-Length, or until the connection ends."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = headers.get("content-length")
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return int(first.split()[1]), headers, body


async def wait_for(holds: Callable[[], bool]) -> None:
    """Wait for a condition in this process that has no event."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)


async def gather_bye(streams: list[Stream], reason: str) -> None:
    for stream in streams:
        await stream.bye(reason)


@contextlib.asynccontextmanager
async def serving(
    dsn: str, data: Path, apis: tuple[Api, ...] | None = None, **changed: dict[str, Any]
) -> AsyncIterator[Town]:
    """Run a server with these settings during the block."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        running(settings(dsn, data, **changed), apis=apis) as server,
        aiohttp.ClientSession(connector=connector, auto_decompress=False) as http,
    ):
        yield Town(server, http, dsn)


__all__ = ["KEY", "Town", "gather_bye", "read_answer", "serving", "settings", "wait_for"]
