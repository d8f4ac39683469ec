"""Rooms admit only participants of their session, and no answer or silence of Daily makes the server fail."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from server.demo import daily
from server.demo.daily import FakeDaily, Fault
from server.rooms.builtin import BuiltinRooms
from server.rooms.providers import NewRoom
from server.security.tokens import Tokens
from tests.server.rooms.test_rooms import rooms_at
from tests.support.client import Seat
from tests.support.serving import KEY, Town, serving, wait_for

ACCOUNT = "the key of an account at Daily, for tests"


@pytest.fixture
async def fake() -> AsyncIterator[FakeDaily]:
    async with daily.serving(FakeDaily(ACCOUNT)) as fake:
        yield fake


@pytest.fixture
async def town(dsn: str, data: Path, fake: FakeDaily) -> AsyncIterator[Town]:
    async with serving(dsn, data, rooms=rooms_at(fake)) as town:
        fake.hook = f"{town.url}/v1/webhooks/daily"
        yield town


async def meeting(seat: Seat) -> Any:
    return (await seat.person.post(f"{seat.path}/tokens")).ok(201)["meeting"]


def tokens_made(fake: FakeDaily) -> int:
    return sum(path == "/v1/meeting-tokens" for _, path, _ in fake.calls)


# Tokens


async def test_a_waiting_participant_gets_no_room_token(town: Town, fake: FakeDaily) -> None:
    host, anna = await town.classroom("Anna", room=True, features={"lobby": True})
    assert await meeting(anna) is None, "she waits"
    assert tokens_made(fake) == 0
    await host.do("admit", user_id=anna.user_id)
    assert await meeting(anna) is not None


async def test_an_ended_session_gives_no_room_token(town: Town, fake: FakeDaily) -> None:
    (host,) = await town.classroom(room=True)
    await host.do("end")
    assert await meeting(host) is None
    assert tokens_made(fake) == 0


@pytest.mark.parametrize("provider", ["daily", "builtin"])
async def test_a_room_token_expires_with_the_credential_it_was_requested_with(
    dsn: str, data: Path, fake: FakeDaily, provider: str
) -> None:
    rooms = rooms_at(fake, provider=provider)
    async with serving(dsn, data, rooms=rooms, auth={"session_token_ttl_s": 60}) as town:
        (host,) = await town.classroom(room=True)
        scoped = (await host.person.post(f"{host.path}/tokens")).ok(201)["token"]
        headers = {"Authorization": f"Bearer {scoped}"}
        made = (await town.anyone.call("POST", f"{host.path}/tokens", headers=headers)).ok(201)
        claims = jwt.decode(made["meeting"]["token"], options={"verify_signature": False})
        assert claims["exp"] <= time.time() + 61


async def test_a_removed_participant_gets_no_new_room_token(town: Town, fake: FakeDaily) -> None:
    teacher, anna = await town.teacher(), await town.student("Anna")
    made = (await teacher.post("/live/sessions", {"courseId": "c", "startsAt": "2030-01-01T00:00:00Z"})).ok(201)
    path = f"/live/sessions/{made['roomName']}"
    (await anna.post(f"{path}/join")).ok()
    (await anna.post(f"{path}/token")).ok()
    assert (await teacher.delete(f"{path}/participants/{anna.id}")).status in (200, 204)
    before = tokens_made(fake)
    assert (await anna.post(f"{path}/token")).status == 403
    assert tokens_made(fake) == before


async def test_reading_a_session_again_requests_no_new_room_token(town: Town, fake: FakeDaily) -> None:
    teacher, anna = await town.teacher(), await town.student("Anna")
    made = (await teacher.post("/tutorium/api/v1/sessions", {"title": "x"})).ok(201)
    path = f"/tutorium/api/v1/sessions/{made['id']}"
    assert [(await teacher.get(path)).ok()["teacher_join_url"] for _ in range(3)] == [made["teacher_join_url"]] * 3
    assert tokens_made(fake) == 1
    for _ in range(2):
        (await anna.post(f"{path}/join", {})).ok()
    assert tokens_made(fake) == 3, "coming in does"
    (await teacher.call("PATCH", path, {"status": "cancelled"})).ok()
    assert "?t=" not in (await teacher.get(path)).ok()["teacher_join_url"]


# Retries and pauses


async def test_a_room_expires_after_its_scheduled_session(town: Town, fake: FakeDaily) -> None:
    await (await town.teacher()).create(room=True, starts_at="2100-01-01T00:00:00Z")
    (body,) = [body for _, path, body in fake.calls if path == "/v1/rooms"]
    assert body["properties"]["exp"] > 4_102_444_800


async def test_stopping_a_recording_never_overtakes_starting_it(town: Town, fake: FakeDaily) -> None:
    (host,) = await town.classroom(room=True)
    fake.faults = [Fault("POST", f"/rooms/{host.session['room']['name']}/recordings/start", 503, times=2)]
    await host.do("start_recording")
    await host.do("stop_recording")
    await wait_for(lambda: any(one["status"] == "finished" for one in fake.recordings.values()))
    asked = [path.rpartition("/")[2] for _, path, _ in fake.calls if "/recordings/" in path]
    assert asked == ["start", "stop"]


async def test_a_rate_limited_request_to_daily_waits_for_retry_after(town: Town, fake: FakeDaily) -> None:
    (host,) = await town.classroom(room=True)
    fake.faults = [Fault("POST", "/meeting-tokens", 429, headers={"Retry-After": "1"})]
    began = time.monotonic()
    assert await meeting(host) is not None
    assert time.monotonic() - began >= 1, "and not earlier"
    fake.faults = [Fault("POST", "/meeting-tokens", 429, headers={"Retry-After": "60"})]
    (await host.person.post(f"{host.path}/tokens")).refused(502, "room_failed")
    assert fake.faults[0].times == 0, "asked once: no request waits for a minute"
    assert tokens_made(fake) == 1


async def test_a_participant_removed_just_before_a_shutdown_is_ejected(
    dsn: str, data: Path, fake: FakeDaily, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(dsn, data, rooms=rooms_at(fake, pause_s=0.2)) as town:
        host, anna = await town.classroom("Anna", room=True)
        fake.faults = [Fault("POST", f"/rooms/{host.session['room']['name']}/eject", 503)]
        await host.do("kick", user_id=anna.user_id)
    assert fake.faults[0].times == 0
    assert [body["user_ids"] for _, path, body in fake.calls if path.endswith("/eject")] == [[anna.user_id]]
    assert not caplog.records


# Signed webhooks with unusual bodies


async def post(town: Town, fake: FakeDaily, body: bytes, stamp: str | None = None) -> int:
    headers = fake.signed(body, stamp or str(int(time.time())))
    async with town.http.post(fake.hook, data=body, headers=headers) as response:
        return response.status


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"{", b'{"type":5}', b'{"id":"x","payload":{}}',
        b'{"type":"meeting.started","id":"\xff"}',
        b'{"type":"participant.joined","id":"a","payload":{"user_name":"\xff"}}',
        b'{"type":"participant.joined","id":"b\\u0000","payload":{}}',
        b'{"type":"participant.joined","id":"' + b"x" * 20_000 + b'","payload":{}}',
        b'{"type":"participant.joined","id":"c","payload":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    ],
)  # fmt: skip
async def test_no_signed_webhook_causes_a_500(town: Town, fake: FakeDaily, body: bytes) -> None:
    assert await post(town, fake, body) < 500
    assert await post(town, fake, body, "9" * 400) < 500


@pytest.mark.parametrize(
    "more",
    [{"user_name": "B\0ob"}, {"user_id": "u\0"}, {"session_id": "s\0"}, {"joined_at": 1e300}, {"joined_at": -1e18},
     {"joined_at": "now"}, {"duration": 1e300}],
)  # fmt: skip
async def test_a_webhook_that_cannot_be_processed_does_not_block_the_next(
    town: Town, fake: FakeDaily, more: Any
) -> None:
    host = await (await town.teacher()).create(room=True)
    good = {
        "joined_at": time.time(),
        "session_id": "visit-1",
        "room": host.session["room"]["name"],
        "user_name": "Anna",
    }
    kind = "participant.left" if "duration" in more else "participant.joined"
    for number, payload in enumerate(({**good, "session_id": "visit-0", **more}, good)):
        body = msgspec.json.encode({"version": "1.0.0", "type": kind, "id": f"event-{number}", "payload": payload})
        assert await post(town, fake, body) == 200
    await wait_for(lambda: not town.query("select 1 from provider_events where due_at is not null"))
    visits = (await host.person.get(f"{host.path}/attendance")).ok()["visits"]
    assert "Anna" in [visit["name"] for visit in visits]


async def test_the_host_header_of_one_caller_changes_no_link_of_another(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        teacher, anna = await town.teacher(), await town.student("Anna")
        elsewhere = {"Host": "elsewhere.example.org"}
        made = (await teacher.call("POST", "/tutorium/api/v1/sessions", {"title": "x"}, headers=elsewhere)).ok(201)
        assert made["teacher_join_url"].startswith("http://elsewhere.example.org/"), "the caller's own Host header"
        path = f"/tutorium/api/v1/sessions/{made['id']}"
        joined = (await anna.post(f"{path}/join", {})).ok()
        assert joined["join_url"].startswith(f"{town.url}/rooms/{joined['room_name']}?t=")
        assert (await teacher.get(path)).ok()["daily_room_url"] == f"{town.url}/rooms/{joined['room_name']}"
        session = (await anna.get(f"/v1/sessions/{joined['room_name']}")).ok()
        assert session["room"]["url"] == f"/rooms/{joined['room_name']}"
    builtin = BuiltinRooms(Tokens(KEY, issuer="x", audience="x", ttl_s=1), "https://live.example.org/")
    wanted = NewRoom(name="r", capacity=2, chat=True, recording=False, expires_at=0)
    assert await builtin.create_room(wanted) == "https://live.example.org/rooms/r", "the setting"
