"""Makes rooms for sessions, lets people into them, and has them deleted.

**Law:** a room is in the table from before its provider is asked for it, and until the provider has said that it is
gone (`storage/rooms.py`): a failure at any point leaves a row, never a room that nobody knows.
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
from server.rooms.providers import NewRoom, Pass, Provider, RoomFailed
from server.security.principal import Principal
from server.settings.sections import Rooms
from storage.errors import Conflict
from storage.rooms import Due, RoomLedger

logger = logging.getLogger(__name__)

MAKING_S = 600
"""How long making a room and its session may take; then the room is deleted."""
SWEEP_S = 5.0
SWEPT_AT_ONCE = 20
MEETINGS_KEPT = 10_000


class Meeting(Struct, frozen=True):
    """What lets somebody into a room."""

    room_name: str
    token: str
    join_url: str


def meeting_at(room: Room, token: str, origin: str) -> Meeting:
    return Meeting(room.name, token, f"{room.at(origin)}?t={token}")


def lasting_s(new: c.NewSession) -> int:
    """Say from when on a room's time runs, in unix seconds: a session for next month needs it next month."""
    planned = (millis(moment) for moment in (new.starts_at, new.ends_at))
    return max(int(time.time()), *(at // 1000 for at in planned if at is not None), 0)


class RoomProvisioner:
    """`providers` by name: the chosen one makes rooms, the others look after those that they made before."""

    def __init__(self, ledger: RoomLedger, providers: Mapping[str, Provider], settings: Rooms) -> None:
        self._ledger = ledger
        self._providers = providers
        self._settings = settings
        self._due = asyncio.Event()
        self._kept: OrderedDict[tuple[SessionId, UserId, str], tuple[str, float]] = OrderedDict()
        """Tokens given before, and until when they are given again (unix s)."""

    @contextlib.asynccontextmanager
    async def room(self, name: str, new: c.NewSession, capacity: int) -> AsyncIterator[Room | None]:
        """Make a room, if one is wanted, for the session that the block commits; if it does not, the room goes.

        Raises: Problem 409, 502."""
        if not new.room:
            yield None
            return
        chosen = self._settings.provider
        wanted = NewRoom(
            name=name,
            capacity=capacity,
            chat=new.features.chat,
            recording=new.features.recording,
            expires_at=lasting_s(new) + self._settings.room_ttl_s,
        )
        try:
            await self._ledger.announce(chosen, name, MAKING_S)
        except Conflict as error:
            raise Problem(409, "taken", "There is a room of this name already.", field="name") from error
        try:
            url = await self._providers[chosen].make(wanted)
        except RoomFailed as failed:
            await self._unmade(chosen, name, certain=failed.certain)
            raise Problem(502, "room_failed", f"Failed to create room: {failed.why}") from failed
        except BaseException:
            await self._unmade(chosen, name, certain=False)
            raise
        try:
            yield Room(chosen, name, url)
        except BaseException:
            # A session that may have been committed all the same holds it, and keeps it.
            await self._unmade(chosen, name, certain=False)
            raise

    async def _unmade(self, provider: str, name: str, *, certain: bool) -> None:
        """Have a room deleted of which no session has come; with the database away, its time does that."""
        with contextlib.suppress(LogUnavailable):
            await (self._ledger.forget if certain else self._ledger.release)(provider, name)
            self._due.set()

    async def meeting(self, session: Session, who: Principal, origin: str) -> Meeting | None:
        """Let somebody, who reaches us at `origin`, into a session's room; None: it has none, or none any more.

        Raises: Problem 502."""
        room = session.room
        if room is None or session.status in CLOSED:
            return None
        expires_at = int(time.time()) + self._settings.token_ttl_s
        if who.scope is not None:
            # What it was got with ends earlier: a token that makes tokens would never end.
            expires_at = min(expires_at, int(who.expires_at))
        wanted = Pass(
            session_id=session.id,
            room=room,
            who=who,
            is_owner=who.user_id == session.owner_id,
            expires_at=expires_at,
        )
        try:
            token = await self.provider(room.provider).token(wanted)
        except RoomFailed as failed:
            raise Problem(502, "room_failed", f"Failed to get a token for the room: {failed.why}") from failed
        return meeting_at(room, token, origin)

    async def shown_meeting(self, session: Session, who: Principal, origin: str) -> Meeting | None:
        """The same for whoever only looks, perhaps every second: with the token of before, for half of its time."""
        key, now = (session.id, who.user_id, who.login), time.time()
        token, until = self._kept.get(key, ("", 0.0))
        # A credential for this session alone may end before that token does.
        if until > now and who.scope is None and session.room is not None and session.status not in CLOSED:
            return meeting_at(session.room, token, origin)
        meeting = await self.meeting(session, who, origin)
        if meeting is not None and who.scope is None:
            self._kept[key] = meeting.token, now + self._settings.token_ttl_s / 2
            self._kept.move_to_end(key)
            if len(self._kept) > MEETINGS_KEPT:
                self._kept.popitem(last=False)
        return meeting

    def look(self) -> None:
        """Rooms may be due."""
        self._due.set()

    def provider(self, name: str) -> Provider:
        """Raises: RoomFailed for one that the settings do not have any more."""
        if name not in self._providers:
            raise RoomFailed(f"rooms.provider {name!r} is not set up any more")
        return self._providers[name]

    async def sweep(self) -> None:
        """Delete rooms that are due, until cancelled. What fails is tried again from the table, ever later."""
        while True:
            self._due.clear()
            try:
                due = await self._ledger.take(SWEPT_AT_ONCE)
                await asyncio.gather(*(self._deleted(one) for one in due))
            except LogUnavailable as error:
                logger.warning("rooms are deleted later: %s", error)
                due = []
            except Exception:
                logger.exception("deleting rooms failed, trying again")
                due = []
            if len(due) < SWEPT_AT_ONCE:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_S):
                        await self._due.wait()

    async def _deleted(self, due: Due) -> None:
        try:
            await self.provider(due.provider).delete(due.name)
        except RoomFailed as failed:
            logger.warning("room %s is not deleted yet, after %d tries: %s", due.name, due.tries, failed.why)
        else:
            await self._ledger.gone(due.provider, due.name)
