"""What a provider of rooms is."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from actors.session.ids import Millis, UserId
from actors.session.state import RecordingStatus, Room
from server.security.principal import Principal


class RoomFailed(Exception):
    """A provider did not do what it was asked. `certain`: nothing has come of it. `status`: its answer's."""

    def __init__(self, why: str, *, certain: bool = False, status: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.certain = certain
        self.status = status


class NewRoom(Struct, frozen=True, kw_only=True):
    """A room to be made; `expires_at` in unix seconds."""

    name: str
    capacity: int
    chat: bool
    recording: bool
    expires_at: int


class Pass(Struct, frozen=True, kw_only=True):
    """A token to be made: whom it lets in, as what, until when (unix seconds)."""

    session_id: str
    room: Room
    who: Principal
    is_owner: bool
    expires_at: int


class Link(Struct, frozen=True):
    """Where a provider's recording can be downloaded, and until when."""

    url: str
    expires_at: Millis


class Taped(Struct, frozen=True, kw_only=True):
    """A recording as its provider has it, by the provider's id."""

    recording_id: str
    status: RecordingStatus
    started_at: Millis
    duration_ms: int | None = None
    s3_key: str | None = None


class Provider(Protocol):
    """Each of these raises RoomFailed."""

    async def make(self, wanted: NewRoom) -> str:
        """Make a room; give its URL, as `Room` has it."""

    async def delete(self, name: str) -> None:
        """See that a room is gone."""

    async def token(self, wanted: Pass) -> str:
        """Make a token that lets somebody into a room."""

    async def eject(self, name: str, user_id: UserId, *, ban: bool) -> None:
        """Remove somebody from a room."""

    async def start_recording(self, name: str) -> None: ...

    async def stop_recording(self, name: str) -> None: ...

    async def recordings(self, name: str) -> Sequence[Taped]:
        """List a room's recordings, latest first: a bounded number of them."""

    async def link(self, recording_id: str) -> Link:
        """Say where the provider's recording can be had."""
