"""The pages: `/` for a class, `/docs` for the APIs. Static files, no build step; they use public routes only.

**Law:** nothing runs or loads on these pages but the files beside this module: the policy below says so to the browser.
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
    # A class's link holds its join code.
    "Referrer-Policy": "no-referrer",
    # Checked at every use, by ETag: a page and its scripts are always of one version.
    "Cache-Control": "no-cache",
}
APIS = "<!-- apis -->"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add(app: web.Application, apis: tuple[Api, ...]) -> None:
    """Serve the pages, and the files that they are made of."""
    for path in sorted(STATIC.iterdir()):
        body = path.read_bytes()
        route = f"/static/{path.name}"
        if path.suffix == ".html":
            route = "/" if path.stem == "index" else f"/{path.stem}"
            body = body.replace(APIS.encode(), listed(apis).encode())
        app.router.add_get(route, served(body, TYPES[path.suffix]))
    app.router.add_get("/rooms/{name}", room)


async def room(request: web.Request) -> web.StreamResponse:
    """Lead whoever has a room's link into it, on the page of all classes."""
    token = request.query.get("t", "")
    query = urlencode({"room": request.match_info["name"], **({"t": token} if token else {})})
    return web.Response(status=303, headers={**POLICY, hdrs.LOCATION: f"../?{query}"})


def listed(apis: tuple[Api, ...]) -> str:
    """List the APIs, each with where its description is."""
    items = (
        f'<li><a href="{api.description_path.lstrip("/")}" data-api="{html.escape(api.name)}">'
        f"{html.escape(api.title)}</a> <code>{html.escape(api.prefix)}</code></li>"
        for api in apis
    )
    return "\n      ".join(items)


def served(body: bytes, content_type: str) -> Handler:
    etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
    headers = {**POLICY, hdrs.ETAG: etag}

    async def show(request: web.Request) -> web.StreamResponse:
        known = request.headers.get(hdrs.IF_NONE_MATCH, "")
        if etag in known:
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, headers={**headers, hdrs.CONTENT_TYPE: content_type})

    return show
