"""Bookings in `/v1`: their rows, and the shapes of their answers."""

from msgspec import Struct

from actors.session.ids import UserId
from actors.session.state import Session, Status
from server.api.routes import ActionRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339
from server.usecases import bookings as do
from server.usecases.call import Call
from server.v1.views import Page, SessionView, encode, session_view


class Party(Struct, frozen=True):
    """The tutor or the student of a booking."""

    id: UserId
    name: str


class BookedSession(Struct, frozen=True):
    """`can_join` is true from 15 minutes before the booking's start until its end, while the session is not over."""

    id: str
    status: Status
    can_join: bool


class BookingView(Struct, frozen=True, kw_only=True):
    """A booking. `session` is null until the tutor or the student first asks for it."""

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
    """A page of bookings. `next` is the cursor of the page after it, null on the last."""

    items: list[BookingView]
    next: str | None


def booking_view(read: do.BookingRead) -> BookingView:
    """Return the view of a booking, with its session if it has one."""
    booking = read.booking
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
        else BookedSession(booking.session_id, booking.session_status, read.can_join),
    )


def booked(read: do.BookingRead, call: Call) -> Reply:
    """Return a new booking, with its `Location`."""
    return Reply(201, encode(booking_view(read)), {"Location": f"/v1/bookings/{read.booking.booking_id}"})


def one_booking(read: do.BookingRead, call: Call) -> BookingView:
    """Return one booking."""
    return booking_view(read)


def booking_page(listed: Listed, call: Call) -> Page:
    """Return a page of bookings."""
    return Page([booking_view(read) for read in listed.items], listed.next)


def booked_session(session: Session, call: Call) -> SessionView:
    """Return the session of a booking."""
    return session_view(session)


ROWS = (
    ActionRoute(
        method="POST", path="/bookings", summary="Book a lesson, as its tutor or its student", body=do.NewBooking,
        keyed=True, act=do.create, view=booked, status=201, answer=BookingView,
    ),
    ActionRoute(
        path="/bookings", summary="List the bookings in which you are the tutor or the student, earliest first",
        query=do.BookingQuery, act=do.page, view=booking_page, answer=BookingPage,
    ),
    ActionRoute(
        path="/bookings/{booking_id}", summary="Read one of your bookings", act=do.find, view=one_booking,
        answer=BookingView,
    ),
    ActionRoute(
        method="POST", path="/bookings/{booking_id}/session", act=do.session, view=booked_session, keyed=True,
        answer=SessionView,
        summary="Get a booking's session; the first request creates it",
    ),
)  # fmt: skip
