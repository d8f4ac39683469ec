"""Uploads and downloads of any size in a few MiB of a real server's memory."""

import asyncio
import contextlib
import os
import re
import struct
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import Bucket
from tests.support.client import Client, Person

MIB = 1 << 20


@contextlib.asynccontextmanager
async def server_process(dsn: str, data: Path, **env: str) -> AsyncIterator[tuple[str, int]]:
    """Run `homeroom serve`; its URL and process id."""
    settings = {"HOMEROOM_DATABASE__DSN": dsn, "HOMEROOM_SERVER__LOG_LEVEL": "error", **env}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", "serve", "--port", "0", "--data", str(data)),
        env=os.environ | settings,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            while not (ready := re.search(r"ready at (\S+)", (line := await process.stdout.readline()).decode())):
                assert line, "the server stopped"
        yield ready[1], process.pid
    finally:
        process.terminate()
        await process.wait()


def memory(pid: int, name: str) -> int:
    """Read one of the kernel's figures of a process, in bytes: VmRSS now, VmHWM the most since `forget`."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def wav(size: int) -> AsyncIterator[bytes]:
    header = b"RIFF" + struct.pack("<I", size - 8) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    yield header + b"data" + struct.pack("<I", size - 44)
    left = size - 44
    while left:
        chunk = bytes(min(left, 256 << 10))
        left -= len(chunk)
        yield chunk


async def webm(size: int) -> AsyncIterator[bytes]:
    """Give sound as a browser records it: to measure it, all of it has to be walked through."""
    yield bytes.fromhex("1a45dfa385428282") + b"we" + bytes.fromhex("428284") + b"webm"
    yield bytes.fromhex("1853806701ffffffffffffff")
    cluster = bytes.fromhex("1f43b67501ffffffffffffffe78100") + b"".join(
        bytes.fromhex("a3") + b"\x41\x00" + b"\x81" + struct.pack(">hB", n, 128) + bytes(252) for n in range(1_000)
    )
    for _ in range(size // len(cluster)):
        yield cluster


async def upload(person: Person, content: AsyncIterator[bytes]) -> str:
    form = aiohttp.FormData()
    form.add_field("file", content, filename="long")
    headers = {"Authorization": f"Bearer {person.token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with person.http.post(person.url + "/v1/audio", data=form, headers=headers, timeout=timeout) as answer:
        assert answer.status == 201, await answer.text()
        piece_id: str = (await answer.json())["id"]
        return piece_id


async def download(person: Person, piece_id: str, most: int) -> int:
    """Read a piece, or the first of it; give how many bytes came."""
    size = 0
    headers = {"Authorization": f"Bearer {person.token}", "Range": f"bytes=0-{most - 1}"}
    timeout = aiohttp.ClientTimeout(total=None)
    url = f"{person.url}/v1/audio/{piece_id}/content"
    async with person.http.get(url, headers=headers, timeout=timeout) as answer:
        assert answer.status == 206
        async for chunk in answer.content.iter_chunked(MIB):
            size += len(chunk)
    return size


async def grown(
    dsn: str,
    data: Path,
    content: Callable[[int], AsyncIterator[bytes]],
    size: int,
    most: int,
    *,
    read: int | None = None,
    **env: str,
) -> None:
    """Upload so much, and download it or `read` of it; the server must not grow by more than `most` over it."""
    read = read or size
    async with server_process(dsn, data, **env) as (url, pid), aiohttp.ClientSession() as http:
        tess = await Person.register(http, url, "Tess", "tess@example.org", "teacher")
        # Once before, for what the first upload loads and keeps.
        await download(tess, await upload(tess, content(MIB)), MIB)
        before = memory(pid, "VmRSS")
        forget(pid)
        piece_id = await upload(tess, content(size))
        by_upload = memory(pid, "VmHWM") - before
        forget(pid)
        assert await download(tess, piece_id, read) >= read - MIB
        by_download = memory(pid, "VmHWM") - before
        print(f"{size / MIB:.0f} MiB: upload +{by_upload / MIB:.1f} MiB, download +{by_download / MIB:.1f} MiB")
        assert by_upload < most
        assert by_download < most
        assert (await Client(http, url, tess.token).get("/readyz")).status == 200


@pytest.mark.parametrize("content", [wav, webm])
async def test_an_upload_is_never_whole_in_memory(
    dsn: str, data: Path, content: Callable[[int], AsyncIterator[bytes]]
) -> None:
    await grown(dsn, data, content, 96 * MIB, 48 * MIB)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("content", [wav, webm])
async def test_500_mb_in_less_than_64_mib(dsn: str, data: Path, content: Callable[[int], AsyncIterator[bytes]]) -> None:
    await grown(dsn, data, content, 500_000_000, 64 * MIB)


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_500_mb_in_a_bucket(dsn: str, data: Path, bucket: Bucket) -> None:
    env = {
        "HOMEROOM_BLOBS__STORE": "s3",
        "HOMEROOM_BLOBS__S3_BUCKET": bucket.name,
        "HOMEROOM_BLOBS__S3_ENDPOINT": bucket.endpoint,
        "HOMEROOM_BLOBS__S3_ACCESS_KEY": "key",
        "HOMEROOM_BLOBS__S3_SECRET_KEY": "secret",
    }
    # The server under test takes a second for each MiB of a piece of this size: it reads the whole for any range.
    await grown(dsn, data, wav, 500_000_000, 64 * MIB, read=16 * MIB, **env)
