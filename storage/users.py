"""People and their logins. Passwords come hashed, refresh tokens digested: neither is ever here in clear."""

from collections.abc import Collection
from typing import Literal

from msgspec import Struct, structs

from actors.ports import NotUnique
from actors.session.commands import Person
from actors.session.ids import Millis, UserId
from storage import queries
from storage.aiopg_connection import Row
from storage.errors import Conflict, DatabaseUnavailable
from storage.pool import Pool

SQL = queries.load("users")
USED_KEPT = 100
"""Refresh tokens of a login that are known when they come again: two days' worth, of one that is always in use."""
SIGHTINGS = 5
"""Attempts at taking in a user whom others take in, or whose email others take, at the same time."""
AccountRole = Literal["teacher", "student", "guest"]
"""A guest has no account to log in to: a name, and a token for one session."""


class User(Struct, frozen=True):
    """An account. `password_hash` is None for users of outside issuers."""

    user_id: UserId
    number: int
    name: str
    email: str | None
    phone: str | None
    role: AccountRole
    password_hash: str | None
    colour: str | None = None
    created_at: Millis = Millis(0)
    """Given when it is added."""


class ExternalClaims(Struct, frozen=True, kw_only=True):
    """What a verified token of an outside issuer says of its holder. `issued_at` (unix s) orders such tokens."""

    issuer: str
    subject: str
    name: str
    email: str | None
    role: AccountRole
    issued_at: float


