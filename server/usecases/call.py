"""A verified and decoded request, and what a use case may answer besides a plain value."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from msgspec import Struct

from actors.messages import Key
from actors.session.ids import Millis, SessionId
from actors.session.visibility import VisibleEvent
from server.security.principal import Principal
from storage.sessions import SessionMembership


class Call(Struct, frozen=True):
    """A request, verified and decoded. `session_id` is what the row's reference led to."""

    params: Mapping[str, str]
    query: Any
    body: Any
    caller: Principal | None
    session_id: SessionId
    address: str
    by_code: bool = False
    """The reference was the session's join code."""
    origin: str = ""
    """How the client reached the server, for links: `https://live.example.org`."""
    last_event_id: str | None = None
    key: Key | None = None
    """The Idempotency-Key, where the row takes one."""
    now: Millis = Millis(0)
    """When a row's functions look at the session."""
    known: Any = None
    """What a row's `lookup` found outside of the session."""
    found: Any = None
    """What a row's `find` saw in the session before its command."""
    seen: Any = None
    """What its `see` saw after it."""
    made: Sequence[VisibleEvent] = ()
    """What a row's command has made happen."""

    read: SessionMembership | None = None
    """The session and the caller's membership of it, where the row says what it reads (`reads`)."""

    @property
    def card(self) -> SessionMembership:
        """The session that the caller may read, and their membership of it."""
        if self.read is None:
            raise TypeError("this route does not say what it reads of a session")
        return self.read

    @property
    def principal(self) -> Principal:
        if self.caller is None:
            raise TypeError("this route takes callers without a credential")
        return self.caller


class Download(Struct, frozen=True):
    """A body of any length: each part is made when the one before has gone out. `reader` is None for a signed URL."""

    filename: str
    content_type: str
    parts: AsyncGenerator[bytes, None]
    reader: Principal | None


class Content(Struct, frozen=True):
    """A blob as an answer. `etag` is strong, in its quotes: what a key leads to never changes."""

    blob_key: str
    size_bytes: int
    content_type: str
    etag: str
    whole: bool = False
    """Ranges are not minded."""
    headers: Mapping[str, str] = {}


class Playing(Struct, frozen=True):
    """Whole SSE frames, each given when it is due."""

    frames: AsyncGenerator[bytes, None]
    reader: Principal | None
