"""What routes do besides commands: accounts, new sessions, reading lists, states and logs. Shared by every API.

Each takes the services and a verified call, and gives plain values for the API's own view to print.
"""

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Hashable
from typing import Annotated, Any, Literal, TypeVar, get_args

from msgspec import Meta, Struct, structs

from actors.messages import Look, Snapshot
from actors.persistence import Taken
from actors.session import commands as c
from actors.session import lifecycle
from actors.session.events import ChatMessage, DurableEvent, Recorded
from actors.session.ids import Millis, Name, SessionId, UserId
from actors.session.permissions import role_of
from actors.session.state import Kind, Session, State, Status
from server.auth import Principal, new_id
from server.errors import Problem, refused, too_fast, unauthenticated, unknown_session
from server.limits import Rate
from server.lists import Cursor
from server.routes import Call
from server.services import Services
from storage.event_log import Summary
from storage.sessions import UUID, Found
from storage.users import User

T = TypeVar("T")
Account = User
PAGE = 100
EVENT_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in get_args(DurableEvent))

Email = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=254,
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$(?!\n)",
        description="an e-mail address such as `you@school.org`",
    ),
]
Phone = Annotated[
    str,
    Meta(
        max_length=20,
        pattern=r"^\+?([ ()-]*[0-9]){5,}[ ()-]*$(?!\n)",
        description="a phone number such as `+49 30 123456`",
    ),
]
# Python's `$` also matches before a newline at the end; with `(?!\n)` after it, it does not, as in JSON Schema.
Password = Annotated[str, Meta(min_length=8, max_length=200)]
UserRef = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description="a user's id, a UUID")]


