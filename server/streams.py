"""Streams: one encoding per event and format, written in a plain loop to every subscriber.

**Law:** a subscriber gets what came after its snapshot or cursor, each event once, in order; a cursor that cannot be
served whole gets a reset, never a part. What waits for a slow reader is bounded: past that it is cut off, and resumes.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from itertools import compress
from typing import Any, Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.audience import closes, cut, shuts_out
from actors.session.commands import Caller, Disconnect
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State
from actors.session_actor import Execute, Fenced, Outcome, Published, Unavailable
from server.config import Streams

Bye = Literal["expired", "kicked", "ended", "draining", "slow", "left", "admitted"]
RETRY_MS: dict[Bye, int | None] = {
    "expired": 0, "kicked": None, "ended": None, "draining": 1_000, "slow": 1_000, "left": None, "admitted": 0,
}  # fmt: skip
"""When a client may come back: None is never by itself. Draining's is spread at random, up to its double."""
RELAYED = (e.Cursor, e.Typing)
RELAY_ABOVE_BYTES = 16_384
"""With more than this waiting for a reader, only the latest cursor and typing frames are kept for it."""
HEARTBEAT_SLICES = 15


class Cursor(Struct, frozen=True):
    """A place in a session's log. It is good while the row at `seq` has that `epoch`."""

    epoch: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        """Read `<epoch>-<seq>`; None: it is no cursor."""
        epoch, dash, seq = text.partition("-")
        if dash and epoch.isascii() and epoch.isdigit() and seq.isascii() and seq.isdigit() and len(text) < 24:
            return cls(int(epoch), int(seq))
        return None

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


def chunk(frames: bytes) -> bytes:
    """Wrap bytes as one chunk of an HTTP/1.1 body."""
    return b"%x\r\n%b\r\n" % (len(frames), frames)


def message(text: bytes) -> bytes:
    """Make a WebSocket text message, as a server sends one (RFC 6455, 5.2): in one frame, not masked."""
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2), text)
    return b"\x81\x7f%b%b" % (size.to_bytes(8), text)


def bare(frames: bytes) -> bytes:
    """Leave frames as they are."""
    return frames


class Format(Struct, frozen=True, eq=False):
    """How an API prints frames, and how they go on the wire. Each gives whole ones; None: this API does not show it."""

    event: Callable[[Published], bytes | None]
    unplaced: Callable[[Published], bytes | None]
    """The same without its place in the log, for the lobby: whoever is admitted starts afresh, and not from there."""
    relayed: Callable[[e.Event, UserId, Millis, State], bytes | None]
    snapshot: Callable[[State, UserId, Millis, dict[Hashable, bytes]], bytes]
    """The body that a newcomer gets first, as one viewer may see it. The last argument is the format's own to keep what
    is the same for many; it lives as long as that state does."""
    first: Callable[[Cursor | None, bytes], bytes]
    """The frame of a snapshot; from the lobby it has no cursor, so that being admitted starts afresh."""
    resumed: Callable[[Cursor, Cursor, int], bytes]
    reset: Callable[[str], bytes]
    bye: Callable[[Bye, int | None], bytes]
    heartbeat: bytes
    """Empty where the connection itself sees to it."""
    wrap: Callable[[bytes], bytes] = chunk
    """Makes of frames, one or several, what is written to the connection."""


