"""The route rows of `tutorium`: tutoring with video rooms."""

from collections.abc import Mapping
from typing import get_args

from actors.session import commands as c
from actors.session import events as e
from actors.session.access import Ask
from actors.session.errors import Reason
from server.api.dialect import PLAIN, Dialect, detailed
from server.api.routes import ActionRoute, CommandRoute, CreateRoute, HookRoute, ReadRoute, under
from server.dialects.tutorium.bodies import (
    JoinByCode,
    Login,
    Register,
    SessionCreate,
    SessionQuery,
    SessionUpdate,
    listed,
    may_join,
    new_session,
    update,
)
from server.dialects.tutorium.views import (
    Joined,
    JoinedByCode,
    Left,
    ParticipantView,
    SessionDetail,
    SessionList,
    SessionResponse,
    Token,
    UserView,
    account,
    detail,
    joined,
    joined_by_code,
    participants,
    response,
)
from server.settings.sections import Settings
from server.usecases import accounts, provider_webhooks, room_access, sessions
from server.usecases.session_creation import CreationOptions, room_name

ERRORS: Mapping[Reason, tuple[int, str]] = {
    **PLAIN,
    Reason.ENDED: (410, "Session has ended"),
    Reason.CANCELLED: (410, "Session was cancelled"),
    Reason.FULL: (409, "Session is full"),
    Reason.KICKED: (403, "You were removed from this session"),
    Reason.NOT_JOINED: (403, "Not a participant of this session"),
    Reason.NOT_OWNER: (403, "Not authorized"),
    Reason.NOT_PERMITTED: (403, "Not authorized"),
    Reason.UNKNOWN_PARTICIPANT: (404, "Participant not found"),
}


PROBLEMS = {
    "unknown_session": (404, "Session not found"),
    "unauthenticated": (401, "Not authenticated"),
    "bad_credentials": (401, "Incorrect email or password"),
    "not_a_teacher": (403, "Only teachers can create sessions"),
    "taken": (409, "Email already registered"),
    "malformed": (422, ""),
    "not_found": (404, "Not Found"),
    "method_not_allowed": (405, "Method Not Allowed"),
}


STATUS_ERRORS = {reason.value: (409, "") for reason in (Reason.ENDED, Reason.CANCELLED, Reason.NOT_LIVE)}


ACCOUNTS = (
    ActionRoute(
        method="POST", path="/auth/register", summary="Create an account", public=True, body=Register, status=201,
        into=lambda call: accounts.Register(
            name=call.body.name, password=call.body.password, role=call.body.role, email=call.body.email
        ),
        act=accounts.register, view=lambda login, call: account(login.user, call), answer=UserView,
    ),
    ActionRoute(
        method="POST", path="/auth/login", summary="Log in", public=True, body=Login, forms=True,
        into=lambda call: accounts.Login(password=call.body.password, email=call.body.email or call.body.username),
        act=accounts.login, view=lambda login, call: Token(login.access_token), answer=Token,
    ),
    ActionRoute(path="/users/me", summary="Read your account", act=accounts.me, view=account, answer=UserView),
)  # fmt: skip


SESSIONS = (
    CreateRoute(
        path="/sessions", summary="Create a session, and its room", teachers=True, body=SessionCreate,
        new=new_session, options=lambda call: CreationOptions(owner_status="invited", named=room_name),
        then=room_access.met_at_creation, view=detail, answer=SessionDetail,
    ),
    ActionRoute(
        path="/sessions", summary="List your sessions, newest first", query=SessionQuery, into=listed,
        act=sessions.sliced, answer=SessionList,
        view=lambda found, call: SessionList([response(one, call) for one in found[0]], found[1]),
    ),
    ActionRoute(
        path="/sessions/{ref}", summary="Read a session", reads=Ask.CARD, act=room_access.met_as_owner, view=detail,
        answer=SessionDetail,
    ),
    CommandRoute(
        method="PATCH", path="/sessions/{ref}", summary="Change a session", reads=Ask.OWNERSHIP, body=SessionUpdate,
        find=lambda state, call: state.session.status, commands=(c.Update,), ask=update,
        see=lambda state, call: response(state.session, call), errors=STATUS_ERRORS, answer=SessionResponse,
    ),
    CommandRoute(
        method="DELETE", path="/sessions/{ref}", summary="Delete a session, and its room", reads=Ask.OWNERSHIP,
        commands=(c.Delete,), ask=lambda call: c.Delete(), then=sessions.deleted, status=204,
    ),
    CommandRoute(
        path="/sessions/{ref}/join", summary="Join", has_invitation=True, find=may_join, commands=(c.Join,),
        ask=lambda call: c.Join(),
        then=room_access.met, view=joined, answer=Joined,
    ),
    CommandRoute(
        path="/sessions/{ref}/leave", summary="Leave", commands=(c.Leave,), ask=lambda call: c.Leave(),
        see=lambda state, call: Left(),
        answer=Left,
    ),
    CommandRoute(
        path="/sessions/join-by-code", summary="Join by code", body=JoinByCode, code=lambda body: body.room_code,
        has_invitation=True, find=may_join, commands=(c.Join,), ask=lambda call: c.Join(), then=room_access.met,
        view=joined_by_code,
        errors={"unknown_session": (404, "Invalid room code")}, answer=JoinedByCode,
    ),
    ReadRoute(
        path="/sessions/{ref}/participants", summary="List the participants", see=participants,
        answer=list[ParticipantView],
    ),
)  # fmt: skip


def table(settings: Settings) -> Dialect:
    """Return the dialect as the settings configure it."""
    mine = settings.dialects.tutorium
    return Dialect(
        name="tutorium",
        title="Tutorium",
        prefix=mine.prefix,
        rows=under(
            "/api/v1",
            *ACCOUNTS,
            *SESSIONS,
            HookRoute(
                path="/webhooks/daily", summary="Receive a signed webhook from Daily", act=provider_webhooks.daily
            ),
        ),
        cors_origins=mine.cors_origins,
        kind="tutoring",
        named="number",
        errors=ERRORS,
        problems=PROBLEMS,
        error_body=detailed,
        silent=frozenset(get_args(e.DurableEvent)),
        redoc=True,
    )
