"""The interface of room providers."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from actors.session.ids import Millis, UserId
from actors.session.state import RecordingStatus, Room
from server.security.principal import Principal


class RoomFailed(Exception):
    """A provider failed to do something. `certain`: it has certainly not done it. `status` is that of its response."""

    def __init__(self, why: str, *, certain: bool = False, status: int | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.certain = certain
        self.status = status


class NewRoom(Struct, frozen=True, kw_only=True):
    """A room to create. `expires_at` is in Unix seconds."""

    name: str
    capacity: int
    chat: bool
    recording: bool
    expires_at: int


class RoomTokenRequest(Struct, frozen=True, kw_only=True):
    """A token to create: for which caller and room, and until when (Unix seconds)."""

    session_id: str
    room: Room
    who: Principal
    is_owner: bool
    expires_at: int


class DownloadLink(Struct, frozen=True):
    """The URL from which a provider's recording can be downloaded, and when it expires."""

    url: str
    expires_at: Millis


class ProviderRecording(Struct, frozen=True, kw_only=True):
    """A recording at its provider, with the provider's id."""

    recording_id: str
    status: RecordingStatus
    started_at: Millis
    duration_ms: int | None = None
    s3_key: str | None = None


class RoomProvider(Protocol):
    """A provider of rooms. Every method raises RoomFailed if the provider fails."""

    async def create_room(self, room: NewRoom) -> str:
        """Create a room and return its URL."""

    async def delete(self, name: str) -> None:
        """Delete a room. Succeed if there is none."""

    async def create_token(self, request: RoomTokenRequest) -> str:
        """Return a new token that gives access to a room."""

    async def eject(self, name: str, user_id: UserId, *, ban: bool) -> None:
        """Remove a participant from a room."""

    async def start_recording(self, name: str) -> None:
        """Start recording a room."""

    async def stop_recording(self, name: str) -> None:
        """Stop recording a room."""

    async def recordings(self, name: str) -> Sequence[ProviderRecording]:
        """Return a room's latest recordings, latest first."""

    async def link(self, recording_id: str) -> DownloadLink:
        """Return the URL of a recording."""
