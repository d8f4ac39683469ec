"""Blobs: content by key, in a directory or an S3-compatible bucket. The only module that knows obstore.

**Law:** a blob is stored completely or not at all. Memory is bounded whatever its size and the speed of its reader.
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
"""S3 accepts no smaller parts, except the last."""
PARTS_AT_ONCE = 2
READ_BYTES = 256 << 10
REQUEST_TIMEOUT = timedelta(seconds=30)
RETRY_TIMEOUT = timedelta(seconds=10)
RETRIES = 3


class BlobsUnavailable(StorageError):
    """The blob store failed or did not answer."""


class UnknownBlob(BlobsUnavailable):
    """There is no such blob."""


class Blobs:
    """A store of blobs. Keys are paths such as "audio/0199…", each written once."""

    def __init__(self, store: LocalStore | S3Store, directory: Path | None = None) -> None:
        self._store = store
        self._directory = directory
        self._aborted: set[asyncio.Task[None]] = set()

    @classmethod
    def local(cls, directory: Path) -> "Blobs":
        """Return a store in a directory, which is created if necessary. Raise OSError."""
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)  # files in it are created with the process's umask, mostly readable for everyone
        return cls(LocalStore(directory), directory)

    @classmethod
    def s3(
        cls, bucket: str, *, endpoint: str, region: str, access_key: str, secret_key: str, path_style: bool
    ) -> "Blobs":
        """Return a store in a bucket. Without keys, those of the environment or of the machine's role are used."""
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
        """Store and delete a test blob. Raise BlobsUnavailable."""
        with _translated("probe"):
            await obstore.put_async(self._store, "probe", b"homeroom")
            await obstore.delete_async(self._store, "probe")

    async def put(self, key: str, content: AsyncIterator[bytes]) -> None:
        """Store the chunks of `content`. If it raises, or this task is cancelled, nothing remains.

        If both happen, the remains are deleted soon after. Raise BlobsUnavailable, and any error of `content`.
        """
        feed = _Feed()
        # If cancelled, obstore leaves the parts of an unfinished S3 upload behind. If its source raises, it aborts the
        # upload. So the upload is never cancelled: its source raises, and we wait.
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
            cleanup = asyncio.create_task(self._clean_up(key, upload))
            self._aborted.add(cleanup)
            cleanup.add_done_callback(self._aborted.discard)
            # When a client disconnects, the source raises and this task is cancelled too.
            await asyncio.shield(cleanup)
            raise

    async def settled(self) -> None:
        """Wait until the remains of every aborted upload are deleted."""
        while self._aborted:
            await asyncio.wait(self._aborted)

    async def _clean_up(self, key: str, upload: "asyncio.Future[Any]") -> None:
        await asyncio.wait({upload})
        if upload.exception() is None:
            await self.delete(key)

    async def read(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Return the bytes from `start` to before `end`, in chunks. Raise UnknownBlob, BlobsUnavailable.

        Each chunk is a separate request, so that a reader who stops leaves nothing open.
        """
        while start < end:
            upto = min(start + READ_BYTES, end)
            with _translated(key):
                chunk = bytes(await obstore.get_range_async(self._store, key, start=start, end=upto))
            if not chunk:
                raise BlobsUnavailable(f"blob {key} is shorter than {end} bytes")
            yield chunk
            start += len(chunk)

    async def delete(self, key: str) -> None:
        """Delete a blob, and the remains of an interrupted upload of it. Ignore a missing blob. Raise BlobsUnavailable.

        Parts of an S3 upload that a crash interrupted are left to a lifecycle rule of the bucket.
        """
        with contextlib.suppress(UnknownBlob), _translated(key):
            await obstore.delete_async(self._store, key)
        if self._directory is not None:
            await asyncio.to_thread(_unstage, self._directory / key)

    def open(self, key: str, size: int) -> "BlobFile":
        """Return a blob as a file to read and seek in a thread: every read blocks."""
        return BlobFile(self._store, key, size)


class BlobFile(RawIOBase):
    """A blob as a file. Reading raises OSError if the store does not answer."""

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
            chunk = obstore.get_range(self._store, self._key, start=self._at, length=count)
        except (BaseError, FileNotFoundError) as error:
            raise OSError(str(error)) from error
        buffer[: len(chunk)] = memoryview(chunk)
        self._at += len(chunk)
        return len(chunk)


class _Feed:
    """The source of an upload: hands obstore one chunk at a time, or an error that makes it abort the upload."""

    def __init__(self) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._error: BaseException | None = None

    async def give(self, chunk: bytes | None, upload: "asyncio.Future[Any]") -> bool:
        """Pass on a chunk (None: the end) once the previous one is consumed. Return False if the upload failed."""
        putting = asyncio.ensure_future(self._chunks.put(chunk))
        try:
            await asyncio.wait((putting, upload), return_when=asyncio.FIRST_COMPLETED)
            return not upload.done()
        finally:
            putting.cancel()

    def fail(self, error: BaseException) -> None:
        """Make the upload fail with an error."""
        self._error = error
        if self._chunks.empty():
            self._chunks.put_nowait(None)

    def __aiter__(self) -> "_Feed":
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._chunks.get()
        if self._error is not None:
            raise ConnectionAbortedError("the upload was aborted") from self._error
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
    """Return the first line of an error; obstore appends a dump of its internals."""
    return str(error).partition("\n")[0]


def _unstage(path: Path) -> None:
    """Remove the files `<key>#<number>` that obstore leaves when its process is killed during an upload."""
    for staged in path.parent.glob(f"{path.name}#*"):
        staged.unlink(missing_ok=True)
