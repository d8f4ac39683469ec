"""The composition root: settings and a database in, all the parts out, put together and at work.

**Law:** what is begun here ends when the stack is left, in the opposite order.
"""

import contextlib
import socket
from collections.abc import Mapping
from functools import partial

from actors.directory import Directory
from actors.messages import SYSTEM, Execute, Unavailable
from actors.persistence import Persistence
from actors.runtime import LoopScheduler
from actors.session.commands import ReportRecording
from actors.session.ids import Millis, SessionId
from actors.shared import Shared
from actors.snapshots import SnapshotLimits
from server.api.services import Services
from server.bootstrap import metrics
from server.bootstrap.background import Work, heartbeat, purge, start_all
from server.bootstrap.providers import blob_store, push_provider, room_providers
from server.bootstrap.signing_key import signing_key
from server.http.access_log import RequestLog
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.outbound.dispatcher import Dispatcher
from server.outbound.public_http import PublicHttpClient
from server.outbound.push.invitations import Invitations
from server.outbound.secret_rotation import reencrypt
from server.outbound.webhooks import EventSubscriptions, Webhooks, WebhookSender
from server.rooms.daily_webhooks import INBOX_KEPT_S, DailyWebhooks
from server.rooms.provisioning import RoomProvisioner
from server.rooms.recording_poll import RecordingPoller
from server.rooms.relay import ProviderRelay
from server.security import issuers
from server.security.passwords import Passwords
from server.security.rate_limit import Rate
from server.security.secret_box import SecretBox
from server.security.signed_urls import UrlSigner
from server.security.tickets import Tickets
from server.security.tokens import Tokens
from server.security.upload_slots import UploadSlots
from server.settings.sections import Settings
from server.streams.hub import Hub
from server.streams.notification_feed import NotificationFeed
from server.usecases.audio.upload import sweeping
from server.usecases.guest_identity import OUTLIVES_S
from server.usecases.session_lookup import SessionLookup
from server.v1.webhooks import SENT, payload
from storage.audio import Library
from storage.bookings import Bookings
from storage.creations import Creations
from storage.devices import Devices
from storage.endpoints import Endpoints
from storage.inbox import Inbox
from storage.log.event_log import PREPARE, PostgresEventLog
from storage.log.history import Records
from storage.log.seeds_log import Logs
from storage.notifications import PAGE, Notifications
from storage.outbox import Outbox
from storage.pool import Pool, Writer
from storage.rooms import RoomLedger
from storage.sessions import Sessions
from storage.users import Users

OUTBOX_CONNECTIONS = 2
SENDING_S = 1.0
"""How long attempts under way at a stop may take; what is cut off is sent again."""
READ_BURST_S = 10
"""Reads of so many seconds may come at once."""


