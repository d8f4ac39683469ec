"""Bookings: the lessons that tutors and students have agreed on, and the sessions in which they take place.

**Law:** a booking has at most one session, however many callers ask for it at once, and through whichever servers.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from msgspec import Meta, Struct, structs

from actors.ports import CreationKey, NotUnique
from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.aspects.lifecycle import millis
from actors.session.ids import Millis, Title, UserId
from actors.session.state import Session
from server.http.pagination import PAGE, IdCursor, Listed
from server.http.problems import Problem
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.usecases.accounts import UserRef
from server.usecases.call import Call
from server.usecases.idempotent_creation import idempotent
from server.usecases.session_creation import CreationOptions, CreationParts, create_session_from
from storage.bookings import Booking, Bookings
from storage.creations import KeyedCreation
from storage.sessions import UUID, Sessions
from storage.users import AccountRole, Users

YEARS = range(1970, 2200)
LONGEST_MS = 24 * 3_600_000
EARLY_S = 15 * 60
"""The session goes live, and can be joined, this long before the lesson."""
OVERRUN_S = 12 * 3_600
"""A lesson that nobody ends expires this long after its planned end."""
TITLE = "Lesson"


@dataclass(frozen=True, kw_only=True)
class BookingParts(CreationParts):
    """Bookings and their sessions."""

    bookings: Bookings
    users: Users
    sessions: Sessions


class NewBooking(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A booking to create, by its tutor or its student. The default title is "Lesson"."""

    tutor_id: UserRef
    student_id: UserRef
    starts_at: c.When
    ends_at: c.When
    title: Title | None = None


class BookingQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`since` selects bookings that end after it, `until` those that start before it."""

    since: c.When | None = None
    until: c.When | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: IdCursor | None = None


class BookingRead(Struct, frozen=True):
    """A booking, and whether the caller may join its session now."""

    booking: Booking
    can_join: bool


@refuses(invalid=422, not_permitted=403, unknown_booking=404, unknown_user=404)
async def create(parts: BookingParts, call: Call[NewBooking]) -> BookingRead:
    """Create a booking, as its tutor or its student. Raise Problem 403, 404 for an unknown user, 422."""
    body = call.body
    caller = call.principal.user_id
    if caller not in (body.tutor_id, body.student_id):
        raise Problem(403, "not_permitted", "A booking is made by its tutor or its student.", field="tutor_id")
    starts_at, ends_at = lasting(body.starts_at, body.ends_at)
    if body.tutor_id == body.student_id:
        raise invalid("student_id", "`student_id` must differ from `tutor_id`.")
    await require_role(parts, "tutor_id", body.tutor_id, "teacher")
    await require_role(parts, "student_id", body.student_id, "student")

    async def make(key: CreationKey | None) -> BookingRead:
        booking_id = new_id()
        await parts.bookings.create(
            booking_id,
            tutor_id=UserId(body.tutor_id),
            student_id=UserId(body.student_id),
            starts_at=starts_at,
            ends_at=ends_at,
            title=TITLE if body.title is None else body.title,
            created_by=caller,
            key=key,
        )
        return await seen(parts, booking_id, caller)

    async def again(made: KeyedCreation) -> BookingRead:
        now = (await seen(parts, made.made_id, caller)).booking
        then = structs.replace(now, session_id=None, session_status=None)
        return BookingRead(then, can_join(then, caller, then.created_at))

    return await idempotent(parts.creations, call, make, again)


def lasting(starts_at: datetime, ends_at: datetime) -> tuple[Millis, Millis]:
    """Return the start and the end of a lesson in milliseconds. Raise Problem 422 if they are not valid."""
    start, end = Millis(round(starts_at.timestamp() * 1000)), Millis(round(ends_at.timestamp() * 1000))
    if starts_at.year not in YEARS:
        raise invalid("starts_at", f"`starts_at` must be in the years {YEARS[0]} to {YEARS[-1]}.")
    if end <= start:
        raise invalid("ends_at", "`ends_at` must be after `starts_at`.")
    if end - start > LONGEST_MS:
        raise invalid("ends_at", f"`ends_at` must be at most {LONGEST_MS // 3_600_000} hours after `starts_at`.")
    return start, end


def invalid(field: str, detail: str) -> Problem:
    """Return a Problem 422 for a field."""
    return Problem(422, "invalid", detail, field=field)


async def require_role(parts: BookingParts, field: str, user_id: str, role: AccountRole) -> None:
    """Raise Problem 404 if a booking's field names no user, 422 if the user has another role."""
    user = await parts.users.find(UserId(user_id))
    if user is None:
        raise Problem(404, "unknown_user", f"There is no user {user_id!r}.", field=field)
    if user.role != role:
        raise invalid(field, f"`{field}` must be a {role}'s; {user.name} is a {user.role}.")


