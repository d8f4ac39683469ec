"""A channel: the streams of one session. One encoding per event and format, written in a plain loop to all of them.

**Law:** a subscriber gets what came after its snapshot or cursor, each event once, in order; a cursor that cannot be
served whole gets a reset, never a part. What a format fails to print costs those who read that format their streams,
and nobody else anything.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from actors.session import events as e
from actors.session.event_rules import new_view
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State
from actors.session.visibility import Published, VisibleEvent
from server.settings.sections import StreamsSettings
from server.streams.format import Bye, Cursor, StreamEncoder
from server.streams.subscriber import Subscriber

logger = logging.getLogger(__name__)


class Home(Protocol):
    """The hub, as its channels see it."""

    settings: StreamsSettings
    clock: Callable[[], Millis]
    published: int
    delivered: int

    def disconnected(self, session_id: SessionId, user_id: UserId) -> None:
        """A user's last stream of a session has closed."""


class Channel:
    """The streams of one session, and its latest events for those who come back."""

    __slots__ = (
        "_anonymous_viewers",
        "_hub",
        "_lobby",
        "_subscribers",
        "_tail",
        "_tail_bytes",
        "_users",
        "last_seq",
        "session_id",
    )

    def __init__(self, session_id: SessionId, hub: Home) -> None:
        self.session_id = session_id
        self.last_seq = 0
        self._hub = hub
        self._subscribers: dict[Subscriber, None] = {}
        self._users: dict[UserId, int] = {}
        self._lobby = 0
        self._anonymous_viewers = 0
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
            rule = out.rule
            ends = rule.streams
            if ends != "continue" and (ends != "admitted" or self._lobby):
                self._write(batch[start : index + 1])
                start = index + 1
                self._cut_off(out.recorded.event, ends)
            elif self._anonymous_viewers and revokes_guest_access(out):
                self._write(batch[start : index + 1])
                start = index + 1
                self._shut_out()
        if start < len(batch):
            self._write(batch[start:])

    def restored(self, state: State) -> None:
        self.last_seq = state.seq
        # Each state that an actor leaves behind would stay for as long as one of its events is remembered; and it may
        # hold what was never committed.
        for out in self._tail:
            out.state = state

    def _cut_off(self, event: Any, ends: Bye) -> None:
        """End all streams, or those of the event's participant (`EventRule.streams`)."""
        for subscriber in list(self._subscribers):
            if ends == "ended" or (subscriber.user_id == event.user_id and (subscriber.lobby or ends != "admitted")):
                self._end(subscriber, ends)

    def _shut_out(self) -> None:
        for subscriber in list(self._subscribers):
            if subscriber.onlooker:
                self._end(subscriber, "kicked")

    def _end(self, subscriber: Subscriber, reason: Bye) -> None:
        subscriber.close(reason)
        self.remove(subscriber)

    def _write(self, batch: Sequence[Published]) -> None:
        """Encode once per format and audience; then nothing but writes."""
        private = [out for out in batch if out.audience is not None or out.confidants is not None]
        if self._lobby or private:
            self._write_to_some(batch)
            return
        written: dict[StreamEncoder, tuple[bytes, bytes] | None] = {}
        format: StreamEncoder | None = None
        wire = bare = b""
        for subscriber in list(self._subscribers):
            if subscriber.format is not format:
                format = subscriber.format
                if format not in written:
                    frames = printed(format.event, [(out.public, out.state) for out in batch], {})
                    written[format] = None if frames is None else framed(format, frames)
                wire, bare = written[format] or (b"", b"")
            if bare:
                subscriber.write(wire, bare)
            elif written[format] is None:
                self._end(subscriber, "slow")
        self._hub.delivered += len(batch) * len(self._subscribers)

    def _write_to_some(self, batch: Sequence[Published]) -> None:
        """Write what each may see: encoded once per format, joined once per audience."""
        encoded: dict[object, bytes | None] = {}
        written: dict[object, tuple[bytes, bytes] | None] = {}
        for subscriber in list(self._subscribers):
            visible = tuple([subscriber.receives(out) for out in batch])
            key = subscriber.format, subscriber.lobby, visible
            if key not in written:
                form = subscriber.format.event_without_id if subscriber.lobby else subscriber.format.event
                pairs = [(one, out.state) for one, out in zip(visible, batch, strict=True) if one is not None]
                frames = printed(form, pairs, encoded)
                written[key] = None if frames is None else framed(subscriber.format, frames)
            ready = written[key]
            if ready is None:
                self._end(subscriber, "slow")
            elif ready[1]:
                subscriber.write(*ready)
                self._hub.delivered += len(visible) - visible.count(None)

    def _remember(self, batch: Sequence[Published]) -> None:
        for out in batch:
            if type(out.recorded.event) is e.MessageDeleted:
                # The log has been redacted; what is remembered here has not.
                self._tail.clear()
                self._tail_bytes = 0
                return
            self._tail_bytes += len(out.json)
        settings = self._hub.settings
        self._tail += batch
        drop = 0
        while len(self._tail) - drop > settings.replay_events or (
            self._tail_bytes > settings.replay_bytes and drop < len(self._tail)
        ):
            self._tail_bytes -= len(self._tail[drop].json)
            drop += 1
        if drop:
            del self._tail[:drop]

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        frames: dict[StreamEncoder, tuple[bytes, bytes] | None] = {}
        for subscriber in list(self._subscribers):
            if not subscriber.sees(audience):
                continue
            format = subscriber.format
            if format not in frames:
                try:
                    frame = format.relayed(event, by, at, state)
                except Exception:
                    logger.exception("a %s cannot be printed; those who would read it miss it", type(event).__name__)
                    frame = None
                frames[format] = None if frame is None else (format.frame(frame), frame)
            if ready := frames[format]:
                subscriber.relay(type(event), by, *ready)

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        here = Cursor(state.epoch, state.seq)
        now = self._hub.clock()
        shared: defaultdict[StreamEncoder, dict[Hashable, bytes]] = defaultdict(dict)
        firsts: list[tuple[Subscriber, bytes | None]] = []

        def first(subscriber: Subscriber) -> bytes | None:
            """Give the first frame; None: what comes first is what was missed."""
            cursor, format = subscriber.cursor, subscriber.format
            place = state.participants.get(subscriber.user_id)
            if place is not None and place.status == "waiting":
                subscriber.lobby = True
                body = format.snapshot(state, subscriber.user_id, now, shared[format])
                return format.first(None, body)
            if cursor is not None and 0 < cursor.seq < here.seq and cursor.epoch <= here.epoch:
                return None
            if cursor == here:
                return format.resumed(here, here, 0)
            body = format.snapshot(state, subscriber.user_id, now, shared[format])
            reset = b"" if cursor is None else format.reset("unknown_cursor")
            return reset + format.first(here, body)

        for subscriber in subscribers:
            try:
                firsts.append((subscriber, first(subscriber)))
            except Exception as error:  # noqa: BLE001 - whoever opens the stream raises it again
                subscriber.attached.set_exception(error)
                firsts.append((subscriber, b""))
        over = state.session.status in ("ended", "cancelled")

        def attach() -> None:
            for subscriber, first in firsts:
                try:
                    self._attach(subscriber, first, here)
                except Exception as error:  # noqa: BLE001 - as above
                    subscriber.attached.set_exception(error)
                    self._gone(subscriber)
                if over:
                    self._end(subscriber, "ended")

        return attach

    def refresh(self, user_ids: Collection[UserId], arriving: Sequence[Any], state: State) -> Callable[[], None] | None:
        here, now = Cursor(state.epoch, state.seq), self._hub.clock()
        shared: defaultdict[StreamEncoder, dict[Hashable, bytes]] = defaultdict(dict)
        snapshots: dict[Subscriber, bytes] = {}
        for subscriber in (*self._subscribers, *arriving):
            format = subscriber.format
            if subscriber.user_id in user_ids and format.keeps_view and not subscriber.lobby:
                body = format.snapshot(state, subscriber.user_id, now, shared[format])
                snapshots[subscriber] = format.first(here, body)

        def write() -> None:
            for subscriber, first in snapshots.items():
                if subscriber in self._subscribers:
                    subscriber.write(subscriber.format.frame(first), first)

        return write if snapshots else None

    def _attach(self, subscriber: Subscriber, first: bytes | None, here: Cursor) -> None:
        if subscriber.closed.done() or subscriber.attached.done():
            self._gone(subscriber)
            return
        if first is None:
            first = self._missed(subscriber)
            if first is None:
                subscriber.missing = here
        if first:
            subscriber.hold_first(first)
        subscriber.leave = self.remove
        self._subscribers[subscriber] = None
        self._users[subscriber.user_id] = self._users.get(subscriber.user_id, 0) + 1
        self._lobby += subscriber.lobby
        self._anonymous_viewers += subscriber.onlooker
        if not subscriber.attached.done():
            subscriber.attached.set_result(None)

    def _gone(self, subscriber: Subscriber) -> None:
        """Deal with a stream that has ended before it was in: the session believes that it is."""
        if subscriber.user_id not in self._users:
            self._hub.disconnected(self.session_id, subscriber.user_id)

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
        self._anonymous_viewers -= subscriber.onlooker
        self._users[subscriber.user_id] -= 1
        if not self._users[subscriber.user_id]:
            del self._users[subscriber.user_id]
            self._hub.disconnected(self.session_id, subscriber.user_id)

    @property
    def empty(self) -> bool:
        return not self._subscribers


