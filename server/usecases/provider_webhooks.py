"""Webhooks that the providers of rooms send. An event is stored before the provider gets its answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from server.http.refusals import refuses
from server.rooms.daily_webhooks import DailyWebhooks


@dataclass(frozen=True, kw_only=True)
class ProviderWebhookParts:
    """Receivers of webhooks."""

    daily_webhooks: DailyWebhooks


@refuses(bad_signature=401, malformed=400, not_set_up=403, stale=401)
async def daily(parts: ProviderWebhookParts, headers: Mapping[str, str], raw: bytes) -> None:
    """Store an event that Daily reports. Raise Problem 400, 401, 403, LogUnavailable."""
    await parts.daily_webhooks.receive(headers, raw)
