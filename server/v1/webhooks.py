"""Webhooks in `/v1`: the payload of a delivery, the rows, and the shapes of their answers.

A payload contains nothing that the endpoint's owner could not read from the session's stream.
"""

from typing import Literal

from msgspec import Struct, structs

from actors.session.ids import Millis, UserId
from actors.session.visibility import event_in_log
from server.api.routes import ActionRoute
from server.api.services import Services
from server.http.pagination import Listed
from server.http.refusals import refuses
from server.http.reply import Reply
from server.http.timestamps import rfc3339, when
from server.outbound.webhooks import message_id
from server.usecases import webhook_endpoints as do
from server.usecases.call import Call
from server.usecases.records.log_pages import EVENT_TYPES
from server.v1.frames import NAMES, SILENT, event_json
from server.v1.views import Page, encode
from storage.endpoints import DeliveryRecord, DeliveryStatus, Disabled, WebhookEndpoint
from storage.outbox import Attempt, Delivery

SENT = EVENT_TYPES - {NAMES[kind].decode() for kind in SILENT}
"""The event types that an endpoint can subscribe to."""


class SessionRef(Struct, frozen=True):
    """The session of a delivered event."""

    id: str
    number: int
    name: str


def payload(delivery: Delivery, owner_id: UserId) -> bytes:
    """Encode the payload of a delivery: `{type, timestamp, data}`. `data` is the event as streams print it, and its
    session.

    The text of a direct message between others and the actor of an anonymous event are left out."""
    visible, session = event_in_log(delivery.recorded, owner_id, with_actor=False), delivery.session
    # `server_time` is the event's own, so that a repeated delivery is identical.
    event = event_json(visible, visible.at)
    at = rfc3339(visible.at).encode()
    ref = encode(SessionRef(session.id, session.number, session.name))
    return b'{"type":"%b","timestamp":"%b","data":%b,"session":%b}}' % (
        NAMES[type(visible.event)], at, event[:-1], ref,
    )  # fmt: skip


def ping(endpoint_id: str, at: Millis) -> bytes:
    """Encode the payload of a test delivery."""
    return encode({"type": "ping", "timestamp": rfc3339(at), "data": {"webhook_id": endpoint_id}})


class EndpointView(Struct, frozen=True, kw_only=True):
    """A webhook. `status` is `active`, `paused` (deliveries keep failing, so none is attempted until `paused_until`) or
    `disabled`, with `disabled_reason`."""

    id: str
    number: int
    url: str
    types: list[str]
    description: str
    status: Literal["active", "paused", "disabled"]
    disabled_reason: Disabled | None
    failures: int
    failing_since: str | None
    paused_until: str | None
    old_secret_until: str | None
    created_at: str
    updated_at: str


class SecretEndpointView(EndpointView, frozen=True, kw_only=True):
    """A webhook with its secret, which no later answer repeats."""

    secret: str


class EndpointPage(Struct, frozen=True):
    """A page of webhooks. `next` is the cursor of the page after it, null on the last."""

    items: list[EndpointView]
    next: str | None


class AttemptView(Struct, frozen=True):
    """One delivery attempt. `ms` is how long it took. `status` is the receiver's HTTP status, null if there was no
    answer. `error` is the reason for a failure."""

    at: str
    ms: int
    status: int | None
    error: str | None


class TestView(AttemptView, frozen=True):
    """The attempt to deliver a ping."""

    delivered: bool


class DeliveryView(Struct, frozen=True, kw_only=True):
    """The delivery of one event. `id` is the `webhook-id` header that the receiver gets. `history` has the latest
    attempts."""

    id: str
    type: str
    session_id: str
    seq: int
    status: DeliveryStatus
    attempts: int
    created_at: str
    next_at: str | None
    done_at: str | None
    history: list[AttemptView]


class DeliveryPage(Struct, frozen=True):
    """A page of deliveries. `next` is the cursor of the page after it, null on the last."""

    items: list[DeliveryView]
    next: str | None


class RedeliveryView(Struct, frozen=True):
    """`queued` is the number of deliveries. If there are more, `next` is the `since` of the next request."""

    queued: int
    next: str | None


def endpoint_view(endpoint: WebhookEndpoint) -> EndpointView:
    """Return the view of a webhook, without its secret."""
    return EndpointView(
        id=endpoint.endpoint_id,
        number=endpoint.number,
        url=endpoint.url,
        types=endpoint.types,
        description=endpoint.description,
        status="disabled" if endpoint.disabled else "paused" if endpoint.paused_until else "active",
        disabled_reason=endpoint.disabled,
        failures=endpoint.failures,
        failing_since=when(endpoint.failing_since),
        paused_until=when(endpoint.paused_until),
        old_secret_until=when(endpoint.old_secret_until),
        created_at=rfc3339(endpoint.created_at),
        updated_at=rfc3339(endpoint.updated_at),
    )


