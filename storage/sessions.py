"""Sessions as lists and look-ups see them: read only, the log's commits keep them (`sql/queries/event_log.sql`)."""

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
Naming = Literal["number", "id", "name", "code"]
"""What names a session to a client."""
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_sessions = msgspec.json.Decoder(Session)


class SessionMembership(Struct, frozen=True):
    """A session, and a user's membership of it."""

    session: Session
    membership: Membership


def readable(bodies: Iterable[str]) -> Iterator[Session]:
    """Return the sessions of a list, without those that cannot be read: one such row must not cost the others."""
    for body in bodies:
        try:
            yield _sessions.decode(body)
        except msgspec.DecodeError as error:
            logger.error("a session's row cannot be read, and is left out of a list: %s: %.200s", error, body)


class Sessions:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def resolve(self, ref: str) -> tuple[SessionId, bool] | None:
        """Find a session by id, number, code or name, and say if it was by its code. Deleted ones are not found."""
        if UUID.fullmatch(ref):
            return await self._one("resolve_id", ref, False)
        if ref.isascii() and ref.isdigit() and len(ref) < 10:
            return await self._one("resolve_number", int(ref), False)
        if CODE.fullmatch(ref):
            return await self._one("resolve_code", ref.upper(), True)
        return await self._one("resolve_name", ref, False)

    async def deleted(self, ref: str) -> SessionId | None:
        """Find a session that is not found any more, by what `resolve` found it by."""
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

    async def within(self, kind: Kind, dialect: str | None, named: Naming, ref: str) -> SessionId | None:
        """Find a session of a kind by what names it there; with `dialect`, one that was made through it."""
        if named == "number" and not NUMBER.fullmatch(ref):
            return None
        if named == "id" and not UUID.fullmatch(ref):
            return None
        found = await self._pool.fetch(SQL[f"resolve_{named}"], {"ref": ref}, retry=True)
        return found[0][0] if found and found[0][1] == kind and dialect in (None, found[0][2]) else None

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
        """Give what the viewer owns or has a place in, newest first; `before`: only numbers below it."""
        params = {
            "viewer": viewer, "before": before, "limit": limit, "status": status, "kind": kind, "owner": owner,
            "participant": participant, "course_id": course_id,
        }  # fmt: skip
        found: list[Session] = []
        while len(found) < limit:
            wanted = limit - len(found)
            rows = await self._pool.fetch(SQL["page"], {**params, "limit": wanted}, retry=True)
            found += readable(row[1] for row in rows)
            if len(rows) < wanted:
                break
            params["before"] = rows[-1][0]
        return found

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
        """Give sessions of a kind, newest first, `skip` of them left out; and how many there are in all."""
        params = {
            "kind": kind, "skip": skip, "limit": limit, "owner": owner, "participant": participant, "status": status,
            "dialect": dialect,
        }  # fmt: skip
        rows = await self._pool.fetch(SQL["slice"], params, retry=True)
        total = await self._pool.fetch(SQL["slice_total"], params, retry=True)
        return list(readable(row[0] for row in rows)), total[0][0]

    async def counts(self) -> dict[str, int]:
        """Count sessions by status."""
        return {row[0]: row[1] for row in await self._pool.fetch(SQL["counts"], retry=True)}
