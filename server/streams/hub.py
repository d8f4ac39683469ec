"""The hub: all open streams of this process, the channels they belong to, heartbeats and draining.

**Law:** a session learns that a user is disconnected when the last of their streams has closed, however busy it is.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial

from actors.messages import Execute, Fenced, Outcome, Unavailable
from actors.session.commands import Caller, Disconnect
from actors.session.ids import Millis, SessionId, UserId
from server.settings.sections import StreamsSettings
from server.streams.channel import Channel
from server.streams.format import RETRY_MS, StreamEncoder
from server.streams.subscriber import Subscriber

HEARTBEAT_SLICES = 15
Tell = Callable[[SessionId, Execute], Unavailable | None]
"""Sends a command to a session; returns why it is not accepted now, if so."""


class _Departure:
    """Tells a session that a user's last stream has closed, and repeats it while the session is too busy."""

    __slots__ = ("_hub", "_pause_s", "_session_id", "_tell", "_user_id")

    def __init__(self, hub: "Hub", tell: Tell, session_id: SessionId, user_id: UserId) -> None:
        self._tell = tell
        self._hub = hub
        self._session_id = session_id
        self._user_id = user_id
        self._pause_s = 0.25

    def tell(self) -> None:
        if not self._hub.listens(self._session_id, self._user_id):
            message = Execute(Disconnect(), Caller(self._user_id, ""), self)
            if refusal := self._tell(self._session_id, message):
                self.set_result(refusal)

    def done(self) -> bool:
        return False

    def set_result(self, outcome: Outcome) -> None:
        if isinstance(outcome, Unavailable | Fenced):
            asyncio.get_running_loop().call_later(self._pause_s, self.tell)
            self._pause_s = min(2 * self._pause_s, 30.0)


class Hub:
    """All open streams of this process."""

    def __init__(self, settings: StreamsSettings, *, streams_per_user: int, clock: Callable[[], Millis]) -> None:
        self.settings = settings
        self.clock = clock
        self.published = 0
        self.opened = 0
        self.closed: Counter[str] = Counter(dict.fromkeys((*RETRY_MS, "client"), 0))
        """Streams that have ended, by reason; `client`: the client or the network ended them."""
        self.delivered = 0
        self._streams_per_user = streams_per_user
        self._channels: dict[SessionId, Channel] = {}
        self._by_user: defaultdict[UserId, dict[Subscriber, None]] = defaultdict(dict)
        self._slices: list[dict[Subscriber, None]] = [{} for _ in range(HEARTBEAT_SLICES)]
        self._next_slice = 0
        self._draining = False

    def __len__(self) -> int:
        return sum(len(slice) for slice in self._slices)

    @property
    def buffered_bytes(self) -> int:
        """The bytes that wait for readers of streams."""
        return sum(subscriber.buffered_bytes for slice in self._slices for subscriber in slice)

    def channel(self, session_id: SessionId, tell: Tell) -> Channel:
        """Return a session's channel, made if need be. It reports by `tell` that a user's last stream has closed."""
        channel = self._channels.get(session_id)
        if channel is None:
            channel = self._channels[session_id] = Channel(
                session_id, self, partial(self._disconnected, tell, session_id)
            )
        return channel

    def forget(self, session_id: SessionId) -> None:
        """Drop a session's channel if it has no subscribers."""
        channel = self._channels.get(session_id)
        if channel is not None and channel.empty:
            del self._channels[session_id]

    def register(self, subscriber: Subscriber) -> bool:
        """Count a stream. Return False, and do not count it, if its user has the most streams allowed."""
        streams = self._by_user[subscriber.user_id]
        if len(streams) >= self._streams_per_user:
            return False
        streams[subscriber] = None
        self._next_slice = subscriber.slice = (self._next_slice + 1) % HEARTBEAT_SLICES
        self._slices[subscriber.slice][subscriber] = None
        self.opened += 1
        if self._draining:
            subscriber.close("draining")
        return True

    def unregister(self, subscriber: Subscriber) -> None:
        """Count a stream out, mark it closed and remove it from its channel. May be called repeatedly."""
        streams = self._by_user[subscriber.user_id]
        streams.pop(subscriber, None)
        if not streams:
            del self._by_user[subscriber.user_id]
        if subscriber in self._slices[subscriber.slice]:
            del self._slices[subscriber.slice][subscriber]
            self.closed[subscriber.reason or "client"] += 1
        if not subscriber.closed.done():
            subscriber.closed.set_result(None)
        if subscriber.leave is not None:
            subscriber.leave(subscriber)

    def _disconnected(self, tell: Tell, session_id: SessionId, user_id: UserId) -> None:
        _Departure(self, tell, session_id, user_id).tell()

    def listens(self, session_id: SessionId, user_id: UserId) -> bool:
        """Return whether a user has a stream of a session open. While draining, everyone counts as having one."""
        channel = self._channels.get(session_id)
        return self._draining or (channel is not None and user_id in channel.users())

    def close_login(self, user_id: UserId | None, login: str) -> None:
        """Close the streams that were opened with a login that has ended. `user_id` None: search all users' streams."""
        streams = self._by_user.get(user_id, ()) if user_id else [s for slice in self._slices for s in slice]
        for subscriber in list(streams):
            if subscriber.login == login:
                subscriber.close("expired")

    async def heartbeat(self) -> None:
        """Send heartbeats to one slice of the streams at a time, and close those whose time is up. Never return."""
        loop = asyncio.get_running_loop()
        while True:
            for slice in self._slices:
                await asyncio.sleep(self.settings.heartbeat_s / HEARTBEAT_SLICES)
                now = loop.time()
                beats: dict[StreamEncoder, bytes] = {}
                for subscriber in list(slice):
                    encoder = subscriber.encoder
                    wire = beats.get(encoder) or beats.setdefault(encoder, encoder.frame(encoder.heartbeat))
                    subscriber.heartbeat(wire, encoder.heartbeat, now)

    def drain(self) -> None:
        """Close all streams, and each that is opened later; clients reconnect to a server that is not shutting down."""
        self._draining = True
        for slice in self._slices:
            for subscriber in list(slice):
                subscriber.close("draining")
