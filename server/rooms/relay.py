"""Passes a session's events on to its room's provider: a participant was removed, a recording starts or stops.

**Law:** best effort, after the commit: the session never waits for a provider. If a recording cannot be started there,
it is reported to the session as failed.
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

CLOSING_EVENTS = (e.SessionEnded, e.SessionCancelled, e.SessionDeleted)
MAX_RUNNING = 500
"""The most calls to providers at the same time. Further events are dropped and logged."""

Report = Callable[[SessionId, c.ReportRecording], Awaitable[object]]


class ProviderRelay:
    """Calls providers in the background, in order for each room."""

    def __init__(self, rooms: RoomProvisioner) -> None:
        self._rooms = rooms
        self._failures: asyncio.Queue[tuple[SessionId, c.ReportRecording]] = asyncio.Queue(MAX_RUNNING)
        self._running: set[asyncio.Task[None]] = set()
        self._last: dict[str, asyncio.Task[None]] = {}
        """The latest call for each room. The next one waits for it: a stop must not overtake its start."""

    def send(self, session_id: SessionId, room: Room, event: e.Event) -> None:
        """Pass a committed event on, in the background."""
        if isinstance(event, CLOSING_EVENTS):
            # The commit has marked the room for deletion.
            self._rooms.wake()
            return
        if room.recorder is None:
            return
        if len(self._running) >= MAX_RUNNING:
            kind = type(event).__name__
            logger.error("too many calls to %s are running: %s of room %s is dropped", room.provider, kind, room.name)
            return
        call = asyncio.create_task(self._after(self._last.get(room.name), session_id, room, event))
        self._running.add(call)
        self._last[room.name] = call
        call.add_done_callback(lambda done: self._done(room.name, done))

    def _done(self, name: str, call: asyncio.Task[None]) -> None:
        self._running.discard(call)
        if self._last.get(name) is call:
            del self._last[name]

    async def _after(
        self, before: asyncio.Task[None] | None, session_id: SessionId, room: Room, event: e.Event
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        await self._run(session_id, room, event)

    async def _run(self, session_id: SessionId, room: Room, event: e.Event) -> None:
        try:
            provider = self._rooms.provider(room.provider)
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
                await self._failures.put((session_id, failure))
        except Exception:
            logger.exception("%s at room %s was not passed on", type(event).__name__, room.name)

    async def report_failures(self, report: Report) -> None:
        """Tell sessions of recordings that could not be started, until cancelled."""
        while True:
            session_id, failure = await self._failures.get()
            await report(session_id, failure)

    async def finish(self, seconds: float) -> None:
        """Wait up to `seconds` for running calls, then cancel the rest."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        for call in self._running:
            logger.warning("a call to a room's provider was cancelled by the stop")
            call.cancel()
