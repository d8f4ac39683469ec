"""Creates rooms for sessions, gives access to them, and deletes them.

**Law:** a room's row is stored before its provider is asked to create it, and removed only after the provider has
confirmed its deletion (`storage/rooms.py`): a failure at any point leaves a row, never an unknown room.
"""

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping

from msgspec import Struct

from actors.ports import LogUnavailable
from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.aspects.lifecycle import millis
from actors.session.ids import SessionId, UserId
from actors.session.state import Room, Session
from server.http.problems import Problem
from server.rooms.providers import NewRoom, RoomFailed, RoomProvider, RoomTokenRequest
from server.security.principal import Principal
from server.settings.sections import RoomsSettings
from storage.errors import Conflict
from storage.rooms import DueRoom, RoomLedger

logger = logging.getLogger(__name__)

CREATION_S = 600
"""How long creating a room and its session may take; after that the room is deleted."""
SWEEP_S = 5.0
SWEEP_BATCH = 20
MAX_CACHED_TOKENS = 10_000


class Meeting(Struct, frozen=True):
    """Access to a room for one caller. `join_url` contains the token."""

    room_name: str
    token: str
    join_url: str


def meeting_at(room: Room, token: str, origin: str) -> Meeting:
    """Return the access that a token gives; `origin` is the caller's URL of this server."""
    return Meeting(room.name, token, f"{room.url_at(origin)}?t={token}")


def needed_until_s(new: c.NewSession) -> int:
    """Return the time (Unix s) until which a room is needed at least: a session may be planned for next month."""
    planned = (millis(moment) for moment in (new.starts_at, new.ends_at))
    return max(int(time.time()), *(at // 1000 for at in planned if at is not None), 0)


class RoomProvisioner:
    """Rooms of all sessions. `rooms.provider` creates new ones; the other `providers` serve those created earlier."""

    def __init__(self, ledger: RoomLedger, providers: Mapping[str, RoomProvider], settings: RoomsSettings) -> None:
        self._ledger = ledger
        self._providers = providers
        self._settings = settings
        self._due = asyncio.Event()
        self._cached: OrderedDict[tuple[SessionId, UserId, str], tuple[str, float]] = OrderedDict()
        """Tokens, and until when (Unix s) they are returned again."""

    @contextlib.asynccontextmanager
    async def room(self, name: str, new: c.NewSession, capacity: int) -> AsyncIterator[Room | None]:
        """Create a room for the session that the block commits, if `new` asks for one. Delete it if the block fails.

        Raise Problem 409 if the name is taken, 502 if the provider fails."""
        if not new.room:
            yield None
            return
        chosen = self._settings.provider
        new_room = NewRoom(
            name=name,
            capacity=capacity,
            chat=new.features.chat,
            recording=new.features.recording,
            expires_at=needed_until_s(new) + self._settings.room_ttl_s,
        )
        try:
            await self._ledger.announce(chosen, name, CREATION_S)
        except Conflict as error:
            raise Problem(409, "taken", "A room with this name exists already.", field="name") from error
        try:
            url = await self._providers[chosen].create_room(new_room)
        except RoomFailed as failed:
            await self._discard(chosen, name, certain=failed.certain)
            raise Problem(502, "room_failed", f"Failed to create room: {failed.why}") from failed
        except BaseException:
            await self._discard(chosen, name, certain=False)
            raise
        try:
            yield Room(chosen, name, url)
        except BaseException:
            # The session may have been committed nevertheless; then the ledger keeps its room.
            await self._discard(chosen, name, certain=False)
            raise

    async def _discard(self, provider: str, name: str, *, certain: bool) -> None:
        """Delete a room that no session uses. If the database is unavailable, its row expires and does that."""
        with contextlib.suppress(LogUnavailable):
            await (self._ledger.forget if certain else self._ledger.release)(provider, name)
            self._due.set()

    async def meeting(self, session: Session, who: Principal, origin: str) -> Meeting | None:
        """Return a caller's access to a session's room; None if the session has none or is over.

        `origin` is the caller's URL of this server. Raise Problem 502 if the provider fails."""
        room = session.room
        if room is None or session.status in CLOSED:
            return None
        expires_at = int(time.time()) + self._settings.token_ttl_s
        if who.scope is not None:
            # Not later than the present credential: otherwise a token could be renewed for ever.
            expires_at = min(expires_at, int(who.expires_at))
        request = RoomTokenRequest(
            session_id=session.id,
            room=room,
            who=who,
            is_owner=who.user_id == session.owner_id,
            expires_at=expires_at,
        )
        try:
            token = await self.provider(room.provider).create_token(request)
        except RoomFailed as failed:
            raise Problem(502, "room_failed", f"Failed to get a token for the room: {failed.why}") from failed
        return meeting_at(room, token, origin)

    async def cached_meeting(self, session: Session, who: Principal, origin: str) -> Meeting | None:
        """Return the same for clients that poll: with an earlier token, during the first half of its time."""
        key, now = (session.id, who.user_id, who.login), time.time()
        token, until = self._cached.get(key, ("", 0.0))
        # A credential for one session may expire before a cached token.
        if until > now and who.scope is None and session.room is not None and session.status not in CLOSED:
            return meeting_at(session.room, token, origin)
        meeting = await self.meeting(session, who, origin)
        if meeting is not None and who.scope is None:
            self._cached[key] = meeting.token, now + self._settings.token_ttl_s / 2
            self._cached.move_to_end(key)
            if len(self._cached) > MAX_CACHED_TOKENS:
                self._cached.popitem(last=False)
        return meeting

    def wake(self) -> None:
        """Look for rooms to delete now."""
        self._due.set()

    def provider(self, name: str) -> RoomProvider:
        """Return a provider. Raise RoomFailed if the settings no longer configure it."""
        if name not in self._providers:
            raise RoomFailed(f"rooms.provider {name!r} is no longer configured")
        return self._providers[name]

    async def sweep(self) -> None:
        """Delete rooms that are due, until cancelled. Failed deletions are repeated at growing intervals."""
        while True:
            self._due.clear()
            try:
                due = await self._ledger.claim_due(SWEEP_BATCH)
                await asyncio.gather(*(self._delete(each) for each in due))
            except LogUnavailable as error:
                logger.warning("rooms are deleted later: %s", error)
                due = []
            except Exception:
                logger.exception("deleting rooms failed, trying again")
                due = []
            if len(due) < SWEEP_BATCH:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_S):
                        await self._due.wait()

    async def _delete(self, due: DueRoom) -> None:
        try:
            await self.provider(due.provider).delete(due.name)
        except RoomFailed as failed:
            logger.warning("room %s is not deleted yet, after %d tries: %s", due.name, due.tries, failed.why)
        else:
            await self._ledger.confirm_deleted(due.provider, due.name)
