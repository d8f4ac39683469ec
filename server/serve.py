"""The composition root: settings → storage → actors → application; and the way back down."""

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web
from msgspec import Struct

from actors.directory import Directory
from actors.persistence import Idle, LogUnavailable, Persistence
from actors.runtime import Deferred
from actors.session.commands import ReportRecording
from actors.session.ids import Millis, SessionId
from actors.session_actor import SYSTEM, Execute, SessionActor, Shared, Unavailable
from server import dialects, health, issuers, metrics
from server.actions import now_millis
from server.app import Protocol, build
from server.audio import sweeping
from server.auth import Tickets, Tokens, new_id
from server.background import Work, beating, going_on, tidying
from server.config import BadSetting, Settings
from server.endpoint import within
from server.fast import FastLane, lanes
from server.forms import Places
from server.front import KEEPALIVE_S, Front
from server.guests import OUTLIVES_S
from server.hub import Hub
from server.limits import Rate
from server.logs import RequestLog
from server.notifications import UserStreams
from server.outbox import Dispatcher
from server.outward import Outward
from server.passwords import Passwords
from server.push.fcm import Fcm
from server.push.invitations import Invitations
from server.push.messages import Push
from server.push.none import NoPush
from server.push.oauth import AccessTokens, read_account
from server.rooms.builtin import Builtin
from server.rooms.daily import Daily
from server.rooms.errands import Errands
from server.rooms.inbox import KEPT_S, Ears
from server.rooms.keeper import Keeper
from server.rooms.providers import Provider
from server.routes import Api
from server.sealing import Seal
from server.services import Refs, Services
from server.signing import SignedUrls
from server.v1.table import API
from server.v1.webhooks import SENT, payload
from server.webhooks import Hooks, Wanted, WebhookSender
from storage import embedded, migrate
from storage.audio import Library
from storage.blobs import Blobs, BlobsUnavailable
from storage.bookings import Bookings
from storage.creations import Creations
from storage.devices import Devices
from storage.embedded import Embedded
from storage.endpoints import Endpoints
from storage.errors import StorageError
from storage.event_log import PREPARE, PostgresEventLog
from storage.inbox import Inbox
from storage.logs import Logs
from storage.notifications import Notifications
from storage.outbox import Outbox
from storage.pool import Pool, Writer
from storage.records import Records
from storage.rooms import RoomLedger
from storage.sessions import Sessions
from storage.users import Users

logger = logging.getLogger(__name__)

WATCH_S = 0.5
OUTBOX_CONNECTIONS = 2
SENDING_S = 1.0
"""How long attempts under way at a stop may take; what is cut off is sent again."""
SHUTDOWN_S = 2.0


class Running(Struct, frozen=True):
    """A server that is up. `url` is where it answers."""

    services: Services
    url: str


@contextlib.asynccontextmanager
async def running(
    settings: Settings, say: Callable[[str], None] = lambda text: None, apis: tuple[Api, ...] | None = None
) -> AsyncIterator[Running]:
    """Start everything, and stop it in the opposite order when the block ends. `apis`: others than the settings'.

    Raises: BadSetting, storage.errors.StorageError."""
    apis = apis or (API, *dialects.tables(settings))
    for name in (name for api in apis for name in api.open):
        logger.warning("%s is on: whoever can reach this server is believed", name)
    async with contextlib.AsyncExitStack() as stack:
        dsn = await database(settings, stack, say)
        services, persistence = await compose(settings, dsn, stack)
        app = build(services, apis)
        runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=settings.limits.header_bytes,
            max_field_size=settings.limits.header_bytes,
            shutdown_timeout=SHUTDOWN_S,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        server, url = await listen(settings, runner, FastLane(lanes(apis, services), services))
        try:
            yield Running(services, url)
        finally:
            health.drain(app)
            server.close()
            await drain(settings, services, persistence)


async def database(settings: Settings, stack: contextlib.AsyncExitStack, say: Callable[[str], None]) -> str:
    """Bring up the database and its schema; give its DSN."""
    dsn = settings.database.dsn.reveal()
    if not dsn:
        directory = Path(settings.data.dir)
        say(f"starting PostgreSQL in {directory}")
        postgres = await asyncio.to_thread(embedded.start, directory)
        stack.push_async_callback(asyncio.to_thread, postgres.stop)
        begun(stack, {"looking after PostgreSQL": lambda: watching(postgres)})
        dsn = postgres.dsn
    for name in await asyncio.to_thread(migrate.apply, dsn):
        say(f"applied migration {name}")
    return dsn


