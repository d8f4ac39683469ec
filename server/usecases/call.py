"""A verified and decoded request, and what a use case may answer besides a plain value."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Generic

from msgspec import Struct
from typing_extensions import TypeVar

from actors.messages import Key
from actors.session.ids import Millis, SessionId
from actors.session.visibility import VisibleEvent
from server.security.principal import Principal
from storage.sessions import SessionMembership

Body = TypeVar("Body", covariant=True, default=Any)
Query = TypeVar("Query", covariant=True, default=Any)


class Call(Struct, Generic[Body, Query], frozen=True):
    """A request, verified and decoded. `session_id` is the session that its path or body names.

    `Call[Login]` has a body of that type, `Call[object, ChatQuery]` a query; a function that takes a bare `Call` reads
    neither. `body=` and `query=` of the row say what is decoded."""

    params: Mapping[str, str]
    query: Query
    body: Body
    caller: Principal | None
    session_id: SessionId
    address: str
    by_code: bool = False
    """Whether the request names the session by its join code."""
    origin: str = ""
    """How the client reached the server, for links: `https://live.example.org`."""
    last_event_id: str | None = None
    key: Key | None = None
    """The Idempotency-Key, if the client sent one and the row takes one."""
    now: Millis = Millis(0)
    """The time at which a row's functions read the session."""
    # Any: the functions of one row agree on these three types. Each API has its own.
    known: Any = None
    """The value of the row's `lookup`, from outside of the session."""
    # Any: as above.
    found: Any = None
    """The value of the row's `find`, from the session before the command."""
    # Any: as above.
    seen: Any = None
    """The value of the row's `see`, from the session after the command."""
    made: Sequence[VisibleEvent] = ()
    """The events of the row's command."""

    read: SessionMembership | None = None
    """The session and the caller's membership of it, if the row declares `reads`."""

    @property
    def card(self) -> SessionMembership:
        """The session that the caller may read, and their membership of it. Raise TypeError without `reads`."""
        if self.read is None:
            raise TypeError("this route does not say what it reads of a session")
        return self.read

    @property
    def principal(self) -> Principal:
        """The caller. Raise TypeError on a row that serves callers without a credential."""
        if self.caller is None:
            raise TypeError("this route takes callers without a credential")
        return self.caller


class Download(Struct, frozen=True):
    """A body of any length. Each part is produced after the one before was sent. `reader` is None for a signed URL."""

    filename: str
    content_type: str
    parts: AsyncGenerator[bytes, None]
    reader: Principal | None


class Content(Struct, frozen=True):
    """A blob as an answer. `etag` is strong and quoted: the blob of a key never changes."""

    blob_key: str
    size_bytes: int
    content_type: str
    etag: str
    whole: bool = False
    """Whether to ignore Range and send all of it."""
    headers: Mapping[str, str] = {}


class Playing(Struct, frozen=True):
    """Complete SSE frames, each produced when it is due. `reader` is None for a signed URL."""

    frames: AsyncGenerator[bytes, None]
    reader: Principal | None
