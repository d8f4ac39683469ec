"""Counts of answered requests, refusals and latencies, for `/metrics`.

**Law:** a request costs two additions and one search in a short tuple; its counter is bound when its route is built.
"""

from bisect import bisect_left
from collections import Counter

LATENCY_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
FAILURES = (500, 503)
"""Statuses that every route has a count of from the start, so that an alert on them sees the first one."""
SHARED_REFUSALS = (
    "bad_credentials", "busy", "forbidden", "internal", "invalid", "malformed", "method_not_allowed", "not_found",
    "too_fast", "too_large", "too_many_streams", "too_many_uploads", "unauthenticated", "unavailable",
    "unknown_session",
)  # fmt: skip
"""Reasons that no session gives, but any route may; they are present from the start."""


class Latency:
    """Latencies of one kind of route of one API."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_SECONDS) + 1)
        """Requests per bound of `LATENCY_SECONDS`, not cumulative; the last are slower than all bounds."""
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count a request that was answered after `seconds`."""
        self.buckets[bisect_left(LATENCY_SECONDS, seconds)] += 1
        self.seconds += seconds


class RouteCounts:
    """Counts of one route: answers by status, and latencies, shared with the other routes of its kind."""

    __slots__ = ("latency", "method", "quiet", "route", "statuses")

    def __init__(self, method: str, route: str, latency: Latency, statuses: tuple[int, ...], *, quiet: bool) -> None:
        self.method = method
        self.route = route
        self.latency = latency
        self.statuses: Counter[int] = Counter(dict.fromkeys((*statuses, *FAILURES), 0))
        self.quiet = quiet
        """Its requests are logged at level `debug`: there are many, and they say nothing."""

    def add(self, status: int, seconds: float | None) -> None:
        """Count an answer. `seconds` None: how long it took says nothing, as of a stream."""
        self.statuses[status] += 1
        if seconds is not None:
            self.latency.add(seconds)


class RequestCounts:
    """Counts of all routes."""

    def __init__(self) -> None:
        self.latencies: dict[tuple[str, str], Latency] = {}
        """By API and kind of route."""
        self.routes: dict[tuple[str, str], RouteCounts] = {}
        """By method and pattern."""
        self.refusals: Counter[str] = Counter(dict.fromkeys(SHARED_REFUSALS, 0))
        """By reason. Reasons are written in the code, so there are as many as it has."""
        self.unknown = self.route("*", "unknown", api="server", kind="unknown", statuses=(404, 405))

    def route(
        self, method: str, route: str, *, api: str, kind: str, statuses: tuple[int, ...] = (200,), quiet: bool = False
    ) -> RouteCounts:
        """Return the counts of a route, made if need be. `statuses` are present from the start."""
        counts = self.routes.get((method, route))
        if counts is None:
            latency = self.latencies.setdefault((api, kind), Latency())
            counts = self.routes[method, route] = RouteCounts(method, route, latency, statuses, quiet=quiet)
        return counts

    def of(self, method: str, route: str | None) -> RouteCounts:
        """Return the counts of a request's route; HEAD counts as GET, and unknown routes share one."""
        if route is None:
            return self.unknown
        return self.routes.get((method, route)) or self.routes.get(("GET", route), self.unknown)
