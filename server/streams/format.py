"""Formats: how an API prints the frames of a stream, where in the log a client stands, and how frames go on the wire.

Bytes only: nothing here knows a connection. The format of `/v1` is in `v1/frames.py`, those of dialects are made by
`dialect_frames.py`.
"""

from collections.abc import Callable, Hashable
from typing import Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import VisibleEvent

Bye = Literal["expired", "kicked", "ended", "draining", "slow", "left", "admitted"]
RETRY_MS: dict[Bye, int | None] = {
    "expired": 0, "kicked": None, "ended": None, "draining": 1_000, "slow": 1_000, "left": None, "admitted": 0,
}  # fmt: skip
"""When a client may come back: None is never by itself. Draining's is spread at random, up to its double."""


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


def sse_chunk(frames: bytes) -> bytes:
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


def payload(frames: bytes) -> bytes:
    """Leave frames as they are."""
    return frames


class StreamEncoder(Struct, frozen=True, eq=False):
    """How an API prints frames, and how they go on the wire. Each gives whole ones; None: this API does not show it."""

    event: Callable[[VisibleEvent, State], bytes | None]
    """The state is for looking up what never changes, such as names and numbers."""
    event_without_id: Callable[[VisibleEvent, State], bytes | None]
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
    keeps_view: bool = False
    """Clients keep their view of the session from the frames. Those in the lobby receive the session's own facts; those
    who become a moderator, or stop being one, get a new snapshot (`event_rules.new_view`)."""
    frame: Callable[[bytes], bytes] = sse_chunk
    """Makes of frames, one or several, what is written to the connection."""
