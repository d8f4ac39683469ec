"""Bookings in `/v1`: what they say, and their rows."""

from msgspec import Struct

from actors.session.ids import UserId
from actors.session.state import Session, Status
from server.api.routes import ActionRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339
from server.usecases import bookings as do
from server.v1.views import Page, SessionView, encode, session_view


class Party(Struct, frozen=True):
    id: UserId
    name: str


class BookedSession(Struct, frozen=True):
    """`can_join`: from a quarter of an hour before the booking's start to its end, while the session is not over."""

    id: str
    status: Status
    can_join: bool


class BookingView(Struct, frozen=True, kw_only=True):
    """`session` is null until somebody has asked for it."""

    id: str
    tutor: Party
    student: Party
    title: str
    starts_at: str
    ends_at: str
    created_by: UserId
    created_at: str
    session: BookedSession | None


class BookingPage(Struct, frozen=True):
    items: list[BookingView]
    next: str | None


def shown(seen: do.Seen) -> BookingView:
    booking = seen.booking
    return BookingView(
        id=booking.booking_id,
        tutor=Party(booking.tutor_id, booking.tutor_name),
        student=Party(booking.student_id, booking.student_name),
        title=booking.title,
        starts_at=rfc3339(booking.starts_at),
        ends_at=rfc3339(booking.ends_at),
        created_by=booking.created_by,
        created_at=rfc3339(booking.created_at),
        session=None
        if booking.session_id is None or booking.session_status is None
        else BookedSession(booking.session_id, booking.session_status, seen.can_join),
    )


def booked(seen: do.Seen) -> Reply:
    return Reply(201, encode(shown(seen)), {"Location": f"/v1/bookings/{seen.booking.booking_id}"})


def one(seen: do.Seen) -> Reply:
    return Reply(200, encode(shown(seen)))


def several(listed: Listed) -> Reply:
    return Reply(200, encode(Page([shown(seen) for seen in listed.items], listed.next)))


def session(found: Session) -> Reply:
    return Reply(200, encode(session_view(found)))


ROWS = (
    ActionRoute(
        method="POST", path="/bookings", summary="Book a lesson, as its tutor or its student", body=do.NewBooking,
        keyed=True, act=do.create, view=booked, status=201, answer=BookingView,
    ),
    ActionRoute(
        path="/bookings", summary="List the bookings that one is the tutor or the student of, earliest first",
        query=do.BookingQuery, act=do.page, view=several, answer=BookingPage,
    ),
    ActionRoute(
        path="/bookings/{booking_id}", summary="Read a booking of one's own", act=do.find, view=one, answer=BookingView,
    ),
    ActionRoute(
        method="POST", path="/bookings/{booking_id}/session", act=do.session, view=session, keyed=True,
        answer=SessionView,
        summary="Get a booking's session; made when first asked for, once",
    ),
)  # fmt: skip
