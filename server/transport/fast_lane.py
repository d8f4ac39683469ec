"""The fast lane: ordinary commands, answered without aiohttp, which costs 35 µs a request.

**Law:** it takes the same steps as `DirectCommandEndpoint`, in the same order, or none. A request with anything unusual
(another route or header, a session or an external issuer's token that is not cached) goes to aiohttp, byte for byte.
"""

import re
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

import httptools
from msgspec import Struct

from server.api import cors
from server.api.endpoint import idempotency_key
from server.api.handlers import DirectCommandEndpoint
from server.api.identity import bearer_token
from server.api.pending_command import Pending
from server.api.routes import Api, DirectCommandRoute
from server.api.services import Services
from server.http.problems import Problem
from server.http.reply import Reply
from server.http.request_counts import RouteCounts
from server.http.uuids import new_id
from server.transport.boundary import HEAD_END
from server.usecases.command_inputs import LOOKUPS

PLAIN = frozenset({
    b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"content-type", b"content-length",
    b"authorization", b"idempotency-key", b"cache-control", b"pragma", b"referer", b"connection", b"x-request-id",
    b"origin", b"cookie", b"dnt", b"priority", b"traceparent", b"tracestate",
    b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto",
    b"x-real-ip",
})  # fmt: skip
"""Headers that the fast lane understands or may ignore: clients, browsers and proxies send them with every request.
Any other header is unusual."""
BROWSERS_OWN = b"sec-"
"""The prefix of headers that pages cannot set and Homeroom ignores, such as `Sec-Fetch-Site`."""
HEADS_KEPT = 2_000
HEAD_BYTES = 2_048
"""Longer heads are not kept but parsed each time. Both numbers bound the memory for kept heads: 4 MB."""
STATUS_LINES: dict[int, bytes] = {
    int(status): b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode()) for status in HTTPStatus
}


class FastRoute(Struct, frozen=True):
    """A route that has a fast lane: its request line, and the endpoint whose steps it takes."""

    line: re.Pattern[bytes]
    method: str
    route: str
    endpoint: DirectCommandEndpoint
    origins: frozenset[str]
    """Origins whose pages may call the route (CORS)."""
    counts: RouteCounts


def fast_routes(apis: tuple[Api, ...], services: Services) -> tuple[FastRoute, ...]:
    """Return the routes that qualify: direct commands to the session that the path refers to."""
    routes = []
    for api in apis:
        for row in api.rows:
            if isinstance(row, DirectCommandRoute) and row.path.count("{") == 1:
                path = re.escape(api.prefix + row.path).replace(r"\{ref\}", r"([A-Za-z0-9-]+)")
                line = re.compile(f"{row.method} {path} HTTP/1\\.1\r\n".encode())
                origins = cors.origins(services.settings, api)
                endpoint = DirectCommandEndpoint(api, row, services)
                counts = services.requests.counts.of(row.method, api.prefix + row.path)
                routes.append(FastRoute(line, row.method, api.prefix + row.path, endpoint, origins, counts))
    return tuple(routes)


class Head:
    """A request head, parsed by llhttp."""

    __slots__ = ("headers", "unusual")

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.unusual = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if (name not in PLAIN and not name.startswith(BROWSERS_OWN)) or name in self.headers:
            self.unusual = True
        self.headers[name] = value


class Plain(Struct, frozen=True):
    """The parts of an ordinary head that the fast lane needs."""

    lane: FastRoute
    ref: str
    length: int
    token: str
    key: str | None
    allow: bytes
    """The CORS headers of the answer, as bytes; mostly empty."""