def revokes_guest_access(out: Published) -> bool:
    """Return whether users who only watch may not do so any more after an event."""
    revokes = out.rule.revokes_guest_access
    return revokes is not None and revokes(out.recorded.event)


Form = Callable[[VisibleEvent, State], bytes | None]


def printed(
    form: Form, events: Iterable[tuple[VisibleEvent, State]], encoded: dict[object, bytes | None]
) -> list[bytes] | None:
    """Encode events, each once: `encoded` keeps them, by form and event. Return None if that fails, which is logged."""
    frames = []
    for visible, state in events:
        key = form, visible
        if key not in encoded:
            try:
                encoded[key] = form(visible, state) or b""
            except Exception:
                logger.exception("event %s of session %s cannot be encoded", visible.seq, state.session.id)
                encoded[key] = None
        if (frame := encoded[key]) is None:
            return None
        frames.append(frame)
    return frames


def framed(format: StreamEncoder, frames: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Join frames: as they go on the wire, and bare."""
    joined = b"".join(frames)
    return format.frame(joined) if joined else b"", joined


def replayed(subscriber: Subscriber, cursor: Cursor, missed: Sequence[Published]) -> bytes | None:
    """Return `resumed` and the events after a cursor that this subscriber may see.

    None: other parts of the session have become visible to them meanwhile, so that they need a snapshot."""
    format, user_id = subscriber.format, subscriber.user_id
    if format.keeps_view and any(new_view(out.recorded.event, out.state.session.owner_id) == user_id for out in missed):
        return None
    frames = []
    for out in missed:
        visible = subscriber.receives(out)
        if visible is not None and (frame := format.event(visible, out.state)):
            frames.append(frame)
    last = missed[-1].recorded if missed else None
    to = Cursor(last.epoch, last.seq) if last else cursor
    return format.resumed(cursor, to, len(frames)) + b"".join(frames)
