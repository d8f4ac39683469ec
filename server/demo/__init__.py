"""`homeroom demo`: the server, with classes that play themselves and that anyone with the link can join."""

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
    """Run the server and play classes until SIGTERM or SIGINT. Return the exit status."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(quiet(settings), say) as server:
        public_url = settings.server.public_url.rstrip("/") or server.url
        say(f"ready at {public_url}; press Ctrl-C to stop")
        playing = asyncio.create_task(play(server.url, public_url, say))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((playing, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        say("shutting down")
        playing.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await playing
        except (Refused, aiohttp.ClientError, TimeoutError) as error:
            say(f"the class could not continue: {error}")
            return 1
    return 0


def quiet(settings: Settings) -> Settings:
    """Return settings without a log line per request, and with which the cast calls the server and not its proxy."""
    level = "warning" if settings.server.log_level == "info" else settings.server.log_level
    return replace(settings, server=replace(settings.server, public_url="", log_level=level))
