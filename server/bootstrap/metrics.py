"""Prometheus metrics: the counters of the parts, read at each request. They contain no ids of sessions or users."""

import hmac
import platform
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from ipaddress import ip_address
from itertools import accumulate
from typing import get_args

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from actors.persistence import Persistence
from actors.session.state import Status
from server.api.services import Services
from server.http.problems import Problem
from server.http.request_counts import LATENCY_SECONDS, RequestCounts
from server.settings.types import Secret
from storage.pool import Pool

COMMIT_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5)
COMMIT_ROWS = (1, 2, 5, 10, 25, 50, 100, 256)
PROXIED = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP")
"""Headers that proxies add; most add at least one of them."""


class CommitMetrics:
    """Observes each group commit: its duration and its number of rows."""

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


class LiveMetrics(Collector):
    """Collects the present values."""

    def __init__(self, services: Services, persistence: Persistence, pool: Pool) -> None:
        self._services = services
        self._persistence = persistence
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        yield from request_metrics(self._services.requests.counts)
        yield from self._queues()
        yield from self._storage()
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
        yield CounterMetricFamily("homeroom_streams_opened", "Streams that were opened.", hub.opened)
        yield counter("homeroom_streams_closed", "Streams that have ended, by reason.", "reason", hub.closed)
        yield GaugeMetricFamily(
            "homeroom_stream_buffered_bytes", "Bytes that wait for readers of streams.", hub.buffered_bytes
        )
        yield GaugeMetricFamily(
            "homeroom_log_queue_rows", "Rows on their way to the log.", self._persistence.queued_rows
        )
        yield CounterMetricFamily("homeroom_events", "Events committed and published to streams.", hub.published)
        pushed = CounterMetricFamily(
            "homeroom_pushes", "Attempts to send a message to a device, by result.", labels=["outcome"]
        )
        for outcome, count in self._services.invitations.results.items():
            pushed.add_metric([outcome], count)
        yield pushed
        yield from self._outbox()
        webhooks = CounterMetricFamily(
            "homeroom_room_webhooks", "Webhooks received from room providers, by type.", labels=["type"]
        )
        for kind, count in self._services.daily_webhooks.received.items():
            webhooks.add_metric([kind], count)
        yield webhooks
        yield CounterMetricFamily("homeroom_deliveries", "Events written to streams.", hub.delivered)

    def _queues(self) -> Iterator[Metric]:
        services, persistence = self._services, self._persistence
        deepest = max((actor.backlog for actor in services.directory), default=0)
        yield GaugeMetricFamily(
            "homeroom_mailbox_max_messages", "Messages in the longest mailbox of a session.", deepest
        )
        started = persistence.commit_started
        running = 0.0 if started is None else time.perf_counter() - started
        yield GaugeMetricFamily("homeroom_commit_running_seconds", "Age of the commit that is running.", running)
        yield counter("homeroom_commit_failures", "Failed commits, by cause.", "cause", persistence.failures)
        yield GaugeMetricFamily("homeroom_uploads", "Uploads that are running.", len(services.uploads))
        yield counter(
            "homeroom_logins", "Passwords that were checked, by result.", "outcome", services.passwords.checks
        )

    def _storage(self) -> Iterator[Metric]:
        pool = self._pool
        yield GaugeMetricFamily("homeroom_pool_waiting", "Callers waiting for a database connection.", pool.waiting)
        yield CounterMetricFamily("homeroom_pool_waits", "Waits for a database connection.", pool.waits)
        yield CounterMetricFamily(
            "homeroom_pool_wait_seconds", "Time spent waiting for database connections.", pool.waited_s
        )
        disk = shutil.disk_usage(self._services.settings.data.dir)
        yield GaugeMetricFamily("homeroom_disk_free_bytes", "Free space of the data directory's disk.", disk.free)
        yield GaugeMetricFamily("homeroom_disk_bytes", "Size of the data directory's disk.", disk.total)
        build = GaugeMetricFamily("homeroom_build_info", "1, by version.", labels=["version", "python"])
        build.add_metric([version("homeroom"), platform.python_version()], 1)
        yield build

    def _outbox(self) -> Iterator[Metric]:
        dispatcher = self._services.dispatcher
        attempts = CounterMetricFamily(
            "homeroom_outbox_attempts",
            "Attempts to send a delivery of the outbox, by result.",
            labels=["kind", "outcome"],
        )
        for (kind, outcome), count in dispatcher.outcomes.items():
            attempts.add_metric([kind, outcome], count)
        yield attempts
        pending = GaugeMetricFamily("homeroom_outbox_pending", "Deliveries that are waiting.", labels=["kind"])
        oldest = GaugeMetricFamily("homeroom_outbox_oldest_seconds", "Age of the oldest delivery.", labels=["kind"])
        paused = GaugeMetricFamily("homeroom_outbox_paused", "Targets paused after failures.", labels=["kind"])
        for kind, backlog in dispatcher.backlog.items():
            pending.add_metric([kind], backlog.pending)
            oldest.add_metric([kind], backlog.oldest_s)
            paused.add_metric([kind], backlog.paused)
        yield from (pending, oldest, paused)


def counter(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    """Return a counter with one label."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([str(value)], count)
    return family


def request_metrics(counts: RequestCounts) -> Iterator[Metric]:
    """Yield the metrics of requests."""
    requests = CounterMetricFamily("homeroom_requests", "Answered requests.", labels=["method", "route", "status"])
    for route in counts.routes.values():
        for status, count in route.statuses.items():
            requests.add_metric([route.method, route.route, str(status)], count)
    yield requests
    yield counter("homeroom_refusals", "Refused requests and commands, by reason.", "reason", counts.refusals)
    seconds = HistogramMetricFamily(
        "homeroom_request_seconds", "Time until a request was answered, streams excepted.", labels=["api", "kind"]
    )
    bounds = [*map(str, LATENCY_SECONDS), "+Inf"]
    for (api, kind), latency in counts.latencies.items():
        buckets = zip(bounds, accumulate(latency.buckets), strict=True)
        seconds.add_metric([api, kind], list(buckets), latency.seconds)
    yield seconds


def new_registry() -> CollectorRegistry:
    """Return a registry with the metrics of the process and of Python."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def add(app: web.Application, services: Services) -> None:
    """Add the route, for the callers that `server.metrics` and `server.metrics_token` allow."""
    allowed, token = services.settings.server.metrics, services.settings.server.metrics_token

    async def metrics(request: web.Request) -> web.Response:
        if allowed == "off" or (allowed == "local" and not (is_local(request) or has_token(request, token))):
            raise Problem(404, "not_found", "There is nothing at this path; see /docs.")
        return web.Response(body=generate_latest(services.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/metrics", metrics)


def has_token(request: web.Request, token: Secret) -> bool:
    """Return whether the caller sends the token of the settings, if they have one."""
    sent = request.headers.get(hdrs.AUTHORIZATION, "").encode("utf-8", "surrogateescape")
    return bool(token) and hmac.compare_digest(sent, f"Bearer {token.reveal()}".encode())


def is_local(request: web.Request) -> bool:
    """Return whether the caller is on this machine, and not behind a proxy on it."""
    if any(name in request.headers for name in PROXIED):
        return False
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False
