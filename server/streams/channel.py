"""A channel: the streams of one session. Each event is encoded once per encoder, then written to all in a plain loop.

**Law:** a subscriber gets the events after its snapshot or cursor, each once and in order. A cursor that cannot be
served in full gets a reset, never a part. If an encoder fails, only the streams that use it end.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from typing import Any, Protocol

from actors.session import events as e
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import State
from actors.session.visibility import Published
from server.settings.sections import StreamsSettings
from server.streams.encoding import encode_events, encode_missed, framed
from server.streams.format import Bye, Cursor, StreamEncoder
from server.streams.subscriber import Subscriber
from server.streams.tail import Tail

logger = logging.getLogger(__name__)

Framed = tuple[bytes, bytes] | None
"""Frames as they go on the wire and as they are; None: they cannot be encoded."""


class ChannelOwner(Protocol):
    """The hub, as its channels use it."""

    settings: StreamsSettings
    clock: Callable[[], Millis]
    published: int
    delivered: int


class Channel:
    """The streams of one session, and its latest events for subscribers that reconnect.

    `disconnected` is called with a user whose last stream has closed."""

    __slots__ = (
        "_anonymous_viewers", "_disconnected", "_hub", "_lobby", "_subscribers", "_tail", "_users", "last_seq",
        "session_id",
    )  # fmt: skip

    def __init__(self, session_id: SessionId, hub: ChannelOwner, disconnected: Callable[[UserId], None]) -> None:
        self._disconnected = disconnected
        self.session_id = session_id
        self.last_seq = 0
        self._hub = hub
        self._subscribers: dict[Subscriber, None] = {}
        self._users: dict[UserId, int] = {}
        """How many streams each user has."""
        self._lobby = 0
        """How many subscribers wait to be admitted."""
        self._anonymous_viewers = 0
        self._tail = Tail(hub.settings)

    def __iter__(self) -> Iterator[Subscriber]:
        return iter(self._subscribers)

    def users(self) -> Collection[UserId]:
        """Return the users who have a stream."""
        return self._users.keys()

    @property
    def empty(self) -> bool:
        """Whether nobody is subscribed."""
        return not self._subscribers

    # Called by the session's actor

    def publish(self, batch: Sequence[Published]) -> None:
        """Write committed events to the subscribers that may see them. Skip those that were published before."""
        if batch[0].recorded.seq <= self.last_seq:
            batch = [out for out in batch if out.recorded.seq > self.last_seq]
            if not batch:
                return
        self.last_seq = batch[-1].recorded.seq
        self._tail.remember(batch)
        self._hub.published += len(batch)
        if not self._subscribers:
            return
        # A subscriber that an event disconnects still gets that event, and nothing after it.
        start = 0
        for index, out in enumerate(batch):
            ends = out.rule.streams
            if ends != "continue" and (ends != "admitted" or self._lobby):
                self._write(batch[start : index + 1])
                start = index + 1
                self._close_streams(out.recorded.event, ends)
            elif self._anonymous_viewers and revokes_guest_access(out):
                self._write(batch[start : index + 1])
                start = index + 1
                self._close_anonymous()
        if start < len(batch):
            self._write(batch[start:])

    def restored(self, state: State) -> None:
        """Go on with the state of a new actor."""
        self.last_seq = state.seq
        self._tail.replace_state(state)

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        """Write an ephemeral event to the subscribers that may see it."""
        frames: dict[StreamEncoder, Framed] = {}
        for subscriber in list(self._subscribers):
            if not subscriber.may_see(audience):
                continue
            encoder = subscriber.encoder
            if encoder not in frames:
                try:
                    frame = encoder.relayed(event, by, at, state)
                except Exception:
                    logger.exception("a %s cannot be encoded; its readers miss it", type(event).__name__)
                    frame = None
                frames[encoder] = None if frame is None else (encoder.frame(frame), frame)
            if ready := frames[encoder]:
                subscriber.relay(type(event), by, *ready)

    # Any: the actor's port has no type for subscribers, which only channels know.
    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        """Encode the first frames of new subscribers from the state as it is now. Return a function that attaches them.

        An error of an encoder is set on the subscriber's `attached`, where its handler raises it."""
        here = Cursor(state.epoch, state.seq)
        now = self._hub.clock()
        shared: defaultdict[StreamEncoder, dict[Hashable, bytes]] = defaultdict(dict)
        firsts: list[tuple[Subscriber, bytes | None]] = []
        for subscriber in subscribers:
            try:
                firsts.append((subscriber, first_frame(subscriber, state, now, shared[subscriber.encoder])))
            except Exception as error:  # noqa: BLE001 - the handler of the stream raises it
                subscriber.attached.set_exception(error)
                firsts.append((subscriber, b""))
        over = state.session.status in ("ended", "cancelled")

        def attach() -> None:
            for subscriber, first in firsts:
                try:
                    self._attach(subscriber, first, here)
                except Exception as error:  # noqa: BLE001 - as above
                    subscriber.attached.set_exception(error)
                    self._disconnect(subscriber)
                if over:
                    self._close(subscriber, "ended")

        return attach

    # Any: the actor's port has no type for subscribers, which only channels know.
    def refresh(self, user_ids: Collection[UserId], arriving: Sequence[Any], state: State) -> Callable[[], None] | None:
        """Encode new snapshots for users whose view of the session has changed otherwise than by the frames.

        Return a function that writes them; None if no stream needs one. `arriving`: subscribers that `admit` attaches
        between these two."""
        here, now = Cursor(state.epoch, state.seq), self._hub.clock()
        shared: defaultdict[StreamEncoder, dict[Hashable, bytes]] = defaultdict(dict)
        snapshots: dict[Subscriber, bytes] = {}
        for subscriber in (*self._subscribers, *arriving):
            encoder = subscriber.encoder
            if subscriber.user_id in user_ids and encoder.keeps_view and not subscriber.lobby:
                body = encoder.snapshot(state, subscriber.user_id, now, shared[encoder])
                snapshots[subscriber] = encoder.first(here, body)

        def write() -> None:
            for subscriber, first in snapshots.items():
                if subscriber in self._subscribers:
                    subscriber.write(subscriber.encoder.frame(first), first)

        return write if snapshots else None

    # Called by subscribers

    def remove(self, subscriber: Subscriber) -> None:
        """Remove a stream. If it was its user's last one, tell the session that the user is disconnected."""
        if subscriber not in self._subscribers:
            return
        del self._subscribers[subscriber]
        self._lobby -= subscriber.lobby
        self._anonymous_viewers -= subscriber.anonymous
        self._users[subscriber.user_id] -= 1
        if not self._users[subscriber.user_id]:
            del self._users[subscriber.user_id]
            self._disconnected(subscriber.user_id)

    # Writing

    def _write(self, batch: Sequence[Published]) -> None:
        """Encode once per encoder; everything after that is writes."""
        private = [out for out in batch if out.audience is not None or out.confidants is not None]
        if self._lobby or private:
            self._write_by_audience(batch)
            return
        encoded: dict[StreamEncoder, Framed] = {}
        encoder: StreamEncoder | None = None
        wire = frames = b""
        for subscriber in list(self._subscribers):
            if subscriber.encoder is not encoder:
                encoder = subscriber.encoder
                if encoder not in encoded:
                    ready = encode_events(encoder.event, [(out.public, out.state) for out in batch], {})
                    encoded[encoder] = None if ready is None else framed(encoder, ready)
                wire, frames = encoded[encoder] or (b"", b"")
            if frames:
                subscriber.write(wire, frames)
            elif encoded[encoder] is None:
                self._close(subscriber, "slow")
        self._hub.delivered += len(batch) * len(self._subscribers)

    def _write_by_audience(self, batch: Sequence[Published]) -> None:
        """Write to each subscriber what it may see: encoded once per encoder, joined once per audience."""
        encoded: dict[object, bytes | None] = {}
        joined: dict[object, Framed] = {}
        for subscriber in list(self._subscribers):
            visible = tuple([subscriber.receives(out) for out in batch])
            encoder = subscriber.encoder
            key = encoder, subscriber.lobby, visible
            if key not in joined:
                encode = encoder.event_without_id if subscriber.lobby else encoder.event
                pairs = [(one, out.state) for one, out in zip(visible, batch, strict=True) if one is not None]
                frames = encode_events(encode, pairs, encoded)
                joined[key] = None if frames is None else framed(encoder, frames)
            ready = joined[key]
            if ready is None:
                self._close(subscriber, "slow")
            elif ready[1]:
                subscriber.write(*ready)
                self._hub.delivered += len(visible) - visible.count(None)

    # Attaching and closing

    def _attach(self, subscriber: Subscriber, first: bytes | None, here: Cursor) -> None:
        if subscriber.closed.done() or subscriber.attached.done():
            self._disconnect(subscriber)
            return
        if first is None:
            assert subscriber.cursor is not None
            missed = self._tail.after(subscriber.cursor)
            first = None if missed is None else encode_missed(subscriber, subscriber.cursor, missed)
            if first is None:
                subscriber.missing = here
        if first:
            subscriber.hold_first(first)
        subscriber.leave = self.remove
        self._subscribers[subscriber] = None
        self._users[subscriber.user_id] = self._users.get(subscriber.user_id, 0) + 1
        self._lobby += subscriber.lobby
        self._anonymous_viewers += subscriber.anonymous
        if not subscriber.attached.done():
            subscriber.attached.set_result(None)

    def _disconnect(self, subscriber: Subscriber) -> None:
        """Tell the session that a stream ended before it was attached: it counts its user as connected."""
        if subscriber.user_id not in self._users:
            self._disconnected(subscriber.user_id)

    def _close_streams(self, event: Any, reason: Bye) -> None:
        """Close all streams, or those of the event's participant (`EventRule.streams`). Admission closes only those in
        the lobby, which start afresh."""
        for subscriber in list(self._subscribers):
            if reason == "ended" or (
                subscriber.user_id == event.user_id and (subscriber.lobby or reason != "admitted")
            ):
                self._close(subscriber, reason)

    def _close_anonymous(self) -> None:
        for subscriber in list(self._subscribers):
            if subscriber.anonymous:
                self._close(subscriber, "kicked")

    def _close(self, subscriber: Subscriber, reason: Bye) -> None:
        subscriber.close(reason)
        self.remove(subscriber)


def first_frame(subscriber: Subscriber, state: State, now: Millis, shared: dict[Hashable, bytes]) -> bytes | None:
    """Encode what a subscriber gets first. Return None if that is the events it missed.

    A participant who waits in the lobby gets a snapshot without a cursor, whatever cursor they sent."""
    cursor, encoder, here = subscriber.cursor, subscriber.encoder, Cursor(state.epoch, state.seq)
    participant = state.participants.get(subscriber.user_id)
    if participant is not None and participant.status == "waiting":
        subscriber.lobby = True
        return encoder.first(None, encoder.snapshot(state, subscriber.user_id, now, shared))
    if cursor is not None and 0 < cursor.seq < here.seq and cursor.epoch <= here.epoch:
        return None
    if cursor == here:
        return encoder.resumed(here, here, 0)
    body = encoder.snapshot(state, subscriber.user_id, now, shared)
    reset = b"" if cursor is None else encoder.reset("unknown_cursor")
    return reset + encoder.first(here, body)


def revokes_guest_access(out: Published) -> bool:
    """Return whether users who only watch may no longer do so after an event."""
    revokes = out.rule.revokes_guest_access
    return revokes is not None and revokes(out.recorded.event)
