"""The life of a server: start the database, construct the parts, listen; and stop all that in reverse order."""

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable

from aiohttp import web
from msgspec import Struct

from actors.persistence import Persistence, WhenIdle
from actors.ports import LogUnavailable
from server import dialects
from server.api.endpoint import within
from server.api.routes import Api
from server.api.services import Services
from server.bootstrap import health
from server.bootstrap.application import build
from server.bootstrap.compose import SENDING_S, compose
from server.bootstrap.database import open_database
from server.settings.sections import BadSetting, Settings
from server.transport.aiohttp_protocol import protocol_factory
from server.transport.connection import Connection, ConnectionLimit
from server.transport.fast_lane import FastLane, fast_routes
from server.v1.table import API

logger = logging.getLogger(__name__)

SHUTDOWN_S = 2.0


class Running(Struct, frozen=True):
    """A running server, reachable at `url`."""

    services: Services
    persistence: Persistence
    url: str


@contextlib.asynccontextmanager
async def running(
    settings: Settings, say: Callable[[str], None] = lambda text: None, apis: tuple[Api, ...] | None = None
) -> AsyncIterator[Running]:
    """Run a server during the block. `apis` replace those of the settings.

    Raise BadSetting or StorageError if it cannot start."""
    apis = apis or (API, *dialects.tables(settings))
    for name in (name for api in apis for name in api.open):
        logger.warning("%s is on: callers are not verified", name)
    async with contextlib.AsyncExitStack() as stack:
        # If the port is in use, fail before a database is created. It is bound again when everything is ready.
        (await bind(settings, asyncio.Protocol, start_serving=False)).close()
        dsn = await open_database(settings, stack, say)
        services, persistence = await compose(settings, dsn, stack)
        app = build(services, persistence, apis)
        runner = app_runner(settings, app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        server = await bind(settings, connections(settings, runner, FastLane(fast_routes(apis, services), services)))
        try:
            yield Running(services, persistence, address(settings, server))
        finally:
            health.drain(app)
            server.close()
            await drain(settings, services, persistence)


def app_runner(settings: Settings, app: web.Application) -> web.AppRunner:
    """Return aiohttp's runner of the application."""
    limits = settings.limits
    return web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # an encoded body is refused; aiohttp would decompress it first in any case
        handler_cancellation=True,
        keepalive_timeout=limits.keepalive_s,
        max_line_size=limits.header_bytes,
        max_field_size=limits.header_bytes,
        shutdown_timeout=SHUTDOWN_S,
    )


def connections(settings: Settings, runner: web.AppRunner, fast: FastLane) -> Callable[[], Connection]:
    """Return a function that makes the first protocol of a connection."""
    make = protocol_factory(runner)
    limits = settings.limits
    limit = ConnectionLimit(limits.connections_per_ip, within(settings.server.trusted_proxies))
    return lambda: Connection(make, fast, limits, limit)


async def bind(
    settings: Settings, protocol: Callable[[], asyncio.Protocol], *, start_serving: bool = True
) -> asyncio.Server:
    """Listen at the address and port of the settings. Raise BadSetting if that fails."""
    host, port = settings.server.host, settings.server.port
    try:
        return await asyncio.get_running_loop().create_server(
            protocol, host, port, backlog=4096, reuse_address=True, start_serving=start_serving
        )
    except OSError as error:
        raise BadSetting(
            f"server.host = {host!r}, server.port = {port}: cannot listen there: {error.strerror or error}. "
            "Choose another port, or stop the process that uses it."
        ) from error


def address(settings: Settings, server: asyncio.Server) -> str:
    """Return the URL of the server."""
    host, bound = settings.server.host, server.sockets[0].getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    return settings.server.public_url.rstrip("/") or f"http://{shown}:{bound}"


async def drain(settings: Settings, services: Services, persistence: Persistence) -> None:
    """End all streams, wait for commits, and passivate every session with a snapshot."""
    services.hub.drain()
    try:
        async with asyncio.timeout(settings.server.drain_s):
            await wait_until_idle(persistence)
            await services.directory.drain()
            await wait_until_idle(persistence)
            await services.dispatcher.drain(SENDING_S)
    except TimeoutError:
        logger.warning("stopping while busy, after %g s; what was acknowledged is stored", settings.server.drain_s)
    with contextlib.suppress(LogUnavailable):
        await services.log.deregister()


async def wait_until_idle(persistence: Persistence) -> None:
    """Wait until everything queued has been written or has failed."""
    reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    persistence.actor_ref.tell(WhenIdle(reply))
    await reply


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Run the server until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, say) as server:
        # Objects that exist now stay, and most later ones are freed by reference counting. Collecting less often makes
        # each command a tenth cheaper.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        say(f"ready at {server.url}")
        await stop.wait()
        say("shutting down")
