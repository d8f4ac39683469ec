"""The aiohttp application: routes from the tables, and what surrounds every request."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp.http_exceptions import BadHttpMessage
from aiohttp.typedefs import Handler, Middleware

from actors.event_log import LogUnavailable
from server import claims, cors, dialect_streams, health, metrics, openapi, pages
from server.auth import new_id
from server.dialect import Dialect, PlayRoute
from server.endpoint import SESSION, USER, Endpoint, response
from server.errors import Problem, problem_body
from server.handlers import ActionEndpoint, CommandEndpoint, HookEndpoint, UploadEndpoint
from server.logs import RequestLog
from server.long_answers import ContentEndpoint, DownloadEndpoint, ReplayEndpoint
from server.routes import (
    ActionRoute,
    Api,
    CommandRoute,
    ContentRoute,
    DownloadRoute,
    HookRoute,
    ReplayRoute,
    Row,
    SocketRoute,
    StreamRoute,
    UploadRoute,
    UserStreamRoute,
)
from server.services import Services
from server.sockets import Socket
from server.user_streams import UserStreamEndpoint
from server.watching import DETACHED, StreamEndpoint

logger = logging.getLogger(__name__)

SERVER = "Homeroom"
"""Instead of aiohttp's name and version, of use to those only who look for holes. The fast lane spares the bytes."""
KEY = "Idempotency-Key"
REQUEST_ID = web.RequestKey("id", str)
ENDPOINTS: Mapping[type[Row], Callable[[Any, Services], Endpoint]] = {
    ActionRoute: ActionEndpoint,
    CommandRoute: CommandEndpoint,
    ContentRoute: ContentEndpoint,
    DownloadRoute: DownloadEndpoint,
    HookRoute: HookEndpoint,
    ReplayRoute: ReplayEndpoint,
    SocketRoute: Socket,
    StreamRoute: StreamEndpoint,
    UploadRoute: UploadEndpoint,
    UserStreamRoute: UserStreamEndpoint,
}
"""What serves the rows of which type."""
STATUS_REASONS = {404: ("not_found", "There is nothing at this path; see /docs."), 405: ("method_not_allowed", "")}


def build(services: Services, apis: tuple[Api, ...]) -> web.Application:
    """Make the application that serves these APIs."""
    known: dict[web.AbstractRoute, tuple[Api, Row]] = {}
    app = web.Application(
        middlewares=[logged(services.requests), cors.middleware(services.settings, apis), problems(apis, known)],
        client_max_size=services.settings.limits.body_bytes,
    )
    app.on_response_prepare.append(on_prepare)
    health.add(app, services, [name for api in apis for name in api.open])
    metrics.add(app, services)
    pages.add(app, apis)
    claims.check(apis, [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource])
    for api in apis:
        for row in api.rows:
            handler = bound(api, row, services)
            for path in claims.paths(api, row):
                known[app.router.add_route(row.method, path, handler)] = api, row
                if isinstance(row, ContentRoute | PlayRoute):
                    known[app.router.add_route(hdrs.METH_HEAD, path, handler)] = api, row
        openapi.add(app, api)
    return app


def bound(api: Api, row: Row, services: Services) -> Handler:
    """Make the handler of a row."""
    if isinstance(row, HookRoute) or not isinstance(api, Dialect):
        # A bound method, since aiohttp deprecates objects that are merely callable.
        handler: Handler = ENDPOINTS[type(row)](row, services).__call__
    else:
        handler = dialect_streams.bind(api, row, services)
    # What another service sends along with its news is its own affair.
    return handler if row.keyed or row.method == "GET" or isinstance(row, HookRoute) else keyless(handler)


