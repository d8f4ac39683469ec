"""What Daily says, by webhook: recordings that are ready or failed, who came into a room and left it.

**Law:** an event is verified as it came, byte for byte, and kept before it is answered; what it means is done after
that, from the table, until it is done. Twice is once, and any order will do.
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
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from actors.ports import LogUnavailable
from actors.session import commands as c
from actors.session.ids import Millis, SessionId
from server.http.json_body import depth
from server.http.problems import Problem
from storage.inbox import Inbox, Told
from storage.rooms import RoomLedger, Visit

logger = logging.getLogger(__name__)

PROVIDER = "daily"
FRESH_S = 300
LOOK_S = 5.0
TAKEN_AT_ONCE = 50
KEPT_S = 7 * 86_400
"""How long an event that was dealt with is known again; Daily gives up long before."""
MILLISECONDS = 100_000_000_000
"""A timestamp above this is in milliseconds: in seconds it would be in the year 5138."""

TRIED = 12
"""Times that an event is dealt with at most: about half a day."""
EVENT_ID_LENGTH = 200
DEPTH = 32

Seconds = Annotated[float, Meta(ge=0, le=MILLISECONDS)]

Report = Callable[[SessionId, c.ReportRecording], Awaitable[object]]


class Envelope(Struct, frozen=True):
    type: str
    id: str = ""
    payload: msgspec.Raw = msgspec.Raw(b"{}")


class Recording(Struct, frozen=True):
    """Of `recording.*`. Times in unix seconds, `duration` in seconds."""

    room_name: str
    recording_id: str | None = None
    start_ts: Seconds | None = None
    duration: Seconds | None = None
    s3_key: str | None = None
    error_msg: str | None = None
    timestamp: Seconds | None = None


class Person(Struct, frozen=True):
    """Of `participant.*`. Times in unix seconds."""

    room: str
    session_id: str
    joined_at: Seconds
    user_id: str | None = None
    user_name: str | None = None
    owner: bool = False
    duration: Seconds | None = None


class DailyWebhooks:
    """Takes in what Daily says. `secret` is Daily's, in base64; without one nothing is believed."""

    def __init__(
        self, inbox: Inbox, ledger: RoomLedger, secret: str, report: Report, clock: Callable[[], float] = time.time
    ) -> None:
        self._inbox = inbox
        self._ledger = ledger
        self._key = base64.b64decode(secret)
        self._report = report
        self._clock = clock
        self._news = asyncio.Event()
        self.heard: Counter[str] = Counter()
        """Events by type, those of no use as `unknown`, and what was `refused`."""

    async def receive(self, headers: Mapping[str, str], raw: bytes) -> None:
        """Take in a webhook. Raises: Problem 400, 401, 403."""
        if is_test(raw):
            return
        try:
            self._verify(headers, raw)
            envelope = envelope_of(raw)
        except Problem:
            self.heard["refused"] += 1
            raise
        known = envelope.type in KINDS
        self.heard[envelope.type if known else "unknown"] += 1
        # One without an id, or with an odd one, is known by all that it says.
        named = 0 < len(envelope.id) <= EVENT_ID_LENGTH and envelope.id.isprintable()
        event_id = envelope.id if named else hashlib.sha256(raw).hexdigest()
        if known and await self._inbox.put(PROVIDER, event_id, envelope.type, raw.decode()):
            self._news.set()

    def _verify(self, headers: Mapping[str, str], raw: bytes) -> None:
        if not self._key:
            raise Problem(403, "not_set_up", "Set rooms.daily_webhook_secret to take webhooks.")
        stamp = headers.get("X-Webhook-Timestamp", "")
        signature = headers.get("X-Webhook-Signature", "")
        signed = hmac.new(self._key, stamp.encode("latin-1", "replace") + b"." + raw, hashlib.sha256).digest()
        if not hmac.compare_digest(base64.b64encode(signed), signature.encode("latin-1", "replace")):
            raise Problem(401, "bad_signature", "The signature is not Daily's.")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 20):
            raise Problem(401, "bad_signature", "`X-Webhook-Timestamp` is no time.")
        seconds = int(stamp) / (1_000 if int(stamp) > MILLISECONDS else 1)
        if abs(self._clock() - seconds) > FRESH_S:
            raise Problem(401, "stale", "This was said more than five minutes ago.")

    async def process(self) -> None:
        """Do what events mean, until cancelled."""
        while True:
            self._news.clear()
            try:
                told = await self._inbox.take(TAKEN_AT_ONCE)
                for one in told:
                    await self._deal(one)
            except LogUnavailable as error:
                logger.warning("Daily's events are dealt with later: %s", error)
                told = []
            if len(told) < TAKEN_AT_ONCE:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()

    async def _deal(self, told: Told) -> None:
        try:
            done = await KINDS[told.type](self, envelope_of(told.body.encode()).payload)
        except Problem as problem:
            logger.warning("an event of Daily's cannot be read: %s", problem.detail)
            done = True
        except LogUnavailable:
            raise
        except Exception:
            again = told.tries < TRIED
            logger.exception("dealing with %s failed, %s", told.type, "trying again" if again else "giving up")
            done = not again
        if done:
            await self._inbox.done(told.number)

    async def _recorded(self, payload: msgspec.Raw, status: str) -> bool:
        said = payload_of(payload, Recording)
        session_id = await self._ledger.session_of(PROVIDER, said.room_name)
        if session_id is None:
            return True
        at = said.start_ts if said.start_ts is not None else said.timestamp
        command = c.ReportRecording(
            status=status,  # type: ignore[arg-type]
            provider_id=said.recording_id,
            at=None if at is None else Millis(round(at * 1000)),
            duration_ms=None if said.duration is None else round(said.duration * 1000),
            s3_key=said.s3_key,
            reason=said.error_msg,
        )
        return bool(await self._report(session_id, command))

    async def _visited(self, payload: msgspec.Raw, left: bool) -> bool:
        said = payload_of(payload, Person)
        session_id = await self._ledger.session_of(PROVIDER, said.room)
        if session_id is not None:
            joined_at = Millis(round(said.joined_at * 1000))
            left_at = Millis(joined_at + round((said.duration or 0) * 1000)) if left else None
            user_id = None if said.user_id is None else text(said.user_id)
            visit = Visit(text(said.session_id), user_id, text(said.user_name or ""), said.owner, joined_at, left_at)
            await self._ledger.visited(session_id, visit)
        return True

    async def _noted(self, payload: msgspec.Raw) -> bool:
        """The session itself says when it begins and ends."""
        return True


