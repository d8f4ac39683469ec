"""The lookup of sessions by id, number, name or code.

**Law:** the cache holds only what never changes. A deleted session is removed from it.
"""

from collections import OrderedDict

from actors.session.ids import SessionId
from actors.session.state import Kind
from server.http.problems import unknown_session
from storage.sessions import RefKind, Sessions

REFS_KEPT = 100_000
SessionKey = str | tuple[Kind, str | None, RefKind, str]
"""A reference to a session: global, or within the sessions of a kind and a dialect."""


class SessionLookup:
    """Finds sessions by id, number, name or code, and caches at most `kept` results."""

    def __init__(self, sessions: Sessions, *, kept: int = REFS_KEPT) -> None:
        self._sessions = sessions
        self._kept = kept
        self._known: OrderedDict[SessionKey, tuple[SessionId, bool]] = OrderedDict()
        self._places: dict[SessionId, list[SessionKey]] = {}
        """The cached references of each session, so that forgetting one session does not scan the cache."""

    async def resolve(self, ref: str) -> tuple[SessionId, bool]:
        """Return a session's id, and whether `ref` is its code. Raise Problem 404."""
        known = self._known.get(ref)
        if known is None:
            # A name is printable. PostgreSQL refuses some unprintable text, such as NUL and lone surrogates.
            known = await self._sessions.resolve(ref) if ref.isprintable() else None
            if known is None:
                raise unknown_session(ref)
            self._keep(ref, known)
        return known

    async def deleted(self, ref: str) -> SessionId | None:
        """Return the id of a deleted session, or None if no session ever had this reference."""
        return await self._sessions.deleted(ref) if ref.isprintable() else None

    def _keep(self, place: SessionKey, known: tuple[SessionId, bool]) -> tuple[SessionId, bool]:
        if place not in self._known:
            self._known[place] = known
            self._places.setdefault(known[0], []).append(place)
            if len(self._known) > self._kept:
                oldest, (session_id, _) = self._known.popitem(last=False)
                self._places[session_id].remove(oldest)
                if not self._places[session_id]:
                    del self._places[session_id]
        return known

    async def within(self, kind: Kind, dialect: str | None, named: RefKind, ref: str) -> SessionId:
        """Return the id of a session of this kind; with `dialect`, of one created through it. Raise Problem 404."""
        place = kind, dialect, named, ref
        known = self._known.get(place)
        if known is None:
            found = await self._sessions.within(kind, dialect, named, ref) if ref.isprintable() else None
            if found is None:
                raise unknown_session(ref)
            known = self._keep(place, (found, named == "code"))
        return known[0]

    def known(self, ref: str) -> tuple[SessionId, bool] | None:
        """Return the result of `resolve` if it is cached, otherwise None."""
        return self._known.get(ref)

    def forget(self, session_id: SessionId) -> None:
        """Remove a deleted session from the cache."""
        for place in self._places.pop(session_id, ()):
            del self._known[place]
