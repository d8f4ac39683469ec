"""The aiohttp application: its routes, from the tables of the APIs, and its middlewares."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from actors.persistence import Persistence
from actors.session.errors import Reason
from server.api import cors, mounting, openapi, pages
from server.api.command_socket import CommandSocketEndpoint
from server.api.downloads import ContentEndpoint, DownloadEndpoint
from server.api.endpoint import Endpoint
from server.api.handlers import (
    ActionEndpoint,
    CommandEndpoint,
    CreateEndpoint,
    DirectCommandEndpoint,
    HookEndpoint,
    ReadEndpoint,
    UploadEndpoint,
)
from server.api.message_socket import MessageSocketEndpoint
from server.api.middleware import keyless, logged, on_prepare, problems
from server.api.notification_stream import UserStreamEndpoint
from server.api.replay_stream import ReplayEndpoint
from server.api.routes import (
    ActionRoute,
    Api,
    CommandRoute,
    CommandSocketRoute,
    ContentRoute,
    CreateRoute,
    DirectCommandRoute,
    DownloadRoute,
    HookRoute,
    MessageSocketRoute,
    ReadRoute,
    ReplayRoute,
    Row,
    StreamRoute,
    UploadRoute,
    UserStreamRoute,
)
from server.api.services import Services
from server.api.sse import StreamEndpoint
from server.bootstrap import health, metrics

# Any: each endpoint takes its own type of row.
ENDPOINTS: Mapping[type[Row], Callable[[Api, Any, Services], Endpoint]] = {
    ActionRoute: ActionEndpoint,
    CommandRoute: CommandEndpoint,
    CommandSocketRoute: CommandSocketEndpoint,
    ContentRoute: ContentEndpoint,
    CreateRoute: CreateEndpoint,
    DirectCommandRoute: DirectCommandEndpoint,
    DownloadRoute: DownloadEndpoint,
    HookRoute: HookEndpoint,
    MessageSocketRoute: MessageSocketEndpoint,
    ReadRoute: ReadEndpoint,
    ReplayRoute: ReplayEndpoint,
    StreamRoute: StreamEndpoint,
    UploadRoute: UploadEndpoint,
    UserStreamRoute: UserStreamEndpoint,
}
"""The endpoint that serves each type of row."""


def build(services: Services, persistence: Persistence, apis: tuple[Api, ...]) -> web.Application:
    """Return the application that serves these APIs. Raise BadSetting if their paths collide."""
    known: dict[web.AbstractRoute, tuple[Api, Row]] = {}
    counts = services.requests.counts
    refusals = counts.refusals
    refusals.update(dict.fromkeys(Reason, 0))
    app = web.Application(
        middlewares=[
            logged(services.requests),
            cors.middleware(services.settings, apis),
            problems(apis, known, refusals),
        ],
        client_max_size=services.settings.limits.body_bytes,
    )
    app.on_response_prepare.append(on_prepare)
    health.add(app, services, persistence, [name for api in apis for name in api.open])
    metrics.add(app, services)
    pages.add(app, apis)
    for route in app.router.routes():
        if route.resource is not None:
            counts.route(route.method, route.resource.canonical, api="server", kind="page", quiet=True)
    mounting.check(apis, [(route.method, route.resource.canonical) for route in app.router.routes() if route.resource])
    for api in apis:
        mounting.check_reads(api)
        for row in api.rows:
            handler = handler_of(api, row, services)
            for path in mounting.paths(api, row):
                known[app.router.add_route(row.method, path, handler)] = api, row
                counts.route(row.method, path, api=api.name, kind=kind_of(row), statuses=(row.status,))
                if isinstance(row, ContentRoute):
                    known[app.router.add_route(hdrs.METH_HEAD, path, handler)] = api, row
        openapi.add(app, api)
    return app


def kind_of(row: Row) -> str:
    """Return the kind of a row as metrics name it, such as `command_socket`."""
    return re.sub(r"(?<=.)([A-Z])", r"_\1", type(row).__name__.removesuffix("Route")).lower()


def handler_of(api: Api, row: Row, services: Services) -> Handler:
    """Return the handler of a row."""
    # A bound method, since aiohttp deprecates objects that are merely callable.
    handler: Handler = ENDPOINTS[type(row)](api, row, services).__call__
    # Providers of webhooks may send any headers.
    return handler if row.keyed or row.method == "GET" or isinstance(row, HookRoute) else keyless(handler)