KINDS: Mapping[str, Callable[[DailyWebhooks, msgspec.Raw], Awaitable[bool]]] = {
    "meeting.started": DailyWebhooks._noted,
    "meeting.ended": DailyWebhooks._noted,
    "participant.joined": lambda daily_webhooks, payload: daily_webhooks._visited(payload, False),
    "participant.left": lambda daily_webhooks, payload: daily_webhooks._visited(payload, True),
    "recording.started": lambda daily_webhooks, payload: daily_webhooks._recorded(payload, "processing"),
    "recording.ready-to-download": lambda daily_webhooks, payload: daily_webhooks._recorded(payload, "completed"),
    "recording.error": lambda daily_webhooks, payload: daily_webhooks._recorded(payload, "failed"),
}


def is_test(raw: bytes) -> bool:
    """Say whether this is what Daily sends to see that somebody is there: it has no event in it."""
    if depth(raw) > DEPTH:
        return False
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return "test" in body and "type" not in body


def envelope_of(raw: bytes) -> Envelope:
    """Raises: Problem 400."""
    try:
        # A part that is taken as it stands is not looked into: its text is here.
        raw.decode()
        if depth(raw) > DEPTH:
            raise Problem(400, "malformed", f"The body is nested more than {DEPTH} levels deep.")
        return msgspec.json.decode(raw, type=Envelope)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem(400, "malformed", f"The body is no event: {error}.") from error


def payload_of(raw: msgspec.Raw, type_: Any) -> Any:
    """Raises: Problem 400."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.MsgspecError as error:
        raise Problem(400, "malformed", f"The payload is none: {error}.") from error


def text(said: str) -> str:
    """Give a text as PostgreSQL takes it: it has no NUL."""
    return said.replace("\0", "")
