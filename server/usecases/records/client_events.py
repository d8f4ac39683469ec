"""The events that clients have logged in a session (`log_event`). Moderators read those of all participants, other
callers their own.
"""

from msgspec import Struct

from actors.session.ids import UserId
from actors.session.visibility import VisibleEvent, event_in_log
from server.usecases.call import Call
from server.usecases.session_access import HistoryParts


class ClientEventQuery(Struct, frozen=True, kw_only=True):
    """Selects the latest events, of one type or of all."""

    event_type: str | None = None
    limit: int = 100


async def client_events(parts: HistoryParts, call: Call[ClientEventQuery]) -> list[VisibleEvent]:
    """Return the logged events that the caller may read, latest first."""
    query = call.body
    author = await author_filter(parts, call)
    rows = await parts.records.client_events(
        call.session_id, event_type=query.event_type, user_id=author, limit=query.limit
    )
    return [event_in_log(row, call.principal.user_id) for row in rows]


async def client_event_counts(parts: HistoryParts, call: Call) -> dict[str, int]:
    """Return how many logged events the caller may read, by type."""
    return await parts.records.client_event_counts(call.session_id, user_id=await author_filter(parts, call))


async def author_filter(parts: HistoryParts, call: Call) -> UserId | None:
    """Return the only author whose events the caller may read, or None if they may read those of all participants."""
    caller = call.principal.user_id
    return None if call.card.membership.moderates else caller
