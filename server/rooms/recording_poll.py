"""Asks a room's provider what became of recordings that it has not spoken of: webhooks get lost, or are not set up.

**Law:** a recording is asked about when somebody wants it, some time after its end, and not again for a while. They do
not wait long for that: what is known already is an answer too.
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

AGAIN_S = 30
WAIT_S = 2.0
KEPT = 10_000
"""Sessions of which it is known when they were asked about."""

Report = Callable[[SessionId, c.ReportRecording], Awaitable[object]]


class RecordingPoller:
    def __init__(self, keeper: RoomProvisioner, report: Report, after_s: float, clock: Callable[[], Millis]) -> None:
        self._keeper = keeper
        self._report = report
        self._after_s = after_s
        self._clock = clock
        self._asked: OrderedDict[SessionId, Millis] = OrderedDict()

    async def ask(self, session_id: SessionId, room: Room | None, recordings: Sequence[Recording]) -> bool:
        """Have a session told of the recordings that it waits for. False: nothing has come of it."""
        now = self._clock()
        if room is None or not any(self._late(one, now) for one in recordings):
            return False
        if now - self._asked.get(session_id, 0) < AGAIN_S * 1000:
            return False
        self._asked[session_id] = now
        self._asked.move_to_end(session_id)
        if len(self._asked) > KEPT:
            self._asked.popitem(last=False)
        try:
            async with asyncio.timeout(WAIT_S):
                theirs = await self._keeper.provider(room.provider).recordings(room.name)
        except (RoomFailed, TimeoutError) as failed:
            why = failed.why if isinstance(failed, RoomFailed) else "no answer in time"
            logger.warning("what became of the recordings of room %s is not to be had: %s", room.name, why)
            return False
        over = [one for one in theirs if one.status != "processing"]
        for one in over:
            command = c.ReportRecording(
                status=one.status,
                provider_id=one.recording_id,
                at=one.started_at,
                duration_ms=one.duration_ms,
                s3_key=one.s3_key,
            )
            await self._report(session_id, command)
        return bool(over)

    def _late(self, one: Recording, now: Millis) -> bool:
        if one.provider is None or one.status != "processing" or one.stopped_at is None:
            return False
        return now - one.stopped_at >= self._after_s * 1000
