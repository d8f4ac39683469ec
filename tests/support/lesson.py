"""A real server on a real database, with users over HTTP: `async with lesson(dsn, path) as school`."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
from msgspec import Struct

from server.bootstrap.lifecycle import Running, running
from server.settings.loader import load

QUICK: dict[str, object] = {
    "server.port": "0",
    "server.log_level": "warning",
    "auth.argon2_time_cost": 1,
    "auth.argon2_memory_kib": 128,
    "auth.login_attempts_per_minute": 100_000,
    "limits.user_commands_per_s": 100_000,
    "limits.user_burst": 100_000,
    "limits.session_commands_per_s": 100_000,
    "limits.connections_per_ip": 1_000,
    "sessions.grace_s": 0.2,
}
"""Settings under which tests need not wait."""


class Answered(Struct, frozen=True):
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def refused(self, status: int, reason: str, field: str | None = None) -> None:
        assert self.headers["Content-Type"] == "application/problem+json", self.body
        assert (self.status, self.json["reason"], self.json.get("field")) == (status, reason, field), self.body


class Frame(Struct, frozen=True):
    event: str
    id: str | None
    body: Any


class Person(Struct, frozen=True):
    """A user with an account."""

    school: "School"
    user_id: str
    name: str
    headers: dict[str, str]

    async def get(self, path: str, **query: Any) -> Answered:
        return await self.school.send("GET", path, headers=self.headers, params=query)

    async def post(self, path: str, body: Any = None) -> Answered:
        return await self.school.send("POST", path, headers=self.headers, json=body)

    async def does(self, session: str, type: str, **fields: Any) -> Any:
        """Send a command that must succeed."""
        answer = await self.post(f"/v1/sessions/{session}/commands", {"type": type, **fields})
        assert answer.status in (200, 202), answer.body
        return answer.json

    def stream(self, path: str, **query: Any) -> "contextlib.AbstractAsyncContextManager[Stream]":
        return self.school.stream(path, headers=self.headers, params=query)


class Stream:
    """An open SSE stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self._seen = b""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Frame:
        while True:
            while b"\n\n" not in self._seen:
                read = await self._response.content.readany()
                if not read:
                    raise StopAsyncIteration
                self._seen += read
            raw, _, self._seen = self._seen.partition(b"\n\n")
            fields = dict(line.split(": ", 1) for line in raw.decode().split("\n") if not line.startswith(":"))
            if "event" in fields:
                return Frame(fields["event"], fields.get("id"), msgspec.json.decode(fields["data"]))

    async def until(self, event: str) -> list[Frame]:
        """Read up to and including the first frame of a type."""
        frames = []
        async for frame in self:
            frames.append(frame)
            if frame.event == event:
                return frames
        raise AssertionError(f"the stream ended without {event!r}: {[frame.event for frame in frames]}")


class School(Struct, frozen=True):
    server: Running
    client: aiohttp.ClientSession

    async def send(self, method: str, path: str, **options: Any) -> Answered:
        url = path if path.startswith("http") else self.server.url + path
        async with self.client.request(method, url, **options) as response:
            return Answered(response.status, await response.read(), response.headers)

    @contextlib.asynccontextmanager
    async def stream(self, path: str, **options: Any) -> AsyncIterator[Stream]:
        url = path if path.startswith("http") else self.server.url + path
        async with self.client.get(url, **options) as response:
            assert response.status == 200, await response.read()
            assert response.headers["Content-Type"].startswith("text/event-stream")
            yield Stream(response)

    async def person(self, name: str, role: str = "student") -> Person:
        body = {"name": name, "email": f"{name.lower()}@example.org", "password": "correct horse", "role": role}
        answer = await self.send("POST", "/v1/auth/register", json=body)
        assert answer.status == 201, answer.body
        token = answer.json["access_token"]
        return Person(self, answer.json["user"]["id"], name, {"Authorization": f"Bearer {token}"})

    async def session(self, teacher: Person, *people: Person, **fields: Any) -> str:
        """Create a live session that these users have joined; return its id."""
        answer = await teacher.post("/v1/sessions", {"title": "Physics 101", **fields})
        assert answer.status == 201, answer.body
        session_id, code = answer.json["id"], answer.json["code"]
        await teacher.does(session_id, "join")
        for person in people:
            assert (await person.post("/v1/sessions/join", {"code": code})).status == 200
        return str(session_id)


@contextlib.asynccontextmanager
async def lesson(dsn: str, path: Path, **settings: object) -> AsyncIterator[School]:
    """Run a server. Settings are keywords, with `__` for the dot."""
    given = {name.replace("__", "."): value for name, value in settings.items()}
    chosen = load(None, {}, {"database.dsn": dsn, "data.dir": str(path), **QUICK, **given})
    async with running(chosen) as server, aiohttp.ClientSession() as client:
        yield School(server, client)
