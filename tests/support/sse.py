"""Server-sent events from bare bytes: a reader that can be cut anywhere and resumes."""

import asyncio
import contextlib
import json
import random
from dataclasses import dataclass
from typing import Any

PATIENCE_S = 30.0


@dataclass(frozen=True)
class Frame:
    event: str
    data: Any
    epoch: int = 0
    seq: int = 0
    """0: no place in the log."""


class Parser:
    """Parses an HTTP answer from chunks of any size into complete frames."""

    def __init__(self) -> None:
        self.status = 0
        self._raw = b""
        self._body = b""

    def feed(self, data: bytes) -> list[Frame]:
        self._raw += data
        if not self.status:
            head, end, rest = self._raw.partition(b"\r\n\r\n")
            if not end:
                return []
            self.status = int(head.split()[1])
            if self.status != 200:
                return []
            assert b"transfer-encoding: chunked" in head.lower(), head
            self._raw = rest
        self._unchunk()
        *whole, self._body = self._body.split(b"\n\n")
        return [frame for text in whole if (frame := parsed(text.decode()))]

    def _unchunk(self) -> None:
        while b"\r\n" in self._raw:
            size_text, _, rest = self._raw.partition(b"\r\n")
            size = int(size_text, 16)
            if len(rest) < size + 2:
                return
            assert rest[size : size + 2] == b"\r\n"
            self._body += rest[:size]
            self._raw = rest[size + 2 :]


def parsed(text: str) -> Frame | None:
    fields = dict(line.split(": ", 1) for line in text.split("\n") if line and not line.startswith(":"))
    if "event" not in fields:
        return None
    epoch, _, seq = fields.get("id", "0-0").partition("-")
    return Frame(fields["event"], json.loads(fields["data"]), int(epoch), int(seq))


class Listener:
    """A subscriber of a session that reconnects after every loss.

    `cut_after`: the connection is cut after a random number of bytes up to this; 0: never."""

    def __init__(
        self, host: str, port: int, path: str, token: str, user_id: str, session_id: str, cut_after: int = 0
    ) -> None:
        self.user_id = user_id
        self.session_id = session_id
        self.cut_after = cut_after
        self.frames: list[Frame] = []
        """Every event with a place in the log, as it came."""
        self.start = 0
        """The first snapshot's place: everything after it has to come."""
        self.connections = 0
        self.cuts = 0
        self.faults: list[str] = []
        """Whatever a client that only lost its connection must not see: resets, second snapshots, wrong places."""
        self.byes: list[str] = []
        self.attached = asyncio.Event()
        self._changed = asyncio.Event()
        self._cursor = ""
        self._address = host, port
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
        self._random = random.Random(f"{user_id}{session_id}")

    async def listen(self) -> None:
        """Read and reconnect after every end, until cancelled."""
        while True:
            with contextlib.suppress(OSError):
                await self._connection()
            await asyncio.sleep(0.02 + 0.03 * self._random.random())  # as a browser does: not at once

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            resumed_from = self._cursor
            last = f"Last-Event-ID: {self._cursor}\r\n" if self._cursor else ""
            writer.write(f"{self._request}{last}\r\n".encode())
            budget = self._random.randint(1, self.cut_after) if self.cut_after else 1 << 60
            parser = Parser()
            while budget > 0 and (data := await reader.read(min(budget, 65_536))):
                budget -= len(data)
                for frame in parser.feed(data):
                    self._take(frame, resumed_from)
                if parser.status not in (0, 200):
                    if parser.status not in (503, 429):
                        self.faults.append(f"refused with {parser.status}")
                    return
            if budget <= 0:
                self.cuts += 1
                writer.transport.abort()
        finally:
            writer.close()

    def _take(self, frame: Frame, resumed_from: str) -> None:
        match frame.event:
            case "snapshot":
                if self._cursor:
                    self.faults.append(f"a snapshot instead of what came after {self._cursor}")
                self._attached(frame)
                self.start = frame.seq
            case "resumed":
                if frame.data["from"] != resumed_from:
                    self.faults.append(f"resumed from {frame.data['from']}, not {resumed_from}")
                self._attached(None)
            case "reset":
                self.faults.append(f"reset after {self._cursor}: {frame.data}")
            case "bye":
                self.byes.append(frame.data["reason"])
            case _ if frame.seq:
                self.frames.append(frame)
                self._cursor = f"{frame.epoch}-{frame.seq}"
        self._changed.set()

    def _attached(self, snapshot: Frame | None) -> None:
        self.connections += 1
        if snapshot is not None:
            self._cursor = f"{snapshot.epoch}-{snapshot.seq}"
        self.attached.set()

    async def reaches(self, seq: int) -> None:
        """Wait until the event at `seq` or a later one has arrived."""
        async with asyncio.timeout(PATIENCE_S):
            while not (self.frames and self.frames[-1].seq >= seq):
                self._changed.clear()
                await self._changed.wait()
