"""Users and their logins.

**Law:** passwords arrive hashed and refresh tokens as digests; this module never has either in clear.
"""

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
"""How many used refresh tokens of a login are recognised: two days' worth for one that is always in use."""
SYNC_ATTEMPTS = 5
"""Attempts at storing an external user while other requests store the same user or email."""
AccountRole = Literal["teacher", "student", "guest"]
"""A guest has no account: only a name, and a token for one session."""


class User(Struct, frozen=True):
    """A user. `password_hash` is None for users of external issuers."""

    user_id: UserId
    number: int
    name: str
    email: str | None
    phone: str | None
    role: AccountRole
    password_hash: str | None
    colour: str | None = None
    created_at: Millis = Millis(0)
    """Assigned by `create`."""


class ExternalClaims(Struct, frozen=True, kw_only=True):
    """The claims of a verified token of an external issuer. `issued_at` (unix s) orders the tokens of a user."""

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
        """Add a user, and return it with its number. Raise NotUnique("email" | "phone")."""
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

    async def save_guest(
        self, issuer: str, subject: str, *, new_id: UserId, name: str, colour: str | None
    ) -> User | None:
        """Return the guest who presents `subject` (a UUID), or create one with `new_id`.

        Return None if the id belongs to another user or guest.
        """
        params = {"user_id": new_id, "name": name, "colour": colour, "issuer": issuer, "subject": subject}
        return _first(await self._pool.fetch(SQL["save_guest"], params))

    async def find(self, user_id: UserId) -> User | None:
        """Return a user; None if there is no such user."""
        return _first(await self._pool.fetch(SQL["find"], {"user_id": user_id}, retry=True))

    async def find_login(self, *, email: str | None = None, phone: str | None = None) -> User | None:
        """Return the user with an email or a phone number; None if there is none."""
        return _first(await self._pool.fetch(SQL["find_login"], {"email": email, "phone": phone}, retry=True))

    async def sync_external(self, claimed: ExternalClaims, new_id: UserId) -> tuple[User, AccountRole | None]:
        """Return the user of an external token, created with `new_id` if need be, and the role before this token.

        The latest token decides name, email and role, except that an email of another user is not stored. Raise
        DatabaseUnavailable if other requests keep changing the user.
        """
        params = {"new_id": new_id, **structs.asdict(claimed)}
        for _ in range(SYNC_ATTEMPTS):
            rows = await self._pool.fetch(SQL["find_subject"], params, retry=True)
            known = _first(rows)
            if known is not None and rows[0][-1]:
                return known, known.role
            try:
                stored = _first(await self._pool.fetch(SQL["save_external"], params))
            except Conflict:
                # Another user was just stored with this email; the next attempt stores none.
                continue
            if stored is not None:
                return stored, None if known is None else known.role
        raise DatabaseUnavailable("another request changed this user at the same time, several times")

    async def people(self, user_ids: Collection[UserId]) -> dict[UserId, Person]:
        """Return names and numbers of users; unknown ids are left out."""
        rows = await self._pool.fetch(SQL["people"], {"user_ids": list(user_ids)}, retry=True)
        return {row[0]: Person(*row[1:]) for row in rows}

    async def find_number(self, number: int) -> User | None:
        """Return the user with a number; None if there is none."""
        return _first(await self._pool.fetch(SQL["find_number"], {"number": number}, retry=True))

    async def students(self, *, skip: int, limit: int) -> list[User]:
        """Return students, in order of their numbers, without the first `skip`."""
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
        """Change the fields that are not None. Return the user, if it exists. Raise NotUnique("email" | "phone")."""
        params = {"user_id": user_id, "name": name, "email": email, "phone": phone, "password_hash": password_hash}
        try:
            return _first(await self._pool.fetch(SQL["change"], params))
        except Conflict as conflict:
            raise NotUnique(conflict.constraint.removeprefix("users_")) from conflict

    async def open_login(self, login_id: str, user_id: UserId, digest: str, expires_at: Millis) -> None:
        """Store a login, and the digest of the one refresh token that continues it."""
        await self._pool.execute(
            SQL["open_login"],
            {"login_id": login_id, "user_id": user_id, "digest": digest, "expires_at": expires_at},
        )

    async def open_only_login(self, user_id: UserId, digest: str, expires_at: Millis) -> bool:
        """Store the only login of a guest, whose id is the guest's. Return False if there is one already."""
        params = {"user_id": user_id, "digest": digest, "expires_at": expires_at}
        return await self._pool.execute(SQL["open_only_login"], params) > 0

    async def rotate(self, login_id: str, digest: str, new_digest: str, expires_at: Millis) -> UserId | None:
        """Replace a refresh token. Return None if it is not the current one, or the login has ended."""
        rows = await self._pool.fetch(
            SQL["rotate"],
            {
                "login_id": login_id, "digest": digest, "new_digest": new_digest, "expires_at": expires_at,
                "kept": USED_KEPT,
            },
        )  # fmt: skip
        return rows[0][0] if rows else None

    async def used(self, login_id: str, digest: str) -> bool:
        """Return whether a refresh token of this login was replaced earlier."""
        return bool(await self._pool.fetch(SQL["used"], {"login_id": login_id, "digest": digest}, retry=True))

    async def revoke(self, login_id: str) -> bool:
        """End a login. Return whether it was still open."""
        return await self._pool.execute(SQL["revoke"], {"login_id": login_id}) > 0

    async def end_login(self, login_id: str, user_id: UserId, expires_at: float) -> None:
        """End a login that may not be stored, such as that of an external token. `expires_at` in unix s."""
        await self._pool.execute(SQL["end_login"], {"login_id": login_id, "user_id": user_id, "expires_at": expires_at})

    async def revoke_all(self, user_id: UserId, *, but: str) -> list[str]:
        """End all logins of a user except one. Return their ids."""
        return [row[0] for row in await self._pool.fetch(SQL["revoke_all"], {"user_id": user_id, "but": but})]

    async def revoked(self, seconds: int) -> list[tuple[str, float]]:
        """Return the ended logins whose access tokens may still be valid, with their expiry (unix s; 0: none stored).

        These are the logins that ended within the last `seconds`, and external ones that have not expired.
        """
        rows = await self._pool.fetch(SQL["revoked"], {"seconds": seconds}, retry=True)
        return [(login_id, float(until)) for login_id, until in rows]

    async def forget_logins(self) -> int:
        """Delete logins that expired a week ago. Return their number, at most `FORGET_ROWS`."""
        return int((await self._pool.fetch(SQL["forget_logins"], {"limit": queries.FORGET_ROWS}))[0][0])

    async def forget_guests(self) -> int:
        """Delete guests whose tokens expired long ago. Return their number, at most `FORGET_ROWS`. Logs stay."""
        return await self._pool.execute(SQL["forget_guests"], {"limit": queries.FORGET_ROWS})


def _first(rows: list[Row]) -> User | None:
    return User(*rows[0][:9]) if rows else None
