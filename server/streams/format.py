"""How an API encodes the frames of a stream, and the cursors that say where in the log a client stands.

The encoder of `/v1` is in `v1/frames.py`; those of the dialects are made by `api/dialect_frames.py`.
"""

from collections.abc import Callable, Hashable
from typing import Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.streams.wire import Framing, sse_chunk

Bye = Literal["expired", "kicked", "ended", "draining", "slow", "left", "admitted"]
RETRY_MS: dict[Bye, int | None] = {
    "expired": 0, "kicked": None, "ended": None, "draining": 1_000, "slow": 1_000, "left": None, "admitted": 0,
}  # fmt: skip
"""When a client may reconnect by itself; None: never. Draining is spread at random, from a tenth to double."""


class Cursor(Struct, frozen=True):
    """A position in a session's log. It is valid while the row at `seq` has that `epoch`."""

    epoch: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> "Cursor | None":
        """Parse `<epoch>-<seq>`. Return None if the text is no cursor."""
        epoch, dash, seq = text.partition("-")
        if dash and epoch.isascii() and epoch.isdigit() and seq.isascii() and seq.isdigit() and len(text) < 24:
            return cls(int(epoch), int(seq))
        return None

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


class StreamEncoder(Struct, frozen=True, eq=False):
    """How an API encodes frames, and how they go on the wire.

    Each function returns complete frames, or None for an event that the API does not show."""

    event: Callable[[VisibleEvent, State], bytes | None]
    """The state is for facts that never change, such as names and numbers."""
    event_without_id: Callable[[VisibleEvent, State], bytes | None]
    """The same without its cursor, for the lobby: a participant who is admitted starts afresh, and not from there."""
    relayed: Callable[[e.Event, UserId, Millis, State], bytes | None]
    """An ephemeral event, of a user and a time."""
    snapshot: Callable[[State, UserId, Millis, dict[Hashable, bytes]], bytes]
    """The body of the first frame, as one viewer may see the session. The last argument is a cache for parts that many
    viewers share; it lives as long as that state does."""
    first: Callable[[Cursor | None, bytes], bytes]
    """The frame of a snapshot. In the lobby it has no cursor, for the same reason as `event_without_id`."""
    resumed: Callable[[Cursor, Cursor, int], bytes]
    """The frame before missed events: from which cursor, up to which, and how many frames."""
    reset: Callable[[str], bytes]
    """The frame that says why a cursor cannot be served."""
    bye: Callable[[Bye, int | None], bytes]
    """The last frame: the reason, and the milliseconds after which the client may reconnect."""
    heartbeat: bytes
    """Empty where the connection itself has heartbeats."""
    keeps_view: bool = False
    """Clients keep their view of the session from the frames. Those in the lobby receive the session's own facts; those
    who become a moderator, or stop being one, get a new snapshot (`event_rules.new_view`)."""
    frame: Framing = sse_chunk
    """Returns what is written to the connection for one or several frames."""