async def compose(settings: Settings, dsn: str, stack: contextlib.AsyncExitStack) -> tuple[Services, Persistence]:
    """Put the parts together."""
    database = settings.database
    timeouts = {
        "connect_timeout_s": database.connect_timeout_s,
        "statement_timeout_s": database.statement_timeout_s,
    }
    pool = await Pool.open(dsn, size=database.pool_size, **timeouts)
    stack.push_async_callback(pool.close)
    writer = Writer(dsn, PREPARE, **timeouts)
    stack.push_async_callback(writer.close)
    key = signing_key(settings)
    dispatcher, invitations, hooks = await dispatching(settings, dsn, key, stack)
    log = PostgresEventLog(pool, writer, f"{socket.gethostname()}:{new_id()}", noticed=dispatcher.wake)
    users, sessions, creations = Users(pool), Sessions(pool), Creations(pool)
    library, blobs = Library(pool), await blob_store(settings)

    registry = metrics.registry()
    persistence = Persistence(
        log,
        batch_rows=settings.commit.batch_rows,
        batch_bytes=settings.commit.batch_bytes,
        queue_rows=settings.limits.log_queue_rows,
        observe=metrics.Commits(registry),
    )
    persistence.begin()
    hub = Hub(settings.streams, streams_per_user=settings.limits.streams_per_user, clock=now_millis)
    notifications = Notifications(pool)
    user_streams = UserStreams(notifications, look_s=settings.streams.notifications_look_s)

    def shared(stopped: Callable[[SessionActor], None]) -> Shared:
        return Shared(
            persistence=persistence.actor_ref,
            deferred=Deferred(),
            full=lambda: persistence.full,
            clock=now_millis,
            stopped=stopped,
            snapshot_events=settings.sessions.snapshot_events,
            snapshot_ms=settings.sessions.snapshot_s * 1000,
            commands_per_s=settings.limits.session_commands_per_s,
            told=user_streams.told,
            pass_on=lambda session_id, room, event: errands.send(session_id, room, event),
            wanted=hooks.wanted,
        )

    directory = Directory(
        log,
        channel=hub.channel,
        release=hub.forget,
        shared=shared,
        mailbox=settings.limits.mailbox,
        passivate_after_s=settings.sessions.passivate_after_s,
    )
    hub.tell = directory.tell

    async def report(session_id: SessionId, command: ReportRecording) -> bool:
        """Tell a session what a provider says of a recording; False: it could not listen now."""
        reply = asyncio.get_running_loop().create_future()
        outcome = await directory.ask(session_id, Execute(command, SYSTEM, reply))
        return not isinstance(outcome, Unavailable)

    tokens = Tokens(
        key,
        issuer=settings.auth.issuer,
        audience=settings.auth.audience,
        ttl_s=settings.auth.access_ttl_s,
        scoped_ttl_s=max(
            settings.auth.session_token_ttl_s,
            settings.rooms.token_ttl_s,
            settings.dialects.interview.ttl_s + OUTLIVES_S,
        ),
    )
    ledger = RoomLedger(pool)
    rooms = Keeper(ledger, await room_providers(settings, tokens, stack), settings.rooms)
    errands = Errands(rooms, report)
    stack.push_async_callback(errands.finish, SENDING_S)
    inbox = Inbox(pool)
    ears = Ears(inbox, ledger, settings.rooms.daily_webhook_secret.reveal(), report)
    for login, until in await users.revoked(tokens.longest_s):
        tokens.revoke(login, until)
    if settings.auth.issuers:
        tokens.elsewhere = await issuers.opened(settings.auth, users, tokens, stack)
    passwords = Passwords(settings.auth)
    stack.callback(passwords.close)
    limits = settings.limits
    services = Services(
        settings=settings,
        requests=RequestLog(settings.server.log_level),
        directory=directory,
        hub=hub,
        log=log,
        sessions=sessions,
        bookings=Bookings(pool),
        creations=creations,
        records=Records(pool),
        logs=Logs(pool),
        users=users,
        refs=Refs(sessions),
        tokens=tokens,
        tickets=Tickets(settings.auth.ticket_ttl_s),
        urls=SignedUrls(key, ttl_s=settings.recordings.url_ttl_s),
        passwords=passwords,
        registry=registry,
        commands=Rate(limits.user_commands_per_s, limits.user_burst),
        attempts=Rate(settings.auth.login_attempts_per_minute / 60, settings.auth.login_attempts_per_minute),
        addresses=Rate(settings.auth.address_attempts_per_minute / 60, settings.auth.address_attempts_per_minute),
        joins=Rate(limits.join_attempts_per_minute / 60, limits.join_attempts_per_minute),
        guests=Rate(limits.guests_per_minute / 60, limits.guests_per_minute),
        audio=library,
        blobs=blobs,
        uploads=Places(per_user=settings.audio.uploads_per_user, total=settings.audio.uploads),
        audio_urls=SignedUrls(key, ttl_s=settings.audio.url_ttl_s),
        dispatcher=dispatcher,
        hooks=hooks,
        devices=Devices(pool),
        invitations=invitations,
        user_streams=user_streams,
        rooms=rooms,
        ears=ears,
        ledger=ledger,
    )
    registry.register(metrics.Live(services, persistence))
    await log.beat()
    forgetting = (
        lambda: log.forget_keys(Millis(now_millis() - settings.sessions.idempotency_ttl_s * 1000)),
        partial(creations.forget, settings.sessions.idempotency_ttl_s), users.forget_logins, users.forget_guests,
        notifications.forget, partial(inbox.forget, KEPT_S),
    )  # fmt: skip
    begun(stack, {
        "looking after sessions": directory.run,
        "heartbeats of streams": hub.beat,
        "saying that this process is alive": partial(beating, log),
        "tidying up": partial(tidying, *forgetting),
        "sweeping blobs": partial(sweeping, library, blobs),
        "the outbox": dispatcher.run,
        "reading what webhooks want": hooks.wanted.run,
        "feeding users' streams": user_streams.feed,
        "looking for users' notifications": user_streams.look,
        "deleting rooms": rooms.sweep,
        "dealing with Daily's events": ears.listen,
    })  # fmt: skip
    return services, persistence


