"""Bookings: a time of a tutor with a student, and the one session that is created for it.

**Law:** a booking gets its session once: in the statement that creates it (`sql/queries/event_log.sql: create`).
"""

from msgspec import Struct

from actors.ports import CreationKey, NotUnique
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Status
from storage import queries
from storage.errors import Conflict
from storage.pool import Pool

SQL = queries.load("bookings")


class Booking(Struct, frozen=True):
    """A booking. `session_id` and `session_status` are None until its session is created."""

    booking_id: str
    tutor_id: UserId
    tutor_name: str
    student_id: UserId
    student_name: str
    starts_at: Millis
    ends_at: Millis
    title: str
    created_by: UserId
    created_at: Millis
    session_id: SessionId | None = None
    session_status: Status | None = None

    def involves(self, user_id: UserId) -> bool:
        """Return whether a user is its tutor or its student."""
        return user_id in (self.tutor_id, self.student_id)


class Bookings:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self,
        booking_id: str,
        *,
        tutor_id: UserId,
        student_id: UserId,
        starts_at: Millis,
        ends_at: Millis,
        title: str,
        created_by: UserId,
        key: CreationKey | None = None,
    ) -> None:
        """Add a booking of two existing users. `key` is its creator's. Raise NotUnique("key") if it is in use."""
        values = {
            "booking_id": booking_id, "tutor_id": tutor_id, "student_id": student_id, "starts_at": starts_at,
            "ends_at": ends_at, "title": title, "created_by": created_by, "key": None if key is None else key.key,
            "key_digest": None if key is None else key.digest,
        }  # fmt: skip
        try:
            await self._pool.execute(SQL["create"], values)
        except Conflict as conflict:
            raise NotUnique(conflict.constraint.partition("_")[2]) from conflict

    async def find(self, booking_id: str) -> Booking | None:
        """Return a booking; None if there is no such booking."""
        rows = await self._pool.fetch(SQL["find"], {"booking_id": booking_id}, retry=True)
        return Booking(*rows[0]) if rows else None

    async def page(
        self, user_id: UserId, *, after: str | None, limit: int, since: Millis | None, until: Millis | None
    ) -> list[Booking]:
        """Return the bookings of a tutor or student, earliest first.

        `since`: only those that end after it; `until`: only those that start before it. `after`: the last booking of
        the previous page.
        """
        params = {"user_id": user_id, "after": after, "limit": limit, "since": since, "until": until}
        return [Booking(*row) for row in await self._pool.fetch(SQL["page"], params, retry=True)]
