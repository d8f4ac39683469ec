"""The route rows of `lesson`: booked lessons with a whiteboard."""

from collections.abc import Mapping

from msgspec import Struct

from actors.session import commands as c
from actors.session.access import Ask
from actors.session.errors import Reason
from server.api import dialect_frames as frames
from server.api.dialect import PLAIN, Dialect
from server.api.routes import ActionRoute, CommandRoute, MessageSocketRoute, ReadRoute, under
from server.dialects.lesson.bodies import (
    ErrorsQuery,
    EventsQuery,
    Media,
    MediaQuery,
    NewBooking,
    NewEvent,
    PermissionChange,
    Target,
    is_muted,
    kick,
    log_event,
    set_media,
    set_permissions,
    status,
    terminate,
)
from server.dialects.lesson.stream import CLOSES, EVENTS, MESSAGES, REFUSALS, SILENT, failed, first
from server.dialects.lesson.views import (
    BookingView,
    Classroom,
    Done,
    EventView,
    MediaState,
    Rights,
    RoleView,
    TokenView,
    booking_view,
    classroom,
    event_views,
    media_states,
    own_role,
    target_rights,
    token,
    token_context,
)
from server.http.problems import Problem
from server.settings.sections import Settings
from server.usecases import bookings, session_tokens
from server.usecases.records import client_events

ERRORS: Mapping[Reason, tuple[int, str]] = {
    **PLAIN,
    Reason.NOT_ALLOWED: (400, ""),
}
PROBLEMS = {
    **dict.fromkeys(("invalid", "too_deep", "key_reused", "key_not_taken", "unknown_user"), (400, "")),
    "unknown_session": (404, "There is no session {ref}."),
}


class Refused(Struct, frozen=True):
    """A refusal."""

    detail: str


def error_body(status: int, text: str, problem: Problem) -> Refused:
    """Return the body of a refusal."""
    return Refused(text)


SESSION = (
    CommandRoute(
        path="/jwt/", summary="Join, and get a token for this session only", commands=(c.Join,),
        ask=lambda call: c.Join(),
        see=token_context, then=session_tokens.session_token, view=token, answer=TokenView,
    ),
    ReadRoute(path="/permissions/", summary="Read your role and permissions", see=own_role, answer=RoleView),
    CommandRoute(
        method="PATCH", path="/permissions/{user_id}/", summary="Change a participant's permissions",
        body=PermissionChange, commands=(c.SetPermissions,), ask=set_permissions, see=target_rights, answer=Rights,
    ),
    CommandRoute(
        path="/media-state/", summary="Set the media that you send", body=Media, find=is_muted,
        commands=(c.SetMedia, c.Unmute), ask=set_media,
        view=lambda value, call: Done(), answer=Done,
    ),
    ReadRoute(
        path="/media-state/", summary="Read the media that all participants send, or one", query=MediaQuery,
        see=media_states, answer=list[MediaState] | MediaState,
    ),
    CommandRoute(
        path="/event/", summary="Add an event to the session's log", body=NewEvent,
        commands=(c.LogEvent,), ask=log_event, view=lambda value, call: Done(), answer=Done,
    ),
    ActionRoute(
        path="/events/", summary="Read clients' events, newest first; students read their own", query=EventsQuery,
        into=lambda call: client_events.ClientEventQuery(event_type=call.query.event_type, limit=call.query.limit),
        reads=Ask.CARD, act=client_events.client_events, view=event_views, answer=list[EventView],
    ),
    ActionRoute(
        path="/events/stats/", summary="Count clients' events by type", reads=Ask.CARD,
        act=client_events.client_event_counts, answer=dict[str, int],
    ),
    ActionRoute(
        path="/events/errors/", summary="Read the latest errors that clients reported", query=ErrorsQuery,
        into=lambda call: client_events.ClientEventQuery(event_type="error", limit=call.query.limit),
        reads=Ask.CARD, act=client_events.client_events, view=event_views, answer=list[EventView],
    ),
    CommandRoute(
        path="/kick/", summary="Remove a participant", body=Target, commands=(c.Kick,), ask=kick,
        view=lambda value, call: Done(), answer=Done,
    ),
    CommandRoute(
        path="/terminate/", summary="End the session", find=status, commands=(c.Cancel, c.End), ask=terminate,
        view=lambda value, call: Done(),
        answer=Done,
    ),
)  # fmt: skip
BOOKINGS = (
    ActionRoute(
        method="POST", path="/", summary="Book a lesson, as its tutor or its student", body=NewBooking, status=201,
        keyed=True, act=bookings.create, view=booking_view, answer=BookingView,
    ),
    ActionRoute(
        path="/{booking_id}/", summary="Read a booking, with its classroom", act=bookings.find, view=booking_view,
        answer=BookingView,
    ),
    ActionRoute(
        method="POST", path="/{booking_id}/classroom/", keyed=True,
        summary="Get a booking's classroom; the first request creates it",
        act=bookings.ensure_session, view=classroom, answer=Classroom,
    ),
)  # fmt: skip
SOCKET = MessageSocketRoute(
    path="/ws/classroom/{ref}/", summary="Take part in a session (WebSocket)", query_token=True, join=True,
    format=frames.talk(EVENTS, first, lambda bye: None, {}), frames=MESSAGES, failed=failed, closes=CLOSES,
    refusals=REFUSALS,
)  # fmt: skip


def table(settings: Settings) -> Dialect:
    """Return the dialect as the settings configure it."""
    return Dialect(
        name="lesson",
        title="Lesson",
        prefix=settings.dialects.lesson.prefix,
        rows=(
            *under("/api/v1/classroom/sessions/{ref}", *SESSION),
            *under("/api/v1/bookings", *BOOKINGS),
            SOCKET,
        ),
        kind="lesson",
        named="id",
        # Sessions come from bookings, which any API may create. Only invited users may join.
        own=False,
        errors=ERRORS,
        problems=PROBLEMS,
        error_body=error_body,
        events=EVENTS,
        silent=SILENT,
    )
