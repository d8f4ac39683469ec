"""Single-use tickets for clients that cannot set headers."""

import secrets
import time
from collections import OrderedDict

from actors.session.ids import SessionId
from server.http.problems import unauthenticated
from server.security.principal import Principal

MAX_TICKETS = 100_000
"""With more, the oldest are dropped."""


class Tickets:
    """Single-use credentials for `EventSource` and `WebSocket`, which cannot set headers.

    Each opens the stream of one session, or, with None for the session, the stream of the user's notifications."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._open: OrderedDict[str, tuple[Principal, SessionId | None, float]] = OrderedDict()

    def issue(self, principal: Principal, session_id: SessionId | None) -> tuple[str, float]:
        """Return a new ticket, and the Unix time at which it expires."""
        now = time.time()
        while self._open and (len(self._open) >= MAX_TICKETS or next(iter(self._open.values()))[2] <= now):
            self._open.popitem(last=False)
        ticket, expires_at = secrets.token_urlsafe(24), now + self._ttl_s
        self._open[ticket] = (principal, session_id, expires_at)
        return ticket, expires_at

    def redeem(self, ticket: str, session_id: SessionId | None) -> Principal:
        """Return the caller that a ticket was issued to, and invalidate it.

        Raise Problem 401 if it is unknown, used, expired or for another stream."""
        principal, for_session, expires_at = self._open.pop(ticket, (None, None, 0.0))
        if principal is None or for_session != session_id or expires_at <= time.time():
            raise unauthenticated("The ticket is unknown, used or expired. Get a new one.", "bad_ticket")
        return principal
