"""Health checks: `/livez` answers while the process runs, `/readyz` says whether it can serve requests.

A database that answers may still not commit: `/readyz` reports commits that hang or have just failed."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import msgspec
from aiohttp import web

from actors.persistence import Persistence
from actors.ports import LogUnavailable
from server.api.services import Services

CHECK_TIMEOUT_S = 2.0
COMMIT_HANGS_S = 3.0
"""A commit that has run for longer makes the server unready."""
COMMIT_FAILED_S = 10.0
"""So long a failed commit makes the server unready, unless a later one succeeds. Then traffic must try again: without
it, no commit could show that the database has recovered."""
_DRAINING = web.AppKey("draining", dict[str, bool])


def add(app: web.Application, services: Services, persistence: Persistence, opened: Sequence[str]) -> None:
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
        if not commits_succeed(persistence, time.perf_counter()):
            return status_response(503, {"status": "unavailable", "database": "commits fail"})
        return status_response(200, {"status": "ok", "database": "ok"} | ({"open": list(opened)} if opened else {}))

    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)


def commits_succeed(persistence: Persistence, now: float) -> bool:
    """Return whether no commit hangs or has just failed. `now` is in `time.perf_counter()`."""
    started, failed = persistence.commit_started, persistence.commit_failed
    hangs = started is not None and now - started > COMMIT_HANGS_S
    return not hangs and (failed is None or now - failed > COMMIT_FAILED_S)


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