@refuses(not_permitted=403, unknown_booking=404)
async def find(parts: BookingParts, call: Call) -> BookingRead:
    """Return the booking that the path names, to its tutor or its student. Raise Problem 403, 404."""
    return await seen(parts, call.params["booking_id"], call.principal.user_id)


async def seen(parts: BookingParts, booking_id: str, user_id: UserId) -> BookingRead:
    """Return a booking as this user may read it. Raise Problem 403 to a user who is neither tutor nor student, 404."""
    booking = await parts.bookings.find(booking_id) if UUID.fullmatch(booking_id) else None
    if booking is None:
        raise Problem(
            404, "unknown_booking", f"There is no booking {booking_id!r}.", field="booking_id", location="path"
        )
    if not booking.involves(user_id):
        raise Problem(403, "not_permitted", "You are neither the tutor nor the student of this booking.")
    return BookingRead(booking, can_join(booking, user_id, now_millis()))


@refuses(invalid=422)
async def page(parts: BookingParts, call: Call[object, BookingQuery]) -> Listed:
    """Return a page of the caller's bookings, earliest first. Raise Problem 422 for a wrong cursor."""
    query = call.query
    caller, now = call.principal.user_id, now_millis()
    found = await parts.bookings.page(
        caller, after=query.cursor, limit=query.limit + 1, since=millis(query.since), until=millis(query.until)
    )
    if query.cursor is not None and not found:
        last = await parts.bookings.find(query.cursor)
        if last is None or not last.involves(caller):
            raise invalid("cursor", "`cursor` must be a `next` of this list.")
    shown = [BookingRead(booking, can_join(booking, caller, now)) for booking in found[: query.limit]]
    return Listed(shown, found[query.limit - 1].booking_id if len(found) > query.limit else None)


def can_join(booking: Booking, user_id: UserId, now: Millis) -> bool:
    """Return whether a user may join a booking's session now, or could if it were created."""
    over = booking.session_status in CLOSED
    return booking.involves(user_id) and not over and booking.starts_at - EARLY_S * 1000 <= now < booking.ends_at


@refuses(
    invalid=422, not_allowed=422, not_permitted=403, room_failed=502, taken=409, too_large=413, unknown_booking=404
)
async def ensure_session(parts: BookingParts, call: Call) -> BookingRead:
    """Create the session of the booking that the path names, unless it exists. Return the booking.

    Raise Problem 403, 404, and those of creating a session."""
    made = await find(parts, call)
    if made.booking.session_id is not None:
        return made
    try:
        new, opening = lesson(made.booking, await people(parts, made.booking), now_millis())
        await create_session_from(parts, call.principal, new, opening)
    except NotUnique:
        pass  # A concurrent request has created the session.
    return await find(parts, call)


async def people(parts: BookingParts, booking: Booking) -> dict[UserId, c.Person]:
    """Return the tutor and the student of a booking, by id."""
    return await parts.users.people([booking.tutor_id, booking.student_id])


def lesson(booking: Booking, people: dict[UserId, c.Person], now: Millis) -> tuple[c.NewSession, CreationOptions]:
    """Return a booking's session and how to create it: the tutor owns it, and the student is invited."""
    tutor, student = people[booking.tutor_id], people[booking.student_id]
    new = c.NewSession(
        title=booking.title,
        kind="lesson",
        starts_at=moment(booking.starts_at),
        ends_at=moment(booking.ends_at),
        auto_start=True,
        early=EARLY_S,
        ttl=max(booking.ends_at - now, 0) // 1000 + OVERRUN_S,
    )
    return new, CreationOptions(
        live=booking.starts_at - EARLY_S * 1000 <= now,
        owner=c.Caller(booking.tutor_id, tutor.name, number=tutor.number),
        invited={booking.student_id: student},
        booking_id=booking.booking_id,
    )


def moment(at: Millis) -> datetime:
    """Return a time as a datetime in UTC."""
    return datetime.fromtimestamp(at / 1000, UTC)


@refuses(
    deleted=410,
    invalid=422,
    not_allowed=422,
    not_permitted=403,
    room_failed=502,
    taken=409,
    too_large=413,
    unknown_booking=404,
)
async def session(parts: BookingParts, call: Call) -> Session:
    """Return the session of the booking that the path names, and create it if necessary.

    Raise Problem 403, 404, 410 if the session was deleted, and those of creating a session."""
    booking: Any = (await ensure_session(parts, call)).booking
    found = await parts.sessions.find(booking.session_id, call.principal.user_id)
    if found is None:
        raise Problem(410, "deleted", "This booking's session has been deleted.")
    return found.session
