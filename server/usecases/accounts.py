"""Accounts: registering, logging in and out, and changes by their users. All APIs use it.

**Law:** when a login has ended in the database, this server ends it too, even if the request that ended it is
cancelled.
"""

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from msgspec import Meta, Struct

from actors.ports import NotUnique
from actors.session.ids import Millis, Name, UserId
from server.http.problems import Problem, too_fast, unauthenticated
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.security.passwords import Passwords
from server.security.principal import Principal
from server.security.rate_limit import Rate
from server.security.tokens import Tokens
from server.settings.sections import Settings
from server.streams.hub import Hub
from server.usecases.call import Call
from storage.sessions import UUID
from storage.users import User, Users

T = TypeVar("T")
Account = User
# Python's `$` also matches before a newline at the end; with `(?!\n)` after it, it does not, as in JSON Schema.
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
Password = Annotated[str, Meta(min_length=8, max_length=200)]
UserRef = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description="a user's id, a UUID")]


@dataclass(frozen=True, kw_only=True)
class AccountParts:
    """Accounts and logins."""

    settings: Settings
    users: Users
    tokens: Tokens
    hub: Hub
    passwords: Passwords
    attempts: Rate
    """Limits logins per account."""
    addresses: Rate
    """Limits logins and registrations per address, which a whole school may share."""


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
    """Changes to the caller's account. A new email address, phone or password requires `current_password`."""

    name: Name | None = None
    email: Email | None = None
    phone: Phone | None = None
    password: Password | None = None
    current_password: Annotated[str, Meta(max_length=200)] | None = None


class LoggedIn(Struct, frozen=True):
    """A user and the tokens of a login. `expires_in` is the access token's lifetime in seconds."""

    user: User
    access_token: str
    refresh_token: str
    expires_in: int


@refuses(invalid=422, registration_off=403, taken=409)
async def register(parts: AccountParts, call: Call) -> LoggedIn:
    """Create an account and log it in. Raise Problem 403, 409, 422, 429."""
    return await log_in(parts, await enrol(parts, call))


@refuses(invalid=422, registration_off=403, taken=409)
async def enrol(parts: AccountParts, call: Call[Register]) -> User:
    """Create an account without a login. Raise Problem 403 if registration is off, 409 if the email or phone is in use,
    422, 429."""
    body = call.body
    if not parts.settings.auth.registration:
        raise Problem(403, "registration_off", "Accounts are made by an administrator here.")
    if body.email is None and body.phone is None:
        raise Problem(422, "invalid", "Give an `email` or a `phone` to log in with.", field="email")
    attempt(parts.addresses, call.address)
    hashed = await parts.passwords.hash(body.password)
    user = User(UserId(new_id()), 0, body.name, lower(body.email), digits(body.phone), body.role, hashed)
    try:
        return await parts.users.create(user)
    except NotUnique as conflict:
        raise duplicate_account(conflict) from conflict


def duplicate_account(conflict: NotUnique) -> Problem:
    """Return a Problem 409 for an email address or a phone number that an account has already."""
    return Problem(409, "taken", f"An account with this {conflict.what} exists already.", field=conflict.what)


def lower(email: str | None) -> str | None:
    """Return an email address in lower case."""
    return None if email is None else email.lower()


def digits(phone: str | None) -> str | None:
    """Return a phone number without spaces and punctuation."""
    return None if phone is None else re.sub(r"[^+0-9]", "", phone)


@refuses(bad_credentials=401, invalid=422)
async def login(parts: AccountParts, call: Call[Login]) -> LoggedIn:
    """Log a user in. Raise Problem 401 for wrong credentials, 422, 429."""
    body = call.body
    if (body.email is None) == (body.phone is None):
        raise Problem(422, "invalid", "Log in with either `email` or `phone`.", field="email")
    attempt(parts.addresses, call.address)
    attempt(parts.attempts, lower(body.email) or digits(body.phone) or "")
    user = await parts.users.find_login(email=lower(body.email), phone=digits(body.phone))
    if not await parts.passwords.check(user.password_hash if user else None, body.password) or user is None:
        raise unauthenticated("Wrong email, phone or password.", "bad_credentials")
    return await log_in(parts, user)


def attempt(rate: Rate, key: str) -> None:
    """Count an attempt to log in or to register. Raise Problem 429 above the limit."""
    if wait := rate.take(key):
        raise too_fast("Too many attempts; wait a little.", wait)


async def log_in(parts: AccountParts, user: User) -> LoggedIn:
    """Open a login of a user; return its tokens."""
    login_id, secret = new_id(), secrets.token_urlsafe(32)
    await parts.users.open_login(login_id, user.user_id, digest(secret), refresh_end(parts))
    return logged_in(parts, user, login_id, secret)


def logged_in(parts: AccountParts, user: User, login_id: str, secret: str) -> LoggedIn:
    """Return the tokens of a login."""
    return LoggedIn(user, parts.tokens.issue(user, login_id), f"{login_id}.{secret}", parts.tokens.ttl_s)