def one_endpoint(endpoint: WebhookEndpoint, call: Call) -> EndpointView:
    """Return one webhook."""
    return endpoint_view(endpoint)


def endpoint_page(listed: Listed, call: Call) -> Page:
    """Return a page of webhooks."""
    return Page([endpoint_view(endpoint) for endpoint in listed.items], listed.next)


def with_secret(issued: do.WithSecret) -> bytes:
    """Encode a webhook with its secret."""
    return encode(SecretEndpointView(secret=issued.secret, **structs.asdict(endpoint_view(issued.endpoint))))


def created(issued: do.WithSecret, call: Call) -> Reply:
    """Return a new webhook, with its `Location` and its secret."""
    headers = {"Location": f"/v1/webhooks/{issued.endpoint.endpoint_id}", "Cache-Control": "no-store"}
    return Reply(201, with_secret(issued), headers)


def rotated(issued: do.WithSecret, call: Call) -> Reply:
    """Return a webhook with its new secret."""
    return Reply(200, with_secret(issued), {"Cache-Control": "no-store"})


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return the view of a delivery attempt."""
    return AttemptView(rfc3339(attempt.at), attempt.ms, attempt.status, attempt.error)


def tested(attempt: Attempt, call: Call) -> Reply:
    """Return the result of a test delivery."""
    view = TestView(rfc3339(attempt.at), attempt.ms, attempt.status, attempt.error, attempt.error is None)
    return Reply(200, encode(view))


def delivery_view(delivery: DeliveryRecord) -> DeliveryView:
    """Return the view of a delivery."""
    return DeliveryView(
        id=message_id(delivery.session_id, delivery.seq),
        type=delivery.type,
        session_id=delivery.session_id,
        seq=delivery.seq,
        status=delivery.status,
        attempts=delivery.attempts,
        created_at=rfc3339(delivery.created_at),
        next_at=when(delivery.next_at),
        done_at=when(delivery.done_at),
        history=[attempt_view(attempt) for attempt in delivery.history],
    )


def delivery_page(listed: Listed, call: Call) -> Page:
    """Return a page of deliveries."""
    return Page([delivery_view(delivery) for delivery in listed.items], listed.next)


def replayed(delivery: DeliveryRecord, call: Call) -> Reply:
    """Return a delivery that will be sent again."""
    return Reply(202, encode(delivery_view(delivery)))


def replayed_since(replayed: do.Replayed, call: Call) -> Reply:
    """Return how many deliveries will be sent again."""
    return Reply(202, encode(RedeliveryView(replayed.queued, when(replayed.next))))


@refuses(unknown_webhook=404)
async def test(services: Services, call: Call) -> Attempt:
    """Return the result of a test delivery. Raise Problem 404 for another owner's webhook."""
    return await do.test(services, call, ping)


ROWS = (
    ActionRoute(
        method="POST", path="/webhooks", summary="Create a webhook: the events of your sessions are sent to its URL",
        body=do.NewEndpoint, act=do.create, view=created, status=201, answer=SecretEndpointView,
    ),
    ActionRoute(
        path="/webhooks", summary="List your webhooks, newest first", query=do.EndpointQuery, act=do.page,
        view=endpoint_page, answer=EndpointPage,
    ),
    ActionRoute(
        path="/webhooks/{webhook_id}", summary="Read a webhook", act=do.own, view=one_endpoint, answer=EndpointView,
    ),
    ActionRoute(
        method="PATCH", path="/webhooks/{webhook_id}", summary="Change a webhook; omitted fields stay as they are",
        body=do.ChangeEndpoint, act=do.change, view=one_endpoint, answer=EndpointView,
    ),
    ActionRoute(
        method="DELETE", path="/webhooks/{webhook_id}", summary="Delete a webhook; nothing more is sent", act=do.remove,
        status=204,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/rotate", body=do.Rotation, bare=True, act=do.rotate, view=rotated,
        summary="Replace a webhook's secret; the old one keeps signing for a while", answer=SecretEndpointView,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/test", summary="Send a ping now and return the result", act=test,
        view=tested, answer=TestView,
    ),
    ActionRoute(
        path="/webhooks/{webhook_id}/deliveries", summary="List deliveries and their results, latest first",
        query=do.DeliveryQuery, act=do.deliveries, view=delivery_page, answer=DeliveryPage,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/deliveries/{delivery}/replay", act=do.replay, view=replayed,
        summary="Send a delivery again, or send a waiting one now", status=202, answer=DeliveryView,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/replay", body=do.Since, act=do.replay_since, view=replayed_since,
        summary="Send all events since a given time again", status=202, answer=RedeliveryView,
    ),
)  # fmt: skip
