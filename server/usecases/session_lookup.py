"""References: which session an id, a number, a name or a code leads to.

**Law:** what is remembered never changes, but for a session that is deleted, which is forgotten.
"""

from collections import OrderedDict

from actors.session.ids import SessionId
from actors.session.state import Kind
from server.http.problems import unknown_session
from storage.sessions import RefKind, Sessions

REFS_KEPT = 100_000
SessionKey = str | tuple[Kind, str | None, RefKind, str]
"""What leads to a session: a reference by itself, or one within the sessions of a kind and a dialect."""


class SessionLookup:
    """Finds sessions by id, number, name or code; remembers what never changes."""

    def __init__(self, sessions: Sessions, *, kept: int = REFS_KEPT) -> None:
        self._sessions = sessions
        self._kept = kept
        self._known: OrderedDict[SessionKey, tuple[SessionId, bool]] = OrderedDict()
        self._places: dict[SessionId, list[SessionKey]] = {}
        """By what each session is known: to forget one must not take a look at all of them."""

    async def resolve(self, ref: str) -> tuple[SessionId, bool]:
        """Give a session's id, and whether `ref` is its code. Raises: Problem 404."""
        known = self._known.get(ref)
        if known is None:
            # What cannot be printed, NUL and half a surrogate among it, is no name; PostgreSQL takes neither.
            known = await self._sessions.resolve(ref) if ref.isprintable() else None
            if known is None:
                raise unknown_session(ref)
            self._keep(ref, known)
        return known

    async def deleted(self, ref: str) -> SessionId | None:
        """Give the id of a session that is not found any more; None: there never was one."""
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
        """Give the id of a session of a kind, with `dialect` of one that was made through it. Raises: Problem 404."""
        place = kind, dialect, named, ref
        known = self._known.get(place)
        if known is None:
            found = await self._sessions.within(kind, dialect, named, ref) if ref.isprintable() else None
            if found is None:
                raise unknown_session(ref)
            known = self._keep(place, (found, named == "code"))
        return known[0]

    def known(self, ref: str) -> tuple[SessionId, bool] | None:
        """Give what `resolve` would, if that needs no looking up."""
        return self._known.get(ref)

    def forget(self, session_id: SessionId) -> None:
        """A session has been deleted: it is not found any more."""
        for place in self._places.pop(session_id, ()):
            del self._known[place]
