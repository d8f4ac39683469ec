"""Health: `/livez` says that the process turns, `/readyz` that it can serve."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from actors.ports import LogUnavailable
from server.usecases.services import Services

CHECK_TIMEOUT_S = 2.0
_DRAINING = web.AppKey("draining", dict[str, bool])


def add(app: web.Application, services: Services, opened: Sequence[str]) -> None:
    """`opened`: the settings that let in who is not verified."""
    app[_DRAINING] = {}

    async def live(request: web.Request) -> web.Response:
        return said(200, {"status": "ok"})

    async def ready(request: web.Request) -> web.Response:
        if app[_DRAINING]:
            return said(503, {"status": "draining"})
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await services.log.ping()
        except (LogUnavailable, TimeoutError):
            return said(503, {"status": "unavailable", "database": "away"})
        return said(200, {"status": "ok", "database": "ok"} | ({"open": list(opened)} if opened else {}))

    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)


def drain(app: web.Application) -> None:
    """Say from now on that no more work should be sent here."""
    app[_DRAINING]["since"] = True


def said(status: int, body: Mapping[str, object]) -> web.Response:
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
