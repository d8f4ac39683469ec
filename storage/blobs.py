"""Blobs: content by key, in a directory or an S3-compatible bucket. The only module that knows obstore.

**Law:** a blob is there whole or not at all; memory is bounded however large it is, and however slow its reader.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from io import RawIOBase
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from storage.errors import StorageError

PART_BYTES = 5 << 20
"""S3 takes no smaller parts, but for the last."""
PARTS_AT_ONCE = 2
READ_BYTES = 256 << 10
REQUEST_TIMEOUT = timedelta(seconds=30)
RETRY_TIMEOUT = timedelta(seconds=10)
RETRIES = 3


class BlobsUnavailable(StorageError):
    """The blob store did not do it; it may be away."""


class UnknownBlob(BlobsUnavailable):
    """There is no such blob."""


class Blobs:
    """A store of blobs. Keys are paths such as "audio/0199…", each written once."""

    def __init__(self, store: LocalStore | S3Store, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory
        self._given_up: set[asyncio.Task[None]] = set()

    @classmethod
    def local(cls, directory: Path) -> "Blobs":
        """Keep blobs in a directory, which is made if need be. Raises: OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)  # files in it are made with the process's umask, mostly readable for everyone
        return cls(LocalStore(directory), directory)

    @classmethod
    def s3(
        cls, bucket: str, *, endpoint: str, region: str, access_key: str, secret_key: str, path_style: bool
    ) -> "Blobs":
        """Keep blobs in a bucket. Without keys, those of the machine's own environment or role count."""
        given = {"endpoint": endpoint, "access_key_id": access_key, "secret_access_key": secret_key}
        return cls(
            S3Store(
                bucket,
                region=region,
                virtual_hosted_style_request=not path_style,
                client_options={"allow_http": endpoint.startswith("http://"), "timeout": REQUEST_TIMEOUT},
                retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_TIMEOUT},
                **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
            )
        )

    async def probe(self) -> None:
        """See whether blobs can be stored here. Raises: BlobsUnavailable."""
        with _translated("probe"):
            await obstore.put_async(self._store, "probe", b"homeroom")
            await obstore.delete_async(self._store, "probe")

    async def put(self, key: str, content: AsyncIterator[bytes]) -> None:
        """Store what `content` gives. If that raises, or this is cancelled, nothing is left: where both happen, soon.

        Raises: BlobsUnavailable, and whatever `content` raises."""
        feed = _Feed()
        # Cancelled from outside, obstore would leave the parts of an unfinished S3 upload behind. It takes an upload
        # back when its source raises: so it is never cancelled, only fed an error, and waited for.
        upload = asyncio.ensure_future(
            obstore.put_async(
                self._store, key, feed, use_multipart=True, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        )
        try:
            async for chunk in content:
                if not await feed.give(chunk, upload):
                    break
            await feed.give(None, upload)
            await asyncio.wait({upload})
            with _translated(key):
                upload.result()
        except BaseException as error:
            feed.fail(error)
            taking_back = asyncio.create_task(self._taken_back(key, upload))
            self._given_up.add(taking_back)
            taking_back.add_done_callback(self._given_up.discard)
            # A client who goes away breaks off the source, and has this cancelled, too.
            await asyncio.shield(taking_back)
            raise

    async def settled(self) -> None:
        """Wait until every upload that was given up has left nothing."""
        while self._given_up:
            await asyncio.wait(self._given_up)

    async def _taken_back(self, key: str, upload: "asyncio.Future[Any]") -> None:
        await asyncio.wait({upload})
        if upload.exception() is None:
            await self.delete(key)

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Give the bytes from `start` up to, not with, `end`. Raises: UnknownBlob, BlobsUnavailable.

        Each chunk is a request of its own: a reader who stops in between holds nothing open."""
        while start < end:
            upto = min(start + READ_BYTES, end)
            with _translated(key):
                chunk = bytes(await obstore.get_range_async(self._store, key, start=start, end=upto))
            if not chunk:
                raise BlobsUnavailable(f"blob {key} is shorter than {end} bytes")
            yield chunk
            start += len(chunk)

    async def delete(self, key: str) -> None:
        """Delete a blob, and what an interrupted upload of it left here. One that is not there is no mistake.

        Raises: BlobsUnavailable. (Parts of an S3 upload that a crash interrupted are for a lifecycle rule.)"""
        with contextlib.suppress(UnknownBlob), _translated(key):
            await obstore.delete_async(self._store, key)
        if self._directory is not None:
            await asyncio.to_thread(_unstage, self._directory / key)

    def open(self, key: str, size: int) -> "BlobFile":
        """Open a blob for reading and seeking, in a thread: every read blocks."""
        return BlobFile(self._store, key, size)


class BlobFile(RawIOBase):
    """A blob as a file. Raises OSError when the store is away."""

    def __init__(self, store: LocalStore | S3Store, key: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0, /) -> int:
        at = offset + (0, self._at, self._size)[whence]
        if at < 0:
            raise OSError("seek before the start")
        self._at = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        count = min(len(buffer), self._size - self._at)
        if count <= 0:
            return 0
        try:
            found = obstore.get_range(self._store, self._key, start=self._at, length=count)
        except (BaseError, FileNotFoundError) as error:
            raise OSError(str(error)) from error
        buffer[: len(found)] = memoryview(found)
        self._at += len(found)
        return len(found)


class _Feed:
    """What obstore draws an upload from: one chunk at a time, or an error that makes it take the upload back."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._error: BaseException | None = None

    async def give(self, chunk: bytes | None, upload: "asyncio.Future[Any]") -> bool:
        """Hand a chunk over (None: that was all), once the last has been taken; False: the upload has failed."""
        putting = asyncio.ensure_future(self._chunks.put(chunk))
        try:
            await asyncio.wait((putting, upload), return_when=asyncio.FIRST_COMPLETED)
            return not upload.done()
        finally:
            putting.cancel()

    def fail(self, error: BaseException) -> None:
        self._error = error
        if self._chunks.empty():
            self._chunks.put_nowait(None)

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.get()
        if self._error is not None:
            raise ConnectionAbortedError("the upload was given up") from self._error
        if chunk is None:
            raise StopAsyncIteration
        return chunk


@contextlib.contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UnknownBlob(f"there is no blob {key}") from error
    except (BaseError, OSError) as error:
        raise BlobsUnavailable(f"blob {key}: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """Give an error's own sentence; obstore puts a dump of itself below that."""
    return str(error).partition("\n")[0]


def _unstage(path: Path) -> None:
    """Remove what obstore had written of a blob when its process was killed: `<key>#<number>`."""
    for staged in path.parent.glob(f"{path.name}#*"):
        staged.unlink(missing_ok=True)
