"""Rooms that need no other service: a page and tokens of this server. Clients connect to each other with `signal`.

The token of a room is a token for its session that also names the room and says whether its holder is the owner.
"""

from collections.abc import Sequence

from actors.session.ids import SessionId, UserId
from server.http.uuids import new_id
from server.rooms.providers import DownloadLink, NewRoom, ProviderRecording, RoomFailed, RoomTokenRequest
from server.security.tokens import Tokens
from storage.users import User


class BuiltinRooms:
    """The provider `builtin`. `public_url` is this server's URL; if empty, room URLs are relative to each client's."""

    def __init__(self, tokens: Tokens, public_url: str) -> None:
        self._tokens = tokens
        self._public_url = public_url.rstrip("/")

    async def create_room(self, room: NewRoom) -> str:
        """Return the URL of the room's page; there is nothing to create."""
        return f"{self._public_url}/rooms/{room.name}"

    async def delete(self, name: str) -> None:
        """Do nothing: a room is only its name."""

    async def create_token(self, request: RoomTokenRequest) -> str:
        """Return a token for the session that is also one for its room."""
        who = request.who
        user = User(who.user_id, who.number, who.name, None, None, who.role, None, who.colour)
        return self._tokens.issue_scoped(
            user,
            who.login or new_id(),
            SessionId(request.session_id),
            request.expires_at,
            dates_from=who.dates_from,
            alias=who.alias,
            room=request.room.name,
            user_name=who.name,
            is_owner=request.is_owner,
        )

    async def eject(self, name: str, user_id: UserId, *, ban: bool) -> None:
        """Do nothing: the session itself disconnects participants that it removes."""

    async def start_recording(self, name: str) -> None:
        """Do nothing: the session's own timeline is the recording."""

    async def stop_recording(self, name: str) -> None:
        """Do nothing, as above."""

    async def recordings(self, name: str) -> Sequence[ProviderRecording]:
        """Return none: recordings belong to the session."""
        return ()

    async def link(self, recording_id: str) -> DownloadLink:
        """Raise RoomFailed."""
        raise RoomFailed("recordings of built-in rooms are the session's own")
