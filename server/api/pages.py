"""The web pages: `/` for classes, `/docs` for the APIs. They are static files without a build step, and use only public
routes.

The pages load and run nothing but the files in `static/`: the content security policy below makes browsers enforce it.
"""

import hashlib
import html
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlencode

from aiohttp import hdrs, web

from server.api.routes import Api

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # The link of a class contains its join code.
    "Referrer-Policy": "no-referrer",
    # Browsers revalidate every file by its ETag, so that a page and its scripts always have the same version.
    "Cache-Control": "no-cache",
}
APIS = "<!-- apis -->"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add(app: web.Application, apis: tuple[Api, ...]) -> None:
    """Add the routes of the pages and of their files."""
    for path in sorted(STATIC.iterdir()):
        body = path.read_bytes()
        route = f"/static/{path.name}"
        if path.suffix == ".html":
            route = "/" if path.stem == "index" else f"/{path.stem}"
            body = body.replace(APIS.encode(), api_items(apis).encode())
        app.router.add_get(route, served(body, TYPES[path.suffix]))
    app.router.add_get("/rooms/{name}", room)


async def room(request: web.Request) -> web.StreamResponse:
    """Redirect from the link of a built-in room to the page that opens its class."""
    token = request.query.get("t", "")
    query = urlencode({"room": request.match_info["name"], **({"t": token} if token else {})})
    return web.Response(status=303, headers={**POLICY, hdrs.LOCATION: f"../?{query}"})


def api_items(apis: tuple[Api, ...]) -> str:
    """Return the HTML list items of the APIs, each with a link to its description."""
    items = (
        f'<li><a href="{api.description_path.lstrip("/")}" data-api="{html.escape(api.name)}">'
        f"{html.escape(api.title)}</a> <code>{html.escape(api.prefix)}</code></li>"
        for api in apis
    )
    return "\n      ".join(items)


def served(body: bytes, content_type: str) -> Handler:
    """Return a handler that serves a file, or 304 to a browser that has it already."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {**POLICY, hdrs.ETAG: etag}

    async def file(request: web.Request) -> web.StreamResponse:
        if etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, hdrs.CONTENT_TYPE: content_type})

    return file
