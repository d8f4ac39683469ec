"""Cross-origin requests: the origins whose pages may call an API, and the headers that tell browsers so.

**Law:** an origin that the settings do not name gets none of these headers, so its browser hides the answer from it.
"""

from collections.abc import Mapping, Sequence

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from server.api import mounting
from server.api.routes import Api
from server.settings.sections import Settings

ORIGIN = web.RequestKey("origin", str)
MAX_AGE_S = "600"


def origins(settings: Settings, api: Api) -> frozenset[str]:
    """Return the origins whose pages may call an API. `*` stands for all."""
    return frozenset(settings.server.cors_origins).union(api.cors_origins)


def among(origin: str, origins: frozenset[str]) -> bool:
    """Return whether an origin is among the allowed ones."""
    return "*" in origins or origin in origins


def headers(origin: str) -> Mapping[str, str]:
    """Return the headers, except `Vary`, of an answer to a page of an allowed origin."""
    return {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
        hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true",
        hdrs.ACCESS_CONTROL_EXPOSE_HEADERS: "Accept-Ranges, Content-Range, ETag, Location, Retry-After, X-Request-Id",
    }


def allow(response: web.StreamResponse, origin: str) -> None:
    """Add the headers for an allowed origin to a response."""
    response.headers.update(headers(origin))
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)


def middleware(settings: Settings, apis: Sequence[Api]) -> Middleware:
    """Return the middleware that admits pages of allowed origins and answers their preflights."""
    allowed = {api.prefix: origins(settings, api) for api in apis}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return await handler(request)
        welcome = among(origin, allowed[mounting.api_for(apis, request.path).prefix])
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            response: web.StreamResponse = web.Response(status=204 if welcome else 403)
            if welcome:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, POST, PUT, PATCH, DELETE"
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = (
                    "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Last-Event-ID, Range"
                )
                response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = MAX_AGE_S
                allow(response, origin)
            return response
        if welcome:
            request[ORIGIN] = origin
        return await handler(request)

    return middleware
