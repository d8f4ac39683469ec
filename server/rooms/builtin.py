"""Rooms with nothing else installed: a page here, and tokens signed here. Clients find each other by `signal`.

A room's token is a token for its session, which says besides for which room it is, and who is its owner.
"""

from collections.abc import Sequence

from actors.session.ids import SessionId, UserId
from server.http.uuids import new_id
from server.rooms.providers import Link, NewRoom, Pass, RoomFailed, Taped
from server.security.tokens import Tokens
from storage.users import User


class Builtin:
    """`public_url`: where clients reach this server; empty: where each of them does."""

    def __init__(self, tokens: Tokens, public_url: str) -> None:
        self._tokens = tokens
        self._public_url = public_url.rstrip("/")

    async def make(self, wanted: NewRoom) -> str:
        return f"{self._public_url}/rooms/{wanted.name}"

    async def delete(self, name: str) -> None:
        """There is nothing but the name."""

    async def token(self, wanted: Pass) -> str:
        who = wanted.who
        user = User(who.user_id, who.number, who.name, None, None, who.role, None, who.colour)
        return self._tokens.issue_scoped(
            user,
            who.login or new_id(),
            SessionId(wanted.session_id),
            wanted.expires_at,
            dates_from=who.dates_from,
            alias=who.alias,
            room=wanted.room.name,
            user_name=who.name,
            is_owner=wanted.is_owner,
        )

    async def eject(self, name: str, user_id: UserId, *, ban: bool) -> None:
        """The session itself cuts off whom it removes."""

    async def start_recording(self, name: str) -> None:
        """The session's own timeline is the recording."""

    async def stop_recording(self, name: str) -> None: ...

    async def recordings(self, name: str) -> Sequence[Taped]:
        return ()

    async def link(self, recording_id: str) -> Link:
        raise RoomFailed("recordings of built-in rooms are the session's own")
