"""A client that disappears without closing (a sleeping laptop, lost Wi-Fi) is noticed: it acknowledges nothing.

The client's kernel drops every packet that comes for it, by a filter that needs no rights: the server hears nothing.
"""

import contextlib
import ctypes
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.client import Seat
from tests.support.serving import Town, serving, wait_for

SO_ATTACH_FILTER = 26


def vanish(client: socket.socket) -> None:
    """Have the kernel drop whatever arrives for this socket, before TCP acknowledges it."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(drop_all)))


def request(seat: Seat, path: str, *headers: str) -> bytes:
    lines = f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {seat.person.token}", *headers, "", ""
    return "\r\n".join(lines).encode()


@contextlib.asynccontextmanager
async def streaming(town: Town, request: bytes, first: bytes) -> AsyncIterator[socket.socket]:
    """Open a stream, read it until `first`, and yield the client's socket."""
    reader, writer = await town.open_socket()
    try:
        writer.write(request)
        await reader.readuntil(first)
        yield writer.get_extra_info("socket")
    finally:
        writer.transport.abort()


UPGRADE = (
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


@pytest.mark.parametrize(("stream", "headers"), [("events", ()), ("socket", UPGRADE)])
async def test_a_client_that_disappears_goes_offline(
    dsn: str, tmp_path: Path, stream: str, headers: tuple[str, ...]
) -> None:
    async with serving(dsn, tmp_path, streams={"heartbeat_s": 1.0}) as town:
        host, anna = await town.classroom("Anna")
        async with host.stream() as watching:
            await watching.until("snapshot")
            async with streaming(town, request(anna, f"{anna.path}/{stream}", *headers), b'"you"') as client:
                await watching.until("participant_online")
                vanish(client)
                await watching.until("participant_offline", lambda event: bool(event["user_id"] == anna.user_id))


async def test_a_users_own_stream_ends_with_its_client(dsn: str, tmp_path: Path) -> None:
    async with serving(dsn, tmp_path, streams={"heartbeat_s": 1.0}) as town:
        host, *_ = await town.classroom()
        async with streaming(town, request(host, "/v1/me/events"), b"snapshot") as client:
            vanish(client)
            await wait_for(lambda: len(town.server.services.hub) == 0)
