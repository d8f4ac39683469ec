"""Homeroom's own API, as rows. Paths, bodies and answers are public and documented by `/openapi.json`."""

from typing import Annotated, Any

from msgspec import Meta, Struct

from actors.messages import Answer
from actors.session import commands as c
from actors.session.events import Recorded
from actors.session.ids import UserId
from actors.session.state import Permission, Presence, Role, Session
from server.api.provider_webhooks import DAILY
from server.api.routes import ActionRoute, Api, CommandRoute, SocketRoute, StreamRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339
from server.usecases import accounts, code, session_queries, session_tokens, sessions
from server.usecases.audio import library
from server.usecases.call import Call
from server.usecases.records import log_pages
from server.usecases.services import Services
from server.usecases.session_creation import create_session
from server.v1 import records
from server.v1.audio import ROWS as AUDIO
from server.v1.bookings import ROWS as BOOKINGS
from server.v1.frames import CLOSES, FRAMES, MESSAGES, SILENT, answered, event_fields, published_json, recorded_json
from server.v1.me import ROWS as ME
from server.v1.me import TicketView, ticket
from server.v1.state_views import StateView, snapshot
from server.v1.views import (
    Page,
    SessionView,
    SummaryView,
    UserView,
    encode,
    nothing,
    session_view,
    summary_view,
    user_view,
)
from server.v1.webhooks import ROWS as WEBHOOKS
from storage.event_log import Summary
from storage.sessions import SessionMembership
from storage.users import AccountRole, User


class Committed(Struct, frozen=True):
    """`seq` is the log's position after the command; `events` is what it made happen, [] when it was so already."""

    seq: int
    events: list[dict[str, Any]]


class JoinByCode(Struct, frozen=True, forbid_unknown_fields=True):
    code: Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{6}$(?!\n)", description="six letters and digits")]


class Joined(Struct, frozen=True):
    """`waiting`: in the lobby, until a host has_invitation."""

    session: SessionView
    status: Presence | None
    role: Role | None


class LoggedInView(Struct, frozen=True):
    user: UserView
    access_token: str
    refresh_token: str
    expires_in: int


class MeetingView(Struct, frozen=True):
    """What lets the caller into the session's room."""

    room_name: str
    token: str
    join_url: str


class SessionTokenView(Struct, frozen=True):
    """`meeting` is null for a session without a room."""

    token: str
    expires_at: str
    permissions: list[Permission]
    meeting: MeetingView | None


class GuestView(Struct, frozen=True):
    """`colour` is what the others see them in."""

    id: UserId
    number: int
    name: str
    role: AccountRole
    colour: str | None


class GuestTokenView(Struct, frozen=True):
    token: str
    user: GuestView
    expires_at: str


class LogRowView(Struct, frozen=True):
    seq: int
    type: str
    actor: str | None
    at: str
    details: dict[str, Any]


class LogView(Struct, frozen=True):
    items: list[LogRowView]
    next: str | None


class SessionPage(Struct, frozen=True):
    items: list[SessionView]
    next: str | None


def committed(answer: Answer) -> Reply:
    events = b",".join([published_json(out) for out in answer.published if type(out.recorded.event) not in SILENT])
    return Reply(202 if answer.ephemeral else 200, b'{"seq":%d,"events":[%b]}' % (answer.seq, events))


def repeated(seq: int, rows: list[Recorded]) -> Reply:
    events = b",".join([recorded_json(row) for row in rows if type(row.event) not in SILENT])
    return Reply(200, b'{"seq":%d,"events":[%b]}' % (seq, events))


def logged_in(status: int) -> Any:
    def view(login: accounts.LoggedIn) -> Reply:
        shown = LoggedInView(user_view(login.user), login.access_token, login.refresh_token, login.expires_in)
        return Reply(status, encode(shown), {"Cache-Control": "no-store"})

    return view


def user(found: User) -> Reply:
    return Reply(200, encode(user_view(found)))


def session(found: Session) -> Reply:
    return Reply(200, encode(session_view(found)))


def new_session(made: Session) -> Reply:
    return Reply(201, encode(session_view(made)), {"Location": f"/v1/sessions/{made.id}"})


def session_page(listed: Listed) -> Reply:
    return Reply(200, encode(Page([session_view(found) for found in listed.items], listed.next)))


def joined(found: SessionMembership) -> Reply:
    return Reply(200, encode(Joined(session_view(found.session), found.membership.status, found.membership.role)))


def session_token(made: session_tokens.SessionToken) -> Reply:
    meeting = made.meeting
    met = None if meeting is None else MeetingView(meeting.room_name, meeting.token, meeting.join_url)
    shown = SessionTokenView(made.token, rfc3339(made.expires_at), made.permissions, met)
    return Reply(201, encode(shown), {"Cache-Control": "no-store"})


def guest_token(made: session_tokens.GuestToken) -> Reply:
    user = made.user
    shown = GuestView(user.user_id, user.number, user.name, user.role, user.colour)
    return Reply(
        201, encode(GuestTokenView(made.token, shown, rfc3339(made.expires_at))), {"Cache-Control": "no-store"}
    )


def plain(found: Struct) -> Reply:
    return Reply(200, encode(found))


def log(listed: Listed) -> Reply:
    return Reply(200, encode(Page([log_row(row) for row in listed.items], listed.next)))


def log_row(recorded: Recorded) -> LogRowView:
    details = event_fields(recorded.event)
    kind = details.pop("type")
    return LogRowView(recorded.seq, kind, recorded.actor_id, rfc3339(recorded.at), details)


