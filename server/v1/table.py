"""Homeroom's own API as route rows. Paths, bodies and answers are public; `/openapi.json` documents them."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from actors.messages import Answer
from actors.session import commands as c
from actors.session.access import Ask
from actors.session.ids import UserId
from actors.session.state import Permission, Presence, Role, Session
from actors.session.visibility import VisibleEvent
from server.api.routes import (
    OWN_RULE,
    ActionRoute,
    Api,
    CommandRoute,
    CommandSocketRoute,
    DirectCommandRoute,
    HookRoute,
    StreamRoute,
)
from server.api.services import Services
from server.http.pagination import Listed
from server.http.refusals import refuses
from server.http.reply import Reply
from server.http.timestamps import rfc3339
from server.usecases import accounts, code, provider_webhooks, session_queries, session_tokens, sessions
from server.usecases.audio import library
from server.usecases.call import Call
from server.usecases.records import log_pages
from server.usecases.session_creation import create_session
from server.v1 import records
from server.v1.audio import ROWS as AUDIO
from server.v1.bookings import ROWS as BOOKINGS
from server.v1.frames import (
    CLOSES,
    FRAMES,
    MESSAGES,
    SILENT,
    command_message,
    event_fields,
    event_json,
    live_json,
)
from server.v1.me import ROWS as ME
from server.v1.me import TicketView, ticket
from server.v1.state_views import StateView, snapshot
from server.v1.views import (
    Page,
    SessionView,
    SummaryView,
    UserView,
    encode,
    session_view,
    summary_view,
    user_view,
)
from server.v1.webhooks import ROWS as WEBHOOKS
from storage.log.event_log import Summary
from storage.sessions import SessionMembership
from storage.users import AccountRole, User


class Committed(Struct, frozen=True):
    """`seq` is the log's position after the command. `events` are the events that it caused, empty if it changed
    nothing."""

    seq: int
    # Any: JSON of any shape.
    events: list[dict[str, Any]]


class JoinByCode(Struct, frozen=True, forbid_unknown_fields=True):
    """A join code, in upper or lower case."""

    code: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{6}$(?!\n)", description="six letters and digits")]


class Joined(Struct, frozen=True):
    """`status` is `waiting` while the caller is in the lobby: until a host admits them."""

    session: SessionView
    status: Presence | None
    role: Role | None


class LoggedInView(Struct, frozen=True):
    """An account and its new tokens. `expires_in` is the access token's lifetime in seconds."""

    user: UserView
    access_token: str
    refresh_token: str
    expires_in: int


class MeetingView(Struct, frozen=True):
    """The caller's access to the session's room."""

    room_name: str
    token: str
    join_url: str


class SessionTokenView(Struct, frozen=True):
    """A token for this session only. `meeting` is null for a session without a room."""

    token: str
    expires_at: str
    permissions: list[Permission]
    meeting: MeetingView | None


class GuestView(Struct, frozen=True):
    """A guest. Other participants see them in `colour`."""

    id: UserId
    number: int
    name: str
    role: AccountRole
    colour: str | None


class GuestTokenView(Struct, frozen=True):
    """A guest's token, for this session only."""

    token: str
    user: GuestView
    expires_at: str


class LogRowView(Struct, frozen=True):
    """A row of a session's log. `details` are the event's own fields."""

    seq: int
    type: str
    actor: str | None
    at: str
    # Any: JSON of any shape.
    details: dict[str, Any]


class LogView(Struct, frozen=True):
    """A page of a log. `next` is the cursor of the page after it, null on the last."""

    items: list[LogRowView]
    next: str | None


class SessionPage(Struct, frozen=True):
    """A page of sessions. `next` is the cursor of the page after it, null on the last."""

    items: list[SessionView]
    next: str | None


def committed(answer: Answer) -> Reply:
    """Return the answer to a command: 202 if it was passed on without a commit, 200 otherwise."""
    events = b",".join([live_json(out.whole) for out in answer.published if type(out.whole.event) not in SILENT])
    return Reply(202 if answer.ephemeral else 200, b'{"seq":%d,"events":[%b]}' % (answer.seq, events))


def repeated(seq: int, events: list[VisibleEvent]) -> Reply:
    """Return the answer to a command that was executed under the same idempotency key before."""
    encoded = b",".join([event_json(one) for one in events if type(one.event) not in SILENT])
    return Reply(200, b'{"seq":%d,"events":[%b]}' % (seq, encoded))


def logged_in(login: accounts.LoggedIn, call: Call) -> LoggedInView:
    """Return a login with its tokens."""
    return LoggedInView(user_view(login.user), login.access_token, login.refresh_token, login.expires_in)


