"""Asks a provider about recordings for which no webhook has arrived: webhooks get lost, or are not set up.

**Law:** a provider is asked when a client requests a recording that ended a while ago, at most once in `INTERVAL_S` per
session. The request waits at most `TIMEOUT_S` and is then answered with what is known.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from actors.session import commands as c
from actors.session.ids import Millis, SessionId
from actors.session.state import Recording, Room
from server.rooms.providers import RoomFailed
from server.rooms.provisioning import RoomProvisioner

logger = logging.getLogger(__name__)

INTERVAL_S = 30
TIMEOUT_S = 2.0
MAX_SESSIONS = 10_000
"""The most sessions whose last question is remembered."""

Report = Callable[[SessionId, c.ReportRecording], Awaitable[object]]


class RecordingPoller:
    """Reports overdue recordings to sessions. A recording is overdue `after_s` seconds after its end."""

    def __init__(self, rooms: RoomProvisioner, report: Report, after_s: float, clock: Callable[[], Millis]) -> None:
        self._rooms = rooms
        self._report = report
        self._after_s = after_s
        self._clock = clock
        self._asked: OrderedDict[SessionId, Millis] = OrderedDict()

    async def ask(self, session_id: SessionId, room: Room | None, recordings: Sequence[Recording]) -> bool:
        """Ask the provider about overdue recordings and report them to the session. Return whether any was reported."""
        now = self._clock()
        if room is None or not any(self._is_overdue(recording, now) for recording in recordings):
            return False
        if now - self._asked.get(session_id, 0) < INTERVAL_S * 1000:
            return False
        self._asked[session_id] = now
        self._asked.move_to_end(session_id)
        if len(self._asked) > MAX_SESSIONS:
            self._asked.popitem(last=False)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                provider_recordings = await self._rooms.provider(room.provider).recordings(room.name)
        except (RoomFailed, TimeoutError) as failed:
            why = failed.why if isinstance(failed, RoomFailed) else "no answer in time"
            logger.warning("the provider cannot be asked about the recordings of room %s: %s", room.name, why)
            return False
        finished = [recording for recording in provider_recordings if recording.status != "processing"]
        for recording in finished:
            command = c.ReportRecording(
                status=recording.status,
                provider_id=recording.recording_id,
                at=recording.started_at,
                duration_ms=recording.duration_ms,
                s3_key=recording.s3_key,
            )
            await self._report(session_id, command)
        return bool(finished)

    def _is_overdue(self, recording: Recording, now: Millis) -> bool:
        if recording.provider is None or recording.status != "processing" or recording.stopped_at is None:
            return False
        return now - recording.stopped_at >= self._after_s * 1000
