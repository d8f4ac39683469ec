"""Print attendance for `/v1`: as JSON, and as CSV that no spreadsheet runs as formulas."""

import csv
import io
import re

from msgspec import Struct

from actors.session.attendance import ParticipantAttendance
from actors.session.ids import UserId
from actors.session.state import Presence, Role
from server.http.reply import Reply
from server.http.timestamps import rfc3339, when
from server.usecases.call import Call
from server.usecases.records.attendance import Attended
from server.v1.views import encode
from storage.rooms import Visit

BOM = "\ufeff"
"""Excel reads a CSV file as UTF-8 only if it begins with this mark."""
FORMULA = re.compile(r"(?:^|(?<=[;,\t\r\n]))(?=[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")
"""The positions at which a spreadsheet would read a formula. Spreadsheets with other separators than `,` and those that
accept full-width signs are covered too."""


class IntervalView(Struct, frozen=True, rename={"since": "from", "until": "to"}):
    """An interval in which the participant was connected."""

    since: str
    until: str


class AttendanceLine(Struct, frozen=True, kw_only=True):
    """The attendance of one participant. `share` is the fraction of the session's length, 0 to 1. `late` and
    `left_early` are null until they can be determined."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    kicked: bool
    minutes: float
    share: float
    late: bool | None
    left_early: bool | None
    first_joined_at: str | None
    last_left_at: str | None
    intervals: list[IntervalView]
    intervals_left_out: int


class VisitView(Struct, frozen=True):
    """One connection to the session's room, as the room's provider reports it. `user_id` is null if the connection used
    a token that this server did not issue."""

    user_id: str | None
    name: str
    owner: bool
    joined_at: str
    left_at: str | None


class AttendanceView(Struct, frozen=True):
    """Attendance is counted up to `until`: the session's end, or now. `visits` are connections to the room; the room's
    provider reports them with a delay."""

    session_id: str
    title: str
    started_at: str | None
    until: str | None
    items: list[AttendanceLine]
    visits: list[VisitView]


COLUMNS = tuple(AttendanceLine.__struct_fields__)


def attendance_reply(attended: Attended, call: Call) -> Reply:
    """Return the attendance of a session as JSON, or as CSV if the caller asked for it."""
    lines = [attendance_line(line) for line in attended.lines]
    session = attended.session
    if attended.csv:
        disposition = f'attachment; filename="{session.name}-attendance.csv"'
        return Reply(200, attendance_csv(lines), {"Content-Disposition": disposition}, "text/csv")
    visits = [visit_view(visit) for visit in attended.visits]
    view = AttendanceView(
        session.id, session.title, when(attended.started_at), when(attended.until), lines, visits
    )  # fmt: skip
    return Reply(200, encode(view))


def visit_view(visit: Visit) -> VisitView:
    """Return the view of one connection to a room."""
    return VisitView(visit.user_id, visit.name, visit.owner, rfc3339(visit.joined_at), when(visit.left_at))


def attendance_line(line: ParticipantAttendance) -> AttendanceLine:
    """Return the view of one participant's attendance: minutes with two decimals, the share with four."""
    return AttendanceLine(
        user_id=line.user_id,
        number=line.number,
        name=line.name,
        role=line.role,
        status=line.status,
        kicked=line.kicked,
        minutes=round(line.present_ms / 60_000, 2),
        share=round(line.share, 4),
        late=line.late,
        left_early=line.left_early,
        first_joined_at=when(line.first_joined_at),
        last_left_at=when(line.last_left_at),
        intervals=[IntervalView(rfc3339(span.since), rfc3339(span.until)) for span in line.intervals],
        intervals_left_out=line.intervals_left_out,
    )


def attendance_csv(lines: list[AttendanceLine]) -> bytes:
    """Return the lines as CSV (RFC 4180) in UTF-8 with a byte order mark, one row of headings first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(cell(getattr(line, name)) for name in COLUMNS)
    return (BOM + text.getvalue()).encode()


def cell(value: object) -> str:
    """Return the text of a CSV cell: booleans as yes and no, intervals as `from/to`, null as the empty text.

    A quote mark is put before each character at which a spreadsheet would read a formula."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return " ".join(f"{span.since}/{span.until}" for span in value)
        case str():
            return FORMULA.sub("'", value)
        case _:
            return str(value)
