"""Webhooks of Daily: recordings that are ready or have failed, visitors who entered or left a room.

**Law:** an event's signature is verified over the bytes received, and the event is stored before it is answered. It is
processed from the table, until that has succeeded. Events may arrive repeatedly and in any order.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from actors.ports import LogUnavailable
from actors.session import commands as c
from actors.session.ids import Millis, SessionId
from server.http.json_body import depth
from server.http.problems import Problem
from storage.inbox import Inbox, ProviderEvent
from storage.rooms import RoomLedger, Visit

logger = logging.getLogger(__name__)

PROVIDER = "daily"
FRESH_S = 300
"""How far the time in a signature may be from ours."""
POLL_S = 5.0
BATCH = 50
INBOX_KEPT_S = 7 * 86_400
"""How long a processed event is remembered. Daily stops repeating it long before that."""
MAX_SECONDS = 100_000_000_000
"""A timestamp above this is in milliseconds: in seconds it would be in the year 5138."""

MAX_TRIES = 12
"""The most attempts to process an event: over about half a day."""
EVENT_ID_LENGTH = 200
DEPTH = 32

T = TypeVar("T")
Seconds = Annotated[float, Meta(ge=0, le=MAX_SECONDS)]

Report = Callable[[SessionId, c.ReportRecording], Awaitable[object]]


class Envelope(Struct, frozen=True):
    """The common fields of all events."""

    type: str
    id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class RecordingEvent(Struct, frozen=True):
    """The payload of `recording.*`. Times in Unix seconds, `duration` in seconds."""

    room_name: str
    recording_id: str | None = None
    start_ts: Seconds | None = None
    duration: Seconds | None = None
    s3_key: str | None = None
    error_msg: str | None = None
    timestamp: Seconds | None = None


class ParticipantEvent(Struct, frozen=True):
    """The payload of `participant.*`. Times in Unix seconds."""

    room: str
    session_id: str
    joined_at: Seconds
    user_id: str | None = None
    user_name: str | None = None
    owner: bool = False
    duration: Seconds | None = None


class DailyWebhooks:
    """Receives and processes events. `secret` is the webhook's, in base64; without one all events are refused."""

    def __init__(
        self, inbox: Inbox, ledger: RoomLedger, secret: str, report: Report, clock: Callable[[], float] = time.time
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._key = base64.b64decode(secret)
        self._report = report
        self._clock = clock
        self._stored = asyncio.Event()
        self.received: Counter[str] = Counter(refused=0, unknown=0)
        """Events by type; `unknown`: other types; `refused`: not signed by Daily, or malformed."""

    async def receive(self, headers: Mapping[str, str], raw: bytes) -> None:
        """Verify and store an event.

        Raise Problem 400 if it is malformed, 401 if Daily has not signed it just now, 403 if there is no secret."""
        if is_test(raw):
            return
        try:
            self._verify(headers, raw)
            envelope = envelope_of(raw)
        except Problem:
            self.received["refused"] += 1
            raise
        known = envelope.type in HANDLERS
        self.received[envelope.type if known else "unknown"] += 1
        # An event without a usable id is identified by its content.
        has_id = 0 < len(envelope.id) <= EVENT_ID_LENGTH and envelope.id.isprintable()
        event_id = envelope.id if has_id else hashlib.sha256(raw).hexdigest()
        if known and await self._inbox.put(PROVIDER, event_id, envelope.type, raw.decode()):
            self._stored.set()

    def _verify(self, headers: Mapping[str, str], raw: bytes) -> None:
        if not self._key:
            raise Problem(403, "not_set_up", "Set rooms.daily_webhook_secret to receive webhooks.")
        stamp = headers.get("X-Webhook-Timestamp", "")
        signature = headers.get("X-Webhook-Signature", "")
        signed = hmac.new(self._key, stamp.encode("latin-1", "replace") + b"." + raw, hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(signed), signature.encode("latin-1", "replace")):
            raise Problem(401, "bad_signature", "The signature is not Daily's.")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 20):
            raise Problem(401, "bad_signature", "`X-Webhook-Timestamp` is not a time.")
        seconds = int(stamp) / (1_000 if int(stamp) > MAX_SECONDS else 1)
        if abs(self._clock() - seconds) > FRESH_S:
            raise Problem(401, "stale", "The signature is more than five minutes old.")

    async def process(self) -> None:
        """Process stored events until cancelled."""
        while True:
            self._stored.clear()
            try:
                events = await self._inbox.claim(BATCH)
                for event in events:
                    await self._process_one(event)
            except LogUnavailable as error:
                logger.warning("Daily's events are processed later: %s", error)
                events = []
            if len(events) < BATCH:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._stored.wait()

    async def _process_one(self, event: ProviderEvent) -> None:
        try:
            done = await HANDLERS[event.type](self, envelope_of(event.body.encode()).payload)
        except Problem as problem:
            logger.warning("an event from Daily cannot be read: %s", problem.detail)
            done = True
        except LogUnavailable:
            raise
        except Exception:
            again = event.tries < MAX_TRIES
            logger.exception("processing %s failed, %s", event.type, "trying again" if again else "giving up")
            done = not again
        if done:
            await self._inbox.done(event.number)

    async def _on_recording(self, payload: msgspec.Raw, status: str) -> bool:
        recording = payload_of(payload, RecordingEvent)
        session_id = await self._ledger.session_of(PROVIDER, recording.room_name)
        if session_id is None:
            return True
        at = recording.start_ts if recording.start_ts is not None else recording.timestamp
        command = c.ReportRecording(
            status=status,  # type: ignore[arg-type]
            provider_id=recording.recording_id,
            at=None if at is None else Millis(round(at * 1000)),
            duration_ms=None if recording.duration is None else round(recording.duration * 1000),
            s3_key=recording.s3_key,
            reason=recording.error_msg,
        )
        return bool(await self._report(session_id, command))

    async def _on_visit(self, payload: msgspec.Raw, left: bool) -> bool:
        visitor = payload_of(payload, ParticipantEvent)
        session_id = await self._ledger.session_of(PROVIDER, visitor.room)
        if session_id is not None:
            joined_at = Millis(round(visitor.joined_at * 1000))
            left_at = Millis(joined_at + round((visitor.duration or 0) * 1000)) if left else None
            user_id = None if visitor.user_id is None else without_nul(visitor.user_id)
            session, name = without_nul(visitor.session_id), without_nul(visitor.user_name or "")
            visit = Visit(session, user_id, name, visitor.owner, joined_at, left_at)
            await self._ledger.record_visit(session_id, visit)
        return True

    async def _ignore(self, payload: msgspec.Raw) -> bool:
        """Do nothing: the session itself knows when it starts and ends."""
        return True


