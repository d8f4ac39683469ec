"""Everything that rows and handlers of all APIs use: the parts of every use case, in one value.

**Law:** no use case sees this type. Each declares the few parts that it needs (`AccountParts`, `RoomParts`, …). This
type extends all of these, so that the type checker proves that every function of a row gets its parts. (docs/adr/0037)
"""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from server.http.access_log import RequestLog
from server.security.rate_limit import Rate
from server.streams.notification_feed import NotificationFeed
from server.usecases.accounts import AccountParts
from server.usecases.audio.by_number import NumberedAudioParts
from server.usecases.bookings import BookingParts
from server.usecases.devices import DeviceParts
from server.usecases.guest_identity import GuestParts
from server.usecases.provider_webhooks import ProviderWebhookParts
from server.usecases.records.attendance import AttendanceParts
from server.usecases.records.log_pages import LogParts
from server.usecases.records.replay import ReplayParts
from server.usecases.room_access import RoomParts
from server.usecases.sessions import LookupParts, TicketParts
from server.usecases.webhook_endpoints import WebhookParts
from storage.notifications import NotificationState, StoredNotification


@dataclass(frozen=True, kw_only=True)
class Services(
    AccountParts,
    AttendanceParts,
    BookingParts,
    DeviceParts,
    GuestParts,
    LogParts,
    LookupParts,
    NumberedAudioParts,
    ProviderWebhookParts,
    ReplayParts,
    RoomParts,
    TicketParts,
    WebhookParts,
):
    """The parts of all use cases, and what only handlers use."""

    requests: RequestLog
    registry: CollectorRegistry
    user_streams: NotificationFeed[StoredNotification, NotificationState]
    reads: Rate
    """Per user."""
    address_reads: Rate
    """Per address, of callers without a credential."""
    joins: Rate
    """Of join codes that lead nowhere: per user, and per address of callers without an account."""
