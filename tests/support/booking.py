"""A lesson booked by its tutor, for tests that need one."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.client import Person


def ago(minutes: float) -> str:
    """Return the time this many minutes ago, in milliseconds; a negative number is in the future."""
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hour(minutes_ago: float = 0) -> dict[str, str]:
    """Return start and end of an hour's lesson that began this many minutes ago."""
    return {"starts_at": ago(minutes_ago), "ends_at": ago(minutes_ago - 60)}


async def book(tutor: Person, student: Person, **fields: Any) -> Any:
    body = {"tutor_id": tutor.id, "student_id": student.id, **hour(), **fields}
    return (await tutor.post("/v1/bookings", body)).ok(201)