HANDLERS: Mapping[str, Callable[[DailyWebhooks, msgspec.Raw], Awaitable[bool]]] = {
    "meeting.started": DailyWebhooks._ignore,
    "meeting.ended": DailyWebhooks._ignore,
    "participant.joined": lambda webhooks, payload: webhooks._on_visit(payload, False),
    "participant.left": lambda webhooks, payload: webhooks._on_visit(payload, True),
    "recording.started": lambda webhooks, payload: webhooks._on_recording(payload, "processing"),
    "recording.ready-to-download": lambda webhooks, payload: webhooks._on_recording(payload, "completed"),
    "recording.error": lambda webhooks, payload: webhooks._on_recording(payload, "failed"),
}


def is_test(raw: bytes) -> bool:
    """Return whether this is the request with which Daily tests a new webhook: it contains no event."""
    if depth(raw) > DEPTH:
        return False
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return "test" in body and "type" not in body


def envelope_of(raw: bytes) -> Envelope:
    """Decode an event. Raise Problem 400 if it is malformed or nested too deep."""
    try:
        # The payload stays raw, so its encoding is checked here.
        raw.decode()
        if depth(raw) > DEPTH:
            raise Problem(400, "malformed", f"The body is nested more than {DEPTH} levels deep.")
        return msgspec.json.decode(raw, type=Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem(400, "malformed", f"The body is not an event: {error}.") from error


def payload_of(raw: msgspec.Raw, type_: type[T]) -> T:
    """Decode a payload. Raise Problem 400 if it does not fit the type."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.MsgspecError as error:
        raise Problem(400, "malformed", f"The payload does not fit its type: {error}.") from error


def without_nul(text: str) -> str:
    """Return a text without NUL characters, which PostgreSQL cannot store."""
    return text.replace("\0", "")
