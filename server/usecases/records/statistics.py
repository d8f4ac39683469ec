"""A session in numbers."""

from typing import Any

from server.usecases.call import Call
from server.usecases.services import Services


async def statistics(services: Services, call: Call) -> Any:
    return await services.records.statistics(call.session_id)