class Subscriber:
    """One open stream. Holds back what it is told until `open` gives it a transport and what comes first."""

    __slots__ = (
        "_held", "_held_bytes", "_latest", "_transport", "attached", "channel", "closed", "cursor",
        "detached", "expires_at", "format", "limit", "lobby", "login", "missing", "onlooker", "reason", "slice",
        "user_id",
    )  # fmt: skip

    def __init__(
        self, user_id: UserId, login: str, format: Format, *, cursor: Cursor | None, expires_at: float, limit: int
    ) -> None:
        loop = asyncio.get_running_loop()
        self.user_id = user_id
        self.login = login
        self.format = format
        self.cursor = cursor
        self.expires_at = expires_at
        self.limit = limit
        self.lobby = False
        """Waiting to be admitted: sees what concerns them and nothing else."""
        self.onlooker = False
        """Nobody in particular: the session does not know of it."""
        self.slice = 0
        self.detached = False
        self.channel: Channel | None = None
        self.attached: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.reason: Bye | None = None
        self.missing: Cursor | None = None
        """Up to where the log has to be read before what is held: the channel did not remember enough."""
        self._transport: asyncio.WriteTransport | None = None
        self._held: list[bytes] | None = []
        self._held_bytes = 0
        self._latest: dict[tuple[type, UserId], bytes] | None = None

    def open(self, transport: asyncio.WriteTransport, missed: bytes = b"") -> None:
        """Write what was held, after what the log had, and go live."""
        held, self._held = self._held, None
        self._transport = transport
        first = missed + b"".join(held or ())
        # A snapshot may be larger than what may wait for a reader: it comes on top.
        self.limit += len(first)
        if first and not transport.is_closing():
            transport.write(self.format.wrap(first))
        if self.reason is not None:
            self._finish()

    def write(self, wrapped: bytes, frames: bytes) -> None:
        """Write frames, given both as they are and as wrapped once for all subscribers."""
        transport = self._transport
        if transport is None:
            self._hold(frames)
        elif transport.get_write_buffer_size() > self.limit:
            self.close("slow")
        # The connection may be gone, and its handler not know yet: uvloop raises then, in the midst of the fan-out.
        elif not transport.is_closing():
            if self._latest is not None:
                self._flush_latest(transport)
            if wrapped:
                transport.write(wrapped)

    def relay(self, kind: type, by: UserId, wrapped: bytes, frames: bytes) -> None:
        """Write an ephemeral frame; of those that only the latest counts, a slow reader gets the latest."""
        transport = self._transport
        if transport is not None and kind in RELAYED and transport.get_write_buffer_size() > RELAY_ABOVE_BYTES:
            self._latest = self._latest or {}
            self._latest[kind, by] = wrapped
        else:
            self.write(wrapped, frames)

    def _flush_latest(self, transport: asyncio.WriteTransport) -> None:
        if self._latest and transport.get_write_buffer_size() <= RELAY_ABOVE_BYTES:
            transport.write(b"".join(self._latest.values()))
            self._latest = None

    def _hold(self, frames: bytes) -> None:
        if self._held is None:
            return
        self._held.append(frames)
        self._held_bytes += len(frames)
        if self._held_bytes > self.limit:
            self._held.clear()
            self.close("slow")

    def hold_first(self, frames: bytes) -> None:
        """Put down what comes first: it does not count against what may wait."""
        if self._held is not None:
            self._held.append(frames)

    def beat(self, wrapped: bytes, frames: bytes, now: float) -> None:
        if self.expires_at <= now:
            self.close("expired")
        elif self._transport is not None:
            self.write(wrapped, frames)

    def sees(self, audience: frozenset[UserId] | None) -> bool:
        return not self.lobby if audience is None else self.user_id in audience

    def close(self, reason: Bye) -> None:
        """End the stream, saying why; of a reader that is too slow, just drop it."""
        if self.reason is not None or self.closed.done():
            return
        self.reason = reason
        if self._transport is not None:
            self._finish()

    def _finish(self) -> None:
        # Nothing comes after the last frame, however long the connection takes to close.
        transport, self._transport = self._transport, None
        reason = self.reason
        if transport is not None and reason is not None:
            if reason == "slow":
                transport.abort()
            elif not transport.is_closing():
                retry = RETRY_MS[reason]
                if reason == "draining" and retry is not None:
                    retry = random.randint(retry // 10, 2 * retry)  # noqa: S311 - only spreads load
                if last := self.format.bye(reason, retry):
                    transport.write(self.format.wrap(last))
        if not self.closed.done():
            self.closed.set_result(None)


class Channel:
    """The streams of one session, and its latest events for those who come back."""

    __slots__ = (
        "_hub",
        "_lobby",
        "_onlookers",
        "_subscribers",
        "_tail",
        "_tail_bytes",
        "_users",
        "last_seq",
        "session_id",
    )

    def __init__(self, session_id: SessionId, hub: "Hub") -> None:
        self.session_id = session_id
        self.last_seq = 0
        self._hub = hub
        self._subscribers: dict[Subscriber, None] = {}
        self._users: dict[UserId, int] = {}
        self._lobby = 0
        self._onlookers = 0
        self._tail: list[Published] = []
        self._tail_bytes = 0

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._subscribers)

    def users(self) -> Collection[UserId]:
        return self._users.keys()

    # As its actor sees it

    def publish(self, batch: Sequence[Published]) -> None:
        if batch[0].recorded.seq <= self.last_seq:
            batch = [out for out in batch if out.recorded.seq > self.last_seq]
            if not batch:
                return
        self.last_seq = batch[-1].recorded.seq
        self._remember(batch)
        self._hub.published += len(batch)
        if not self._subscribers:
            return
        # Whom an event cuts off still sees that event, and nothing after it.
        start = 0
        for index, out in enumerate(batch):
            event = out.recorded.event
            who = cut(event)
            if who is None and self._lobby and isinstance(event, e.ParticipantJoined):
                who = event.user_id, "admitted"
            if who is not None or closes(event):
                self._write(batch[start : index + 1])
                start = index + 1
                self._cut_off(who)
            elif self._onlookers and shuts_out(event):
                self._write(batch[start : index + 1])
                start = index + 1
                self._shut_out()
        if start < len(batch):
            self._write(batch[start:])

    def _cut_off(self, who: tuple[UserId, str] | None) -> None:
        """End one user's streams, or all. Being admitted ends those in the lobby: they come back for everything."""
        for subscriber in list(self._subscribers):
            if who is None:
                self._end(subscriber, "ended")
            elif subscriber.user_id == who[0] and (subscriber.lobby or who[1] != "admitted"):
                self._end(subscriber, who[1])  # type: ignore[arg-type]

    def _shut_out(self) -> None:
        for subscriber in list(self._subscribers):
            if subscriber.onlooker:
                self._end(subscriber, "kicked")

    def _end(self, subscriber: Subscriber, reason: Bye) -> None:
        subscriber.close(reason)
        self.remove(subscriber)

    def _write(self, batch: Sequence[Published]) -> None:
        """Encode once per format and audience; then nothing but writes."""
        private = [out for out in batch if out.audience is not None]
        if self._lobby or private:
            self._write_to_some(batch)
            return
        written: dict[Format, tuple[bytes, bytes]] = {}
        format, wrapped, joined = None, b"", b""
        for subscriber in list(self._subscribers):
            if subscriber.format is not format:
                format = subscriber.format
                if format not in written:
                    joined = b"".join([format.event(out) or b"" for out in batch])
                    written[format] = format.wrap(joined) if joined else b"", joined
                wrapped, joined = written[format]
            if joined:
                subscriber.write(wrapped, joined)
        self._hub.delivered += len(batch) * len(self._subscribers)

    def _write_to_some(self, batch: Sequence[Published]) -> None:
        """Write what each may see: encoded once per format, joined once per audience."""
        encoded: dict[object, list[bytes]] = {}
        written: dict[object, tuple[bytes, bytes]] = {}
        for subscriber in list(self._subscribers):
            mask = tuple(subscriber.sees(out.audience) for out in batch)
            key = subscriber.format, subscriber.lobby, mask
            ready = written.get(key)
            if ready is None:
                form = subscriber.format.unplaced if subscriber.lobby else subscriber.format.event
                frames = encoded.get(form)
                if frames is None:
                    frames = encoded[form] = [form(out) or b"" for out in batch]
                joined = b"".join(compress(frames, mask))
                ready = written[key] = subscriber.format.wrap(joined) if joined else b"", joined
            if ready[1]:
                subscriber.write(*ready)
                self._hub.delivered += sum(mask)

    def _remember(self, batch: Sequence[Published]) -> None:
        for out in batch:
            if type(out.recorded.event) is e.MessageDeleted:
                # The log has been redacted; what is remembered here has not.
                self._tail.clear()
                self._tail_bytes = 0
                return
            self._tail_bytes += len(out.event)
        settings = self._hub.settings
        self._tail += batch
        drop = 0
        while len(self._tail) - drop > settings.replay_events or (
            self._tail_bytes > settings.replay_bytes and drop < len(self._tail)
        ):
            self._tail_bytes -= len(self._tail[drop].event)
            drop += 1
        if drop:
            del self._tail[:drop]

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        frames: dict[Format, tuple[bytes, bytes] | None] = {}
        for subscriber in list(self._subscribers):
            if not subscriber.sees(audience):
                continue
            format = subscriber.format
            if format not in frames:
                frame = format.relayed(event, by, at, state)
                frames[format] = None if frame is None else (format.wrap(frame), frame)
            if ready := frames[format]:
                subscriber.relay(type(event), by, *ready)

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        here = Cursor(state.epoch, state.seq)
        now = self._hub.clock()
        shared: defaultdict[Format, dict[Hashable, bytes]] = defaultdict(dict)
        firsts: list[tuple[Subscriber, bytes | None]] = []
        for subscriber in subscribers:
            cursor, format = subscriber.cursor, subscriber.format
            place = state.participants.get(subscriber.user_id)
            if place is not None and place.status == "waiting":
                subscriber.lobby = True
                body = format.snapshot(state, subscriber.user_id, now, shared[format])
                firsts.append((subscriber, format.first(None, body)))
                continue
            if cursor is not None and 0 < cursor.seq < here.seq and cursor.epoch <= here.epoch:
                firsts.append((subscriber, None))
                continue
            if cursor == here:
                firsts.append((subscriber, format.resumed(here, here, 0)))
                continue
            body = format.snapshot(state, subscriber.user_id, now, shared[format])
            reset = b"" if cursor is None else format.reset("unknown_cursor")
            firsts.append((subscriber, reset + format.first(here, body)))
        over = state.session.status in ("ended", "cancelled")

        def attach() -> None:
            for subscriber, first in firsts:
                self._attach(subscriber, first, here)
                if over:
                    self._end(subscriber, "ended")

        return attach

    def _attach(self, subscriber: Subscriber, first: bytes | None, here: Cursor) -> None:
        if subscriber.closed.done():
            # Gone before it was in; the session believes that it is.
            if subscriber.user_id not in self._users:
                self._hub.disconnected(self.session_id, subscriber.user_id)
            return
        if first is None:
            first = self._missed(subscriber)
            if first is None:
                subscriber.missing = here
        if first:
            subscriber.hold_first(first)
        subscriber.channel = self
        self._subscribers[subscriber] = None
        self._users[subscriber.user_id] = self._users.get(subscriber.user_id, 0) + 1
        self._lobby += subscriber.lobby
        self._onlookers += subscriber.onlooker
        if not subscriber.attached.done():
            subscriber.attached.set_result(None)

    def _missed(self, subscriber: Subscriber) -> bytes | None:
        """Give everything after a subscriber's cursor, if it is all remembered."""
        cursor = subscriber.cursor
        if cursor is None or not self._tail:
            return None
        offset = cursor.seq - self._tail[0].recorded.seq
        if not 0 <= offset < len(self._tail) or self._tail[offset].recorded.epoch != cursor.epoch:
            return None
        return replayed(subscriber, cursor, self._tail[offset + 1 :])

    # As its subscribers see it

    def remove(self, subscriber: Subscriber) -> None:
        """Take a stream out; its user's last one tells the session."""
        if subscriber not in self._subscribers:
            return
        del self._subscribers[subscriber]
        self._lobby -= subscriber.lobby
        self._onlookers -= subscriber.onlooker
        self._users[subscriber.user_id] -= 1
        if not self._users[subscriber.user_id]:
            del self._users[subscriber.user_id]
            self._hub.disconnected(self.session_id, subscriber.user_id)

    @property
    def empty(self) -> bool:
        return not self._subscribers


