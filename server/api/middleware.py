"""Middleware around every request: its id, its line in the log, and refusals in the shape of its API."""

import logging
import time
from collections import Counter
from collections.abc import Mapping

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from actors.ports import LogUnavailable
from server.api import cors, mounting
from server.api.endpoint import SESSION, response
from server.api.identity import USER
from server.api.routes import (
    Api,
    Row,
)
from server.api.sse import DETACHED
from server.http.access_log import RequestLog
from server.http.problems import Problem, problem_body
from server.http.request_id import CURRENT
from server.http.uuids import new_id

logger = logging.getLogger(__name__)


SERVER = "Homeroom"
"""Sent in place of aiohttp's name and version, which help only attackers. The fast lane sends no such header."""


KEY = "Idempotency-Key"


REQUEST_ID = web.RequestKey("id", str)


STATUS_REASONS = {404: ("not_found", "There is nothing at this path; see /docs."), 405: ("method_not_allowed", "")}


def keyless(handler: Handler) -> Handler:
    """Return a handler that refuses Idempotency-Keys: a client that sends one relies on it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        if KEY in request.headers:
            raise Problem(422, "key_not_taken", "This route takes no Idempotency-Key; send none.", field=KEY)
        return await handler(request)

    return handle


def problems(
    apis: tuple[Api, ...], known: Mapping[web.AbstractRoute, tuple[Api, Row]], refusals: Counter[str]
) -> Middleware:
    """Return the middleware that encodes each refusal as its API does. An unexpected error becomes a 500, logged
    once."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # noqa: BLE001 - `refusal` raises it again if the client has disconnected
            problem = refusal(request, error)
            refusals[problem.reason] += 1
            api, row = known.get(request.match_info.route) or (mounting.api_for(apis, request.path), None)
            return response(api.refusal(problem, row, request.match_info))

    return middleware


def refusal(request: web.Request, error: Exception) -> Problem:
    """Return the problem that reports an error to the client. Raise the error again if the client has disconnected."""
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


def kept(error: web.HTTPException) -> dict[str, str]:
    """Return the `Allow` header of an error, if it has one."""
    return {hdrs.ALLOW: error.headers[hdrs.ALLOW]} if hdrs.ALLOW in error.headers else {}


def printed(problem: Problem) -> web.Response:
    """Return a problem as a problem+json response."""
    return web.Response(
        body=problem_body(problem),
        status=problem.status,
        headers=problem.headers,
        content_type="application/problem+json",
    )


def logged(log: RequestLog) -> Middleware:
    """Return the middleware that gives each request an id and a line in the log, and counts it."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        request_id = request[REQUEST_ID] = new_id()
        # Never reset: each request has its own task in aiohttp, which still logs lines after this has returned.
        CURRENT.set(request_id)
        started, status = time.perf_counter(), 499
        try:
            response = await handler(request)
            status = response.status
            return response
        finally:
            took = time.perf_counter() - started
            is_stream = DETACHED in request or status == 101
            if DETACHED in request:
                status = 200
            resource = request.match_info.route.resource
            route = None if resource is None else resource.canonical
            counts = log.counts.of(request.method, route)
            counts.add(status, None if is_stream else took)
            if log.wanted:
                user, session = request.get(USER), request.get(SESSION)
                log.add(request_id, request.method, route or "unknown", status, took, user, session, quiet=counts.quiet)

    return middleware


async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every answer has, streams included."""
    # A request that is refused before it reaches a handler has no id yet.
    head(response, request.get(REQUEST_ID) or new_id())
    if origin := request.get(cors.ORIGIN):
        cors.allow(response, origin)


def head(response: web.StreamResponse, request_id: str) -> None:
    """Set a response's request id, its `Server` header and its protection against MIME sniffing."""
    response.headers["X-Request-Id"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers[hdrs.SERVER] = SERVER
