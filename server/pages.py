"""The pages: `/`, and `/docs`. Static files, no build step; they use public routes only."""

from pathlib import Path

from aiohttp import web

from server.routes import Api

STATIC = Path(__file__).parent / "static"
CSP = "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'"


def add(app: web.Application, apis: tuple[Api, ...]) -> None:
    def page(name: str) -> None:
        body = (STATIC / f"{name}.html").read_bytes()

        async def show(request: web.Request) -> web.Response:
            return web.Response(
                body=body, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": CSP}
            )

        app.router.add_get("/" if name == "index" else f"/{name}", show)

    page("index")
    page("docs")
    app.router.add_static("/static", STATIC)