def begun(stack: contextlib.AsyncExitStack, works: Mapping[str, Work]) -> None:
    """Begin what goes on until the stack is left."""
    for name, work in works.items():
        stack.push_async_callback(cancelled, asyncio.create_task(going_on(name, work)))


async def dispatching(
    settings: Settings, dsn: str, key: str, stack: contextlib.AsyncExitStack
) -> tuple[Dispatcher, Invitations, Hooks]:
    """Make what sends the outbox's rows. It has connections of its own: nobody waits for one because of it."""
    database, outbox = settings.database, settings.outbox
    pool = await Pool.open(
        dsn,
        size=OUTBOX_CONNECTIONS,
        connect_timeout_s=database.connect_timeout_s,
        statement_timeout_s=database.statement_timeout_s,
    )
    stack.push_async_callback(pool.close)
    rows = Outbox(
        pool,
        lease_s=outbox.attempt_s + outbox.margin_s,
        per_target=outbox.per_target,
        pause_after=outbox.pause_after,
        pause_s=outbox.pause_s,
    )
    invitations = Invitations(await push_provider(settings, stack), Devices(pool), Users(pool))
    hooks = await webhooks(settings, rows, pool, key, stack)
    return Dispatcher(rows, {"push": invitations, "webhook": hooks.sender}, outbox, now_millis), invitations, hooks


async def webhooks(settings: Settings, rows: Outbox, pool: Pool, key: str, stack: contextlib.AsyncExitStack) -> Hooks:
    chosen, seal, endpoints = settings.webhooks, Seal(key), Endpoints(pool)
    outward = Outward(
        nameservers=chosen.nameservers,
        dns_timeout_s=chosen.dns_timeout_s,
        allow_private=chosen.allow_private,
        allow_http=chosen.allow_http,
    )
    stack.push_async_callback(outward.close)
    sender = WebhookSender(
        endpoints, outward, seal, payload, attempt_s=settings.outbox.attempt_s, answer_bytes=chosen.answer_bytes
    )
    wanted = Wanted(endpoints, SENT, chosen.reread_s)
    await wanted.read()
    probes = Rate(chosen.probes_per_minute / 60, chosen.probes_per_minute)
    return Hooks(endpoints, rows, outward, seal, wanted, sender, probes)


async def push_provider(settings: Settings, stack: contextlib.AsyncExitStack) -> Push:
    """Make what brings messages to devices. Raises: BadSetting."""
    chosen = settings.push
    if chosen.provider == "none":
        return NoPush()
    if not chosen.fcm_key_file:
        raise BadSetting('push.fcm_key_file = "": with push.provider = "fcm" it must name a key file')
    try:
        account = await asyncio.to_thread(read_account, Path(chosen.fcm_key_file))
    except ValueError as error:
        raise BadSetting(f"push.fcm_key_file = {chosen.fcm_key_file!r}: {error}") from error
    timeout = aiohttp.ClientTimeout(total=chosen.timeout_s)
    http = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
    tokens = AccessTokens(account, http, url=chosen.fcm_token_url)
    return Fcm(http, tokens, url=chosen.fcm_url, project_id=account.project_id)


