"""A subscriber: one open stream, as the fan-out uses it. It has a transport and a bound, but no queue and no task.

**Law:** nothing is written before the snapshot or the missed events, and nothing after the last frame. The bytes that
wait for a slow reader are bounded: beyond that its connection is aborted, and the client resumes from its cursor.
"""

import asyncio
import random
from collections.abc import Callable

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.visibility import Published, VisibleEvent
from server.streams.format import RETRY_MS, Bye, Cursor, StreamEncoder

RELAYED = (e.CursorMoved, e.TypingChanged)
RELAY_ABOVE_BYTES = 16_384
"""If more than this waits for a reader, only the latest cursor and typing frames of each user are kept for it."""


class Subscriber:
    """One open stream. It holds frames back until `open` gives it a transport."""

    __slots__ = (
        "_held", "_held_bytes", "_latest", "_transport", "anonymous", "attached", "closed", "cursor", "detached",
        "encoder", "expires_at", "leave", "limit", "lobby", "login", "missing", "reason", "slice", "user_id",
    )  # fmt: skip

    def __init__(
        self,
        user_id: UserId,
        login: str,
        encoder: StreamEncoder,
        *,
        cursor: Cursor | None,
        expires_at: float,
        limit: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.user_id = user_id
        self.login = login
        self.encoder = encoder
        self.cursor = cursor
        self.expires_at = expires_at
        self.limit = limit
        self.lobby = False
        """Its user waits to be admitted, and sees only events that concern them."""
        self.anonymous = False
        """Its viewer is not a participant: the session does not know of this stream."""
        self.slice = 0
        """The slice of the heartbeat that it belongs to."""
        self.detached = False
        """Its connection has been taken back from aiohttp, and says when the stream is over."""
        self.leave: Callable[[Subscriber], None] | None = None
        """Its channel's `remove`, once it is in one."""
        self.attached: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.reason: Bye | None = None
        self.missing: Cursor | None = None
        """Up to which cursor missed events must be read from the log: the channel no longer remembers them all."""
        self._transport: asyncio.WriteTransport | None = None
        self._held: list[bytes] | None = []
        self._held_bytes = 0
        self._latest: dict[tuple[type, UserId], bytes] | None = None

    @property
    def buffered_bytes(self) -> int:
        """The bytes that wait for this stream's reader."""
        if self._transport is None:
            return self._held_bytes if self._held else 0
        return self._transport.get_write_buffer_size()

    def open(self, transport: asyncio.WriteTransport, missed: bytes = b"") -> None:
        """Write the missed events from the log and the frames held so far, and go live."""
        held, self._held = self._held, None
        self._transport = transport
        first = missed + b"".join(held or ())
        # A snapshot may be larger than the bound: it does not count against it.
        self.limit += len(first)
        if first and not transport.is_closing():
            transport.write(self.encoder.frame(first))
        if self.reason is not None:
            self._finish()

    def write(self, wire: bytes, frames: bytes) -> None:
        """Write frames. `wire` is the same as `frames`, framed once for all subscribers of an encoder."""
        transport = self._transport
        if transport is None:
            self._hold(frames)
        elif transport.get_write_buffer_size() > self.limit:
            self.close("slow")
        # The connection may be gone before its handler knows: uvloop would raise, in the middle of the fan-out.
        elif not transport.is_closing():
            if self._latest is not None:
                self._flush_latest(transport)
            if wire:
                transport.write(wire)

    def relay(self, kind: type, by: UserId, wire: bytes, frames: bytes) -> None:
        """Write an ephemeral frame. A slow reader gets only the latest cursor and typing frames."""
        transport = self._transport
        if transport is not None and kind in RELAYED and transport.get_write_buffer_size() > RELAY_ABOVE_BYTES:
            self._latest = self._latest or {}
            self._latest[kind, by] = wire
        else:
            self.write(wire, frames)

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
        """Hold the first frames, which do not count against the bound."""
        if self._held is not None:
            self._held.append(frames)

    def heartbeat(self, wire: bytes, frames: bytes, now: float) -> None:
        """Write a heartbeat, or close the stream if its time is up."""
        if self.expires_at <= now:
            self.close("expired")
        elif self._transport is not None:
            self.write(wire, frames)

    def may_see(self, audience: frozenset[UserId] | None) -> bool:
        """Return whether the user may see an event with this audience; None: everyone who has been admitted."""
        return not self.lobby if audience is None else self.user_id in audience

    def receives(self, out: Published) -> VisibleEvent | None:
        """Return what this stream carries of an event; None for nothing."""
        if self.lobby and out.audience is None and not self.encoder.keeps_view:
            return None
        return out.visible_to(self.user_id, lobby=self.lobby)

    def close(self, reason: Bye) -> None:
        """End the stream with a last frame that says why, or abort the connection of a reader that is too slow."""
        if self.reason is not None or self.closed.done():
            return
        self.reason = reason
        if self._transport is not None:
            self._finish()

    def _finish(self) -> None:
        # Nothing is written after the last frame, however long the connection takes to close.
        transport, self._transport = self._transport, None
        reason = self.reason
        if transport is not None and reason is not None:
            if reason == "slow":
                transport.abort()
            elif not transport.is_closing():
                retry = RETRY_MS[reason]
                if reason == "draining" and retry is not None:
                    retry = random.randint(retry // 10, 2 * retry)  # noqa: S311 - only spreads load
                if last := self.encoder.bye(reason, retry):
                    transport.write(self.encoder.frame(last))
        if not self.closed.done():
            self.closed.set_result(None)
