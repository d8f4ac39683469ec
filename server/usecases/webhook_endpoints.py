"""Webhook endpoints: creating, changing, rotating and testing them, the delivery log, and replays.

**Law:** callers read and change only their own endpoints; another user's is not found.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from actors.ports import LogUnavailable
from actors.session import commands as c
from actors.session.aspects import lifecycle
from actors.session.ids import Millis, UserId
from server.http.pagination import PAGE, Listed, LongCursor, PageCursor, listed
from server.http.problems import Problem, too_fast
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.outbound.dispatcher import Dispatcher
from server.outbound.webhooks import WebhookMessage, Webhooks, new_secret, parse_message_id, parse_secret, print_secret
from server.security.principal import Principal
from server.settings.sections import Settings
from server.usecases.call import Call
from storage.endpoints import DeliveryRecord, DeliveryStatus, TooManyEndpoints, WebhookEndpoint
from storage.outbox import Attempt
from storage.sessions import UUID

Url = Annotated[str, Meta(min_length=1, max_length=2_000)]
Types = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=100)]
Text = Annotated[str, Meta(max_length=500)]
SecretText = Annotated[str, Meta(max_length=200)]


@dataclass(frozen=True, kw_only=True)
class WebhookParts:
    """Webhook endpoints and their deliveries."""

    settings: Settings
    webhooks: Webhooks
    dispatcher: Dispatcher


class NewEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A webhook to create. `types` are the event types to send, [] for all. `secret` is `whsec_` and the base64 of 24
    to 64 bytes; without it the server creates one."""

    url: Url
    types: Types = []
    description: Text = ""
    secret: SecretText | None = None


