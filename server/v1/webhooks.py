"""Webhooks in `/v1`: what is sent, what the API says, and its rows."""

from typing import Any, Literal

from msgspec import Struct, structs

from actors.session.audience import anonymous
from actors.session.ids import Millis, UserId
from server.api.routes import ActionRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339, when
from server.outbound.webhooks import message_id
from server.usecases import webhook_endpoints as do
from server.usecases.call import Call
from server.usecases.records.log_pages import EVENT_TYPES, withheld
from server.usecases.services import Services
from server.v1.frames import NAMES, SILENT, event_json
from server.v1.views import Page, encode, nothing
from storage.endpoints import Delivered, DeliveryStatus, Disabled, Endpoint
from storage.outbox import Attempt, Delivery

SENT = EVENT_TYPES - {NAMES[kind].decode() for kind in SILENT}
"""Types of events that can be had."""


class SessionRef(Struct, frozen=True):
    id: str
    number: int
    name: str


def payload(delivery: Delivery, owner_id: UserId) -> bytes:
    """Print what an endpoint gets: `{type, timestamp, data}`, data being the event as streams show it and its session.

    What a direct message between others says is left out, and who is behind what is anonymous."""
    recorded, session = withheld(delivery.recorded, owner_id), delivery.session
    actor_id = None if anonymous(recorded.event) else recorded.actor_id
    # The server's time is what it was: a repetition is the same.
    event = event_json(recorded, encode(recorded.event), actor_id, recorded.at)
    at = rfc3339(recorded.at).encode()
    ref = encode(SessionRef(session.id, session.number, session.name))
    return b'{"type":"%b","timestamp":"%b","data":%b,"session":%b}}' % (
        NAMES[type(recorded.event)], at, event[:-1], ref,
    )  # fmt: skip


def ping(endpoint_id: str, at: Millis) -> bytes:
    return encode({"type": "ping", "timestamp": rfc3339(at), "data": {"webhook_id": endpoint_id}})


class EndpointView(Struct, frozen=True, kw_only=True):
    """`status`: `active`, `paused` (its attempts fail: none is made until `paused_until`), or `disabled`, and why."""

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
    """`secret` is shown this once."""

    secret: str


class EndpointPage(Struct, frozen=True):
    items: list[EndpointView]
    next: str | None


class AttemptView(Struct, frozen=True):
    """`status` is the receiver's answer, null for none; `error` says why the attempt failed."""

    at: str
    ms: int
    status: int | None
    error: str | None


class TestView(AttemptView, frozen=True):
    delivered: bool


class DeliveryView(Struct, frozen=True, kw_only=True):
    """`id` is the `webhook-id` that the receiver sees. `history`: the latest attempts."""

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
    items: list[DeliveryView]
    next: str | None


class ReplayView(Struct, frozen=True):
    """`next`: there are more; ask again with `since` at this."""

    queued: int
    next: str | None


def fields(endpoint: Endpoint) -> dict[str, Any]:
    shown = structs.asdict(endpoint)
    times = {name: when(shown[name]) for name in ("failing_since", "paused_until", "old_secret_until")}
    return (
        {name: shown[name] for name in ("number", "url", "types", "description", "failures")}
        | times
        | {
            "id": endpoint.endpoint_id,
            "status": "disabled" if endpoint.disabled else "paused" if endpoint.paused_until else "active",
            "disabled_reason": endpoint.disabled,
            "created_at": rfc3339(endpoint.created_at),
            "updated_at": rfc3339(endpoint.updated_at),
        }
    )


def one(endpoint: Endpoint) -> Reply:
    return Reply(200, encode(EndpointView(**fields(endpoint))))


def page(listed: Listed) -> Reply:
    return Reply(200, encode(Page([EndpointView(**fields(endpoint)) for endpoint in listed.items], listed.next)))


def with_secret(made: do.WithSecret) -> bytes:
    return encode(SecretEndpointView(secret=made.secret, **fields(made.endpoint)))


def created(made: do.WithSecret) -> Reply:
    headers = {"Location": f"/v1/webhooks/{made.endpoint.endpoint_id}", "Cache-Control": "no-store"}
    return Reply(201, with_secret(made), headers)


def rotated(made: do.WithSecret) -> Reply:
    return Reply(200, with_secret(made), {"Cache-Control": "no-store"})


def attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(rfc3339(attempt.at), attempt.ms, attempt.status, attempt.error)


def tested(attempt: Attempt) -> Reply:
    shown = TestView(rfc3339(attempt.at), attempt.ms, attempt.status, attempt.error, attempt.error is None)
    return Reply(200, encode(shown))


def delivery_view(delivery: Delivered) -> DeliveryView:
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


def deliveries(listed: Listed) -> Reply:
    return Reply(200, encode(Page([delivery_view(delivery) for delivery in listed.items], listed.next)))


def replayed(delivery: Delivered) -> Reply:
    return Reply(202, encode(delivery_view(delivery)))


def replayed_since(replayed: do.Replayed) -> Reply:
    return Reply(202, encode(ReplayView(replayed.queued, when(replayed.next))))


async def test(services: Services, call: Call) -> Attempt:
    return await do.test(services, call, ping)


ROWS = (
    ActionRoute(
        method="POST", path="/webhooks", summary="Have the events of one's own sessions sent to a URL",
        body=do.NewEndpoint, act=do.create, view=created, status=201, answer=SecretEndpointView,
    ),
    ActionRoute(
        path="/webhooks", summary="List one's webhooks, newest first", query=do.EndpointQuery, act=do.page, view=page,
        answer=EndpointPage,
    ),
    ActionRoute(path="/webhooks/{webhook_id}", summary="Read a webhook", act=do.own, view=one, answer=EndpointView),
    ActionRoute(
        method="PATCH", path="/webhooks/{webhook_id}", summary="Change a webhook; what is not sent stays",
        body=do.ChangeEndpoint, act=do.change, view=one, answer=EndpointView,
    ),
    ActionRoute(
        method="DELETE", path="/webhooks/{webhook_id}", summary="Delete a webhook; nothing more is sent", act=do.remove,
        view=nothing, status=204,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/rotate", body=do.Rotation, bare=True, act=do.rotate, view=rotated,
        summary="Give a webhook another secret; the present one signs too for a while", answer=SecretEndpointView,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/test", summary="Send a ping now, and say what came of it", act=test,
        view=tested, answer=TestView,
    ),
    ActionRoute(
        path="/webhooks/{webhook_id}/deliveries", summary="Read what was sent and what came of it, latest first",
        query=do.DeliveryQuery, act=do.deliveries, view=deliveries, answer=DeliveryPage,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/deliveries/{delivery}/replay", act=do.replay, view=replayed,
        summary="Send something again, or at once what waits for its time", status=202, answer=DeliveryView,
    ),
    ActionRoute(
        method="POST", path="/webhooks/{webhook_id}/replay", body=do.Since, act=do.replay_since, view=replayed_since,
        summary="Send again everything that has happened since a time", status=202, answer=ReplayView,
    ),
)  # fmt: skip
