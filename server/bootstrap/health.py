"""Health checks: `/livez` answers while the process runs, `/readyz` says whether it can serve requests."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from actors.ports import LogUnavailable
from server.api.services import Services

CHECK_TIMEOUT_S = 2.0
_DRAINING = web.AppKey("draining", dict[str, bool])


def add(app: web.Application, services: Services, opened: Sequence[str]) -> None:
    """Add the routes. `opened` names the settings that admit unverified callers; `/readyz` lists them."""
    app[_DRAINING] = {}

    async def live(request: web.Request) -> web.Response:
        return status_response(200, {"status": "ok"})

    async def ready(request: web.Request) -> web.Response:
        if app[_DRAINING]:
            return status_response(503, {"status": "draining"})
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await services.log.ping()
        except (LogUnavailable, TimeoutError):
            return status_response(503, {"status": "unavailable", "database": "away"})
        return status_response(200, {"status": "ok", "database": "ok"} | ({"open": list(opened)} if opened else {}))

    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)


def drain(app: web.Application) -> None:
    """Let `/readyz` answer 503 from now on."""
    app[_DRAINING]["since"] = True


def status_response(status: int, body: Mapping[str, object]) -> web.Response:
    """Return a JSON response that is not cached."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
