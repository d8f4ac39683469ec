"""The handler for replays: the SSE of a session's past events."""

import asyncio
import contextlib

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from actors.ports import LogUnavailable
from server.api.downloads import WRITE_TIMEOUT_S, LongAnswer
from server.api.routes import ReplayRoute
from server.streams.format import RETRY_MS
from server.streams.slots import SlotRevoked


class ReplayEndpoint(LongAnswer):
    """Serve a `ReplayRoute`."""

    _row: ReplayRoute

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        playing = await self._row.play(self._services, await self.call(request))
        answer = EventSourceResponse(
            sep="\n", send_timeout=WRITE_TIMEOUT_S, ping_interval=self._services.settings.streams.heartbeat_s
        )
        try:
            async with self.hold_slot(playing.reader, request):
                await answer.prepare(request)
                async with answer:
                    async for frame in playing.frames:
                        async with asyncio.timeout(WRITE_TIMEOUT_S):
                            await answer.write(frame)
        except SlotRevoked as cut:
            with contextlib.suppress(ConnectionError):
                await answer.write(self._row.format.bye(cut.reason, RETRY_MS[cut.reason]))
        except (TimeoutError, LogUnavailable):
            if request.transport is not None:
                request.transport.abort()
        finally:
            await playing.frames.aclose()
        return answer