def keyless(handler: Handler) -> Handler:
    """Refuse Idempotency-Keys: who sends one relies on it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if KEY in request.headers:
            raise Problem(422, "key_not_taken", "This route takes no Idempotency-Key; send none.", field=KEY)
        return await handler(request)

    return handle


def problems(apis: tuple[Api, ...], known: Mapping[web.AbstractRoute, tuple[Api, Row]]) -> Middleware:
    """Turn every refusal into what its API makes of it, and every surprise into a 500 that is logged once."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - `refusal` raises it again where nobody can be told
            problem = refusal(request, error)
            api, row = known.get(request.match_info.route) or (claims.api_at(apis, request.path), None)
            return response(api.refusal(problem, row, request.match_info))

    return middleware


def refusal(request: web.Request, error: Exception) -> Problem:
    """Say what an error is to the client. Raises it again when there is none any more."""
    match error:
        case Problem():
            return error
        case web.HTTPRequestEntityTooLarge():
            most = request.client_max_size
            return Problem(413, "too_large", f"The body is larger than {most} bytes.", headers=kept(error))
        case web.HTTPException():
            reason, detail = STATUS_REASONS.get(error.status, ("refused", ""))
            if error.status == 405:
                detail = f"Use {', '.join(sorted(error.headers.get(hdrs.ALLOW, 'another method').split(',')))}."
            return Problem(error.status, reason, detail or error.reason, headers=kept(error))
        case LogUnavailable():
            logger.warning("the database is away: %s", error)
            return Problem(503, "unavailable", "Try again: the database is away.", retry_s=1)
    if request.transport is None or request.transport.is_closing():
        raise error
    logger.error("request %s failed", request.get(REQUEST_ID), exc_info=error)
    return Problem(500, "internal", f"Something went wrong here; report request {request.get(REQUEST_ID)}.")


class Protocol(web.RequestHandler):
    """aiohttp's protocol. What it refuses before there is a request is a problem too, and quotes nothing of what came,
    which may hold a token."""

    __slots__ = ()

    @property
    def resting(self) -> bool:
        """Whether all it was given has been answered, and nothing but another request can come."""
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not self._messages and not self._upgraded

    def stay(self) -> None:
        """Count its patience with an idle connection from now on: somebody else has answered a request there."""
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    def break_off(self) -> None:
        """Let nobody wait for the rest of a body: what has come instead is none. aiohttp alone would not say so."""
        request = self._current_request
        if request is not None and not request._payload.is_eof():
            request._payload.set_exception(BadHttpMessage("it breaks off"))

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):
            # Raised where there is no handler yet, and so nothing that makes problems of refusals: `Expect`.
            resp = printed(Problem(resp.status, "expectation_failed", "`Expect` may be 100-continue and nothing else."))
        return await super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer has been sent already")
        if status >= 500:
            logger.error("a request failed outside its handler", exc_info=exc)
            problem = Problem(status, "internal", "Something went wrong here.")
        else:
            problem = Problem(status, "malformed", "This is no HTTP request, or one with too long a line.")
        response = printed(problem)
        head(response, new_id())  # `on_prepare` is not called here
        response.force_close()
        return response


def kept(error: web.HTTPException) -> dict[str, str]:
    return {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}


def printed(problem: Problem) -> web.Response:
    return web.Response(
        body=problem_body(problem),
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )


def logged(log: RequestLog) -> Middleware:
    """Give each request an id, and a line in the log."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = new_id()
        if not log.wanted:
            return await handler(request)
        started, status = time.perf_counter(), 499
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            if DETACHED in request:
                status = 200
            resource = request.match_info.route.resource
            route = "unknown" if resource is None else resource.canonical
            took = time.perf_counter() - started
            log.add(request_id, request.method, route, status, took, request.get(USER), request.get(SESSION))

    return middleware


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer, streams included."""
    # What is refused before there is a handler has none yet.
    head(response, request.get(REQUEST_ID) or new_id())
    if origin := request.get(cors.ORIGIN):
        cors.allow(response, origin)


def head(response: web.StreamResponse, request_id: str) -> None:
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers[hdrs.SERVER] = SERVER
