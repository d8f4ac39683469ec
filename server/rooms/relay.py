"""Does at a room's provider what has happened in its session: somebody was removed, a recording begins or ends.

Best effort, after the commit: the session does not wait for it. A recording that cannot be begun there is a failed one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import SessionId
from actors.session.state import Room
from server.rooms.providers import RoomFailed
from server.rooms.provisioning import RoomProvisioner

logger = logging.getLogger(__name__)

CLOSING = (e.SessionEnded, e.SessionCancelled, e.SessionDeleted)
AT_ONCE = 500
"""Errands under way; with more, the next are left out, and said to be."""

Report = Callable[[SessionId, c.ReportRecording], Awaitable[object]]


class ProviderRelay:
    def __init__(self, keeper: RoomProvisioner, report: Report) -> None:
        self._keeper = keeper
        self._report = report
        self._under_way: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}
        """The latest errand to each room: the next waits for it, or a recording's end would overtake its beginning."""

    def send(self, session_id: SessionId, room: Room, event: e.Event) -> None:
        if isinstance(event, CLOSING):
            # The commit has made the room due.
            self._keeper.look()
            return
        if room.records is None:
            return
        if len(self._under_way) >= AT_ONCE:
            logger.error(
                "too much to tell %s: %s of room %s is left out", room.provider, type(event).__name__, room.name
            )
            return
        errand = asyncio.create_task(self._after(self._last.get(room.name), session_id, room, event))
        self._under_way.add(errand)
        self._last[room.name] = errand
        errand.add_done_callback(lambda done: self._done(room.name, done))

    def _done(self, name: str, errand: asyncio.Task[None]) -> None:
        self._under_way.discard(errand)
        if self._last.get(name) is errand:
            del self._last[name]

    async def _after(
        self, before: asyncio.Task[None] | None, session_id: SessionId, room: Room, event: e.Event
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._run(session_id, room, event)

    async def _run(self, session_id: SessionId, room: Room, event: e.Event) -> None:
        try:
            provider = self._keeper.provider(room.provider)
            match event:
                case e.ParticipantKicked(user_id=user_id, banned=banned):
                    await provider.eject(room.name, user_id, ban=banned)
                case e.RecordingStarted():
                    await provider.start_recording(room.name)
                case e.RecordingStopped():
                    await provider.stop_recording(room.name)
        except RoomFailed as failed:
            logger.warning("%s at room %s: %s", type(event).__name__, room.name, failed.why)
            if isinstance(event, e.RecordingStarted):
                failure = c.ReportRecording(status="failed", recording_id=event.recording_id, reason=failed.why)
                await self._report(session_id, failure)
        except Exception:
            logger.exception("%s at room %s was not passed on", type(event).__name__, room.name)

    async def finish(self, seconds: float) -> None:
        """Wait a little for what is under way, and let go of the rest."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)
        for errand in self._under_way:
            logger.warning("an errand to a room is left undone")
            errand.cancel()
