"""Single-use tickets for clients that cannot set headers."""

import secrets
import time
from collections import OrderedDict

from actors.session.ids import SessionId
from server.http.problems import unauthenticated
from server.security.principal import Principal

TICKETS = 100_000


class Tickets:
    """Single-use credentials for `EventSource` and `WebSocket`, which cannot set headers. Each opens one session's
    stream, or, where there is None instead of a session, that of the holder's own notifications."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._open: OrderedDict[str, tuple[Principal, SessionId | None, float]] = OrderedDict()

    def issue(self, principal: Principal, session_id: SessionId | None) -> tuple[str, float]:
        """Make a ticket; give it and the unix time at which it expires."""
        now = time.time()
        while self._open and (len(self._open) >= TICKETS or next(iter(self._open.values()))[2] <= now):
            self._open.popitem(last=False)
        ticket, expires_at = secrets.token_urlsafe(24), now + self._ttl_s
        self._open[ticket] = (principal, session_id, expires_at)
        return ticket, expires_at

    def redeem(self, ticket: str, session_id: SessionId | None) -> Principal:
        """Raises: Problem 401 for one that is unknown, used, expired or for another stream."""
        principal, for_session, expires_at = self._open.pop(ticket, (None, None, 0.0))
        if principal is None or for_session != session_id or expires_at <= time.time():
            raise unauthenticated("The ticket is unknown, used or expired; get a new one.", "bad_ticket")
        return principal
