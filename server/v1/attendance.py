"""How `/v1` prints attendance: as JSON, and as CSV for spreadsheets."""

import csv
import io
import re

from msgspec import Struct

from actors.session.attendance import Line
from actors.session.ids import UserId
from actors.session.state import Presence, Role
from server.http.reply import Reply
from server.http.timestamps import rfc3339, when
from server.usecases.records.attendance import Attended
from server.v1.views import encode
from storage.rooms import Visit

BOM = "\ufeff"
"""Without it Excel takes UTF-8 for something else."""
FORMULA = re.compile(r"(?:^|(?<=[;,\t\r\n]))(?=[=+\-@\t\r\uff1d\uff0b\uff0d\uff20])")
"""Where a spreadsheet would begin to run a text, also one that takes another separator than `,` or full-width signs."""


class IntervalView(Struct, frozen=True, rename={"since": "from", "until": "to"}):
    since: str
    until: str


class AttendanceLine(Struct, frozen=True, kw_only=True):
    """`share` is of the session's length, 0 to 1. `late` and `left_early` are null where nobody can say yet."""

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
    """One connection to the session's room, as its provider saw it. `user_id` is null for a token of none of ours."""

    user_id: str | None
    name: str
    owner: bool
    joined_at: str
    left_at: str | None


class AttendanceView(Struct, frozen=True):
    """`until`: up to when it is counted, the session's end or now. `visits`: in the room, told late by its provider."""

    session_id: str
    title: str
    started_at: str | None
    until: str | None
    items: list[AttendanceLine]
    visits: list[VisitView]


COLUMNS = tuple(AttendanceLine.__struct_fields__)


def attended(found: Attended) -> Reply:
    lines = [attendance_line(line) for line in found.lines]
    if found.csv:
        disposition = f'attachment; filename="{found.session.name}-attendance.csv"'
        return Reply(200, table(lines), {"Content-Disposition": disposition}, "text/csv")
    session = found.session
    return Reply(
        200,
        encode(
            AttendanceView(
                session.id, session.title, when(found.started_at), when(found.until), lines,
                [visit(one) for one in found.visits],
            )
        ),
    )  # fmt: skip


def visit(found: Visit) -> VisitView:
    return VisitView(found.user_id, found.name, found.owner, rfc3339(found.joined_at), when(found.left_at))


def attendance_line(line: Line) -> AttendanceLine:
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


def table(lines: list[AttendanceLine]) -> bytes:
    """Print lines as RFC 4180, for spreadsheets."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(cell(getattr(line, name)) for name in COLUMNS)
    return (BOM + text.getvalue()).encode()


def cell(value: object) -> str:
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
