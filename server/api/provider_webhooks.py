"""Where providers of rooms send their webhooks."""

from collections.abc import Mapping

from server.api.routes import HookRoute
from server.usecases.services import Services


async def daily(services: Services, headers: Mapping[str, str], raw: bytes) -> None:
    await services.daily_webhooks.receive(headers, raw)


DAILY = HookRoute(path="/webhooks/daily", summary="Receive a signed webhook from Daily", act=daily)