class Users:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, user: User) -> User:
        """Add an account; its number is given here. Raises: NotUnique('email' | 'phone')."""
        try:
            rows = await self._pool.fetch(
                SQL["create"],
                {
                    "user_id": user.user_id, "name": user.name, "email": user.email, "phone": user.phone,
                    "role": user.role, "password_hash": user.password_hash, "colour": user.colour,
                },
            )  # fmt: skip
        except Conflict as conflict:
            raise NotUnique(conflict.constraint.removeprefix("users_")) from conflict
        return structs.replace(user, number=rows[0][0], created_at=Millis(rows[0][1]))

    async def take_in_guest(
        self, issuer: str, subject: str, *, new_id: UserId, name: str, colour: str | None
    ) -> User | None:
        """Find or make, with `new_id`, the guest who presents an id (a UUID); None: it is somebody's already."""
        params = {"user_id": new_id, "name": name, "colour": colour, "issuer": issuer, "subject": subject}
        return _first(await self._pool.fetch(SQL["take_in_guest"], params))

    async def find(self, user_id: UserId) -> User | None:
        return _first(await self._pool.fetch(SQL["find"], {"user_id": user_id}, retry=True))

    async def find_login(self, *, email: str | None = None, phone: str | None = None) -> User | None:
        """Find an account by what its owner logs in with."""
        return _first(await self._pool.fetch(SQL["find_login"], {"email": email, "phone": phone}, retry=True))

    async def sight(self, claimed: ExternalClaims, new_id: UserId) -> tuple[User, AccountRole | None]:
        """Find the user whom an outside token names, or make them, with `new_id`; give also the role that they had.

        What the latest token says holds, but for an email that another account has."""
        params = {"new_id": new_id, **structs.asdict(claimed)}
        for _ in range(SIGHTINGS):
            rows = await self._pool.fetch(SQL["find_subject"], params, retry=True)
            found = _first(rows)
            if found is not None and rows[0][-1]:
                return found, found.role
            try:
                taken_in = _first(await self._pool.fetch(SQL["take_in"], params))
            except Conflict:
                # Somebody has just got the email; the next attempt sees it.
                continue
            if taken_in is not None:
                return taken_in, None if found is None else found.role
        raise DatabaseUnavailable("a user of an outside issuer changes all the time")

    async def people(self, user_ids: Collection[UserId]) -> dict[UserId, Person]:
        """Look up names and numbers; who is not there has no account."""
        rows = await self._pool.fetch(SQL["people"], {"user_ids": list(user_ids)}, retry=True)
        return {row[0]: Person(*row[1:]) for row in rows}

    async def find_number(self, number: int) -> User | None:
        return _first(await self._pool.fetch(SQL["find_number"], {"number": number}, retry=True))

    async def students(self, *, skip: int, limit: int) -> list[User]:
        """Give students, in the order in which they came, `skip` of them left out."""
        return [
            User(*row) for row in await self._pool.fetch(SQL["students"], {"skip": skip, "limit": limit}, retry=True)
        ]

    async def change(
        self,
        user_id: UserId,
        *,
        name: str | None = None,
        email: str | None = None,
        phone: str | None = None,
        password_hash: str | None = None,
    ) -> User | None:
        """Change what is not None. Raises: NotUnique('email' | 'phone')."""
        params = {"user_id": user_id, "name": name, "email": email, "phone": phone, "password_hash": password_hash}
        try:
            return _first(await self._pool.fetch(SQL["change"], params))
        except Conflict as conflict:
            raise NotUnique(conflict.constraint.removeprefix("users_")) from conflict

    async def open_login(self, login_id: str, user_id: UserId, digest: str, expires_at: Millis) -> None:
        """Note a login, and the digest of the one refresh token that continues it."""
        await self._pool.execute(
            SQL["open_login"],
            {"login_id": login_id, "user_id": user_id, "digest": digest, "expires_at": expires_at},
        )

    async def open_only_login(self, user_id: UserId, digest: str, expires_at: Millis) -> bool:
        """Note the one login that a guest ever has, named as they are; False: there is one already."""
        params = {"user_id": user_id, "digest": digest, "expires_at": expires_at}
        return await self._pool.execute(SQL["open_only_login"], params) > 0

    async def rotate(self, login_id: str, digest: str, new_digest: str, expires_at: Millis) -> UserId | None:
        """Exchange a refresh token for the next one; None: it is not the current one, or the login is over."""
        rows = await self._pool.fetch(
            SQL["rotate"],
            {
                "login_id": login_id, "digest": digest, "new_digest": new_digest, "expires_at": expires_at,
                "kept": USED_KEPT,
            },
        )  # fmt: skip
        return rows[0][0] if rows else None

    async def used(self, login_id: str, digest: str) -> bool:
        """Say whether a refresh token of this login has been exchanged before."""
        return bool(await self._pool.fetch(SQL["used"], {"login_id": login_id, "digest": digest}, retry=True))

    async def revoke(self, login_id: str) -> bool:
        """End a login; say whether it was still open."""
        return await self._pool.execute(SQL["revoke"], {"login_id": login_id}) > 0

    async def end_login(self, login_id: str, user_id: UserId, expires_at: float) -> None:
        """End a login that may have been noted nowhere, such as an outside token's, whose end is given (unix s)."""
        await self._pool.execute(SQL["end_login"], {"login_id": login_id, "user_id": user_id, "expires_at": expires_at})

    async def revoke_all(self, user_id: UserId, *, but: str) -> list[str]:
        """End all logins of a user but one; name them."""
        return [row[0] for row in await self._pool.fetch(SQL["revoke_all"], {"user_id": user_id, "but": but})]

    async def revoked(self, seconds: int) -> list[tuple[str, float]]:
        """Name the logins that access tokens may still name: ended within the last so many seconds, or with an end of
        their own that is still to come (unix s; else 0)."""
        rows = await self._pool.fetch(SQL["revoked"], {"seconds": seconds}, retry=True)
        return [(login_id, float(until)) for login_id, until in rows]

    async def forget_logins(self) -> int:
        """Drop logins that expired a week ago; give how many, `FORGET_ROWS` at most."""
        return int((await self._pool.fetch(SQL["forget_logins"], {"limit": queries.FORGET_ROWS}))[0][0])

    async def forget_guests(self) -> int:
        """Drop guests whose tokens are long over; give how many, `FORGET_ROWS` at most. The logs keep what they did."""
        return await self._pool.execute(SQL["forget_guests"], {"limit": queries.FORGET_ROWS})


def _first(rows: list[Row]) -> User | None:
    return User(*rows[0][:9]) if rows else None