def digest(secret: str) -> str:
    """Return the SHA-256 of a secret, in hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def refresh_end(parts: AccountParts) -> Millis:
    """Return the time at which a new refresh token expires."""
    return Millis(now_millis() + parts.settings.auth.refresh_ttl_s * 1000)


@refuses(bad_refresh_token=401)
async def refresh(parts: AccountParts, call: Call) -> LoggedIn:
    """Exchange a refresh token for new tokens. A token that was used before counts as stolen and ends its login.

    Raise Problem 401 if the token is not valid."""
    login_id, _, secret = call.body.refresh_token.partition(".")
    if not UUID.fullmatch(login_id):
        raise unauthenticated("The refresh token is not valid; log in again.", "bad_refresh_token")
    fresh = secrets.token_urlsafe(32)
    user_id = await parts.users.rotate(login_id, digest(secret), digest(fresh), refresh_end(parts))
    user = None if user_id is None else await parts.users.find(user_id)
    if user is None:
        # Only a token that was issued once: knowing a login's id must not suffice to end it.
        if await parts.users.used(login_id, digest(secret)):
            await whole(stolen(parts, login_id))
        raise unauthenticated("The refresh token is not valid any more; log in again.", "bad_refresh_token")
    return logged_in(parts, user, login_id, fresh)


async def stolen(parts: AccountParts, login_id: str) -> None:
    """End a login whose refresh token was used twice."""
    if await parts.users.revoke(login_id):
        parts.tokens.revoke(login_id)
        parts.hub.close_login(None, login_id)


async def whole(work: Coroutine[None, None, T]) -> T:
    """Return the result of `work`, which continues even if the request is cancelled."""
    return await asyncio.shield(asyncio.create_task(work))


async def logout(parts: AccountParts, call: Call) -> None:
    """End the caller's login, and its streams and sockets."""
    # A caller identified without a token has no login to end.
    if call.principal.login:
        await whole(logged_out(parts, call.principal))


async def logged_out(parts: AccountParts, principal: Principal) -> None:
    """End a login in the database and in this server."""
    await parts.users.end_login(principal.login, principal.user_id, principal.expires_at)
    parts.tokens.revoke(principal.login, principal.expires_at)
    parts.hub.close_login(principal.user_id, principal.login)


@refuses(unauthenticated=401)
async def me(parts: AccountParts, call: Call) -> User:
    """Return the caller's account. Raise Problem 401 if it is gone."""
    user = await parts.users.find(call.principal.user_id)
    if user is None:
        raise unauthenticated("This account is gone.")
    return user


@refuses(bad_credentials=403, taken=409, unauthenticated=401)
async def change_me(parts: AccountParts, call: Call[ChangeMe]) -> User:
    """Change the caller's account. Raise Problem 401, 403 for a wrong `current_password`, 409, 429."""
    body = call.body
    user = await me(parts, call)
    if body.email or body.phone or body.password:
        attempt(parts.attempts, user.user_id)
        if not await parts.passwords.check(user.password_hash, body.current_password or ""):
            raise Problem(
                403, "bad_credentials", "Changing this needs your `current_password`.", field="current_password"
            )
    hashed = None if body.password is None else await parts.passwords.hash(body.password)
    return await whole(changed(parts, call, user, hashed))


async def changed(parts: AccountParts, call: Call[ChangeMe], user: User, hashed: str | None) -> User:
    """Change an account, and end its other logins with a new password. Raise Problem 409."""
    body = call.body
    try:
        found = await parts.users.change(
            user.user_id, name=body.name, email=lower(body.email), phone=digits(body.phone), password_hash=hashed
        )
    except NotUnique as conflict:
        raise duplicate_account(conflict) from conflict
    if hashed is not None:
        # End all logins made with the old password, except the caller's.
        for login_id in await parts.users.revoke_all(user.user_id, but=call.principal.login):
            parts.tokens.revoke(login_id)
            parts.hub.close_login(user.user_id, login_id)
    return found or user


# Students


def numbered_student(of: Callable[[Call], int]) -> Callable[[AccountParts, Call], Awaitable[User]]:
    """Return a function that returns the student with the number in a call. The function raises Problem 404."""

    @refuses(unknown_user=404)
    async def find(parts: AccountParts, call: Call) -> User:
        number = of(call)
        user = await parts.users.find_number(number) if 0 < number < 1 << 31 else None
        if user is None or user.role != "student":
            raise Problem(404, "unknown_user", f"There is no student {number}.", field="student_id")
        return user

    return find


class StudentsQuery(Struct, frozen=True):
    """Selects a section of the list of students."""

    skip: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000


async def students(parts: AccountParts, call: Call) -> list[User]:
    """Return all students. The row has checked the caller's access."""
    return await parts.users.students(skip=call.query.skip, limit=call.query.limit)