def replayed(subscriber: Subscriber, cursor: Cursor, missed: Sequence[Published]) -> bytes:
    """Give `resumed` and the events after a cursor that this subscriber may see."""
    seen = (out for out in missed if subscriber.sees(out.audience))
    frames = [frame for out in seen if (frame := subscriber.format.event(out))]
    last = missed[-1].recorded if missed else None
    to = Cursor(last.epoch, last.seq) if last else cursor
    return subscriber.format.resumed(cursor, to, len(frames)) + b"".join(frames)


class _Departure:
    """Tells a session that a user's last stream has closed, again and again while it is too busy to hear."""

    __slots__ = ("_hub", "_pause_s", "_session_id", "_user_id")

    def __init__(self, hub: "Hub", session_id: SessionId, user_id: UserId) -> None:
        self._hub = hub
        self._session_id = session_id
        self._user_id = user_id
        self._pause_s = 0.25

    def tell(self) -> None:
        if not self._hub.listens(self._session_id, self._user_id):
            message = Execute(Disconnect(), Caller(self._user_id, ""), self)
            if refusal := self._hub.tell(self._session_id, message):
                self.set_result(refusal)

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome) -> None:
        if isinstance(outcome, Unavailable | Fenced):
            asyncio.get_running_loop().call_later(self._pause_s, self.tell)
            self._pause_s = min(2 * self._pause_s, 30.0)


