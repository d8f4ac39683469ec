"""Reads the sessions for lists and lookups. The log's commits write them (`sql/queries/event_log.sql`)."""

import logging
import re
from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec
from msgspec import Struct

from actors.session.access import Membership
from actors.session.ids import SessionId, UserId
from actors.session.state import Kind, Session
from storage import queries
from storage.pool import Pool

logger = logging.getLogger(__name__)
SQL = queries.load("sessions")
CODE = re.compile(r"[A-Za-z0-9]{6}")
NUMBER = re.compile(r"[0-9]{1,9}")
RefKind = Literal["number", "id", "name", "code"]
"""The kinds of references by which clients address a session."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_sessions = msgspec.json.Decoder(Session)


class SessionMembership(Struct, frozen=True):
    """A session, and a user's membership of it."""

    session: Session
    membership: Membership


def readable(bodies: Iterable[str]) -> Iterator[Session]:
    """Return the sessions of a list. Log and skip a row that cannot be read."""
    for body in bodies:
        try:
            yield _sessions.decode(body)
        except msgspec.DecodeError as error:
            logger.error("skipped a session's row that cannot be read: %s: %.200s", error, body)


class Sessions:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def resolve(self, ref: str) -> tuple[SessionId, bool] | None:
        """Return the session with an id, number, code or name, and whether `ref` is its code; None if there is none.

        Deleted sessions do not count.
        """
        if UUID.fullmatch(ref):
            return await self._one("resolve_id", ref, False)
        if ref.isascii() and ref.isdigit() and len(ref) < 10:
            return await self._one("resolve_number", int(ref), False)
        if CODE.fullmatch(ref):
            return await self._one("resolve_code", ref.upper(), True)
        return await self._one("resolve_name", ref, False)

    async def deleted(self, ref: str) -> SessionId | None:
        """Return the deleted session to which `ref` used to resolve."""
        by_id, by_number = UUID.fullmatch(ref), ref.isascii() and ref.isdigit() and len(ref) < 10
        by_code = not by_number and CODE.fullmatch(ref)
        params = {
            "id": ref if by_id else None,
            "number": int(ref) if by_number else None,
            "code": ref.upper() if by_code else None,
            "name": None if by_id or by_number or by_code else ref,
        }
        rows = await self._pool.fetch(SQL["resolve_deleted"], params, retry=True)
        return rows[0][0] if rows else None

    async def within(self, kind: Kind, dialect: str | None, by: RefKind, ref: str) -> SessionId | None:
        """Return the session of a kind with a reference; `dialect`: only if it was created through that dialect."""
        if by == "number" and not NUMBER.fullmatch(ref):
            return None
        if by == "id" and not UUID.fullmatch(ref):
            return None
        rows = await self._pool.fetch(SQL[f"resolve_{by}"], {"ref": ref}, retry=True)
        return rows[0][0] if rows and rows[0][1] == kind and dialect in (None, rows[0][2]) else None

    async def _one(self, how: str, ref: str | int, by_code: bool) -> tuple[SessionId, bool] | None:
        rows = await self._pool.fetch(SQL[how], {"ref": ref}, retry=True)
        return (rows[0][0], by_code) if rows else None

    async def find(self, session_id: SessionId, user_id: UserId) -> SessionMembership | None:
        """Return a session and a user's membership of it; None if there is no such session, or it was deleted."""
        rows = await self._pool.fetch(SQL["find"], {"session_id": session_id, "user_id": user_id}, retry=True)
        if not rows:
            return None
        body, status, role, ever_joined = rows[0]
        session = _sessions.decode(body)
        return SessionMembership(
            session, Membership(session.owner_id == user_id, status, role, ever_joined, session.status)
        )

    async def page(
        self,
        viewer: UserId,
        *,
        before: int | None,
        limit: int,
        status: str | None = None,
        kind: str | None = None,
        owner: str | None = None,
        participant: str | None = None,
        course_id: str | None = None,
    ) -> list[Session]:
        """Return sessions that the viewer owns or participates in, newest first; `before`: only numbers below it."""
        params = {
            "viewer": viewer, "before": before, "limit": limit, "status": status, "kind": kind, "owner": owner,
            "participant": participant, "course_id": course_id,
        }  # fmt: skip
        page: list[Session] = []
        while len(page) < limit:
            missing = limit - len(page)
            rows = await self._pool.fetch(SQL["page"], {**params, "limit": missing}, retry=True)
            page += readable(row[1] for row in rows)
            if len(rows) < missing:
                break
            params["before"] = rows[-1][0]
        return page

    async def slice(
        self,
        kind: Kind,
        *,
        skip: int,
        limit: int,
        owner: UserId | None = None,
        participant: UserId | None = None,
        status: str | None = None,
        dialect: str | None = None,
    ) -> tuple[list[Session], int]:
        """Return sessions of a kind, newest first, without the first `skip`, and the total number."""
        params = {
            "kind": kind, "skip": skip, "limit": limit, "owner": owner, "participant": participant, "status": status,
            "dialect": dialect,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["slice"], params, retry=True)
        total = await self._pool.fetch(SQL["slice_total"], params, retry=True)
        return list(readable(row[0] for row in rows)), total[0][0]

    async def counts(self) -> dict[str, int]:
        """Return the number of sessions by status."""
        return {row[0]: row[1] for row in await self._pool.fetch(SQL["counts"], retry=True)}