async def room_providers(
    settings: Settings, tokens: Tokens, stack: contextlib.AsyncExitStack
) -> Mapping[str, Provider]:
    """Make who makes rooms, and those who made them before and are still set up. Raises: BadSetting."""
    chosen = settings.rooms
    providers: dict[str, Provider] = {"builtin": Builtin(tokens, settings.server.public_url)}
    if chosen.daily_api_key:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        providers["daily"] = Daily(
            http,
            url=chosen.daily_api_url,
            key=chosen.daily_api_key.reveal(),
            timeout_s=chosen.timeout_s,
            tries=chosen.tries,
            pause_s=chosen.pause_s,
            patience_s=chosen.patience_s,
        )
    elif chosen.provider == "daily":
        raise BadSetting('rooms.daily_api_key = "": with rooms.provider = "daily" it must be the key of an account')
    return providers


async def blob_store(settings: Settings) -> Blobs:
    """Open the store of uploads, and see that it takes them. Raises: BadSetting."""
    chosen = settings.blobs
    if chosen.store == "s3":
        if not chosen.s3_bucket:
            raise BadSetting('blobs.s3_bucket = "": with blobs.store = "s3" it must name a bucket')
        blobs = Blobs.s3(
            chosen.s3_bucket,
            endpoint=chosen.s3_endpoint,
            region=chosen.s3_region,
            access_key=chosen.s3_access_key.reveal(),
            secret_key=chosen.s3_secret_key.reveal(),
            path_style=chosen.s3_path_style,
        )
        where = f"blobs.s3_bucket = {chosen.s3_bucket!r}"
    else:
        where = f"data.dir = {settings.data.dir!r}"
        try:
            blobs = Blobs.local(Path(settings.data.dir) / "blobs")
        except OSError as error:
            raise BadSetting(f"{where}: uploads cannot be kept there: {error}") from error
    try:
        await blobs.probe()
    except BlobsUnavailable as error:
        raise BadSetting(f"{where}: uploads cannot be kept there: {error}") from error
    return blobs


def signing_key(settings: Settings) -> str:
    """Give the key that signs tokens: the settings' own, or one that is made once and kept beside the data."""
    if settings.auth.signing_key:
        return settings.auth.signing_key.reveal()
    path = Path(settings.data.dir) / "signing.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    except OSError as error:
        raise BadSetting(f"data.dir = {settings.data.dir!r}: the signing key cannot be kept there: {error}") from error
    key = path.read_text().strip()
    if len(key) < 32:
        raise BadSetting(f"{path} holds no key; delete it to have a new one made, which logs everybody out")
    return key


async def listen(settings: Settings, runner: web.AppRunner, fast: FastLane) -> tuple[asyncio.Server, str]:
    host, port = settings.server.host, settings.server.port
    counts: Counter[str] = Counter()
    trusted = within(settings.server.trusted_proxies)
    inner = runner.server
    assert inner is not None

    def make() -> Protocol:
        # As aiohttp's Server does, but for the class; there is no setting for it.
        return Protocol(inner, loop=asyncio.get_running_loop(), **inner._kwargs)

    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: Front(make, fast, settings.limits, counts, trusted), host, port, backlog=4096, reuse_address=True
        )
    except OSError as error:
        raise BadSetting(
            f"server.host = {host!r}, server.port = {port}: cannot listen there: {error.strerror or error}. "
            "Choose another port, or stop what uses it."
        ) from error
    bound = server.sockets[0].getsockname()[1]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    shown = f"[{shown}]" if ":" in shown else shown
    return server, settings.server.public_url.rstrip("/") or f"http://{shown}:{bound}"


async def drain(settings: Settings, services: Services, persistence: Persistence) -> None:
    """Send streams away, let commits finish, and let every session go with a snapshot."""
    services.hub.drain()
    try:
        async with asyncio.timeout(settings.server.drain_s):
            await idle(persistence)
            await services.directory.drain()
            await idle(persistence)
            await services.dispatcher.drain(SENDING_S)
    except TimeoutError:
        logger.warning("still busy after %g s: what was acknowledged is in the log", settings.server.drain_s)
    with contextlib.suppress(LogUnavailable):
        await services.log.bury()


async def idle(persistence: Persistence) -> None:
    reply: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    persistence.actor_ref.tell(Idle(reply))
    await reply


async def watching(postgres: Embedded) -> None:
    """Start the embedded PostgreSQL again when it ends by itself; everything else waits for it as for any restart."""
    while True:
        await asyncio.sleep(WATCH_S)
        if postgres.died:
            logger.error("PostgreSQL has ended by itself; starting it again")
            try:
                await asyncio.to_thread(postgres.revive)
            except StorageError:
                logger.exception("PostgreSQL did not start; trying again")


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, say) as server:
        # What is there now stays; what comes is mostly freed by counting. Looking for cycles less often takes a
        # tenth off each command.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        say(f"ready at {server.url}")
        await stop.wait()
        say("shutting down")
