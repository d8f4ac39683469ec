"""The hub: all open streams of this process, their channels, and what is done to every one of them.

**Law:** a session hears that somebody is gone when the last of their streams has closed, however busy it is then.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable

from actors.messages import Execute, Fenced, Outcome, Unavailable
from actors.session.commands import Caller, Disconnect
from actors.session.ids import Millis, SessionId, UserId
from server.settings.sections import StreamsSettings
from server.streams.channel import Channel
from server.streams.format import StreamEncoder
from server.streams.subscriber import Subscriber

HEARTBEAT_SLICES = 15


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

    def __init__(self, settings: StreamsSettings, *, streams_per_user: int, clock: Callable[[], Millis]) -> None:
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
        if subscriber.leave is not None:
            subscriber.leave(subscriber)

    def disconnected(self, session_id: SessionId, user_id: UserId) -> None:
        _Departure(self, session_id, user_id).tell()

    def listens(self, session_id: SessionId, user_id: UserId) -> bool:
        """Say whether a user has a stream of a session open; while draining that is of no interest any more."""
        channel = self._channels.get(session_id)
        return self._draining or (channel is not None and user_id in channel.users())

    def close_login(self, user_id: UserId | None, login: str) -> None:
        """End the streams opened under a login that is over; None looks through everybody's for it."""
        streams = self._by_user.get(user_id, ()) if user_id else [s for slice in self._slices for s in slice]
        for subscriber in list(streams):
            if subscriber.login == login:
                subscriber.close("expired")

    async def heartbeat(self) -> None:
        """Send heartbeats, a slice of the streams at a time, and end those whose time is up; until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for slice in self._slices:
                await asyncio.sleep(self.settings.heartbeat_s / HEARTBEAT_SLICES)
                now = loop.time()
                beats: dict[StreamEncoder, bytes] = {}
                for subscriber in list(slice):
                    format = subscriber.format
                    wrapped = beats.get(format) or beats.setdefault(format, format.frame(format.heartbeat))
                    subscriber.beat(wrapped, format.heartbeat, now)

    def drain(self) -> None:
        """Send everyone away; they come back to a server that is not shutting down."""
        self._draining = True
        for slice in self._slices:
            for subscriber in list(slice):
                subscriber.close("draining")