class Hub:
    """All open streams of this process."""

    def __init__(self, settings: Streams, *, streams_per_user: int, clock: Callable[[], Millis]) -> None:
        self.settings = settings
        self.clock = clock
        self.published = 0
        self.delivered = 0
        self.tell: Callable[[SessionId, Execute], Unavailable | None] = lambda session_id, message: None
        """Where the directory takes commands; set once, by the composition root."""
        self._streams_per_user = streams_per_user
        self._channels: dict[SessionId, Channel] = {}
        self._by_user: defaultdict[UserId, dict[Subscriber, None]] = defaultdict(dict)
        self._slices: list[dict[Subscriber, None]] = [{} for _ in range(HEARTBEAT_SLICES)]
        self._next_slice = 0
        self._draining = False

    def __len__(self) -> int:
        return sum(len(slice) for slice in self._slices)

    def channel(self, session_id: SessionId) -> Channel:
        channel = self._channels.get(session_id)
        if channel is None:
            channel = self._channels[session_id] = Channel(session_id, self)
        return channel

    def forget(self, session_id: SessionId) -> None:
        """Let go of a channel that nobody listens to."""
        channel = self._channels.get(session_id)
        if channel is not None and channel.empty:
            del self._channels[session_id]

    def register(self, subscriber: Subscriber) -> bool:
        """Count a stream in; False: its user has as many as they may."""
        streams = self._by_user[subscriber.user_id]
        if len(streams) >= self._streams_per_user:
            return False
        streams[subscriber] = None
        self._next_slice = subscriber.slice = (self._next_slice + 1) % HEARTBEAT_SLICES
        self._slices[subscriber.slice][subscriber] = None
        if self._draining:
            subscriber.close("draining")
        return True

    def unregister(self, subscriber: Subscriber) -> None:
        streams = self._by_user[subscriber.user_id]
        streams.pop(subscriber, None)
        if not streams:
            del self._by_user[subscriber.user_id]
        self._slices[subscriber.slice].pop(subscriber, None)
        if not subscriber.closed.done():
            subscriber.closed.set_result(None)
        if subscriber.channel is not None:
            subscriber.channel.remove(subscriber)

    def disconnected(self, session_id: SessionId, user_id: UserId) -> None:
        _Departure(self, session_id, user_id).tell()

    def listens(self, session_id: SessionId, user_id: UserId) -> bool:
        """Say whether a user has a stream of a session open; while draining that is of no interest any more."""
        channel = self._channels.get(session_id)
        return self._draining or (channel is not None and user_id in channel.users())

    def cut_off(self, user_id: UserId | None, login: str) -> None:
        """End the streams opened under a login that is over; None looks through everybody's for it."""
        streams = self._by_user.get(user_id, ()) if user_id else [s for slice in self._slices for s in slice]
        for subscriber in list(streams):
            if subscriber.login == login:
                subscriber.close("expired")

    async def beat(self) -> None:
        """Send heartbeats, a slice of the streams at a time, and end those whose time is up; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for slice in self._slices:
                await asyncio.sleep(self.settings.heartbeat_s / HEARTBEAT_SLICES)
                now = loop.time()
                beats: dict[Format, bytes] = {}
                for subscriber in list(slice):
                    format = subscriber.format
                    wrapped = beats.get(format) or beats.setdefault(format, format.wrap(format.heartbeat))
                    subscriber.beat(wrapped, format.heartbeat, now)

    def drain(self) -> None:
        """Send everyone away; they come back to a server that is not shutting down."""
        self._draining = True
        for slice in self._slices:
            for subscriber in list(slice):
                subscriber.close("draining")
