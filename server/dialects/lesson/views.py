"""What `lesson` answers: its shapes, made of the session's state and of bookings."""

from typing import Any, Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.permissions import ALL, RANKS, allowed, effective, known_to_all
from actors.session.state import Participant, Presence, Session, State, Status, Stroke
from server.dialects.lesson.bodies import PERMISSIONS, Media, Permissions
from server.http.timestamps import rfc3339
from server.usecases import bookings, session_tokens
from server.usecases.call import Call

Role = Literal["tutor", "student"]


class Done(Struct, frozen=True):
    success: bool = True


class MediaState(Media, frozen=True, kw_only=True):
    user_id: UserId


class SessionView(Struct, frozen=True, kw_only=True):
    id: str
    title: str
    status: Status
    tutor_id: UserId
    tutor_name: str
    starts_at: str | None
    ends_at: str | None
    started_at: str | None
    ended_at: str | None
    created_at: str


class ParticipantView(Struct, frozen=True, kw_only=True):
    user_id: UserId
    name: str
    role: Role
    status: Presence
    online: bool
    joined_at: str | None
    left_at: str | None
    permissions: Permissions


class RoleView(Struct, frozen=True):
    role: Role
    permissions: Permissions


class Changed(Struct, frozen=True):
    user_id: UserId
    role: Role
    permissions: Permissions


class TokenView(Struct, frozen=True):
    """A token for this session alone."""

    token: str
    expires_at: str
    permissions: Permissions
    session: SessionView


class Hand(Struct, frozen=True):
    user_id: UserId
    raised_at: str


class SessionState(Struct, frozen=True, kw_only=True):
    """`screen_sharer`: whose screen is shown. `hands`: in the order in which they were raised."""

    session: SessionView
    user_id: UserId
    role: Role
    permissions: Permissions
    participants: list[ParticipantView]
    media_states: list[MediaState]
    screen_sharer: UserId | None
    hands: list[Hand]
    board: list[Stroke]
    server_time: str


class EventView(Struct, frozen=True):
    id: int
    event_type: str
    user_id: UserId | None
    data: dict[str, Any]
    created_at: str


class Classroom(Struct, frozen=True):
    """`can_join`: from a quarter of an hour before the booking's start to its end, while the session is not over."""

    session_id: str
    status: Status
    can_join: bool
    join_url: str


class BookingView(Struct, frozen=True, kw_only=True):
    id: str
    tutor_id: UserId
    tutor_name: str
    student_id: UserId
    student_name: str
    title: str
    starts_at: str
    ends_at: str
    created_at: str
    classroom: Classroom | None


def moment(at: Millis) -> str:
    return f"{rfc3339(at)[:19]}Z"


def moment_or_none(at: Millis | None) -> str | None:
    return None if at is None else moment(at)


def session_view(session: Session) -> SessionView:
    return SessionView(
        id=session.id,
        title=session.title,
        status=session.status,
        tutor_id=session.owner_id,
        tutor_name=session.owner_name,
        starts_at=moment_or_none(session.starts_at),
        ends_at=moment_or_none(session.ends_at),
        started_at=moment_or_none(session.started_at),
        ended_at=moment_or_none(session.ended_at),
        created_at=moment(session.created_at),
    )


def role_of(state: State, user_id: UserId) -> Role:
    place = state.participants.get(user_id)
    leads = user_id == state.session.owner_id or (place is not None and RANKS[place.role] >= RANKS["cohost"])
    return "tutor" if leads else "student"


def permissions_of(state: State, user_id: UserId) -> Permissions:
    """Say what somebody may do in the session, be they in it or yet to come."""
    place = state.participants.get(user_id)
    may = effective(state, place) if place is not None else frozenset()
    if user_id == state.session.owner_id:
        may = ALL
    return Permissions(**{name: permission in may for name, permission in PERMISSIONS.items()})


def own_role(state: State, call: Call) -> RoleView:
    user_id = call.principal.user_id
    return RoleView(role_of(state, user_id), permissions_of(state, user_id))


def changed(state: State, user_id: UserId) -> Changed:
    return Changed(user_id, role_of(state, user_id), permissions_of(state, user_id))


def media_state(place: Participant) -> MediaState:
    return MediaState(
        user_id=place.user_id, video_enabled=place.video, audio_enabled=place.audio, screen_sharing=place.screen
    )


def media_states(state: State, call: Call) -> list[MediaState] | MediaState:
    """Show what everyone sends who is in the session, or what one does."""
    joined = {place.user_id: place for place in state.participants.values() if place.status == "joined"}
    wanted = call.query.user_id
    if wanted is None:
        return [media_state(place) for place in joined.values()]
    if wanted not in joined:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {wanted!r}.", field="user_id")
    return media_state(joined[wanted])


def participant_view(state: State, place: Participant) -> ParticipantView:
    return ParticipantView(
        user_id=place.user_id,
        name=place.name,
        role=role_of(state, place.user_id),
        status=place.status,
        online=place.online,
        joined_at=moment_or_none(place.joined_at),
        left_at=moment_or_none(place.left_at),
        permissions=permissions_of(state, place.user_id),
    )


def entrance(state: State, call: Call) -> tuple[Permissions, SessionView]:
    return permissions_of(state, call.principal.user_id), session_view(state.session)


def token(made: session_tokens.SessionToken, call: Call) -> TokenView:
    return TokenView(made.token, moment(made.expires_at), *call.seen)


def event_views(rows: list[e.Recorded], call: Call) -> list[EventView]:
    return [
        EventView(row.seq, row.event.event_type, row.actor_id, row.event.data, moment(row.at))
        for row in rows
        if isinstance(row.event, e.EventLogged)
    ]


def classroom(seen: bookings.Seen, call: Call) -> Classroom | None:
    booking = seen.booking
    if booking.session_id is None or booking.session_status is None:
        return None
    return Classroom(booking.session_id, booking.session_status, seen.can_join, f"/classroom/{booking.session_id}")


def booking_view(seen: bookings.Seen, call: Call) -> BookingView:
    booking = seen.booking
    return BookingView(
        id=booking.booking_id,
        tutor_id=booking.tutor_id,
        tutor_name=booking.tutor_name,
        student_id=booking.student_id,
        student_name=booking.student_name,
        title=booking.title,
        starts_at=moment(booking.starts_at),
        ends_at=moment(booking.ends_at),
        created_at=moment(booking.created_at),
        classroom=classroom(seen, call),
    )


def session_state(state: State, viewer: UserId, now: Millis) -> SessionState:
    """Show a session as one viewer may see it: from the lobby, themselves in it."""
    own = state.participants.get(viewer)
    alone, moderates = own is not None and own.status == "waiting", allowed(state, viewer, "moderate")
    people = [
        place
        for place in state.participants.values()
        if place.user_id == viewer or (not alone and (moderates or known_to_all(state, place.user_id)))
    ]
    return SessionState(
        session=session_view(state.session),
        user_id=viewer,
        role=role_of(state, viewer),
        permissions=permissions_of(state, viewer),
        participants=[participant_view(state, place) for place in people],
        media_states=[media_state(place) for place in people if place.status == "joined"],
        screen_sharer=None if alone else state.sharer,
        hands=[] if alone else [Hand(user_id, moment(at)) for user_id, at in state.hands.items()],
        board=[] if alone else list(state.board.strokes.values()),
        server_time=moment(now),
    )
