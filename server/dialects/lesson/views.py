"""The answers of `lesson`: one Struct per shape, and one function that makes it.

Instants are RFC 3339 in UTC, to the second. A participant is a tutor (owner, hosts and cohosts) or a student.
"""

from typing import Any, Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.permissions import ALL, RANKS, allowed, effective, known_to_all
from actors.session.state import Participant, Presence, Session, State, Status, Stroke
from actors.session.visibility import VisibleEvent
from server.dialects.lesson.bodies import PERMISSIONS, Media, Permissions, target
from server.http.refusals import refuses
from server.http.timestamps import rfc3339
from server.usecases import bookings, session_tokens
from server.usecases.call import Call

Role = Literal["tutor", "student"]


class Done(Struct, frozen=True):
    """The answer to a request that has no other."""

    success: bool = True


class MediaState(Media, frozen=True, kw_only=True):
    """The media that a participant sends, and who they are."""

    user_id: UserId


class SessionView(Struct, frozen=True, kw_only=True):
    """A session."""

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
    """A participant, with the permissions in force."""

    user_id: UserId
    name: str
    role: Role
    status: Presence
    online: bool
    joined_at: str | None
    left_at: str | None
    permissions: Permissions


class RoleView(Struct, frozen=True):
    """The caller's role and permissions."""

    role: Role
    permissions: Permissions


class Rights(Struct, frozen=True):
    """A participant's role and permissions."""

    user_id: UserId
    role: Role
    permissions: Permissions


class TokenView(Struct, frozen=True):
    """A token for this session only."""

    token: str
    expires_at: str
    permissions: Permissions
    session: SessionView


class Hand(Struct, frozen=True):
    """A raised hand."""

    user_id: UserId
    raised_at: str


class SessionState(Struct, frozen=True, kw_only=True):
    """A session as one viewer may see it. `screen_sharer` is the participant who shares their screen. `hands` are in
    the order in which they were raised."""

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
    """An event that a client added to the log."""

    id: int
    event_type: str
    user_id: UserId | None
    # Any: JSON of any shape, from clients.
    data: dict[str, Any]
    created_at: str


class Classroom(Struct, frozen=True):
    """A booking's session. `can_join` is true from 15 minutes before the booking's start until its end, while the
    session is not over."""

    session_id: str
    status: Status
    can_join: bool
    join_url: str


class BookingView(Struct, frozen=True, kw_only=True):
    """A booking. `classroom` is null until the tutor or the student first asks for it."""

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
    """Return an instant in RFC 3339, to the second."""
    return f"{rfc3339(at)[:19]}Z"


def moment_or_none(at: Millis | None) -> str | None:
    """Return an instant in RFC 3339, or None if there is none."""
    return None if at is None else moment(at)


def session_view(session: Session) -> SessionView:
    """Return the view of a session."""
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
    """Return a user's role: tutor for the owner, hosts and cohosts, student for everyone else."""
    participant = state.participants.get(user_id)
    leads = user_id == state.session.owner_id or (
        participant is not None and RANKS[participant.role] >= RANKS["cohost"]
    )
    return "tutor" if leads else "student"


def permissions_of(state: State, user_id: UserId) -> Permissions:
    """Return a user's permissions in the session: all for the owner, none for a user who is no participant."""
    participant = state.participants.get(user_id)
    granted = effective(state, participant) if participant is not None else frozenset()
    if user_id == state.session.owner_id:
        granted = ALL
    return Permissions(**{name: permission in granted for name, permission in PERMISSIONS.items()})


def own_role(state: State, call: Call) -> RoleView:
    """Return the caller's role and permissions."""
    user_id = call.principal.user_id
    return RoleView(role_of(state, user_id), permissions_of(state, user_id))


def rights(state: State, user_id: UserId) -> Rights:
    """Return a user's role and permissions."""
    return Rights(user_id, role_of(state, user_id), permissions_of(state, user_id))


def target_rights(state: State, call: Call) -> Rights:
    """Return the role and permissions of the participant whom a change of permissions concerns."""
    return rights(state, target(call))


def media_state(participant: Participant) -> MediaState:
    """Return the media that a participant sends."""
    return MediaState(
        user_id=participant.user_id,
        video_enabled=participant.video,
        audio_enabled=participant.audio,
        screen_sharing=participant.screen,
    )


@refuses(unknown_participant=404)
def media_states(state: State, call: Call) -> list[MediaState] | MediaState:
    """Return the media of every joined participant, or of the one whom the query names.

    Raise Rejected if that one has not joined."""
    joined = {
        user_id: participant for user_id, participant in state.participants.items() if participant.status == "joined"
    }
    user_id = call.query.user_id
    if user_id is None:
        return [media_state(participant) for participant in joined.values()]
    if user_id not in joined:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {user_id!r}.", field="user_id")
    return media_state(joined[user_id])


def participant_view(state: State, participant: Participant) -> ParticipantView:
    """Return the view of a participant."""
    return ParticipantView(
        user_id=participant.user_id,
        name=participant.name,
        role=role_of(state, participant.user_id),
        status=participant.status,
        online=participant.online,
        joined_at=moment_or_none(participant.joined_at),
        left_at=moment_or_none(participant.left_at),
        permissions=permissions_of(state, participant.user_id),
    )


def token_context(state: State, call: Call) -> tuple[Permissions, SessionView]:
    """Return the parts of `TokenView` that come from the session's state."""
    return permissions_of(state, call.principal.user_id), session_view(state.session)


def token(issued: session_tokens.SessionToken, call: Call) -> TokenView:
    """Return a token. `call.seen` is its `token_context`."""
    return TokenView(issued.token, moment(issued.expires_at), *call.seen)


def event_views(rows: list[VisibleEvent], call: Call) -> list[EventView]:
    """Return the events that clients added, in the order of `rows`."""
    return [
        EventView(row.seq, row.event.event_type, row.actor_id, row.event.data, moment(row.at))
        for row in rows
        if isinstance(row.event, e.EventLogged)
    ]


def classroom(read: bookings.BookingRead, call: Call) -> Classroom | None:
    """Return the session of a booking; None if there is none yet."""
    booking = read.booking
    if booking.session_id is None or booking.session_status is None:
        return None
    return Classroom(booking.session_id, booking.session_status, read.can_join, f"/classroom/{booking.session_id}")


def booking_view(read: bookings.BookingRead, call: Call) -> BookingView:
    """Return the view of a booking."""
    booking = read.booking
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
        classroom=classroom(read, call),
    )


def session_state(state: State, viewer: UserId, now: Millis) -> SessionState:
    """Return the session as one viewer may see it. A viewer in the lobby sees no other participant."""
    own = state.participants.get(viewer)
    waiting, moderates = own is not None and own.status == "waiting", allowed(state, viewer, "moderate")
    visible = [
        participant
        for user_id, participant in state.participants.items()
        if user_id == viewer or (not waiting and (moderates or known_to_all(state, user_id)))
    ]
    return SessionState(
        session=session_view(state.session),
        user_id=viewer,
        role=role_of(state, viewer),
        permissions=permissions_of(state, viewer),
        participants=[participant_view(state, participant) for participant in visible],
        media_states=[media_state(participant) for participant in visible if participant.status == "joined"],
        screen_sharer=None if waiting else state.sharer,
        hands=[] if waiting else [Hand(user_id, moment(at)) for user_id, at in state.hands.items()],
        board=[] if waiting else list(state.board.strokes.values()),
        server_time=moment(now),
    )
