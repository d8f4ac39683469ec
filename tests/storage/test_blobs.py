"""Blobs, in a directory and in a bucket: whole or not at all, by ranges, and nothing left after a failure."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from storage.blobs import PART_BYTES, PARTS_AT_ONCE, Blobs, BlobsUnavailable, UnknownBlob
from tests.conftest import Bucket

MIB = 1 << 20


class Store(NamedTuple):
    blobs: Blobs
    keys: Callable[[], list[str]]
    """What is there, whole or in parts."""


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(Blobs.local(tmp_path / "blobs"), lambda: files(tmp_path / "blobs"))
    bucket: Bucket = request.getfixturevalue("bucket")
    return Store(in_bucket(bucket), lambda: [*bucket.keys(), *bucket.unfinished()])


def in_bucket(bucket: Bucket) -> Blobs:
    return Blobs.s3(
        bucket.name,
        endpoint=bucket.endpoint,
        region="us-east-1",
        access_key="key",
        secret_key="secret",
        path_style=True,
    )


def files(directory: Path) -> list[str]:
    return [str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()]


async def chunks(count: int, size: int = MIB) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 256]) * size


async def whole(blobs: Blobs, key: str, start: int, end: int) -> bytes:
    return b"".join([chunk async for chunk in blobs.read(key, start, end)])


@pytest.mark.parametrize("count", [1, 5, 12], ids="{} MiB".format)
async def test_what_is_put_is_read_whole_and_by_ranges(store: Store, count: int) -> None:
    await store.blobs.put("audio/a", chunks(count))
    size = count * MIB
    assert await whole(store.blobs, "audio/a", 0, size) == b"".join([chunk async for chunk in chunks(count)])
    assert await whole(store.blobs, "audio/a", MIB - 2, min(MIB + 3, size)) == (b"\0\0" + b"\1\1\1")[: size - MIB + 2]
    assert await whole(store.blobs, "audio/a", size - 1, size) == bytes([count - 1])
    assert await whole(store.blobs, "audio/a", 7, 7) == b""
    assert store.keys() == ["audio/a"]


async def test_no_range_reads_past_the_end(store: Store) -> None:
    await store.blobs.put("audio/a", chunks(1, 10))
    with pytest.raises(BlobsUnavailable):
        await whole(store.blobs, "audio/a", 5, 20)


async def test_a_blob_as_a_file(store: Store) -> None:
    await store.blobs.put("audio/a", chunks(3, 1000))

    def read() -> tuple[bytes, bytes, int, bytes]:
        with store.blobs.open("audio/a", 3000) as file:
            first = file.read(2)
            file.seek(-1001, 2)
            return first, file.read(3), file.seek(2998), file.read(10)

    assert await asyncio.to_thread(read) == (b"\0\0", b"\1\2\2", 2998, b"\2\2")


async def test_an_upload_whose_source_fails_leaves_nothing(store: Store) -> None:
    async def failing() -> AsyncIterator[bytes]:
        async for chunk in chunks(12):
            yield chunk
        raise ConnectionResetError("the client went away")

    with pytest.raises(ConnectionResetError):
        await store.blobs.put("audio/a", failing())
    assert store.keys() == []


async def test_an_upload_that_is_cancelled_leaves_nothing(store: Store) -> None:
    stalled = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        async for chunk in chunks(2 * PART_BYTES // MIB + 1):
            yield chunk
        stalled.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.blobs.put("audio/a", stalling()))
    await stalled.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert store.keys() == []


@pytest.mark.parametrize("ends", [True, False])
async def test_one_that_is_given_up_twice_leaves_nothing_either(
    store: Store, ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A client who goes away both breaks the source off and has the handler cancelled."""
    loop = asyncio.get_running_loop()

    async def breaking_off() -> AsyncIterator[bytes]:
        async for chunk in chunks(2):
            yield chunk
        # Before the store can have said what came of it.
        loop.call_soon(upload.cancel)
        if not ends:
            raise ConnectionResetError("the client went away")
        loop.call_soon(lambda: loop.call_soon(upload.cancel))

    upload = asyncio.create_task(store.blobs.put("audio/a", breaking_off()))
    with pytest.raises(asyncio.CancelledError):
        await upload
    async with asyncio.timeout(8):
        await store.blobs.settled()
    assert store.keys() == []
    gc.collect()
    assert caplog.messages == []


async def test_the_source_is_drawn_no_faster_than_the_store_takes(bucket: Bucket) -> None:
    stalled: list[asyncio.StreamWriter] = []
    drawn = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin every upload, and take no part of any."""
        head = await reader.readuntil(b"\r\n\r\n")
        if b"partNumber" not in head:
            body = (
                b"<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>1</UploadId>"
                b"</InitiateMultipartUploadResult>"
            )
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            writer.close()
        else:
            stalled.append(writer)

    async def counted() -> AsyncIterator[bytes]:
        nonlocal drawn
        async for chunk in chunks(100):
            drawn += len(chunk)
            yield chunk

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    blobs = in_bucket(bucket._replace(endpoint=f"http://127.0.0.1:{port}"))
    upload = asyncio.create_task(blobs.put("audio/a", counted()))
    before = -1
    while len(stalled) < PARTS_AT_ONCE or drawn != before:
        before = drawn
        await asyncio.sleep(0.1)
    assert drawn <= (PARTS_AT_ONCE + 1) * PART_BYTES + 3 * MIB
    server.close()
    for writer in stalled:
        writer.transport.abort()
    with pytest.raises(BlobsUnavailable):
        await upload


async def test_deleting(store: Store) -> None:
    await store.blobs.put("audio/a", chunks(1))
    await store.blobs.delete("audio/a")
    assert store.keys() == []
    with pytest.raises(UnknownBlob):
        await whole(store.blobs, "audio/a", 0, 1)
    await store.blobs.delete("audio/a")


async def test_the_probe_leaves_nothing(store: Store) -> None:
    await store.blobs.probe()
    assert store.keys() == []


async def test_what_a_killed_upload_left_in_the_directory_is_deleted_with_it(tmp_path: Path) -> None:
    blobs = Blobs.local(tmp_path)
    await blobs.put("audio/b", chunks(1))
    (tmp_path / "audio" / "a#1").write_bytes(b"half")
    await blobs.delete("audio/a")
    assert files(tmp_path) == ["audio/b"]


async def test_a_store_that_is_away_says_so(bucket: Bucket, tmp_path: Path) -> None:
    away = in_bucket(bucket._replace(name="no-such-bucket"))
    with pytest.raises(BlobsUnavailable):
        await away.probe()
    with pytest.raises(BlobsUnavailable):
        await away.put("audio/a", chunks(8))
    local = Blobs.local(tmp_path / "blobs")
    (tmp_path / "blobs").rmdir()
    (tmp_path / "blobs").write_text("in the way")
    with pytest.raises(BlobsUnavailable):
        await local.put("audio/a", chunks(1))