async def compose(settings: Settings, dsn: str, stack: contextlib.AsyncExitStack) -> tuple[Services, Persistence]:
    """Put the parts together. Raises: BadSetting, storage.errors.StorageError."""
    pool = await opened(settings, dsn, settings.database.pool_size, stack)
    writer = Writer(dsn, PREPARE, **timeouts(settings))
    stack.push_async_callback(writer.close)
    key = signing_key(settings)
    dispatcher, invitations, hooks = await dispatching(settings, dsn, key, stack)
    log = PostgresEventLog(pool, writer, f"{socket.gethostname()}:{new_id()}", on_outbox=dispatcher.wake)
    users, sessions = Users(pool), Sessions(pool)
    library, blobs = Library(pool), await blob_store(settings)

    registry = metrics.new_registry()
    persistence = committing(settings, log, metrics.CommitMetrics(registry))
    hub = Hub(settings.streams, streams_per_user=settings.limits.streams_per_user, clock=now_millis)
    notifications = Notifications(pool)
    user_streams = NotificationFeed(notifications, page=PAGE, poll_s=settings.streams.notifications_look_s)

    tokens = await verifying(settings, key, users, stack)
    ledger = RoomLedger(pool)
    rooms = RoomProvisioner(ledger, await room_providers(settings, tokens, stack), settings.rooms)
    relay = ProviderRelay(rooms)
    stack.push_async_callback(relay.finish, SENDING_S)

    shared = Shared(
        persistence=persistence.actor_ref,
        scheduler=LoopScheduler(),
        log_behind=lambda: persistence.full,
        clock=now_millis,
        snapshots=SnapshotLimits(settings.sessions.snapshot_events, settings.sessions.snapshot_s * 1000),
        commands_per_s=settings.limits.session_commands_per_s,
        webhook_types=hooks.wanted,
        notify=user_streams.notify,
        on_room_event=relay.send,
    )

    directory = Directory(
        log,
        channel=hub.channel,
        release=hub.forget,
        shared=shared,
        mailbox=settings.limits.mailbox,
        passivate_after_s=settings.sessions.passivate_after_s,
    )

    async def report(session_id: SessionId, command: ReportRecording) -> bool:
        """Report a recording to its session. Return whether the session accepted it; if not, try again later."""
        outcome = await directory.ask(session_id, Execute(command, SYSTEM))
        return not isinstance(outcome, Unavailable)

    inbox = Inbox(pool)
    daily_webhooks = DailyWebhooks(inbox, ledger, settings.rooms.daily_webhook_secret.reveal(), report)
    passwords = Passwords(settings.auth)
    stack.callback(passwords.close)
    auth, limits = settings.auth, settings.limits
    services = Services(
        settings=settings,
        requests=RequestLog(settings.server.log_level),
        directory=directory,
        hub=hub,
        log=log,
        sessions=sessions,
        bookings=Bookings(pool),
        creations=Creations(pool),
        records=Records(pool),
        logs=Logs(pool),
        users=users,
        session_lookup=SessionLookup(sessions),
        tokens=tokens,
        tickets=Tickets(auth.ticket_ttl_s),
        urls=UrlSigner(key, ttl_s=settings.recordings.url_ttl_s),
        passwords=passwords,
        registry=registry,
        commands=Rate(limits.user_commands_per_s, limits.user_burst),
        reads=Rate(limits.user_reads_per_s, limits.user_reads_per_s * READ_BURST_S),
        address_reads=Rate(limits.address_reads_per_s, limits.address_reads_per_s * READ_BURST_S),
        attempts=per_minute(auth.login_attempts_per_minute),
        addresses=per_minute(auth.address_attempts_per_minute),
        joins=per_minute(limits.join_attempts_per_minute),
        guests=per_minute(limits.guests_per_minute),
        audio=library,
        blobs=blobs,
        uploads=UploadSlots(per_user=settings.audio.uploads_per_user, total=settings.audio.uploads),
        audio_urls=UrlSigner(key, ttl_s=settings.audio.url_ttl_s),
        dispatcher=dispatcher,
        webhooks=hooks,
        devices=Devices(pool),
        invitations=invitations,
        user_streams=user_streams,
        rooms=rooms,
        daily_webhooks=daily_webhooks,
        recording_poller=RecordingPoller(rooms, report, settings.rooms.overdue_s, now_millis),
        ledger=ledger,
    )
    registry.register(metrics.LiveMetrics(services, persistence, pool))
    await log.heartbeat()
    failures = {"reporting recordings that could not be started": partial(relay.report_failures, report)}
    start_all(stack, {**works(services, notifications, inbox), **failures})
    return services, persistence


def committing(settings: Settings, log: PostgresEventLog, observe: metrics.CommitMetrics) -> Persistence:
    persistence = Persistence(
        log,
        commit_rows=settings.commit.batch_rows,
        commit_bytes=settings.commit.batch_bytes,
        queue_rows=settings.limits.log_queue_rows,
        observe=observe,
    )
    return persistence.begin()


