"""Callers: verified by a credential, or anonymous."""

import math

from msgspec import Struct

from actors.session.commands import Caller
from actors.session.ids import Millis, SessionId, UserId
from server.http.problems import Problem
from storage.users import AccountRole


class Principal(Struct, frozen=True):
    """A verified caller. `login` is the login that the credential came from; it ends at `expires_at` (Unix s)."""

    user_id: UserId
    number: int
    name: str
    role: AccountRole
    login: str
    expires_at: float
    scope: SessionId | None = None
    """The only session that the credential is for; None for an account's."""
    colour: str | None = None
    issued_at: float = 0.0
    alias: str | None = None
    """The id by which a guest's own client knows them."""
    has_invitation: bool = False
    """The credential is a token of its session's room, and so an invitation to it."""

    def caller(self, *, has_invitation: bool = False) -> Caller:
        """Return the caller as sessions know them."""
        guest = self.role == "guest"
        return Caller(
            self.user_id,
            self.name,
            # A guest used the code, or an id that is as hard to guess.
            has_invitation or guest or self.has_invitation,
            number=self.number,
            alias=self.alias,
            guest=guest,
            colour=self.colour,
            issued_at=None if self.scope is None else Millis(round(self.issued_at * 1000)),
        )

    @property
    def dates_from(self) -> float | None:
        """The time from which credentials made with this one count (Unix s); None: from when they are made.

        A credential for one session passes on its own time, so that the removal of its holder ends them too."""
        return None if self.scope is None else self.issued_at

    def require_scope(self, session_id: SessionId | None) -> None:
        """Raise Problem 403 if the credential is for another session. `session_id` is None for what has no session."""
        if self.scope is not None and self.scope != session_id:
            raise Problem(403, "wrong_scope", "This token is for a different session.")


class AnonymousViewer(Principal, frozen=True):
    """A viewer of one session without a credential. The id serves only to count them."""


def anonymous_viewer(session_id: SessionId, address: str) -> AnonymousViewer:
    """Return the viewer at an address."""
    return AnonymousViewer(UserId(f"{session_id} {address}"), 0, "", "guest", "", math.inf, session_id)
