"""A receiver of webhooks over real HTTP with chosen answers, and a name server for hosts that change their address."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.client import PATIENCE_S

HANGS, ENDLESS, CLOSES, DRIPS, GARBLED, BIG_HEADERS = -1, -2, -3, -4, -5, -6
"""No answer; 200 and a body without end; a closed connection; a slow head without end; no HTTP; a large head."""


@dataclass(frozen=True)
class Got:
    """A received request."""

    path: str
    headers: dict[str, str]
    raw: bytes
    answered: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def text(self) -> str:
        return str(self.body["data"]["text"])

    def is_signed_with(self, *secrets: str) -> bool:
        """Return whether the request has exactly the signatures that the specification asks for, in this order."""
        signed = f"{self.id}.{self.headers['webhook-timestamp']}.".encode() + self.raw
        made = (
            hmac.new(base64.b64decode(secret.removeprefix("whsec_")), signed, hashlib.sha256).digest()
            for secret in secrets
        )
        expected = " ".join(f"v1,{base64.b64encode(one).decode()}" for one in made)
        return self.headers["webhook-signature"] == expected


class Receiver:
    """`got`: the received requests, in order. A path without a chosen answer gets 200."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.open: defaultdict[str, int] = defaultdict(int)
        self.most_open: defaultdict[str, int] = defaultdict(int)
        self.url = ""
        self.headers: dict[str, str] = {}
        self._answers: defaultdict[str, deque[int]] = defaultdict(deque)
        self._always: dict[str, int | Callable[[Got], int]] = {}
        self._changed = asyncio.Event()
        self._released = asyncio.Event()

    def at(self, path: str) -> str:
        return f"{self.url}/{path}"

    def answers(self, path: str, *statuses: int) -> None:
        """Set the answers to the next requests to a path."""
        self._answers[path].extend(statuses)

    def always(self, path: str, status: int | Callable[[Got], int]) -> None:
        """Set the answer to every other request to a path, fixed or by the request."""
        self._always[path] = status

    def to(self, path: str, *, well: bool = False) -> list[Got]:
        """Return the requests to a path; `well`: only those answered with 200."""
        return [got for got in self.got if got.path == path and (not well or got.answered == 200)]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def reached(self, path: str, count: int = 1, *, well: bool = False) -> list[Got]:
        """Wait for this many requests to a path; return all."""
        await self.until(lambda: len(self.to(path, well=well)) >= count)
        return self.to(path, well=well)

    def release(self) -> None:
        """Answer the requests that hang."""
        self._released.set()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.open[path] += 1
        self.most_open[path] = max(self.open[path], self.most_open[path])
        try:
            return await self._answered(request, path)
        finally:
            self.open[path] -= 1
            self._changed.set()

    async def _answered(self, request: web.Request, path: str) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        got = Got(path, headers, await request.read(), 0)
        said = self._always.get(path, 200)
        status = self._answers[path].popleft() if self._answers[path] else said(got) if callable(said) else said
        self.got.append(Got(got.path, got.headers, got.raw, status))
        self._changed.set()
        if status > 0:
            return web.Response(status=status, text="thank you", headers=self.headers)
        assert request.transport is not None
        with contextlib.suppress(ConnectionError):
            if status == HANGS:
                await self._released.wait()
            elif status == ENDLESS:
                response = web.StreamResponse()
                await response.prepare(request)
                while True:
                    await response.write(b"x" * 65_536)
            elif status in (DRIPS, GARBLED, BIG_HEADERS):
                await self._badly(request.transport, status)
        request.transport.close()
        return web.Response()

    async def _badly(self, transport: asyncio.Transport, how: int) -> None:
        if how == GARBLED:
            transport.write(b"220 mail.example.org ESMTP\r\n")
            await self._released.wait()
        transport.write(b"HTTP/1.1 200 OK\r\n")
        while not transport.is_closing():
            transport.write(b"X-Y: z\r\n" if how == DRIPS else b"X-Y: %b\r\n" % (b"z" * 60_000))
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path}", receiver.__call__)
    server = TestServer(app, host="127.0.0.1", port=0)
    await server.start_server(shutdown_timeout=0.1)
    receiver.url = f"http://127.0.0.1:{server.port}"
    try:
        yield receiver
    finally:
        receiver.release()
        await server.close()


class NameServer(asyncio.DatagramProtocol):
    """Answers each query for a name with its next list of addresses, and then repeats the last."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        self._names = {name: deque(addresses) for name, addresses in names.items()}
        self.asked: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        # RFC 1035, 4.1: a header of 12 bytes, labels with their lengths, a type and a class.
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode())
            at += data[at] + 1
        name, question = ".".join(labels), data[12 : at + 5]
        found: list[str] = []
        if data[at + 1 : at + 3] == b"\0\1" and name in self._names:
            self.asked.append(name)
            addresses = self._names[name]
            found = (addresses.popleft() if len(addresses) > 1 else addresses[0]).split()
        records = b"".join(b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(one) for one in found)
        head = data[:2] + b"\x81\x80\0\1\0%c\0\0\0\0" % len(found)
        assert self._transport is not None
        self._transport.sendto(head + question + records, addr)


@contextlib.asynccontextmanager
async def naming(names: dict[str, list[str]]) -> AsyncIterator[tuple[str, NameServer]]:
    """Run a name server; return its address with port, and itself."""
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(names), local_addr=("127.0.0.1", 0)
    )
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}", protocol
    finally:
        transport.close()