def works(services: Services, notifications: Notifications, inbox: Inbox) -> Mapping[str, Work]:
    """Return the background work of a server, by name."""
    log, users, keys_kept_s = services.log, services.users, services.settings.sessions.idempotency_ttl_s
    forgetting = (
        lambda: log.forget_keys(Millis(now_millis() - keys_kept_s * 1000)),
        partial(services.creations.forget, keys_kept_s), users.forget_logins, users.forget_guests,
        notifications.forget, partial(inbox.forget, INBOX_KEPT_S),
    )  # fmt: skip
    return {
        "looking after sessions": services.directory.run,
        "heartbeats of streams": services.hub.heartbeat,
        "saying that this process is alive": partial(heartbeat, log),
        "tidying up": partial(purge, *forgetting),
        "sweeping blobs": partial(sweeping, services.audio, services.blobs),
        "the outbox": services.dispatcher.run,
        "reading what webhooks want": services.webhooks.wanted.run,
        "feeding users' streams": services.user_streams.feed,
        "looking for users' notifications": services.user_streams.poll,
        "deleting rooms": services.rooms.sweep,
        "dealing with Daily's events": services.daily_webhooks.process,
    }


def timeouts(settings: Settings) -> Mapping[str, float]:
    """Give those of every connection to the database."""
    database = settings.database
    return {
        "connect_timeout_s": database.connect_timeout_s,
        "statement_timeout_s": database.statement_timeout_s,
    }


async def opened(settings: Settings, dsn: str, size: int, stack: contextlib.AsyncExitStack) -> Pool:
    pool = await Pool.open(dsn, size=size, **timeouts(settings))
    stack.push_async_callback(pool.close)
    return pool


def per_minute(count: int) -> Rate:
    """So many a minute for each key, all at once if they like."""
    return Rate(count / 60, count)


async def verifying(settings: Settings, key: str, users: Users, stack: contextlib.AsyncExitStack) -> Tokens:
    """Make what issues and verifies tokens; it knows of the logins that are over."""
    auth = settings.auth
    tokens = Tokens(
        key,
        issuer=auth.issuer,
        audience=auth.audience,
        ttl_s=auth.access_ttl_s,
        scoped_ttl_s=max(
            auth.session_token_ttl_s,
            settings.rooms.token_ttl_s,
            settings.dialects.interview.ttl_s + OUTLIVES_S,
            # No token, but good for as long as its login is.
            settings.audio.url_ttl_s,
        ),
    )
    for login, until in await users.revoked(tokens.longest_s):
        tokens.revoke(login, until)
    if auth.issuers:
        tokens.external = await issuers.open_issuers(auth, users, tokens, stack)
    return tokens


async def dispatching(
    settings: Settings, dsn: str, key: str, stack: contextlib.AsyncExitStack
) -> tuple[Dispatcher, Invitations, Webhooks]:
    """Make what sends the outbox's rows. It has connections of its own: nobody waits for one because of it."""
    outbox = settings.outbox
    pool = await opened(settings, dsn, OUTBOX_CONNECTIONS, stack)
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


async def webhooks(
    settings: Settings, rows: Outbox, pool: Pool, key: str, stack: contextlib.AsyncExitStack
) -> Webhooks:
    chosen, endpoints = settings.webhooks, Endpoints(pool)
    secret_box = SecretBox(key, settings.auth.earlier_signing_keys.lines())
    outward = PublicHttpClient(
        nameservers=chosen.nameservers,
        dns_timeout_s=chosen.dns_timeout_s,
        allow_private=chosen.allow_private,
        allow_http=chosen.allow_http,
    )
    stack.push_async_callback(outward.close)
    sender = WebhookSender(
        endpoints, outward, secret_box, payload, attempt_s=settings.outbox.attempt_s, answer_bytes=chosen.answer_bytes
    )
    wanted = EventSubscriptions(endpoints, SENT, chosen.reread_s)
    await wanted.read()
    if settings.auth.earlier_signing_keys:
        await reencrypt(endpoints, secret_box)
    return Webhooks(endpoints, rows, outward, secret_box, wanted, sender, probes=per_minute(chosen.probes_per_minute))