def now_millis() -> Millis:
    return Millis(time.time_ns() // 1_000_000)


# Accounts


class Register(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    password: Password
    role: Literal["teacher", "student"]
    email: Email | None = None
    phone: Phone | None = None


class Login(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    password: Annotated[str, Meta(max_length=200)]
    email: Annotated[str, Meta(max_length=254)] | None = None
    phone: Annotated[str, Meta(max_length=20)] | None = None


class Refresh(Struct, frozen=True, forbid_unknown_fields=True):
    refresh_token: Annotated[str, Meta(max_length=200)]


class ChangeMe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`current_password` is needed to change how one logs in."""

    name: Name | None = None
    email: Email | None = None
    phone: Phone | None = None
    password: Password | None = None
    current_password: Annotated[str, Meta(max_length=200)] | None = None


class LoggedIn(Struct, frozen=True):
    user: User
    access_token: str
    refresh_token: str
    expires_in: int


async def register(services: Services, call: Call) -> LoggedIn:
    return await log_in(services, await enrol(services, call))


async def enrol(services: Services, call: Call) -> User:
    """Make an account, and no login. Raises: Problem."""
    body: Register = call.body
    if not services.settings.auth.registration:
        raise Problem(403, "registration_off", "Accounts are made by an administrator here.")
    if body.email is None and body.phone is None:
        raise Problem(422, "invalid", "Give an `email` or a `phone` to log in with.", field="email")
    attempt(services.addresses, call.address)
    hashed = await services.passwords.hash(body.password)
    user = User(UserId(new_id()), 0, body.name, lower(body.email), digits(body.phone), body.role, hashed)
    try:
        return await services.users.create(user)
    except Taken as taken:
        raise account_taken(taken) from taken


def account_taken(taken: Taken) -> Problem:
    return Problem(409, "taken", f"There is an account with this {taken.what} already.", field=taken.what)


def lower(email: str | None) -> str | None:
    return None if email is None else email.lower()


def digits(phone: str | None) -> str | None:
    return None if phone is None else re.sub(r"[^+0-9]", "", phone)


async def login(services: Services, call: Call) -> LoggedIn:
    body: Login = call.body
    if (body.email is None) == (body.phone is None):
        raise Problem(422, "invalid", "Log in with either `email` or `phone`.", field="email")
    attempt(services.addresses, call.address)
    attempt(services.attempts, lower(body.email) or digits(body.phone) or "")
    user = await services.users.find_login(email=lower(body.email), phone=digits(body.phone))
    if not await services.passwords.check(user.password_hash if user else None, body.password) or user is None:
        raise unauthenticated("Wrong email, phone or password.", "bad_credentials")
    return await log_in(services, user)


def attempt(rate: Rate, key: str) -> None:
    """Count an attempt to log in or to register. Raises: Problem 429."""
    if wait := rate.take(key):
        raise too_fast("Too many attempts; wait a little.", wait)


async def log_in(services: Services, user: User) -> LoggedIn:
    login_id, secret = new_id(), secrets.token_urlsafe(32)
    await services.users.open_login(login_id, user.user_id, digest(secret), refresh_end(services))
    return logged_in(services, user, login_id, secret)


def logged_in(services: Services, user: User, login_id: str, secret: str) -> LoggedIn:
    return LoggedIn(user, services.tokens.issue(user, login_id), f"{login_id}.{secret}", services.tokens.ttl_s)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def refresh_end(services: Services) -> Millis:
    return Millis(now_millis() + services.settings.auth.refresh_ttl_s * 1000)


async def refresh(services: Services, call: Call) -> LoggedIn:
    """Exchange a refresh token for new tokens. One used before is stolen: its whole login ends."""
    login_id, _, secret = call.body.refresh_token.partition(".")
    if not UUID.fullmatch(login_id):
        raise unauthenticated("The refresh token is not valid; log in again.", "bad_refresh_token")
    fresh = secrets.token_urlsafe(32)
    user_id = await services.users.rotate(login_id, digest(secret), digest(fresh), refresh_end(services))
    user = None if user_id is None else await services.users.find(user_id)
    if user is None:
        # Only one that was ours: whoever knows no more than a login's name ends nobody's.
        if await services.users.used(login_id, digest(secret)):
            await whole(stolen(services, login_id))
        raise unauthenticated("The refresh token is not valid any more; log in again.", "bad_refresh_token")
    return logged_in(services, user, login_id, fresh)


async def stolen(services: Services, login_id: str) -> None:
    if await services.users.revoke(login_id):
        services.tokens.revoke(login_id)
        services.hub.cut_off(None, login_id)


async def whole(work: Coroutine[Any, Any, T]) -> T:
    """Do what must not stop half-way, though its client goes: what the database has ended has to end here, too."""
    return await asyncio.shield(asyncio.create_task(work))


async def logout(services: Services, call: Call) -> None:
    # Without a login they are believed, and have none to end.
    if call.principal.login:
        await whole(logged_out(services, call.principal))


async def logged_out(services: Services, principal: Principal) -> None:
    await services.users.end_login(principal.login, principal.user_id, principal.expires_at)
    services.tokens.revoke(principal.login, principal.expires_at)
    services.hub.cut_off(principal.user_id, principal.login)


async def me(services: Services, call: Call) -> User:
    user = await services.users.find(call.principal.user_id)
    if user is None:
        raise unauthenticated("This account is gone.")
    return user


async def change_me(services: Services, call: Call) -> User:
    body: ChangeMe = call.body
    user = await me(services, call)
    if body.email or body.phone or body.password:
        attempt(services.attempts, user.user_id)
        if not await services.passwords.check(user.password_hash, body.current_password or ""):
            raise Problem(
                403, "bad_credentials", "Changing this needs your `current_password`.", field="current_password"
            )
    hashed = None if body.password is None else await services.passwords.hash(body.password)
    return await whole(changed(services, call, user, hashed))


async def changed(services: Services, call: Call, user: User, hashed: str | None) -> User:
    """Change an account. Raises: Problem 409."""
    body: ChangeMe = call.body
    try:
        found = await services.users.change(
            user.user_id, name=body.name, email=lower(body.email), phone=digits(body.phone), password_hash=hashed
        )
    except Taken as taken:
        raise account_taken(taken) from taken
    if hashed is not None:
        # Whoever knew the old password is logged out, but for the one who has just changed it.
        for login_id in await services.users.revoke_all(user.user_id, but=call.principal.login):
            services.tokens.revoke(login_id)
            services.hub.cut_off(user.user_id, login_id)
    return found or user


# Sessions


class SessionQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Status | None = None
    kind: Kind | None = None
    owner: UserRef | None = None
    participant: UserRef | None = None
    course_id: Annotated[str, Meta(max_length=64)] | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: Cursor | None = None


class Listed(Struct, frozen=True):
    """A page, and where the next one starts (None: this was the last)."""

    items: list[Any]
    next: str | None


# People


def numbered_student(of: Callable[[Call], int]) -> Callable[[Services, Call], Awaitable[User]]:
    """Make what finds the student whose account's number a call names. Raises: Problem 404."""

    async def find(services: Services, call: Call) -> User:
        number = of(call)
        user = await services.users.find_number(number) if 0 < number < 1 << 31 else None
        if user is None or user.role != "student":
            raise Problem(404, "unknown_user", f"There is no student {number}.", field="student_id")
        return user

    return find


class StudentsQuery(Struct, frozen=True):
    skip: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000


async def students(services: Services, call: Call) -> list[User]:
    """List all students. Who may see them has been seen to."""
    return await services.users.students(skip=call.query.skip, limit=call.query.limit)


async def reached(services: Services, call: Call) -> int:
    """After an invitation: count the devices that it goes to. None, if they were invited already."""
    return await services.invitations.count(call.known.user_id) if call.made else 0


# Lists


class Slice(Struct, frozen=True, kw_only=True):
    """Sessions of a kind, newest first, `skip` of them left out."""

    kind: Kind
    skip: int = 0
    limit: int = 100
    owner: UserId | None = None
    participant: UserId | None = None
    status: Status | None = None
    dialect: str | None = None
    """Only those made through it."""


async def sliced(services: Services, call: Call) -> tuple[list[Session], int]:
    """Give a slice, and how many sessions there are in all."""
    asked: Slice = call.body
    if asked.owner is not None and not UUID.fullmatch(asked.owner):
        return [], 0
    return await services.sessions.slice(**structs.asdict(asked))


async def list_sessions(services: Services, call: Call) -> Listed:
    query: SessionQuery = call.query
    found = await services.sessions.page(
        call.principal.user_id,
        before=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        status=query.status,
        kind=query.kind,
        owner=query.owner,
        participant=query.participant,
        course_id=query.course_id,
    )
    more = len(found) > query.limit
    return Listed(found[: query.limit], str(found[query.limit - 1].number) if more else None)


async def find_session(services: Services, call: Call) -> Session:
    return (await services.visible(call.session_id, call.principal, call.params["ref"])).session


async def state(services: Services, call: Call, encode: Any) -> bytes:
    """Read a session's state for one who is in it. `encode(state, viewer, now, shared)` prints it."""
    viewer = call.principal.user_id

    def view(state: State) -> bytes:
        shared: dict[Hashable, bytes] = {}
        return bytes(encode(state, viewer, now_millis(), shared))

    return bytes(await look(services, call, view))


async def look(services: Services, call: Call, view: Callable[[State], Any]) -> Any:
    """Give what `view` makes of a session's state, for one who is in it, waits, or was in it. Raises: Problem."""
    ref, viewer = call.params["ref"], call.principal.user_id
    await services.visible(call.session_id, call.principal, ref)

    def permitted(state: State) -> tuple[Any] | None:
        place = state.participants.get(viewer)
        over = state.session.status in lifecycle.CLOSED and place is not None and place.joined_at is not None
        waiting = place is not None and place.status == "waiting"
        return (view(state),) if over or waiting or role_of(state, viewer) else None

    outcome = await services.directory.ask(call.session_id, Look(permitted, asyncio.get_running_loop().create_future()))
    if not isinstance(outcome, Snapshot):
        raise refused(outcome, ref)
    if outcome.value is None:
        raise Problem(403, "not_joined", "Join the session first.")
    return outcome.value[0]


async def find_place(services: Services, call: Call) -> Found:
    """Read a session and the caller's place in it. The caller has just been let in, so nothing is checked."""
    found = await services.sessions.find(call.session_id, call.principal.user_id)
    if found is None:
        raise unknown_session(call.session_id)
    return found


async def deleted(services: Services, call: Call) -> None:
    """After `session_deleted`: the session is not found any more."""
    services.refs.forget(call.session_id)


class Ticket(Struct, frozen=True):
    ticket: str
    expires_at: Millis


async def ticket(services: Services, call: Call) -> Ticket:
    await services.visible(call.session_id, call.principal, call.params["ref"])
    return ticket_for(services, call.principal, call.session_id)


async def own_ticket(services: Services, call: Call) -> Ticket:
    return ticket_for(services, call.principal, None)


def ticket_for(services: Services, principal: Principal, session_id: SessionId | None) -> Ticket:
    text, expires_at = services.tickets.issue(principal, session_id)
    return Ticket(text, Millis(round(expires_at * 1000)))


# The log


class LogQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`type`: one or several, repeated or with commas between. `since` is in, `until` is out."""

    type: Annotated[str, Meta(max_length=2_000)] | None = None
    user: UserRef | None = None
    since: c.When | None = None
    until: c.When | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100
    cursor: Cursor | None = None


async def log_page(services: Services, call: Call) -> Listed:
    query: LogQuery = call.query
    await services.moderated(call.session_id, call.principal, call.params["ref"])
    rows = await services.log.page(
        call.session_id,
        after=None if query.cursor is None else int(query.cursor),
        limit=query.limit + 1,
        types=None if query.type is None else event_types(query.type),
        user_id=None if query.user is None else UserId(query.user),
        since=lifecycle.millis(query.since),
        until=lifecycle.millis(query.until),
        descending=query.order == "desc",
    )
    more = len(rows) > query.limit
    shown = [withheld(row, call.principal.user_id) for row in rows[: query.limit]]
    return Listed(shown, str(rows[query.limit - 1].seq) if more else None)


def withheld(row: Recorded, viewer: UserId) -> Recorded:
    """Leave out what a direct message between others says: moderators learn that there was one."""
    event = row.event
    if not isinstance(event, ChatMessage) or event.to is None or viewer in (event.to, row.actor_id):
        return row
    return structs.replace(row, event=structs.replace(event, text="", voice=None))


def event_types(listed: str) -> list[str]:
    """Split names of event types. Raises: Problem 422 for one that there is not."""
    types = listed.split(",")
    for name in types:
        if name not in EVENT_TYPES:
            raise Problem(422, "invalid", f"There is no event type {name!r}.", field="type")
    return types


async def log_summary(services: Services, call: Call) -> Summary:
    await services.moderated(call.session_id, call.principal, call.params["ref"])
    return await services.log.summary(call.session_id)
