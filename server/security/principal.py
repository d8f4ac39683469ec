"""Who is calling: a verified caller, and an anonymous one."""

import math

from msgspec import Struct

from actors.session.commands import Caller
from actors.session.ids import Millis, SessionId, UserId
from server.http.problems import Problem
from storage.users import AccountRole


class Principal(Struct, frozen=True):
    """A verified caller. `login` names the login that the credential came from, `expires_at` (unix s) ends it."""

    user_id: UserId
    number: int
    name: str
    role: AccountRole
    login: str
    expires_at: float
    scope: SessionId | None = None
    """The one session that the credential is good for; None: an account's."""
    colour: str | None = None
    issued_at: float = 0.0
    alias: str | None = None
    """The id that a guest's own client knows them by."""
    has_invitation: bool = False
    """The credential is an invitation to its session: a token of its room."""

    def caller(self, *, has_invitation: bool = False) -> Caller:
        guest = self.role == "guest"
        return Caller(
            self.user_id,
            self.name,
            # A guest came by the code, or by an id that is as hard to guess.
            has_invitation or guest or self.has_invitation,
            number=self.number,
            alias=self.alias,
            guest=guest,
            colour=self.colour,
            issued_at=None if self.scope is None else Millis(round(self.issued_at * 1000)),
        )

    @property
    def dates_from(self) -> float | None:
        """From when on what is got with this credential counts as made (unix s); None: from when it is made.

        One that is for one session alone makes nothing that would outlive what ends it: its holder's removal."""
        return None if self.scope is None else self.issued_at

    def require_scope(self, session_id: SessionId | None) -> None:
        """Refuse a credential for another session; None: what is asked for is no session's. Raises: Problem 403."""
        if self.scope is not None and self.scope != session_id:
            raise Problem(403, "wrong_scope", "This token is good for one session only, and this is not of it.")


class AnonymousViewer(Principal, frozen=True):
    """Nobody in particular, who looks on at one session. The id is for counting."""


def anonymous_viewer(session_id: SessionId, address: str) -> AnonymousViewer:
    """Give whoever looks on from an address."""
    return AnonymousViewer(UserId(f"{session_id} {address}"), 0, "", "guest", "", math.inf, session_id)
