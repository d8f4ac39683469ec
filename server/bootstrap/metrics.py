"""Prometheus metrics: read from what the parts count anyway, when somebody asks. No session or user ids."""

from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address
from typing import get_args

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from actors.persistence import Persistence
from actors.session.state import Status
from server.http.problems import Problem
from server.usecases.services import Services

COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5)
COMMIT_ROWS = (1, 2, 5, 10, 25, 50, 100, 256)
PROXIED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""What proxies say of themselves: one of these at least, as a rule."""


class Commits:
    """What the group commit reports: how long each took, and how many rows it held."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "homeroom_commit_seconds", "Time of one group commit.", buckets=COMMIT_SECONDS, registry=registry
        )
        self._rows = Histogram(
            "homeroom_commit_rows", "Log rows in one group commit.", buckets=COMMIT_ROWS, registry=registry
        )

    def __call__(self, rows: int, seconds: float) -> None:
        self._seconds.observe(seconds)
        self._rows.observe(rows)


class Live(Collector):
    """What is there right now."""

    def __init__(self, services: Services, persistence: Persistence) -> None:
        self._services = services
        self._persistence = persistence

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        hub = self._services.hub
        yield GaugeMetricFamily("homeroom_sessions", "Sessions in memory.", len(self._services.directory))
        statuses = Counter(actor.status for actor in self._services.directory)
        by_status = GaugeMetricFamily(
            "homeroom_sessions_by_status", "Sessions in memory, by status.", labels=["status"]
        )
        for status in get_args(Status):
            by_status.add_metric([status], statuses[status])
        yield by_status
        yield GaugeMetricFamily("homeroom_streams", "Open streams.", len(hub))
        yield GaugeMetricFamily(
            "homeroom_log_queue_rows", "Rows on their way to the log.", self._persistence.queued_rows
        )
        yield CounterMetricFamily("homeroom_events", "Events committed and shown.", hub.published)
        pushed = CounterMetricFamily(
            "homeroom_pushes", "Messages for devices, by what came of them.", labels=["outcome"]
        )
        for outcome, count in self._services.invitations.results.items():
            pushed.add_metric([outcome], count)
        yield pushed
        yield from self._outbox()
        heard = CounterMetricFamily(
            "homeroom_room_webhooks", "What providers of rooms have told, by type.", labels=["type"]
        )
        for kind, count in self._services.daily_webhooks.received.items():
            heard.add_metric([kind], count)
        yield heard
        yield CounterMetricFamily("homeroom_deliveries", "Events written to streams.", hub.delivered)

    def _outbox(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        dispatcher = self._services.dispatcher
        attempts = CounterMetricFamily(
            "homeroom_outbox_attempts",
            "Deliveries out of the outbox, by what came of them.",
            labels=["kind", "outcome"],
        )
        for (kind, outcome), count in dispatcher.outcomes.items():
            attempts.add_metric([kind, outcome], count)
        yield attempts
        pending = GaugeMetricFamily("homeroom_outbox_pending", "Deliveries that wait.", labels=["kind"])
        oldest = GaugeMetricFamily("homeroom_outbox_oldest_seconds", "How long the oldest has waited.", labels=["kind"])
        paused = GaugeMetricFamily("homeroom_outbox_paused", "Targets left alone as they fail.", labels=["kind"])
        for kind, backlog in dispatcher.backlog.items():
            pending.add_metric([kind], backlog.pending)
            oldest.add_metric([kind], backlog.oldest_s)
            paused.add_metric([kind], backlog.paused)
        yield from (pending, oldest, paused)


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def add(app: web.Application, services: Services) -> None:
    who = services.settings.server.metrics

    async def metrics(request: web.Request) -> web.Response:
        if who == "off" or (who == "local" and not local(request)):
            raise Problem(404, "not_found", "There is nothing at this path; see /docs.")
        return web.Response(body=generate_latest(services.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/metrics", metrics)


def local(request: web.Request) -> bool:
    """Say whether the caller is on this machine itself, and not behind a proxy that is."""
    if any(name in request.headers for name in PROXIED):
        return False
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
