"""A stand-in for Daily.co: its REST API and its signed webhooks over real HTTP, to try `rooms.provider = "daily"`.

It keeps everything in memory and carries no audio or video. Tests can make it fail in the ways that Daily fails.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import jwt
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

NAME_LENGTH = 128
LINK_S = 3_600
HOOK_TIMEOUT_S = 5.0


class Fault(Struct):
    """How the next `times` calls of a method and path fail.

    After `after_s` they get `status`, or the connection is closed (`closes`); or they succeed, and the response comes
    `silent_s` late."""

    method: str
    path: str
    status: int = 0
    after_s: float = 0.0
    closes: bool = False
    silent_s: float = 0.0
    times: int = 1
    headers: dict[str, str] = {}


class FakeDaily:
    """The stand-in. `key` is the API key that it accepts. Webhooks go to `hook`, signed with `secret` (base64)."""

    def __init__(self, key: str, secret: str = "", hook: str = "") -> None:
        self.key = key
        self.secret = secret or base64.b64encode(secrets.token_bytes(32)).decode()
        self.hook = hook
        self.url = ""
        self.no_links = ""
        """The text that is returned, with 200, in place of a download link; empty: return links."""
        self.rooms: dict[str, dict[str, Any]] = {}
        self.recordings: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str, Any]] = []
        """The method, path and body of every call with the right key."""
        self.faults: list[Fault] = []
        self.told: list[tuple[str, int]] = []
        """The type of each webhook that was sent, and the status of its response."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = iter(range(1, 1_000_000_000))

    def app(self) -> web.Application:
        """Return the application that serves it."""
        app = web.Application(middlewares=[self._checked])
        route = app.router
        route.add_post("/v1/rooms", self._make)
        route.add_get("/v1/rooms/{name}", self._room)
        route.add_delete("/v1/rooms/{name}", self._delete)
        route.add_post("/v1/rooms/{name}/eject", self._eject)
        route.add_post("/v1/rooms/{name}/recordings/start", self._start)
        route.add_post("/v1/rooms/{name}/recordings/stop", self._stop)
        route.add_post("/v1/meeting-tokens", self._token)
        route.add_post("/v1/webhooks", self._hook)
        route.add_get("/v1/recordings", self._recordings)
        route.add_get("/v1/recordings/{id}", self._recording)
        route.add_get("/v1/recordings/{id}/access-link", self._link)
        return app

    @web.middleware
    async def _checked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = self._fault(request)
        if fault is not None:
            await asyncio.sleep(fault.after_s)
            if fault.closes and request.transport is not None:
                request.transport.abort()
            if fault.status:
                return json_answer({"error": "server-error"}, fault.status, fault.headers)
        authorization = request.headers.get("Authorization")
        if authorization is None:
            return refusal(400, "authorization-header-error")
        if not hmac.compare_digest(authorization, f"Bearer {self.key}"):
            return refusal(401, "authentication-error")
        raw = await request.read()
        self.calls.append((request.method, request.path, msgspec.json.decode(raw) if raw else None))
        answered = await handler(request)
        if fault is not None:
            await asyncio.sleep(fault.silent_s)
        return answered

    def _fault(self, request: web.Request) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and fault.method == request.method and request.path.startswith(f"/v1{fault.path}"):
                fault.times -= 1
                return fault
        return None

    async def _make(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body.get("name") or secrets.token_hex(8)
        if name in self.rooms:
            return refusal(400, "invalid-request-error", f"a room named {name} already exists")
        if len(name) > NAME_LENGTH:
            return refusal(400, "invalid-request-error", "the name is too long")
        room = {
            "id": secrets.token_hex(16),
            "name": name,
            "api_created": True,
            "privacy": body.get("privacy", "public"),
            "url": f"{self.url}/{name}",
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()),
            "config": body.get("properties", {}),
        }
        self.rooms[name] = room
        return json_answer(room)

    async def _room(self, request: web.Request) -> web.Response:
        room = self.rooms.get(request.match_info["name"])
        return refusal(404, "not-found") if room is None else json_answer(room)

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self.rooms.pop(name, None) is None:
            return refusal(404, "not-found")
        return json_answer({"deleted": True, "name": name})

    async def _eject(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self.rooms:
            return refusal(404, "not-found")
        body = await request.json()
        if len(body["user_ids"]) > 100:
            return refusal(400, "invalid-request-error", "at most 100 user_ids")
        return json_answer({"ejectedIds": body["user_ids"]})

    async def _token(self, request: web.Request) -> web.Response:
        properties = (await request.json())["properties"]
        if len(properties.get("user_id", "")) > 36:
            return refusal(400, "invalid-request-error", "user_id is too long")
        return json_answer({"token": jwt.encode({**properties, "iat": int(time.time())}, self.key, algorithm="HS256")})

    async def _start(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.rooms:
            return refusal(404, "not-found")
        if self._running(name):
            return refusal(400, "invalid-request-error", "has an active stream")
        number = next(self._numbers)
        recording: dict[str, Any] = {
            "id": f"rec-{number}", "room_name": name, "start_ts": time.time(), "status": "in-progress",
            "duration": 0, "s3key": f"acme/{name}/{number}",
        }  # fmt: skip
        self.recordings[recording["id"]] = recording
        self.tell("recording.started", {"recording_id": recording["id"], "room_name": name, "action": "start"})
        return json_answer({"status": "OK"})

    async def _stop(self, request: web.Request) -> web.Response:
        recording = self._running(request.match_info["name"])
        if recording is None:
            return refusal(400, "invalid-request-error", "does not have an active stream")
        recording["status"] = "finished"
        recording["duration"] = round(time.time() - recording["start_ts"])
        self.tell(
            "recording.ready-to-download",
            {
                "recording_id": recording["id"], "room_name": recording["room_name"], "status": "finished",
                "start_ts": recording["start_ts"], "max_participants": 2, "duration": recording["duration"],
                "s3_key": recording["s3key"],
            },
        )  # fmt: skip
        return json_answer({"status": "OK"})

    def _running(self, name: str) -> dict[str, Any] | None:
        mine = (one for one in self.recordings.values() if one["room_name"] == name and one["status"] == "in-progress")
        return next(mine, None)

    async def _recordings(self, request: web.Request) -> web.Response:
        name = request.query.get("room_name")
        found = [one for one in self.recordings.values() if name in (None, one["room_name"])]
        return json_answer({"total_count": len(found), "data": found[::-1]})

    async def _recording(self, request: web.Request) -> web.Response:
        found = self.recordings.get(request.match_info["id"])
        return refusal(404, "not-found") if found is None else json_answer(found)

    async def _link(self, request: web.Request) -> web.Response:
        found = self.recordings.get(request.match_info["id"])
        if found is None:
            return refusal(404, "not-found")
        link = self.no_links or f"{self.url}/files/{found['id']}.mp4?signature={secrets.token_hex(8)}"
        return json_answer({"download_link": link, "expires": int(time.time()) + LINK_S})

    async def _hook(self, request: web.Request) -> web.Response:
        """Set the URL of webhooks, if it answers a test."""
        self.hook = (await request.json())["url"]
        if await self._posted(b'{"test":"test"}', {}) != 200:
            return refusal(400, "invalid-request-error", "non-200 status code returned from webhook endpoint")
        return json_answer({"uuid": secrets.token_hex(16), "url": self.hook, "hmac": self.secret, "state": "ACTIVE"})

    def tell(self, kind: str, payload: object) -> None:
        """Send a webhook in the background."""
        task = asyncio.create_task(self._told(kind, payload))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _told(self, kind: str, payload: object) -> None:
        if self.hook:
            self.told.append((kind, await self.say(kind, payload)))

    # Any: JSON of any shape.
    async def say(self, kind: str, payload: object, **changed: Any) -> int:
        """Send a webhook and return the status of its response. `changed` replaces fields of the envelope."""
        number = next(self._numbers)
        envelope = {
            "version": "1.0.0", "type": kind, "id": f"evt-{number}", "payload": payload, "event_ts": time.time(),
        }  # fmt: skip
        raw = msgspec.json.encode(envelope | changed)
        return await self._posted(raw, self.signed(raw, str(int(time.time() * 1000))))

    def signed(self, raw: bytes, stamp: str) -> dict[str, str]:
        """Return the headers of a body that was signed at a time."""
        key = base64.b64decode(self.secret)
        signature = hmac.new(key, stamp.encode() + b"." + raw, hashlib.sha256).digest()
        return {"X-Webhook-Timestamp": stamp, "X-Webhook-Signature": base64.b64encode(signature).decode()}

    async def _posted(self, raw: bytes, headers: dict[str, str]) -> int:
        timeout = aiohttp.ClientTimeout(total=HOOK_TIMEOUT_S)
        headers = {"Content-Type": "application/json", **headers}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as http,
                http.post(self.hook, data=raw, headers=headers) as response,
            ):
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0


def json_answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)


