"""The statistics of a session, computed by the database."""

from typing import Any

from server.usecases.call import Call
from server.usecases.session_access import HistoryParts


# Any: JSON, as the database prints it.
async def statistics(parts: HistoryParts, call: Call) -> Any:
    """Return the statistics of a session as JSON."""
    return await parts.records.statistics(call.session_id)
