"""A subscriber: one open stream, as whoever writes to it sees it. A transport and a bound; no queue, no task.

**Law:** nothing comes before its snapshot or what it missed, and nothing after its last frame. What waits for a slow
reader is bounded: past that it is cut off, and resumes.
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
"""With more than this waiting for a reader, only the latest cursor and typing frames are kept for it."""


class Subscriber:
    """One open stream. Holds back what it is told until `open` gives it a transport and what comes first."""

    __slots__ = (
        "_held", "_held_bytes", "_latest", "_transport", "attached", "closed", "cursor", "detached", "expires_at",
        "format", "leave", "limit", "lobby", "login", "missing", "onlooker", "reason", "slice", "user_id",
    )  # fmt: skip

    def __init__(
        self,
        user_id: UserId,
        login: str,
        format: StreamEncoder,
        *,
        cursor: Cursor | None,
        expires_at: float,
        limit: int,
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
        """Its connection is no longer aiohttp's: who holds it says when the stream is over."""
        self.leave: Callable[[Subscriber], None] | None = None
        """Its channel's `remove`, once it is in one."""
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
            transport.write(self.format.frame(first))
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

    def receives(self, out: Published) -> VisibleEvent | None:
        """Return what this stream carries of an event; None for nothing."""
        if self.lobby and out.audience is None and not self.format.keeps_view:
            return None
        return out.visible_to(self.user_id, lobby=self.lobby)

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
                    transport.write(self.format.frame(last))
        if not self.closed.done():
            self.closed.set_result(None)