def log_line(recorded: Recorded) -> bytes:
    return encode(log_row(recorded)) + b"\n"


def summary(found: Summary) -> Reply:
    return Reply(200, encode(summary_view(found)))


def state(body: bytes) -> Reply:
    return Reply(200, body)


async def read_state(services: Services, call: Call) -> bytes:
    return await sessions.state(services, call, snapshot)


COMMANDS = CommandRoute(
    path="/sessions/{ref}/commands", summary="Do something in a session; answered after it is committed",
    body=c.WireCommand, reply=committed, repeat=repeated, answer=Committed,
)  # fmt: skip
API = Api(
    name="v1",
    title="Homeroom",
    prefix="/v1",
    rows=(
        ActionRoute(
            method="POST", path="/auth/register", summary="Make an account", public=True, body=accounts.Register,
            act=accounts.register, view=logged_in(201), status=201, answer=LoggedInView,
        ),
        ActionRoute(
            method="POST", path="/auth/login", summary="Log in by email or phone", public=True, body=accounts.Login,
            act=accounts.login, view=logged_in(200), answer=LoggedInView,
        ),
        ActionRoute(
            method="POST", path="/auth/refresh", summary="Exchange a refresh token; each works once", public=True,
            body=accounts.Refresh, act=accounts.refresh, view=logged_in(200), answer=LoggedInView,
        ),
        ActionRoute(
            method="POST", path="/auth/logout", summary="End this login, its tokens and streams at once",
            act=accounts.logout, view=nothing, status=204,
        ),
        ActionRoute(path="/me", summary="Read one's account", act=accounts.me, view=user, answer=UserView),
        ActionRoute(
            method="PATCH", path="/me", summary="Change one's account", body=accounts.ChangeMe,
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
            path="/sessions", summary="List the sessions that one owns or has a place in, newest first",
            query=sessions.SessionQuery, act=sessions.list_sessions, view=session_page, answer=SessionPage,
        ),
        CommandRoute(
            path="/sessions/join", summary="Join by code", body=JoinByCode, ref=lambda params, body: body.code.upper(),
            command=lambda body: c.Join(), then=sessions.find_place, view=joined, answer=Joined,
        ),
        ActionRoute(
            path="/sessions/{ref}", summary="Read a session", session=True, act=sessions.find_session, view=session,
            answer=SessionView,
        ),
        CommandRoute(
            method="PATCH", path="/sessions/{ref}", summary="Change a session; null clears, what is not sent stays",
            body=c.Update, then=sessions.find_session, view=session, answer=SessionView,
        ),
        CommandRoute(
            method="DELETE", path="/sessions/{ref}", summary="End or cancel a session and take it out of every list",
            command=lambda body: c.Delete(), then=sessions.deleted, view=nothing, status=204,
        ),
        COMMANDS,
        ActionRoute(
            path="/sessions/{ref}/state", summary="Read a session's state, and the cursor its stream goes on from",
            session=True, act=read_state, view=state, answer=StateView,
        ),
        StreamRoute(path="/sessions/{ref}/events", summary="Stream a session (SSE)", format=FRAMES),
        ActionRoute(
            path="/sessions/{ref}/code", summary="Read the code, and what merging clients begin with", session=True,
            act=code.document, view=plain, answer=code.Document,
        ),
        SocketRoute(
            path="/sessions/{ref}/socket", summary="Stream a session, and take commands (WebSocket)", format=MESSAGES,
            commands=COMMANDS, answered=answered, closes=CLOSES, status=101,
        ),
        ActionRoute(
            path="/sessions/{ref}/playback", summary="Read what was played and when, oldest first", session=True,
            query=library.HistoryQuery, act=library.history, view=log, answer=LogView,
        ),
        ActionRoute(
            method="POST", path="/sessions/{ref}/tickets", summary="Get a single-use ticket for a stream or socket",
            session=True, act=sessions.ticket, view=ticket, status=201, answer=TicketView,
        ),
        ActionRoute(
            method="POST", path="/sessions/{ref}/tokens", summary="Get a token that is good for this session alone",
            session=True, act=session_tokens.session_token, view=session_token, status=201, answer=SessionTokenView,
        ),
        ActionRoute(
            method="POST", path="/sessions/{ref}/guests", public=True, body=session_tokens.NewGuest, session=True,
            summary="Come in without an account, by join code or id, where the session takes guests",
            act=session_tokens.new_guest, view=guest_token, status=201, answer=GuestTokenView,
        ),
        ActionRoute(
            path="/sessions/{ref}/permissions", session=True, query=session_queries.PermissionsQuery,
            act=session_queries.permissions,
            summary="Read what one may do; for moderators, what another may; with `explain`, why", view=plain,
            answer=session_queries.Rights,
        ),
        ActionRoute(
            path="/sessions/{ref}/media", summary="Read who sends video, audio and their screen", session=True,
            act=session_queries.media, view=plain, answer=session_queries.Sending,
        ),
        ActionRoute(
            path="/sessions/{ref}/media/{user_id}", summary="Read what one participant sends", session=True,
            act=session_queries.media_of, view=plain, answer=session_queries.Sends,
        ),
        ActionRoute(
            path="/sessions/{ref}/log", summary="Read the log, by filters; owner, hosts and cohosts",
            session=True, query=log_pages.LogQuery, act=log_pages.log_page, view=log, answer=LogView,
        ),
        ActionRoute(
            path="/sessions/{ref}/log/summary", summary="Add the log up", session=True, act=log_pages.log_summary,
            view=summary, answer=SummaryView,
        ),
        DAILY,
        *records.rows(log_line),
    ),
)  # fmt: skip
