"""The fake Daily over HTTP: its API under `/v1`, rooms as pages under `/meet`, and under `/fake` what to play with."""

import asyncio
import contextlib
import html
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from server.demo.fake_daily.fake import FakeDaily
from server.demo.fake_daily.shapes import Asked, Fault, Said, Trouble, decoded

FILE = b"What would be a film.\n"
Act = Callable[[web.Request, bytes], Awaitable[Any]]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{room}</title>
<p>{name} is in <strong>{room}</strong> at the fake Daily, as {part}.</p>
<form method="post"><button>Leave</button></form>
"""


@contextlib.asynccontextmanager
async def serving(fake: FakeDaily, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[FakeDaily]:
    """Serve it while the block runs; its `url` says where its API is."""
    runner = web.AppRunner(application(fake), access_log=None, shutdown_timeout=0.5, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = runner.addresses[0][1]
        fake.url = f"http://{host}:{bound}/v1"
        yield fake
    finally:
        await runner.cleanup()
        await fake.close()


async def serve(fake: FakeDaily, *, host: str, port: int, hook: str, say: Callable[[str], None]) -> int:
    """Serve it until SIGTERM or SIGINT; `hook`: where to send events, or empty. Gives the exit status."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(fake, host=host, port=port):
        if hook:
            fake.hooks[hook] = fake.secret
        say(f"a fake Daily is at {fake.url}; Ctrl-C stops")
        say(f"rooms.daily_api_key = {fake.key!r}, rooms.daily_webhook_secret = {fake.secret!r}")
        await stop.wait()
    return 0


def application(fake: FakeDaily) -> web.Application:
    app = web.Application(client_max_size=1 << 16)
    for method, path, act in (
        ("POST", "/rooms", fake.make_room),
        ("GET", "/rooms/{name}", fake.find_room),
        ("DELETE", "/rooms/{name}", fake.delete_room),
        ("POST", "/rooms/{name}/eject", fake.eject),
        ("POST", "/rooms/{name}/recordings/start", fake.start_recording),
        ("POST", "/rooms/{name}/recordings/stop", fake.stop_recording),
        ("POST", "/meeting-tokens", fake.make_token),
        ("GET", "/recordings", fake.list_recordings),
        ("GET", "/recordings/{id}", fake.find_recording),
        ("GET", "/recordings/{id}/access-link", fake.access_link),
        ("POST", "/webhooks", fake.make_webhook),
    ):
        app.router.add_route(method, f"/v1{path}", api(fake, act))
    meet = meeting(fake)
    app.router.add_get("/meet/{name}", meet)
    app.router.add_post("/meet/{name}", meet)
    app.router.add_get("/files/{id}", file(fake))
    app.router.add_post("/fake/troubles", troubled(fake))
    app.router.add_post("/fake/events", told(fake))
    app.router.add_get("/fake/asked", asked(fake))
    return app


def api(fake: FakeDaily, act: Act) -> Handler:
    """Make the handler of one of Daily's own routes."""

    async def handle(request: web.Request) -> web.StreamResponse:
        raw, path = await request.read(), request.path.removeprefix("/v1")
        authorization = request.headers.get(hdrs.AUTHORIZATION)
        fake.asked.append(Asked(request.method, path, read(raw), authorization))
        trouble = fake.trouble(f"{request.method} {path}")
        if trouble is None or trouble.done:
            answer = await answered(fake, act, request, raw, authorization)
        if trouble is None:
            return answer
        return await failing(request, trouble)

    return handle


async def answered(
    fake: FakeDaily, act: Act, request: web.Request, raw: bytes, authorization: str | None
) -> web.Response:
    try:
        if authorization is None:
            raise Fault(400, "authorization-header-error")
        if authorization != f"Bearer {fake.key}":
            raise Fault(401, "authentication-error")
        return web.json_response(await act(request, raw))
    except Fault as fault:
        return web.json_response(fault.body, status=fault.status)


async def failing(request: web.Request, trouble: Trouble) -> web.StreamResponse:
    match trouble.how:
        case "slow":
            # Until whoever asked has had enough.
            await asyncio.get_running_loop().create_future()
            raise AssertionError("nothing ends this but being cancelled")
        case "cut":
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        case status:
            headers = {} if trouble.retry_after is None else {hdrs.RETRY_AFTER: trouble.retry_after}
            error = {429: "rate-limit-error"}.get(status, "server-error" if status >= 500 else "invalid-request-error")
            return web.json_response({"error": error}, status=status, headers=headers)


def meeting(fake: FakeDaily) -> Handler:
    """A room as a page: opening it is coming in, its button is leaving."""

    async def handle(request: web.Request) -> web.StreamResponse:
        token, name = request.query.get("t", ""), request.match_info["name"]
        if request.method == "POST":
            fake.leave(token)
            return web.Response(text="You have left.")
        try:
            claims = fake.enter(name, token).claims
        except Fault as fault:
            return web.Response(status=fault.status, text=str(fault))
        part = "its owner" if claims["o"] else "a participant"
        page = PAGE.format(room=html.escape(name), name=html.escape(claims["u"]), part=part)
        return web.Response(text=page, content_type="text/html")

    return handle


def file(fake: FakeDaily) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        query = request.query
        if not fake.verified(request.match_info["id"], query.get("expires", ""), query.get("signature", "")):
            return web.Response(status=403, text="This link is not good, or not any more.")
        return web.Response(body=FILE, content_type="video/mp4")

    return handle


def troubled(fake: FakeDaily) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            fake.troubles.append(decoded(await request.read(), Trouble))
        except Fault as fault:
            return web.json_response(fault.body, status=fault.status)
        return web.json_response({"troubles": len(fake.troubles)})

    return handle


def told(fake: FakeDaily) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            said = decoded(await request.read(), Said)
        except Fault as fault:
            return web.json_response(fault.body, status=fault.status)
        return web.json_response({"answered": await fake.tell(said.type, said.payload)})

    return handle


def asked(fake: FakeDaily) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        # Without the header: it may be a real key, sent here by mistake.
        return web.json_response([{"method": one.method, "path": one.path, "body": one.body} for one in fake.asked])

    return handle


def read(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except msgspec.DecodeError:
        return None
