"""The generic handlers of what takes its time: blobs, exports and replays.

**Law:** none of it is whole in memory: the next part is made when the one before has gone out. Whoever does not get all
of it can see that.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager

from aiohttp import web

from actors.ports import LogUnavailable
from server.api.endpoint import Endpoint
from server.api.routes import ContentRoute, DownloadRoute
from server.api.sse import stream_end
from server.http.problems import Problem, blob_store_unavailable
from server.http.ranges import window
from server.security.principal import Principal
from server.streams.slots import SlotRevoked, StreamSlot, hold_slot
from storage.blobs import UnknownBlob
from storage.errors import StorageError

WRITE_TIMEOUT_S = 60.0
"""How long the reader of a long answer may read nothing."""


class ContentEndpoint(Endpoint):
    """Serves a `ContentRoute`."""

    _row: ContentRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        services = self._services
        content = await self._row.act(services, await self.call(request))
        part = window({} if content.whole else request.headers, content.size_bytes, content.etag)
        headers = {
            **content.headers,
            "ETag": content.etag,
            "Accept-Ranges": "bytes",
            "Cache-Control": "private, no-cache",
        }
        if part.status == 412:
            raise Problem(412, "changed", "The content is not what `If-Match` says.", headers=headers)
        if part.status == 416:
            headers["Content-Range"] = f"bytes */{content.size_bytes}"
            raise Problem(416, "bad_range", f"The content has {content.size_bytes} bytes.", headers=headers)
        if part.status == 304:
            return web.Response(status=304, headers=headers)
        if part.status == 206:
            headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{content.size_bytes}"
        answer = web.StreamResponse(status=part.status, headers=headers)
        answer.content_type, answer.content_length = content.content_type, part.end - part.start
        if request.method == "HEAD":
            await answer.prepare(request)
            return answer
        return await self._sent(request, answer, services.blobs.read(content.blob_key, part.start, part.end))

    async def _sent(
        self, request: web.Request, answer: web.StreamResponse, chunks: AsyncIterator[bytes]
    ) -> web.StreamResponse:
        try:
            # The first before the headers: a store that is away is a problem, not half an answer.
            chunk: bytes | None = await anext(chunks)
        except UnknownBlob as error:
            raise Problem(404, "not_found", "The content has just been deleted.") from error
        except StorageError as error:
            raise blob_store_unavailable(error) from error
        await answer.prepare(request)
        try:
            while chunk is not None:
                # Waits while the client has not read what went before.
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await answer.write(chunk)
                chunk = await anext(chunks, None)
        except (TimeoutError, StorageError):
            # Less than Content-Length: the client sees that it has not got all.
            if request.transport is not None:
                request.transport.abort()
        finally:
            await aclose(chunks)
        return answer


class LongAnswer(Endpoint):
    """What takes its time, and holds a place among the streams meanwhile."""

    def hold_slot(self, reader: Principal | None, request: web.Request) -> AbstractAsyncContextManager[None]:
        """Hold one of the reader's stream slots while the block runs. Raise Problem 429, 401; SlotRevoked."""
        services = self._services
        limit = services.settings.limits.streams_per_user
        return hold_slot(services.hub, services.tokens, self._slot(reader, request), limit=limit)

    def _slot(self, reader: Principal | None, request: web.Request) -> StreamSlot:
        lifetime_s = self._services.settings.streams.lifetime_s
        if reader is not None:
            return StreamSlot(reader.user_id, reader.login, stream_end(reader, lifetime_s))
        # Nobody is known by a signed URL: its readers are counted by where they are.
        return StreamSlot(self.address(request), "", asyncio.get_running_loop().time() + lifetime_s)


class DownloadEndpoint(LongAnswer):
    _row: DownloadRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        download = await self._row.act(self._services, await self.call(request))
        answer = web.StreamResponse(
            headers={
                "Content-Type": download.content_type,
                "Content-Disposition": f'attachment; filename="{download.filename}"',
                "Cache-Control": "no-store",
            }
        )
        answer.enable_chunked_encoding()
        try:
            async with self.hold_slot(download.reader, request):
                await answer.prepare(request)
                async for part in download.parts:
                    # Waits while the client has not read what went before.
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await answer.write(part)
        except (SlotRevoked, TimeoutError, LogUnavailable):
            # No last chunk: the client sees that it has not got all.
            if request.transport is not None:
                request.transport.abort()
        finally:
            await download.parts.aclose()
        return answer


async def aclose(parts: AsyncIterator[bytes]) -> None:
    if isinstance(parts, AsyncGenerator):
        await parts.aclose()