def refusal(status: int, error: str, info: str = "") -> web.Response:
    return json_answer({"error": error, **({"info": info} if info else {})}, status)


@contextlib.asynccontextmanager
async def serving(fake: FakeDaily, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[FakeDaily]:
    """Run it during the block, at `fake.url` (without the API's `/v1`)."""
    runner = web.AppRunner(fake.app(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        fake.url = f"http://{host}:{runner.addresses[0][1]}"
        yield fake
    finally:
        await runner.cleanup()


async def serve(say: Callable[[str], None], host: str, port: int, key: str, secret: str, hook: str) -> None:
    """Run it until cancelled, and print how to use it."""
    async with serving(FakeDaily(key, secret, hook), host, port) as fake:
        say(f"a stand-in for Daily at {fake.url}/v1; start the server with these in its environment:")
        say("  HOMEROOM_ROOMS__PROVIDER=daily")
        say(f"  HOMEROOM_ROOMS__DAILY_API_URL={fake.url}/v1")
        say(f"  HOMEROOM_ROOMS__DAILY_API_KEY={fake.key}")
        say(f"  HOMEROOM_ROOMS__DAILY_WEBHOOK_SECRET={fake.secret}")
        say(f"webhooks go to {fake.hook or 'no URL; set one with --webhook'}")
        await asyncio.Event().wait()
