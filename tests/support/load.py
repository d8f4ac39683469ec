"""Load: clients that send messages and retry each until it is acknowledged, and a record of the answers."""

import asyncio
import contextlib
import itertools
import json
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.support.processes import Server
from tests.support.sse import Listener

PATIENCE_S = 60.0
GIVE_UP_S = 30.0
"""Longer than any outage here: a command that gets no answer by then fails the test."""
ATTEMPT = aiohttp.ClientTimeout(total=12)


@dataclass(frozen=True)
class Acked:
    """A command answered with 200, which must be in the log at `seq`."""

    session_id: str
    user_id: str
    text: str
    seq: int


@dataclass
class Ledger:
    """The attempts and answers of all clients, in each client's order."""

    acked: list[Acked] = field(default_factory=list)
    sent: set[tuple[str, str]] = field(default_factory=set)
    """(session, text) of every message that was sent at least once."""
    retries: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    slowest_s: float = 0.0
    """How long the slowest attempt at a command took, answered or not."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, acked: Acked) -> None:
        self.acked.append(acked)
        self._changed.set()

    async def grows(self, by: int) -> None:
        """Wait for more acknowledged commands."""
        goal = len(self.acked) + by
        async with asyncio.timeout(PATIENCE_S):
            while len(self.acked) < goal:
                self._changed.clear()
                await self._changed.wait()


class Talker:
    """A user who sends messages to some sessions, one after the other."""

    def __init__(self, http: aiohttp.ClientSession, url: str, ledger: Ledger, login: Any, name: str) -> None:
        self.http = http
        self.url = url
        self.ledger = ledger
        self.name = name
        self.id: str = login["user"]["id"]
        self.token: str = login["access_token"]
        self.sessions: list[dict[str, Any]] = []
        self._headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self._random = random.Random(name)
        self._numbers = itertools.count(1)

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        async with self.http.post(
            self.url + path, data=json.dumps(body), headers={**self._headers, **headers}, timeout=ATTEMPT
        ) as response:
            return response.status, await response.json(content_type=None)

    async def join(self, session: dict[str, Any]) -> None:
        status, body = await self.post("/v1/sessions/join", {"code": session["code"]})
        assert status == 200, body
        self.sessions.append(session)

    async def talk(self, stop: asyncio.Event) -> None:
        """Send messages until stopped; the last one is retried until it is acknowledged."""
        while not stop.is_set():
            session = self._random.choice(self.sessions)
            direct = {"to": session["owner"]["id"]} if self._random.random() < 0.1 else {}
            await self.say(session, f"{self.name} {next(self._numbers)}", **direct)

    async def say(self, session: dict[str, Any], text: str, **fields: str) -> int:
        """Send a message under one key until it is acknowledged; return its seq."""
        key, path = secrets.token_hex(8), f"/v1/sessions/{session['id']}/commands"
        body = {"type": "send_message", "text": text, **fields}
        self.ledger.sent.add((session["id"], text))
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                status: int = 0
                answer: Any = None
                began = time.monotonic()
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    status, answer = await self.post(path, body, **{"Idempotency-Key": key})
                self.ledger.slowest_s = max(self.ledger.slowest_s, time.monotonic() - began)
                self.ledger.statuses[status] = self.ledger.statuses.get(status, 0) + 1
                if status == 200:
                    break
                assert status in (0, 503, 429), (status, answer)
                self.ledger.retries += 1
                await asyncio.sleep(0.02 + 0.05 * self._random.random())  # the client's own pause
        event = answer["events"][0]
        assert (event["type"], event["text"], event["actor"]) == ("chat_message", text, self.id)
        assert event["seq"] == answer["seq"]
        self.ledger.add(Acked(session["id"], self.id, text, event["seq"]))
        return int(event["seq"])


@dataclass
class School:
    """Sessions, their talkers and their listeners."""

    server: Server
    http: aiohttp.ClientSession
    ledger: Ledger
    teacher: Talker
    talkers: list[Talker]
    sessions: list[dict[str, Any]]
    listeners: list[Listener] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, count: int, *, cut_after: int = 0) -> None:
        """Open streams, spread over sessions and their members; wait until all are attached."""
        new = []
        for number in range(count):
            session = self.sessions[number % len(self.sessions)]
            members = [talker for talker in self.talkers if session in talker.sessions]
            one = members[number // len(self.sessions) % len(members)]
            path = f"/v1/sessions/{session['id']}/events"
            new.append(Listener("127.0.0.1", self.server.port, path, one.token, one.id, session["id"], cut_after))
        self.listeners += new
        self._tasks += [asyncio.create_task(listener.listen()) for listener in new]
        async with asyncio.timeout(PATIENCE_S):
            for listener in new:
                await listener.attached.wait()

    def talk(self) -> None:
        self._tasks += [asyncio.create_task(talker.talk(self._stop)) for talker in self.talkers]

    def check(self) -> None:
        """Raise the error of a client that failed."""
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def finish(self) -> None:
        """Wait until every talker has finished and every listener has received everything."""
        self._stop.set()
        listening = len(self.listeners)
        talking, self._tasks = self._tasks[listening:], self._tasks[:listening]
        await asyncio.gather(*talking)
        watched = {listener.session_id for listener in self.listeners}
        ends = {}
        for session in self.sessions:
            if session["id"] in watched:
                ends[session["id"]] = await self.teacher.say(session, "The end")
        for listener in self.listeners:
            await listener.reaches(ends[listener.session_id])

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()


async def register(http: aiohttp.ClientSession, url: str, ledger: Ledger, name: str, role: str) -> Talker:
    body = {
        "name": name,
        "email": f"{name}-{secrets.token_hex(4)}@example.org",
        "password": "correct horse",
        "role": role,
    }
    async with http.post(f"{url}/v1/auth/register", json=body) as response:
        assert response.status == 201, await response.text()
        return Talker(http, url, ledger, await response.json(), name)


def dealt(talkers: list[Talker], sessions: list[dict[str, Any]], each: int) -> Iterator[tuple[Talker, dict[str, Any]]]:
    """Assign sessions so that each talker has about `each` of them and every session has a talker."""
    count = max(len(talkers) * each, len(sessions))
    for number in range(count):
        # The second part prevents assigning a pair twice.
        talker = talkers[(number + number // len(sessions)) % len(talkers)]
        yield talker, sessions[number % len(sessions)]


@contextlib.asynccontextmanager
async def school(server: Server, *, talkers: int, sessions: int, each: int) -> Any:
    """Fill a running server with a teacher's live sessions and members who talk in about `each` of them."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        ledger = Ledger()
        teacher = await register(http, server.url, ledger, "teacher", "teacher")
        people = await asyncio.gather(
            *(register(http, server.url, ledger, f"talker{n}", "student") for n in range(talkers))
        )
        made = []
        gate = asyncio.Semaphore(16)

        async def make(number: int) -> None:
            async with gate:
                status, session = await teacher.post("/v1/sessions", {"title": f"Class {number}", "capacity": 1_000})
                assert status == 201, session
                await teacher.join(session)
                made.append(session)

        await asyncio.gather(*(make(number) for number in range(sessions)))

        async def come(talker: Talker, session: dict[str, Any]) -> None:
            async with gate:
                await talker.join(session)

        pairs = {(talker.id, session["id"]): (talker, session) for talker, session in dealt(people, made, each)}
        await asyncio.gather(*(come(*pair) for pair in pairs.values()))
        full = School(server, http, ledger, teacher, list(people), made)
        try:
            yield full
        finally:
            full.close()
