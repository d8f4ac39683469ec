"""`homeroom demo`: the server, and a class that plays itself for whoever opens the link."""

import asyncio
import contextlib
import signal
from collections.abc import Callable

import aiohttp
from msgspec.structs import replace

from server.bootstrap.lifecycle import running
from server.demo.classes import play
from server.demo.people import Refused
from server.settings.sections import Settings


async def demo(settings: Settings, say: Callable[[str], None]) -> int:
    """Serve, and play classes until SIGTERM or SIGINT; give the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(quiet(settings), say) as server:
        shown = settings.server.public_url.rstrip("/") or server.url
        say(f"ready at {shown}; Ctrl-C stops")
        playing = asyncio.create_task(play(server.url, shown, say))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        say("shutting down")
        playing.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await playing
        except (Refused, aiohttp.ClientError, TimeoutError) as error:
            say(f"the class could not go on: {error}")
            return 1
    return 0


def quiet(settings: Settings) -> Settings:
    """Leave the terminal to the links: no line per request; and let the cast call the server itself, not its proxy."""
    level = "warning" if settings.server.log_level == "info" else settings.server.log_level
    return replace(settings, server=replace(settings.server, public_url="", log_level=level))
