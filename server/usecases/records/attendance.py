"""Attendance: the periods in which each participant was in a session. Participants who do not moderate read only their
own.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct

from actors.session import attendance
from actors.session.attendance import Attendance
from actors.session.ids import Millis
from actors.session.state import Session
from server.http.timestamps import now_millis
from server.usecases.call import Call
from server.usecases.session_access import HistoryParts
from storage.rooms import RoomLedger, Visit


@dataclass(frozen=True, kw_only=True)
class AttendanceParts(HistoryParts):
    """Logs of sessions and visits to their rooms."""

    ledger: RoomLedger


class AttendanceQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A participant who joins more than `late_after_s` seconds after the start is late; one who leaves more than that
    before the end leaves early."""

    late_after_s: Annotated[int, Meta(ge=0, le=86_400)] = 300
    format: Literal["json", "csv"] = "json"


class Attended(Struct, frozen=True):
    """The attendance of a session, and the visits to its room."""

    session: Session
    started_at: Millis | None
    until: Millis | None
    """The end of the counted time: the session's end, or now."""
    lines: list[attendance.ParticipantAttendance]
    csv: bool
    visits: list[Visit] = []


async def attended(parts: AttendanceParts, call: Call[object, AttendanceQuery]) -> Attended:
    """Return the attendance of all participants to owner, hosts and cohosts, and to other callers their own."""
    query = call.query
    viewer = call.principal.user_id
    now, fold = now_millis(), Attendance()
    upto = await parts.records.last_seq(call.session_id)
    async for rows in parts.records.parts(call.session_id, upto=upto, types=attendance.TYPES):
        for row in rows:
            fold.add(row)
        await asyncio.sleep(0)
    lines = fold.lines(now, tolerance_ms=query.late_after_s * 1000)
    if not call.card.membership.moderates:
        lines = [line for line in lines if line.user_id == viewer]
    visits: list[Visit] = []
    if call.card.session.room is not None:
        visits = await parts.ledger.visits(call.session_id, None if call.card.membership.moderates else viewer)
    return Attended(call.card.session, fold.started_at, fold.end(now), lines, query.format == "csv", visits)
