"""The fake Daily is to the letter, fails as it is told to, and signs what it says: what is tested against it counts."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from server.demo.fake_daily import SECRET, FakeDaily, Trouble, serving

PROPERTIES = {
    "max_participants": 2, "enable_screenshare": True, "enable_chat": True, "enable_recording": "cloud",
    "start_video_off": True, "start_audio_off": False, "exp": 4_000_000_000, "eject_at_room_exp": True,
}  # fmt: skip
ROOM = {"name": "session-1", "privacy": "private", "properties": PROPERTIES}


class Caller:
    """Somebody with the key, and a listener for webhooks."""

    def __init__(self, fake: FakeDaily, http: aiohttp.ClientSession) -> None:
        self.fake = fake
        self.http = http
        self.heard: list[tuple[bytes, Any]] = []
        self.status = 200

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.fake.key}", **headers}
        raw = None if body is None else msgspec.json.encode(body)
        async with self.http.request(method, self.fake.url + path, data=raw, headers=sent) as response:
            return response.status, await response.json()

    async def token(self, user_id: str, *, owner: bool = False) -> str:
        properties = {
            "room_name": "session-1", "user_name": user_id.title(), "user_id": user_id, "is_owner": owner,
            "enable_screenshare": owner, "exp": 4_000_000_000, "eject_at_token_exp": True,
        }  # fmt: skip
        status, answer = await self.ask("POST", "/meeting-tokens", {"properties": properties})
        assert status == 200, answer
        return str(answer["token"])

    async def visit(self, token: str, method: str = "GET") -> int:
        url = self.fake.rooms["session-1"].answer["url"]
        async with self.http.request(method, url, params={"t": token}) as response:
            return response.status

    async def hear(self, request: web.Request) -> web.Response:
        raw = await request.read()
        stamp = request.headers["X-Webhook-Timestamp"]
        mac = hmac.new(base64.b64decode(SECRET), stamp.encode() + b"." + raw, hashlib.sha256).digest()
        assert base64.b64encode(mac).decode() == request.headers["X-Webhook-Signature"]
        assert abs(int(stamp) - time.time()) < 60
        self.heard.append((raw, msgspec.json.decode(raw)))
        return web.Response(status=self.status)

    @property
    def types(self) -> list[str]:
        return [said["type"] for _, said in self.heard if "type" in said]


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    async with serving(FakeDaily()) as fake, aiohttp.ClientSession() as http:
        yield Caller(fake, http)


@contextlib.asynccontextmanager
async def listening(caller: Caller) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/hook", caller.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    finally:
        await runner.cleanup()


async def test_who_asks(caller: Caller) -> None:
    async with caller.http.post(f"{caller.fake.url}/rooms", json=ROOM) as response:
        assert (response.status, await response.json()) == (400, {"error": "authorization-header-error"})
    status, _ = await caller.ask("POST", "/rooms", ROOM, Authorization="Bearer another")
    assert (status, caller.fake.rooms) == (401, {})


async def test_a_room_and_its_end(caller: Caller) -> None:
    status, made = await caller.ask("POST", "/rooms", ROOM)
    assert status == 200
    assert made.keys() == {"id", "name", "api_created", "privacy", "url", "created_at", "config"}
    assert (made["name"], made["privacy"], made["config"]) == ("session-1", "private", PROPERTIES)
    status, refusal = await caller.ask("POST", "/rooms", ROOM)
    assert (status, refusal["info"]) == (400, "a room named session-1 already exists")
    assert (await caller.ask("GET", "/rooms/session-1"))[1] == made
    assert (await caller.ask("DELETE", "/rooms/session-1"))[0] == 200
    assert (await caller.ask("DELETE", "/rooms/session-1"))[0] == 404


@pytest.mark.parametrize(
    "body",
    [
        {"name": "session-1"},
        {**ROOM, "privacy": "public"},
        {**ROOM, "more": 1},
        {**ROOM, "properties": {**PROPERTIES, "start_video_off": False}},
        {**ROOM, "properties": {**PROPERTIES, "enable_recording": "local"}},
        {**ROOM, "properties": {**PROPERTIES, "exp": "tomorrow"}},
    ],
)
async def test_a_body_that_is_not_to_the_letter(caller: Caller, body: Any) -> None:
    status, refusal = await caller.ask("POST", "/rooms", body)
    assert (status, refusal["error"], caller.fake.rooms) == (400, "invalid-request-error", {})


async def test_failing_on_request(caller: Caller) -> None:
    fake = caller.fake
    fake.troubles = [Trouble("POST /rooms", 429, times=2, retry_after="1"), Trouble("POST /rooms", 503, done=True)]
    assert [(await caller.ask("POST", "/rooms", ROOM))[0] for _ in range(2)] == [429, 429]
    assert fake.rooms == {}
    assert (await caller.ask("POST", "/rooms", ROOM))[0] == 503
    assert list(fake.rooms) == ["session-1"], "done, and not told"
    assert (await caller.ask("DELETE", "/rooms/session-1"))[0] == 200, "and then no more trouble"

    fake.troubles = [Trouble("POST", "cut"), Trouble("POST", "slow")]
    with pytest.raises(aiohttp.ClientError):
        await caller.ask("POST", "/rooms", ROOM)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await caller.ask("POST", "/rooms", ROOM)
    assert fake.rooms == {}


async def test_a_meeting_is_told_in_signed_webhooks(caller: Caller) -> None:
    fake = caller.fake
    await caller.ask("POST", "/rooms", ROOM)
    async with listening(caller) as url:
        status, made = await caller.ask("POST", "/webhooks", {"url": url})
        assert (status, made["hmac"]) == (200, SECRET)
        assert "type" not in caller.heard[0][1], "the first is only a test"
        anna, tess = await caller.token("anna"), await caller.token("tess", owner=True)
        assert [await caller.visit(one) for one in (anna, anna, tess)] == [200] * 3
        assert await caller.visit(await caller.token("ben")) == 403, "two at most"
        assert await caller.visit(anna, "POST") == 200
        await fake.silent()
        assert sorted(caller.types) == ["participant.joined", "participant.joined", "participant.left"]
        left = next(said["payload"] for _, said in caller.heard if said.get("type") == "participant.left")
        assert {"joined_at", "session_id", "room", "user_id", "user_name", "owner", "permissions", "duration"} == set(
            left
        )
        assert (left["room"], left["user_id"], left["user_name"], left["owner"]) == ("session-1", "anna", "Anna", False)


async def test_banned_is_out_and_stays_out(caller: Caller) -> None:
    await caller.ask("POST", "/rooms", ROOM)
    anna = await caller.token("anna")
    assert await caller.visit(anna) == 200
    _, answer = await caller.ask("POST", "/rooms/session-1/eject", {"user_ids": ["anna", "ben"]})
    assert len(answer["ejectedIds"]) == 1
    assert await caller.visit(anna) == 200
    await caller.ask("POST", "/rooms/session-1/eject", {"user_ids": ["anna"], "ban": True})
    assert await caller.visit(anna) == 403
    assert (await caller.ask("POST", "/rooms/session-1/eject", {"user_ids": ["anna"] * 101}))[0] == 400


async def test_a_recording(caller: Caller) -> None:
    fake = caller.fake
    await caller.ask("POST", "/rooms", ROOM)
    async with listening(caller) as url:
        await caller.ask("POST", "/webhooks", {"url": url})
        assert (await caller.ask("POST", "/rooms/session-1/recordings/stop", {}))[0] == 400
        assert (await caller.ask("POST", "/rooms/session-1/recordings/start", {}))[0] == 200
        assert (await caller.ask("POST", "/rooms/session-1/recordings/start", {}))[0] == 400
        (one,) = (await caller.ask("GET", "/recordings?room_name=session-1"))[1]["data"]
        assert one["status"] == "in-progress"
        assert (await caller.ask("GET", f"/recordings/{one['id']}/access-link"))[0] == 400
        assert (await caller.ask("POST", "/rooms/session-1/recordings/stop", {}))[0] == 200
        assert (await caller.ask("GET", f"/recordings/{one['id']}"))[1]["status"] == "finished"
        await fake.silent()
        ready = next(said["payload"] for _, said in caller.heard if said.get("type") == "recording.ready-to-download")
        assert ready["recording_id"] == one["id"]
        assert ready["s3_key"]
    _, link = await caller.ask("GET", f"/recordings/{one['id']}/access-link")
    async with caller.http.get(link["download_link"]) as response:
        assert (response.status, response.content_type) == (200, "video/mp4")
    async with caller.http.get(link["download_link"] + "0") as response:
        assert response.status == 403


async def test_a_listener_that_does_not_answer_200_is_no_webhook(caller: Caller) -> None:
    caller.status = 500
    async with listening(caller) as url:
        assert (await caller.ask("POST", "/webhooks", {"url": url}))[0] == 400
    assert caller.fake.hooks == {}


async def test_what_there_is_to_play_with(caller: Caller) -> None:
    root = caller.fake.url.removesuffix("/v1")
    async with caller.http.post(f"{root}/fake/troubles", json={"line": "POST /rooms", "how": 500}) as response:
        assert response.status == 200
    assert (await caller.ask("POST", "/rooms", ROOM))[0] == 500
    async with caller.http.post(f"{root}/fake/troubles", json={"line": "POST /rooms", "how": "odd"}) as response:
        assert response.status == 400
    async with listening(caller) as url:
        caller.fake.hooks[url] = SECRET
        said = {"type": "meeting.started", "payload": {"room": "session-1"}}
        async with caller.http.post(f"{root}/fake/events", json=said) as response:
            assert await response.json() == {"answered": [200]}
    assert caller.types == ["meeting.started"]
    async with caller.http.get(f"{root}/fake/asked") as response:
        shown = await response.text()
    assert "session-1" in shown
    assert caller.fake.key not in shown