class FastLane:
    """Answers ordinary commands. One serves all connections; each offers it one request at a time."""

    __slots__ = ("_heads", "_routes", "services")

    def __init__(self, routes: tuple[FastRoute, ...], services: Services) -> None:
        self._routes = routes
        self._heads: dict[bytes, Plain] = {}
        self.services = services

    def take(self, data: bytes, write: Callable[[bytes], None]) -> int | None:
        """Take the request at the beginning of `data`, and pass its answer to `write`, now or later.

        Return the request's length; 0 if its body is not complete; None if it is not for the fast lane."""
        end = data.find(HEAD_END) + len(HEAD_END)
        if end < len(HEAD_END):
            return None
        raw = data[:end]
        head = self._heads.get(raw) or self._parsed(raw)
        if head is None:
            return None
        size = end + head.length
        if head.length > self.services.settings.limits.body_bytes:
            return None
        if size > len(data):
            return 0
        lane, ref = head.lane, head.ref
        known = self.services.session_lookup.known(ref)
        if known is None:
            return None
        request = Request(self.services, lane, ref, head.allow, write)
        try:
            principal = self.services.tokens.verify_cached(head.token)
            if principal is None:
                return None
            request.user = principal.user_id
            request.session_id = known[0]
            text = idempotency_key(head.key)
            command = lane.endpoint.decoded(data[end:size])
            if type(command) in LOOKUPS:
                return None
            lane.endpoint.admit(principal)
            principal.require_scope(known[0])
            request.send(known[0], lane.endpoint.execute(principal, known[1], command, text))
        except Problem as problem:
            request.refuse(problem)
        return size

    def _parsed(self, raw: bytes) -> Plain | None:
        """Parse a head. Return None if it is unusual. Heads are kept, since a client mostly repeats the same one."""
        for lane in self._routes:
            if match := lane.line.match(raw):
                break
        else:
            return None
        head = Head()
        try:
            parser = httptools.HttpRequestParser(head)
            parser.feed_data(raw)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        length = head.headers.get(b"content-length", b"")
        # aiohttp refuses a request without a host.
        if head.unusual or b"host" not in head.headers or not length.isdigit() or not parser.should_keep_alive():
            return None
        key = head.headers.get(b"idempotency-key")
        try:
            token = bearer_token(head.headers.get(b"authorization", b"").decode("latin-1"))
        except Problem:
            return None
        origin = head.headers.get(b"origin", b"").decode("latin-1")
        welcome = bool(origin) and cors.among(origin, lane.origins)
        plain = Plain(
            lane=lane,
            ref=match[1].decode(),
            length=int(length),
            token=token,
            key=None if key is None else key.decode("latin-1"),
            allow=lines({**cors.headers(origin), "Vary": "Origin"}) if welcome else b"",
        )
        if key is None and len(raw) <= HEAD_BYTES:
            if len(self._heads) >= HEADS_KEPT:
                del self._heads[next(iter(self._heads))]
            self._heads[raw] = plain
        return plain


class Request(Pending):
    """A request in the fast lane, from its command to its answer."""

    __slots__ = ("_allow", "_lane", "_started", "_write", "user")

    def __init__(
        self, services: Services, lane: FastRoute, ref: str, allow: bytes, write: Callable[[bytes], None]
    ) -> None:
        super().__init__(lane.endpoint, services, ref, new_id())
        self._lane = lane
        self._allow = allow
        self._write = write
        self._started = time.perf_counter()
        self.user: str | None = None

    def answer(self, reply: Reply) -> None:
        """Write the answer, and log the request."""
        body = reply.body or b""
        self._write(
            b"%bContent-Type: %b\r\nContent-Length: %d\r\nX-Request-Id: %b\r\nX-Content-Type-Options: nosniff\r\n"
            b"Date: %b\r\n%b%b\r\n%b"
            % (
                STATUS_LINES[reply.status],
                reply.content_type.encode(),
                len(body),
                self.request_id.encode(),
                date(int(time.time())),
                self._allow,
                lines(reply.headers) if reply.headers else b"",
                body,
            )
        )
        log = self._services.requests
        took = time.perf_counter() - self._started
        self._lane.counts.add(reply.status, took)
        if log.wanted:
            log.add(
                self.request_id, self._lane.method, self._lane.route, reply.status, took, self.user, self.session_id
            )


def lines(headers: Mapping[str, str]) -> bytes:
    """Return headers as lines of a head."""
    return b"".join([b"%b: %b\r\n" % (name.encode(), value.encode("latin-1")) for name, value in headers.items()])


@lru_cache(maxsize=2)
def date(second: int) -> bytes:
    """Return a `Date` header's value."""
    return formatdate(second, usegmt=True).encode()
