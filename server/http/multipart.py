"""Multipart bodies, read part by part as they arrive: nothing is buffered that the reader has not asked for.

**Law:** a client that sends slower than the minimum rate is disconnected. Time in which the server does not read does
not count against the client.
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
"""How much a form may contain besides its file."""
LEADING, LEADING_BYTES = 16, 4 << 10
"""The most fields that are read ahead, and the most bytes of each."""


class Part:
    """A field of a form. Read it before the next one."""

    def __init__(self, form: "Form", reader: BodyPartReader) -> None:
        self._form = form
        self._reader = reader
        self.name = reader.name or ""
        self.filename = reader.filename

    def read_ahead(self, text: str) -> "LeadingPart":
        """Return this field with the content that has already been read from it."""
        return LeadingPart(self._form, self._reader, text.encode())

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the content as it arrives. Raise Problem 400 if the body is malformed, 408 if it is too slow."""
        while chunk := await self._form.read_chunk(self._reader):
            yield chunk

    async def text(self, max_bytes: int) -> str:
        """Return the content of a short field. Raise Problem 413 if it is longer, 422 if it is not text."""
        raw = bytearray()
        async for chunk in self.chunks():
            raw += chunk
            if len(raw) > max_bytes:
                raise Problem(413, "too_large", f"`{self.name}` is larger than {max_bytes} bytes.", field=self.name)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise Problem(422, "invalid", f"`{self.name}` is not UTF-8.", field=self.name) from error
        if "\0" in text:
            raise Problem(422, "invalid", f"`{self.name}` contains a NUL character.", field=self.name)
        return text


class LeadingPart(Part):
    """A field whose content has been read ahead."""

    def __init__(self, form: "Form", reader: BodyPartReader, raw: bytes) -> None:
        super().__init__(form, reader)
        self._raw = raw

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._raw


class Form:
    """A multipart body. `patience_s` is how many seconds a client may fall behind the minimum rate."""

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
        """Return the short fields before the first file. `parts` yields them as well.

        Raise Problem 400, 408, 413, 415 or 422 as `parts` and `Part.text` do."""
        fields: dict[str, str] = {}
        async for part in self._read:
            self._ahead.append(part)
            if part.filename is not None or len(fields) >= LEADING:
                break
            fields[part.name] = await part.text(LEADING_BYTES)
            self._ahead[-1] = part.read_ahead(fields[part.name])
        return fields

    async def parts(self) -> AsyncIterator[Part]:
        """Yield the fields in order.

        Raise Problem 415 if the body is not a form or is compressed, 400 if it is malformed, 408 if it is too slow."""
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
                raise Problem(400, "malformed", "A field contains another multipart body.")
            yield Part(self, part)

    async def read_chunk(self, reader: BodyPartReader) -> bytes:
        """Return the next chunk of a field, empty at its end. Raise Problem 400, 408."""
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
            slow = f"The body arrives slower than {self._min_bytes_per_s:g} bytes a second."
            raise Problem(408, "too_slow", slow, headers={"Connection": "close"}) from error
        except (ValueError, BadHttpMessage) as error:
            raise malformed(error) from error
        finally:
            self._waited_s += loop.time() - started


def require_unencoded(request: web.Request) -> None:
    """Raise Problem 415 if the body is compressed or otherwise encoded."""
    encodings = request.headers.getall(hdrs.CONTENT_ENCODING, ["identity"])
    codings = request.headers.getall(hdrs.TRANSFER_ENCODING, ["chunked"])
    names = {name.strip().lower() for name in ",".join([*encodings, *codings]).split(",")}
    if not names <= {"identity", "chunked"}:
        raise unsupported_encoding()


def malformed(error: Exception) -> Problem:
    """Return problem 400 for a body that is not a form. The connection closes, as its next bytes have no meaning."""
    return Problem(400, "malformed", f"The body is not a form: {error}.", headers={"Connection": "close"})
