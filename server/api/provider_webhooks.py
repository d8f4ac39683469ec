"""Where providers of rooms send their webhooks."""

from collections.abc import Mapping

from server.api.routes import HookRoute
from server.http.refusals import refuses
from server.usecases.services import Services


@refuses(bad_signature=401, malformed=400, not_set_up=403, stale=401)
async def daily(services: Services, headers: Mapping[str, str], raw: bytes) -> None:
    await services.daily_webhooks.receive(headers, raw)


DAILY = HookRoute(path="/webhooks/daily", summary="Receive a signed webhook from Daily", act=daily)