def user(account: User, call: Call) -> UserView:
    """Return an account."""
    return user_view(account)


def session(read: Session, call: Call) -> SessionView:
    """Return one session."""
    return session_view(read)


def new_session(created: Session, call: Call) -> Reply:
    """Return a new session, with its `Location`."""
    return Reply(201, encode(session_view(created)), {"Location": f"/v1/sessions/{created.id}"})


def session_page(listed: Listed, call: Call) -> Page:
    """Return a page of sessions."""
    return Page([session_view(session) for session in listed.items], listed.next)


def joined(read: SessionMembership, call: Call) -> Joined:
    """Return the session that the caller joined, with their status and role in it."""
    return Joined(session_view(read.session), read.membership.status, read.membership.role)


def session_token(issued: session_tokens.SessionToken, call: Call) -> Reply:
    """Return a token for one session, and one for its room if it has a room."""
    meeting = issued.meeting
    room = None if meeting is None else MeetingView(meeting.room_name, meeting.token, meeting.join_url)
    view = SessionTokenView(issued.token, rfc3339(issued.expires_at), issued.permissions, room)
    return Reply(201, encode(view), {"Cache-Control": "no-store"})


def guest_token(issued: session_tokens.GuestToken, call: Call) -> Reply:
    """Return a new guest, with their token."""
    user = issued.user
    guest = GuestView(user.user_id, user.number, user.name, user.role, user.colour)
    view = GuestTokenView(issued.token, guest, rfc3339(issued.expires_at))
    return Reply(201, encode(view), {"Cache-Control": "no-store"})


def plain(value: Struct, call: Call) -> Struct:
    """Return a value that needs no view."""
    return value


def log(listed: Listed, call: Call) -> Page:
    """Return a page of a session's log."""
    return Page([log_row(row) for row in listed.items], listed.next)


def log_row(visible: VisibleEvent) -> LogRowView:
    """Return the view of a row of the log."""
    details = event_fields(visible.event)
    kind = details.pop("type")
    return LogRowView(visible.seq, kind, visible.actor_id, rfc3339(visible.at), details)


def log_line(visible: VisibleEvent) -> bytes:
    """Encode a row of the log, with a newline."""
    return encode(log_row(visible)) + b"\n"


def summary(read: Summary, call: Call) -> SummaryView:
    """Return the summary of a log."""
    return summary_view(read)


def state(body: bytes, call: Call) -> Reply:
    """Return a session's state, which is encoded already."""
    return Reply(200, body)


@refuses(not_joined=403, not_owner=403, not_permitted=403)
async def read_state(services: Services, call: Call) -> bytes:
    """Return the session's state as the caller may see it, encoded. Raise Problem 403 or 404."""
    return await sessions.state(services, call, snapshot)


