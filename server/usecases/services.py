"""What handlers work with: everything the composition root has put together, in one place."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct
from prometheus_client import CollectorRegistry

from actors.directory import Directory
from actors.messages import ReadState, Snapshot
from actors.session.access import Ask, may, refusal
from actors.session.errors import Rejected
from actors.session.ids import SessionId
from actors.session.permissions import require_current
from actors.session.state import State
from server.http.access_log import RequestLog
from server.http.problems import problem_of, unknown_session
from server.outbound.dispatcher import Dispatcher
from server.outbound.push.invitations import Invitations
from server.outbound.webhooks import Webhooks
from server.rooms.daily_webhooks import DailyWebhooks
from server.rooms.provisioning import RoomProvisioner
from server.rooms.recording_poll import RecordingPoller
from server.security.passwords import Passwords
from server.security.principal import Principal
from server.security.rate_limit import Rate
from server.security.signed_urls import UrlSigner
from server.security.tickets import Tickets
from server.security.tokens import Tokens
from server.security.upload_slots import UploadSlots
from server.settings.sections import Settings
from server.streams.hub import Hub
from server.streams.notification_feed import NotificationFeed
from server.usecases.session_lookup import SessionLookup
from storage.audio import Library
from storage.blobs import Blobs
from storage.bookings import Bookings
from storage.creations import Creations
from storage.devices import Devices
from storage.log.event_log import PostgresEventLog
from storage.log.history import Records
from storage.log.seeds_log import Logs
from storage.notifications import NotificationState, StoredNotification
from storage.rooms import RoomLedger
from storage.sessions import SessionMembership, Sessions
from storage.users import Users


class Services(Struct, frozen=True):
    settings: Settings
    requests: RequestLog
    directory: Directory
    hub: Hub
    log: PostgresEventLog
    sessions: Sessions
    bookings: Bookings
    creations: Creations
    records: Records
    logs: Logs
    """Classrooms' logs, by numbers."""
    users: Users
    session_lookup: SessionLookup
    tokens: Tokens
    tickets: Tickets
    urls: UrlSigner
    """To recordings."""
    passwords: Passwords
    registry: CollectorRegistry
    commands: Rate
    """Per user."""
    reads: Rate
    """Per user."""
    address_reads: Rate
    """Per address, of who has no credential."""
    attempts: Rate
    """At logging in: per account."""
    addresses: Rate
    """At logging in and registering: per address, behind which a whole school may be."""
    joins: Rate
    """With a code that leads nowhere: per user, and per address of who has no account."""
    guests: Rate
    """Per address."""
    audio: Library
    blobs: Blobs
    uploads: UploadSlots
    audio_urls: UrlSigner
    """To pieces of audio."""
    dispatcher: Dispatcher
    webhooks: Webhooks
    devices: Devices
    invitations: Invitations
    user_streams: NotificationFeed[StoredNotification, NotificationState]
    rooms: RoomProvisioner
    daily_webhooks: DailyWebhooks
    recording_poller: RecordingPoller
    """What providers of rooms say."""
    ledger: RoomLedger

    async def look(self, session_id: SessionId, ref: str, view: Callable[[State], Any]) -> Any:
        """Give what `view` makes of a session's state: it takes what it needs and keeps nothing.

        Raises: Problem, and what `view` raises, which does not end the session's actor."""

        def seen(state: State) -> tuple[Any, Exception | None]:
            try:
                return view(state), None
            except Exception as error:  # noqa: BLE001 - raised below
                return None, error

        outcome = await self.directory.ask(session_id, ReadState(seen))
        if not isinstance(outcome, Snapshot):
            raise problem_of(outcome, ref)
        value, error = outcome.value
        if isinstance(error, Rejected):
            raise problem_of(error, ref) from error
        if error is not None:
            raise error
        return value

    async def require_current(self, principal: Principal, ref: str = "") -> None:
        """See that a credential for one session alone has not ended with its holder's removal. Raises: Problem 403."""
        if principal.scope is not None:
            caller = principal.caller()
            await self.look(principal.scope, ref, lambda state: require_current(state, caller))

    async def readable(self, ask: Ask, session_id: SessionId, principal: Principal, ref: str) -> SessionMembership:
        """Return a session and the caller's membership of it, if the caller may read what they ask for.

        Raise Problem 404 for an unknown session, 403 if the access policy refuses or the caller was removed."""
        found = await self.sessions.find(session_id, principal.user_id)
        if found is None:
            raise unknown_session(ref)
        if not may(Ask.CARD, found.membership):
            raise problem_of(refusal(ask, found.membership), ref)
        await self.require_current(principal, ref)
        if not may(ask, found.membership):
            raise problem_of(refusal(ask, found.membership), ref)
        return found
