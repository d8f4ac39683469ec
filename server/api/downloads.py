"""The handlers for long answers: blobs and exports. Replays (`replay_stream.py`) extend `LongAnswer`.

**Law:** no answer is whole in memory: the next part is produced after the one before was sent. A client that does not
get all of an answer can tell.
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
"""Seconds for which the reader of a long answer may read nothing."""


class ContentEndpoint(Endpoint):
    """Serve a `ContentRoute`."""

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
            # Read the first chunk before the headers are sent: if the store is unavailable, the client gets a problem.
            chunk: bytes | None = await anext(chunks)
        except UnknownBlob as error:
            raise Problem(404, "not_found", "The content has just been deleted.") from error
        except StorageError as error:
            raise blob_store_unavailable(error) from error
        await answer.prepare(request)
        try:
            while chunk is not None:
                # This waits until the client has read enough of the earlier parts.
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await answer.write(chunk)
                chunk = await anext(chunks, None)
        except (TimeoutError, StorageError):
            # The body is shorter than Content-Length, so the client can tell that it is incomplete.
            if request.transport is not None:
                request.transport.abort()
        finally:
            await aclose(chunks)
        return answer


class LongAnswer(Endpoint):
    """Serve an answer that takes long. It counts as one of the reader's streams meanwhile."""

    def hold_slot(self, reader: Principal | None, request: web.Request) -> AbstractAsyncContextManager[None]:
        """Hold one of the reader's stream slots while the block runs. Raise Problem 401, 429, and SlotRevoked inside
        the block."""
        services = self._services
        limit = services.settings.limits.streams_per_user
        return hold_slot(services.hub, services.tokens, self._slot(reader, request), limit=limit)

    def _slot(self, reader: Principal | None, request: web.Request) -> StreamSlot:
        lifetime_s = self._services.settings.streams.lifetime_s
        if reader is not None:
            return StreamSlot(reader.user_id, reader.login, stream_end(reader, lifetime_s))
        # A signed URL does not identify its reader: count by address.
        return StreamSlot(self.address(request), "", asyncio.get_running_loop().time() + lifetime_s)


class DownloadEndpoint(LongAnswer):
    """Serve a `DownloadRoute`."""

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
                    # This waits until the client has read enough of the earlier parts.
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await answer.write(part)
        except (SlotRevoked, TimeoutError, LogUnavailable):
            # The last chunk is missing, so the client can tell that the body is incomplete.
            if request.transport is not None:
                request.transport.abort()
        finally:
            await download.parts.aclose()
        return answer


async def aclose(parts: AsyncIterator[bytes]) -> None:
    """Close `parts` if it is a generator."""
    if isinstance(parts, AsyncGenerator):
        await parts.aclose()
