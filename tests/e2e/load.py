"""A class under load: writers that repeat a command under its key until it is acknowledged, readers that resume."""

import asyncio
import contextlib
import random
from dataclasses import dataclass, field

import aiohttp

from tests.server.client import Person

PAUSE_S = 0.02
PROGRESS_WITHIN_S = 40.0
TRANSIENT = {429, 503}


@dataclass(frozen=True)
class Ack:
    """What a writer was told: this text is in this session's log at this place."""

    session_id: str
    seq: int
    writer: str
    text: str


@dataclass
class Load:
    """Clients over some sessions, until told to stop. `acks` and `seen` are what they hold the server to."""

    url: str
    sessions: list[str]
    writers: list[Person]
    random: random.Random
    acks: list[Ack] = field(default_factory=list)
    seen: list["Reader"] = field(default_factory=list)
    stopping: bool = False
    resent: int = 0
    _acked: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def write(self, http: aiohttp.ClientSession, person: Person, name: str) -> None:
        """Send one message after the other, each until it is acknowledged."""
        number = 0
        while not self.stopping:
            number += 1
            session_id = self.random.choice(self.sessions)
            text = f"{name}-{number}"
            while (seq := await self._send(http, person, session_id, text)) is None:
                self.resent += 1
                await asyncio.sleep(PAUSE_S)
            self.acks.append(Ack(session_id, seq, name, text))
            async with self._acked:
                self._acked.notify_all()

    async def progress(self, commands: int) -> None:
        """Wait until so many more have been acknowledged."""
        enough = len(self.acks) + commands
        async with asyncio.timeout(PROGRESS_WITHIN_S), self._acked:
            await self._acked.wait_for(lambda: len(self.acks) >= enough)

    async def _send(self, http: aiohttp.ClientSession, person: Person, session_id: str, text: str) -> int | None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            async with http.post(
                f"{self.url}/v1/sessions/{session_id}/commands",
                json={"type": "send_message", "text": text},
                headers={"Authorization": f"Bearer {person.token}", "Idempotency-Key": text},
                timeout=aiohttp.ClientTimeout(total=10),
            ) as answer:
                body = await answer.json()
                if answer.status in TRANSIENT:
                    return None
                assert answer.status == 200, body
                (event,) = body["events"]
                assert event["text"] == text
                return int(event["seq"])
        return None


@dataclass
class Reader:
    """A stream, cut and reopened as it comes; `seqs` and `texts` are what it was shown, in order."""

    url: str
    session_id: str
    person: Person
    cursor: str = ""
    first: int = 0
    seqs: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    cuts: int = 0
    resets: int = 0

    async def read(self, http: aiohttp.ClientSession, *, cut_after: int | None = None) -> None:
        """Read until the connection ends, or `cut_after` bytes of it have been read, wherever that is."""
        headers = {"Authorization": f"Bearer {self.person.token}"}
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        buffer, size = b"", 0
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            async with http.get(f"{self.url}/v1/sessions/{self.session_id}/events", headers=headers) as stream:
                if stream.status in TRANSIENT:
                    return
                assert stream.status == 200, await stream.text()
                self.cuts += 1
                async for chunk in stream.content.iter_any():
                    taken = chunk if cut_after is None else chunk[: cut_after - size]
                    size += len(taken)
                    *frames, buffer = (buffer + taken).split(b"\n\n")
                    for frame in frames:
                        self.take(frame.decode())
                    if cut_after is not None and size >= cut_after:
                        return

    def take(self, frame: str) -> None:
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line and not line.startswith(":"))
        event = fields.get("event")
        if event == "snapshot":
            self.resets += bool(self.seqs)
            self.first = self.first or int(fields["id"].split("-")[1])
        if event is not None and event not in ("snapshot", "resumed", "reset", "bye"):
            self.seqs.append(int(fields["id"].split("-")[1]))
        if "id" in fields:
            self.cursor = fields["id"]

    async def keep_reading(self, http: aiohttp.ClientSession, load: Load) -> None:
        while not load.stopping:
            await self.read(http)
            await asyncio.sleep(PAUSE_S)