class ChangeEndpoint(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Changes to a webhook. Omitted fields stay as they are. Setting `enabled` to false stops all deliveries, also
    those that wait."""

    url: Url | None = None
    types: Types | None = None
    description: Text | None = None
    enabled: bool | None = None


class Rotation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`secret` is as for a new webhook."""

    secret: SecretText | None = None


class Since(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The time from which to send events again."""

    since: c.When


class EndpointQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: PageCursor | None = None


class DeliveryQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: DeliveryStatus | None = None
    limit: Annotated[int, Meta(ge=1, le=PAGE)] = 50
    cursor: LongCursor | None = None


class WithSecret(Struct, frozen=True):
    """An endpoint and its new secret, which no later answer contains."""

    endpoint: WebhookEndpoint
    secret: str


class Replayed(Struct, frozen=True):
    """The number of deliveries that are sent again. `next` is the `since` to continue with, or None at the end."""

    queued: int
    next: Millis | None


@refuses(invalid=422, not_permitted=403, too_many=409, unknown_webhook=404)
async def create(parts: WebhookParts, call: Call[NewEndpoint]) -> WithSecret:
    """Create an endpoint. Raise Problem 403 to a caller who is no teacher, 409 for too many endpoints, 422, 429."""
    body = call.body
    owner_id = call.principal.user_id
    if call.principal.role != "teacher":
        raise Problem(403, "not_permitted", "Only teachers may have webhooks.")
    types, secret = known_types(parts, body.types), chosen_secret(body.secret)
    url = await reachable(parts, call.principal, body.url)
    endpoint_id, most = new_id(), parts.settings.webhooks.endpoints_per_user
    sealed = parts.webhooks.secret_box.encrypt(secret, endpoint_id)
    try:
        await parts.webhooks.endpoints.create(endpoint_id, owner_id, url, types, body.description, sealed, most)
    except TooManyEndpoints as error:
        raise Problem(409, "too_many", f"One may have {most} webhooks; delete one first.") from error
    await noticed(parts, owner_id)
    return WithSecret(await found(parts, owner_id, endpoint_id), print_secret(secret))


def known_types(parts: WebhookParts, types: list[str]) -> list[str]:
    """Return event types sorted and without repetitions. Raise Problem 422 for an unknown one."""
    for name in types:
        if name not in parts.webhooks.wanted.every:
            raise Problem(422, "invalid", f"There is no event type {name!r} to be sent.", field="types")
    return sorted(set(types))


def chosen_secret(text: str | None) -> bytes:
    """Return the secret in a body as bytes, or a new one. Raise Problem 422 if it is malformed."""
    if text is None:
        return new_secret()
    try:
        return parse_secret(text)
    except ValueError as error:
        raise Problem(
            422, "invalid", "`secret` must be `whsec_` and the base64 of 24 to 64 bytes.", field="secret"
        ) from error


async def reachable(parts: WebhookParts, principal: Principal, url: str) -> str:
    """Return a URL that deliveries may be sent to. Raise Problem 422 if it may not be, 429."""
    limited(parts, principal)
    try:
        return await parts.webhooks.outward.check(url)
    except ValueError as error:
        raise Problem(422, "invalid", f"`url` {error}.", field="url") from error


def limited(parts: WebhookParts, principal: Principal) -> None:
    """Count a request that makes the server resolve a host or send at once. Raise Problem 429 above the limit."""
    if wait := parts.webhooks.probes.take(principal.user_id):
        raise too_fast(f"At most {parts.settings.webhooks.probes_per_minute} a minute.", wait)


async def noticed(parts: WebhookParts, owner_id: UserId) -> None:
    """Read an owner's subscriptions again, so that the next commit uses them.

    If the database is away, the change stays and is read soon."""
    try:
        await parts.webhooks.wanted.read(owner_id)
    except LogUnavailable:
        return


async def found(parts: WebhookParts, owner_id: UserId, endpoint_id: str) -> WebhookEndpoint:
    """Return an endpoint of this owner. Raise Problem 404."""
    endpoint = await parts.webhooks.endpoints.find(endpoint_id, owner_id) if UUID.fullmatch(endpoint_id) else None
    if endpoint is None:
        raise unknown(endpoint_id)
    return endpoint


def unknown(endpoint_id: str) -> Problem:
    """Return a Problem 404 for an endpoint."""
    return Problem(404, "unknown_webhook", f"There is no webhook {endpoint_id!r} of yours.")


@refuses(unknown_webhook=404)
async def own(parts: WebhookParts, call: Call) -> WebhookEndpoint:
    """Return the endpoint that the path names. Raise Problem 404."""
    return await found(parts, call.principal.user_id, call.params["webhook_id"])


async def page(parts: WebhookParts, call: Call[object, EndpointQuery]) -> Listed:
    """Return a page of the caller's endpoints, newest first."""
    query = call.query
    before = None if query.cursor is None else int(query.cursor)
    endpoints = await parts.webhooks.endpoints.page(call.principal.user_id, before=before, limit=query.limit + 1)
    return listed(endpoints, query.limit, lambda one: one.number)


@refuses(invalid=422, unknown_webhook=404)
async def change(parts: WebhookParts, call: Call[ChangeEndpoint]) -> WebhookEndpoint:
    """Change an endpoint; return it. Disabling it drops the deliveries that wait. Raise Problem 404, 422, 429."""
    body = call.body
    endpoint = await own(parts, call)
    types = None if body.types is None else known_types(parts, body.types)
    url = None if body.url is None else await reachable(parts, call.principal, body.url)
    await parts.webhooks.endpoints.change(
        endpoint.endpoint_id,
        endpoint.owner_id,
        url=url,
        types=types,
        description=body.description,
        enabled=body.enabled,
    )
    await noticed(parts, endpoint.owner_id)
    if body.enabled is False:
        await parts.webhooks.outbox.abandon("webhook", endpoint.endpoint_id)
    return await own(parts, call)


@refuses(unknown_webhook=404)
async def remove(parts: WebhookParts, call: Call) -> None:
    """Remove an endpoint and the deliveries that wait for it. Raise Problem 404."""
    endpoint = await own(parts, call)
    await parts.webhooks.endpoints.remove(endpoint.endpoint_id, endpoint.owner_id)
    await noticed(parts, endpoint.owner_id)
    await parts.webhooks.outbox.abandon("webhook", endpoint.endpoint_id)


@refuses(invalid=422, unknown_webhook=404)
async def rotate(parts: WebhookParts, call: Call) -> WithSecret:
    """Replace the secret of an endpoint. The old one also signs for a while. Raise Problem 404, 422."""
    secret = chosen_secret(call.body.secret)
    endpoint = await own(parts, call)
    sealed = parts.webhooks.secret_box.encrypt(secret, endpoint.endpoint_id)
    keep_s = parts.settings.webhooks.rotation_s
    await parts.webhooks.endpoints.rotate(endpoint.endpoint_id, endpoint.owner_id, sealed, keep_s)
    return WithSecret(await own(parts, call), print_secret(secret))


async def test(parts: WebhookParts, call: Call, ping: Callable[[str, Millis], bytes]) -> Attempt:
    """Send a ping at once, also to a paused or disabled endpoint, and return the result. `ping` encodes its body.

    Raise Problem 404, 429."""
    endpoint = await own(parts, call)
    limited(parts, call.principal)
    at, started = now_millis(), time.perf_counter()
    message = WebhookMessage(f"ping_{new_id().replace('-', '')}", ping(endpoint.endpoint_id, at))
    outcome = await parts.webhooks.sender.post(endpoint.endpoint_id, message, disabled_too=True)
    return Attempt(at, round((time.perf_counter() - started) * 1000), outcome.status, outcome.error)


@refuses(unknown_webhook=404)
async def deliveries(parts: WebhookParts, call: Call[object, DeliveryQuery]) -> Listed:
    """Return a page of an endpoint's delivery log, newest first. Raise Problem 404."""
    query = call.query
    endpoint = await own(parts, call)
    before = None if query.cursor is None else int(query.cursor)
    rows = await parts.webhooks.endpoints.deliveries(
        endpoint.endpoint_id, status=query.status, before=before, limit=query.limit + 1
    )
    return listed(rows, query.limit, lambda row: row.id)


@refuses(disabled=409, unknown_delivery=404, unknown_webhook=404)
async def replay(parts: WebhookParts, call: Call) -> DeliveryRecord:
    """Queue a delivery again, due now; return it. Raise Problem 404, 409 if the endpoint is disabled."""
    endpoint = await own(parts, call)
    enabled(endpoint)
    named = parse_message_id(call.params["delivery"])
    known = None if named is None else await parts.webhooks.endpoints.delivery(endpoint.endpoint_id, *named)
    if named is None or known is None:
        raise Problem(404, "unknown_delivery", f"There is no delivery {call.params['delivery']!r} of this webhook.")
    await parts.webhooks.endpoints.replay(endpoint.endpoint_id, *named)
    parts.dispatcher.wake()
    return await parts.webhooks.endpoints.delivery(endpoint.endpoint_id, *named) or known


@refuses(disabled=409, unknown_webhook=404)
async def replay_since(parts: WebhookParts, call: Call) -> Replayed:
    """Queue the events since a time again. Raise Problem 404, 409 if the endpoint is disabled, 429."""
    endpoint = await own(parts, call)
    enabled(endpoint)
    limited(parts, call.principal)
    most = parts.settings.webhooks.replay_rows
    since = lifecycle.millis(call.body.since)
    assert since is not None
    queued, latest = await parts.webhooks.endpoints.replay_since(
        endpoint.endpoint_id, since, every=parts.webhooks.wanted.every, limit=most
    )
    parts.dispatcher.wake()
    return Replayed(queued, Millis(latest + 1) if latest is not None and queued >= most else None)


def enabled(endpoint: WebhookEndpoint) -> None:
    """Raise Problem 409 if an endpoint is disabled."""
    if endpoint.disabled is not None:
        raise Problem(409, "disabled", "Nothing is sent to a disabled webhook; enable it first (PATCH `enabled`).")
