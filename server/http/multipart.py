"""Multipart bodies, read part by part as they come, and never faster than they are used.

**Law:** whoever sends slower than the least rate is cut off; what the server itself waits for does not count.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from aiohttp import BodyPartReader, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage

from server.http.problems import Problem, unsupported_encoding

T = TypeVar("T")


CHUNK_BYTES = 64 << 10


OVERHEAD_BYTES = 64 << 10
"""What a form may hold besides its file."""


LEADING, LEADING_BYTES = 16, 4 << 10
"""Fields that are read ahead at most, and the bytes of each."""


class Part:
    """A field of a form; to be read before the next."""

    def __init__(self, form: "Form", reader: BodyPartReader) -> None:
        self._form = form
        self._reader = reader
        self.name = reader.name or ""
        self.filename = reader.filename

    def again(self, text: str) -> "Leading":
        """Make the same field of what has been read of it."""
        return Leading(self._form, self._reader, text.encode())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give the content as it comes. Raises: Problem."""
        while chunk := await self._form.paced(self._reader):
            yield chunk

    async def text(self, most_bytes: int) -> str:
        """Read a short field. Raises: Problem 413, 422."""
        raw = bytearray()
        async for chunk in self.chunks():
            raw += chunk
            if len(raw) > most_bytes:
                raise Problem(413, "too_large", f"`{self.name}` is larger than {most_bytes} bytes.", field=self.name)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise Problem(422, "invalid", f"`{self.name}` is not UTF-8.", field=self.name) from error
        if "\0" in text:
            raise Problem(422, "invalid", f"`{self.name}` has a NUL character in it.", field=self.name)
        return text


class Leading(Part):
    """A field that has been read ahead."""

    def __init__(self, form: "Form", reader: BodyPartReader, raw: bytes) -> None:
        super().__init__(form, reader)
        self._raw = raw

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._raw


class Form:
    """A multipart body. `patience_s` is how far behind the least rate a sender may fall."""

    def __init__(self, request: web.Request, *, patience_s: float, min_bytes_per_s: float) -> None:
        self._request = request
        self._patience_s = patience_s
        self._min_bytes_per_s = min_bytes_per_s
        self._received = 0
        self._waited_s = 0.0
        self.length = request.content_length
        self._read = self._parts()
        self._ahead: list[Part] = []

    async def leading(self) -> dict[str, str]:
        """Read the short fields before the first file; they come among the `parts` all the same. Raises: Problem."""
        fields: dict[str, str] = {}
        async for part in self._read:
            self._ahead.append(part)
            if part.filename is not None or len(fields) >= LEADING:
                break
            fields[part.name] = await part.text(LEADING_BYTES)
            self._ahead[-1] = part.again(fields[part.name])
        return fields

    async def parts(self) -> AsyncIterator[Part]:
        """Give the fields in order. Raises: Problem 415, 400, 408."""
        for part in self._ahead:
            yield part
        async for part in self._read:
            yield part

    async def _parts(self) -> AsyncIterator[Part]:
        if self._request.content_type != "multipart/form-data":
            raise Problem(415, "unsupported_type", "Send the body as multipart/form-data.")
        require_unencoded(self._request)
        try:
            reader = await self._request.multipart()
        except ValueError as error:
            raise malformed(error) from error
        while True:
            part = await self._in_time(reader.next())
            if part is None:
                return
            if not isinstance(part, BodyPartReader):
                raise Problem(400, "malformed", "A field holds a multipart body of its own.")
            yield Part(self, part)

    async def paced(self, reader: BodyPartReader) -> bytes:
        chunk = await self._in_time(reader.read_chunk(CHUNK_BYTES))
        self._received += len(chunk)
        return chunk

    async def _in_time(self, reading: Awaitable[T]) -> T:
        loop = asyncio.get_running_loop()
        started = loop.time()
        left = self._patience_s + self._received / self._min_bytes_per_s - self._waited_s
        try:
            async with asyncio.timeout(left):
                return await reading
        except TimeoutError as error:
            slow = f"The body comes slower than {self._min_bytes_per_s:g} bytes a second."
            raise Problem(408, "too_slow", slow, headers={"Connection": "close"}) from error
        except (ValueError, BadHttpMessage) as error:
            raise malformed(error) from error
        finally:
            self._waited_s += loop.time() - started


def require_unencoded(request: web.Request) -> None:
    """Refuse a body that is not what was sent, but something made of it. Raises: Problem 415."""
    encodings = request.headers.getall(hdrs.CONTENT_ENCODING, ["identity"])
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING, ["chunked"])
    names = {name.strip().lower() for name in ",".join([*encodings, *codings]).split(",")}
    if not names <= {"identity", "chunked"}:
        raise unsupported_encoding()


def malformed(error: Exception) -> Problem:
    return Problem(400, "malformed", f"The body is not a form: {error}.", headers={"Connection": "close"})