NO_STORE = {"Cache-Control": "no-store"}
"""For tokens and other credentials, which no cache may store."""
COMMANDS = DirectCommandRoute(
    path="/sessions/{ref}/commands", summary="Execute a command in a session; the answer follows its commit",
    body=c.WireCommand, reply=committed, repeat=repeated, answer=Committed,
)  # fmt: skip
API = Api(
    name="v1",
    title="Homeroom",
    prefix="/v1",
    rows=(
        ActionRoute(
            method="POST", path="/auth/register", summary="Create an account", public=True, body=accounts.Register,
            act=accounts.register, view=logged_in, status=201, answer=LoggedInView, headers=NO_STORE,
        ),
        ActionRoute(
            method="POST", path="/auth/login", summary="Log in by email or phone", public=True, body=accounts.Login,
            act=accounts.login, view=logged_in, answer=LoggedInView, headers=NO_STORE,
        ),
        ActionRoute(
            method="POST", path="/auth/refresh", summary="Exchange a refresh token, which works once", public=True,
            body=accounts.Refresh, act=accounts.refresh, view=logged_in, answer=LoggedInView, headers=NO_STORE,
        ),
        ActionRoute(
            method="POST", path="/auth/logout", summary="Log out: end this login's tokens and streams at once",
            act=accounts.logout, status=204,
        ),
        ActionRoute(path="/me", summary="Read your account", act=accounts.me, view=user, answer=UserView),
        ActionRoute(
            method="PATCH", path="/me", summary="Change your account", body=accounts.ChangeMe,
            act=accounts.change_me, view=user, answer=UserView,
        ),
        *ME,
        *AUDIO,
        *WEBHOOKS,
        *BOOKINGS,
        ActionRoute(
            method="POST", path="/sessions", summary="Create a session", body=c.NewSession, keyed=True,
            act=create_session, view=new_session, status=201, answer=SessionView,
        ),
        ActionRoute(
            path="/sessions", summary="List the sessions that you own or take part in, newest first",
            query=sessions.SessionQuery, act=sessions.list_sessions, view=session_page, answer=SessionPage,
        ),
        CommandRoute(
            path="/sessions/join", summary="Join by code", body=JoinByCode, code=lambda body: body.code.upper(),
            commands=(c.Join,), ask=lambda call: c.Join(), then=sessions.find_place, view=joined, answer=Joined,
        ),
        ActionRoute(
            path="/sessions/{ref}", reads=Ask.CARD, summary="Read a session", act=sessions.card, view=session,
            answer=SessionView,
        ),
        CommandRoute(
            method="PATCH", path="/sessions/{ref}", summary="Change a session; null clears, omitted fields stay",
            body=c.Update, commands=(c.Update,), ask=lambda call: call.body, then=sessions.find_session, view=session,
            answer=SessionView,
        ),
        CommandRoute(
            method="DELETE", path="/sessions/{ref}", summary="End or cancel a session, and remove it from every list",
            commands=(c.Delete,), ask=lambda call: c.Delete(), then=sessions.deleted, status=204,
        ),
        COMMANDS,
        ActionRoute(
            path="/sessions/{ref}/state", reads=Ask.STATE,
            summary="Read a session's state, and the cursor to open its stream with",
            act=read_state, view=state, answer=StateView,
        ),
        StreamRoute(path="/sessions/{ref}/events", summary="Stream a session (SSE)", format=FRAMES),
        ActionRoute(
            path="/sessions/{ref}/code", reads=Ask.STATE, summary="Read the code, and the document for merging clients",
            act=code.document, view=plain, answer=code.Document,
        ),
        CommandSocketRoute(
            path="/sessions/{ref}/socket", summary="Stream a session and send commands (WebSocket)", format=MESSAGES,
            commands=COMMANDS, answered=command_message, closes=CLOSES,
        ),
        ActionRoute(
            path="/sessions/{ref}/playback", reads=Ask.HISTORY, summary="Read the playback history, oldest first",
            query=library.HistoryQuery, act=library.history, view=log, answer=LogView,
        ),
        ActionRoute(
            method="POST", path="/sessions/{ref}/tickets", reads=Ask.CARD,
            summary="Get a single-use ticket for a stream or socket",
            act=sessions.ticket, view=ticket, status=201, answer=TicketView,
        ),
        ActionRoute(
            method="POST", path="/sessions/{ref}/tokens", reads=Ask.STATE, summary="Get a token for this session only",
            act=session_tokens.session_token, view=session_token, status=201, answer=SessionTokenView,
        ),
        ActionRoute(
            method="POST", path="/sessions/{ref}/guests", reads=OWN_RULE, public=True, body=session_tokens.NewGuest,
            summary="Join as a guest, without an account, if the session admits guests",
            act=session_tokens.new_guest, view=guest_token, status=201, answer=GuestTokenView,
        ),
        ActionRoute(
            path="/sessions/{ref}/permissions", reads=Ask.STATE, query=session_queries.PermissionsQuery,
            act=session_queries.permissions,
            summary="Read your permissions, or as a moderator another's; `explain` adds the reasons", view=plain,
            answer=session_queries.Rights,
        ),
        ActionRoute(
            path="/sessions/{ref}/media", reads=Ask.STATE, summary="Read which media each participant sends",
            act=session_queries.media, view=plain, answer=session_queries.Sending,
        ),
        ActionRoute(
            path="/sessions/{ref}/media/{user_id}", reads=Ask.STATE, summary="Read which media one participant sends",
            act=session_queries.media_of, view=plain, answer=session_queries.Sends,
        ),
        ActionRoute(
            path="/sessions/{ref}/log", reads=Ask.MODERATION,
            summary="Read the log, with filters; owner, hosts and cohosts",
            query=log_pages.LogQuery, act=log_pages.log_page, view=log, answer=LogView,
        ),
        ActionRoute(
            path="/sessions/{ref}/log/summary", reads=Ask.MODERATION,
            summary="Summarize the log", act=log_pages.log_summary,
            view=summary, answer=SummaryView,
        ),
        HookRoute(path="/webhooks/daily", summary="Receive a signed webhook from Daily", act=provider_webhooks.daily),
        *records.rows(log_line),
    ),
)  # fmt: skip
