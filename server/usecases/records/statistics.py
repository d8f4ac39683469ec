"""A session in numbers."""

from typing import Any

from actors.session.access import Ask
from server.usecases.call import Call
from server.usecases.services import Services


async def statistics(services: Services, call: Call) -> Any:
    await services.readable(Ask.MODERATION, call.session_id, call.principal, call.params["ref"])
    return await services.records.statistics(call.session_id)
