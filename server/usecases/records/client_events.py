"""What clients have noted in a session (`log_event`)."""

from msgspec import Struct

from actors.session.ids import UserId
from actors.session.visibility import VisibleEvent, event_in_log
from server.usecases.call import Call
from server.usecases.session_access import HistoryParts


class ClientEventQuery(Struct, frozen=True, kw_only=True):
    event_type: str | None = None
    limit: int = 100


async def client_events(parts: HistoryParts, call: Call[ClientEventQuery]) -> list[VisibleEvent]:
    """Read what clients have noted, latest first: everybody's for owner, hosts and cohosts, one's own for others."""
    query = call.body
    author = await author_filter(parts, call)
    rows = await parts.records.client_events(
        call.session_id, event_type=query.event_type, user_id=author, limit=query.limit
    )
    return [event_in_log(row, call.principal.user_id) for row in rows]


async def client_event_counts(parts: HistoryParts, call: Call) -> dict[str, int]:
    """Count by type what `client_events` reads."""
    return await parts.records.client_event_counts(call.session_id, user_id=await author_filter(parts, call))


async def author_filter(parts: HistoryParts, call: Call) -> UserId | None:
    """Say whose notes the caller may read; None: everybody's. Raises: Problem 403, 404."""
    caller = call.principal.user_id
    return None if call.card.membership.moderates else caller
