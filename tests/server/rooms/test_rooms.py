"""Rooms: built in, and at Daily, which is a stand-in here that speaks Daily's protocol over real HTTP."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from server.demo import daily
from server.demo.daily import FakeDaily, Fault
from server.settings.sections import BadSetting
from server.settings.types import Secret
from tests.support.client import PATIENCE_S, Client, Person, Seat
from tests.support.serving import KEY, Town, serving, wait_for

ACCOUNT = "the key of an account at Daily, for tests"
TUTORIUM = "/tutorium/api/v1"


@pytest.fixture
async def fake() -> AsyncIterator[FakeDaily]:
    async with daily.serving(FakeDaily(ACCOUNT)) as fake:
        yield fake


def rooms_at(fake: FakeDaily, **changed: Any) -> dict[str, Any]:
    return {
        "provider": "daily",
        "daily_api_key": Secret(ACCOUNT),
        "daily_api_url": f"{fake.url}/v1",
        "daily_webhook_secret": Secret(fake.secret),
        "timeout_s": 0.5,
        "pause_s": 0.01,
        **changed,
    }


@pytest.fixture
async def town(dsn: str, data: Path, fake: FakeDaily) -> AsyncIterator[Town]:
    async with serving(dsn, data, rooms=rooms_at(fake)) as town:
        fake.hook = f"{town.url}/v1/webhooks/daily"
        yield town


async def roomy(town: Town, **fields: Any) -> Seat:
    return await (await town.teacher()).create(room=True, **fields)


def ledger(town: Town) -> list[tuple[Any, ...]]:
    """Return what the table of rooms has: name, whether a session holds it, whether it is due, whether it is gone."""
    columns = "name, session_id is not null, due_at is not null, gone_at is not null"
    return town.query(f"select {columns} from rooms order by name")


async def gone(town: Town, name: str) -> None:
    await wait_for(lambda: (name, True, False, True) in ledger(town))


# Creating


async def test_a_room_is_created_as_daily_documents_it(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town, capacity=7, features={"recording": True, "chat": False})
    room = host.session["room"]
    name = host.session["name"]
    assert room == {"provider": "daily", "name": name, "url": f"{fake.url}/{name}"}
    (call,) = fake.calls
    assert call[:2] == ("POST", "/v1/rooms")
    expires = call[2]["properties"].pop("exp")
    assert 6 * 86_400 < expires - time.time() < 8 * 86_400
    assert call[2] == {
        "name": name,
        "privacy": "private",
        "properties": {
            "max_participants": 7, "enable_screenshare": True, "enable_chat": False, "enable_recording": "cloud",
            "start_video_off": True, "start_audio_off": False, "eject_at_room_exp": True,
        },
    }  # fmt: skip
    assert ledger(town) == [(name, True, False, False)]
    await roomy(town, features={"recording": False})
    assert "enable_recording" not in fake.calls[-1][2]["properties"]


async def test_an_existing_room_of_the_same_name_is_neither_used_nor_deleted(town: Town, fake: FakeDaily) -> None:
    """The account at Daily may have a room of that name for another purpose."""
    foreign = fake.rooms["school-assembly"] = {"name": "school-assembly", "url": f"{fake.url}/school-assembly"}
    fake.faults.append(Fault("POST", "/rooms", after_s=1, times=1))
    host = await roomy(town, name="school-assembly")
    room = host.session["room"]
    assert host.session["name"] == "school-assembly"
    assert room["name"].startswith("school-assembly-")
    assert fake.rooms.keys() == {"school-assembly", room["name"]}
    await host.do("start")
    await host.do("end")
    await gone(town, room["name"])
    # Nor if the outcome of creating our room stays unknown.
    fake.faults.append(Fault("POST", "/rooms", status=500, times=3))
    fields = {"title": "Trip", "room": True, "name": "school-trip"}
    other = fake.rooms["school-trip"] = {"name": "school-trip", "url": f"{fake.url}/school-trip"}
    (await (await town.teacher()).post("/v1/sessions", fields)).refused(502, "room_failed")
    await wait_for(lambda: all(row[3] for row in ledger(town)))
    assert fake.rooms == {"school-assembly": foreign, "school-trip": other}


async def test_a_room_token_names_its_holder_and_their_role(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town)
    anna = (await town.student("Anna")).at(host)
    await host.do("start")
    await anna.join()
    for seat, owner in ((host, True), (anna, False)):
        made = (await seat.person.post(f"{seat.path}/tokens")).ok(201)["meeting"]
        assert made["join_url"] == f"{host.session['room']['url']}?t={made['token']}"
        claims = jwt.decode(made["token"], ACCOUNT, algorithms=["HS256"])
        assert (claims["room_name"], claims["user_id"]) == (host.session["name"], seat.user_id)
        assert (claims["is_owner"], claims["enable_screenshare"]) == (owner, owner)
        assert 3.9 * 3_600 < claims["exp"] - time.time() < 4.1 * 3_600
        assert claims["eject_at_token_exp"] is True


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", "/rooms", status=500, times=2),
        Fault("POST", "/rooms", status=429, times=1, headers={"Retry-After": "1"}),
        Fault("POST", "/rooms", after_s=1.0, times=1),
        Fault("POST", "/rooms", closes=True, times=1),
    ],
    ids=["500", "429", "slow", "closed"],
)
async def test_creating_a_room_is_retried_after_a_temporary_fault(town: Town, fake: FakeDaily, fault: Fault) -> None:
    fake.faults.append(fault)
    host = await roomy(town)
    assert host.session["name"] in fake.rooms


async def refused(town: Town, status: int) -> str:
    teacher = await town.teacher()
    reply = await teacher.post(f"{TUTORIUM}/sessions", {"title": "Algebra"})
    assert reply.status == status, reply.body
    assert (await teacher.get("/v1/sessions")).ok()["items"] == [], "no session is left behind"
    return str(reply.json["detail"])


async def test_a_session_whose_room_cannot_be_created_is_not_created(town: Town, fake: FakeDaily) -> None:
    fake.faults.append(Fault("POST", "/rooms", status=500, times=3))
    assert await refused(town, 502) == "Failed to create room: Daily answered 500 (server-error)"
    # The outcome of a failed request is unknown, so Daily is asked to delete the room, and answers that it has none.
    await wait_for(lambda: ledger(town) == [])
    assert fake.rooms == {}


async def test_a_room_created_despite_a_time_out_is_deleted(town: Town, fake: FakeDaily) -> None:
    # The answers arrive too late, and each request but the first creates the room.
    fake.faults.append(Fault("POST", "/rooms", after_s=0.6, times=3))
    assert "did not answer in time" in await refused(town, 502)
    await wait_for(lambda: ledger(town) == [])
    await wait_for(lambda: fake.rooms == {})


async def test_a_wrong_api_key_is_reported(dsn: str, data: Path, fake: FakeDaily) -> None:
    async with serving(dsn, data, rooms=rooms_at(fake, daily_api_key=Secret("another"))) as town:
        assert await refused(town, 502) == "Failed to create room: Daily answered 401 (authentication-error)"
        assert ledger(town) == []
        assert fake.calls == []


async def test_daily_without_a_key_does_not_start(dsn: str, data: Path) -> None:
    with pytest.raises(BadSetting, match=r'rooms\.daily_api_key = "": with rooms\.provider = "daily"'):
        async with serving(dsn, data, rooms={"provider": "daily"}):
            pass


async def test_live_reports_a_room_that_cannot_be_created_in_its_own_words(town: Town, fake: FakeDaily) -> None:
    fake.faults.append(Fault("POST", "/rooms", status=500, times=3))
    body = {"courseId": "c", "startsAt": "2030-01-01T00:00:00Z"}
    reply = await (await town.teacher()).post("/live/sessions", body)
    assert (reply.status, reply.json["error"]) == (500, "Failed to create session room")


# Deleting


async def test_a_room_is_deleted_when_its_session_ends(town: Town, fake: FakeDaily) -> None:
    for end in ("end", "cancel", "delete"):
        host = await roomy(town)
        name = host.session["name"]
        if end == "delete":
            await host.person.delete(host.path)
        else:
            if end == "end":
                await host.do("start")
            await host.do(end)
        await gone(town, name)
        assert name not in fake.rooms


async def test_a_failed_deletion_of_a_room_is_retried_after_a_restart(dsn: str, data: Path, fake: FakeDaily) -> None:
    async with serving(dsn, data, rooms=rooms_at(fake)) as town:
        host = await roomy(town)
        name = host.session["name"]
        fake.faults.append(Fault("DELETE", "/rooms", status=500, times=1_000))
        await host.do("cancel")
        await wait_for(lambda: ledger(town) == [(name, True, True, False)] and fake.faults[0].times < 998)
    fake.faults.clear()
    async with serving(dsn, data, rooms=rooms_at(fake)) as town:
        town.query("update rooms set due_at = now()")
        town.server.services.rooms.wake()
        await gone(town, name)
        assert name not in fake.rooms


async def test_deleting_a_room_that_no_longer_exists_succeeds(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town)
    fake.rooms.clear()
    await host.do("cancel")
    await gone(town, host.session["name"])


async def test_a_room_without_a_session_is_deleted(town: Town, fake: FakeDaily) -> None:
    """As after a crash between making a room and committing its session."""
    fake.rooms["orphan"] = {}
    town.query("insert into rooms (provider, name, due_at) values ('daily', 'orphan', now())")
    town.server.services.rooms.wake()
    await wait_for(lambda: ledger(town) == [])
    assert fake.rooms == {}


# Events of a session are passed on to Daily


async def test_a_removed_participant_is_ejected_from_the_room(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town)
    anna = (await town.student("Anna")).at(host)
    await host.do("start")
    await anna.join()
    await host.do("kick", user_id=anna.user_id, ban=True)
    path = f"/v1/rooms/{host.session['name']}/eject"
    await wait_for(lambda: ("POST", path, {"user_ids": [anna.user_id], "ban": True}) in fake.calls)


async def recordings(host: Seat) -> Any:
    return (await host.person.get(f"{host.path}/recordings")).ok()["items"]


async def until_recording(host: Seat, status: str) -> Any:
    async with host.stream() as stream:
        while (found := (await recordings(host))[0]["provider"])["status"] != status:
            await stream.until("recording_updated")
    return found


async def test_a_recording_at_daily_is_followed_to_its_end(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town)
    await host.do("start")
    await host.do("start_recording")
    assert (await until_recording(host, "processing"))["provider"] == "daily"
    await wait_for(lambda: ("recording.started", 200) in fake.told)
    await host.do("stop_recording")
    found = await until_recording(host, "completed")
    (theirs,) = fake.recordings.values()
    assert (found["recording_id"], found["s3_key"]) == (theirs["id"], theirs["s3key"])
    log = (await host.person.get(f"{host.path}/log")).ok()["items"]
    assert [row["type"] for row in log if row["type"].startswith("recording_")][-1] == "recording_updated"


async def test_the_file_of_a_recording_is_a_link_to_daily(town: Town, fake: FakeDaily) -> None:
    """The link is requested for each download, for participants only, and never stored."""
    host, anna = await roomy(town), await town.student()
    await host.do("start")
    await host.do("start_recording")
    path = f"{host.path}/recordings/1/file"
    (await host.person.get(path)).refused(409, "not_ready")
    await wait_for(lambda: ("recording.started", 200) in fake.told)
    await host.do("stop_recording")
    await until_recording(host, "completed")
    (theirs,) = fake.recordings.values()
    link = (await host.person.get(path)).ok()
    assert theirs["id"] in link["url"]
    assert link["expires_at"].endswith("Z")
    (await anna.get(path)).refused(403)
    (await host.person.get(f"{host.path}/recordings/2/file")).refused(404, "unknown_recording")
    fake.faults.append(Fault("GET", f"/recordings/{theirs['id']}/access-link", status=404))
    (await host.person.get(path)).refused(502, "room_failed")
    fake.no_links = "recording access is not enabled for this domain"
    assert fake.no_links in (await host.person.get(path)).refused(502, "room_failed")["detail"]


async def test_a_recording_without_a_webhook_is_polled(dsn: str, data: Path, fake: FakeDaily) -> None:
    """The webhooks of Daily do not arrive: reading the recording polls Daily, also after the room was deleted."""
    async with serving(dsn, data, rooms=rooms_at(fake, overdue_s=0.01)) as town:
        host = await roomy(town)
        await host.do("start")
        await host.do("start_recording")
        await wait_for(lambda: len(fake.recordings) == 1)
        (found,) = await recordings(host)
        assert found["provider"]["status"] == "processing"
        await host.do("end")
        (theirs,) = fake.recordings.values()
        await wait_for(lambda: theirs["status"] == "finished")
        fake.faults.append(Fault("GET", "/recordings", status=500, times=1))
        async with asyncio.timeout(PATIENCE_S):
            while (found := (await recordings(host))[0])["provider"]["status"] != "completed":  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)
        assert found["provider"]["recording_id"] == theirs["id"]
        assert found["provider"]["s3_key"] == theirs["s3key"]
        assert theirs["id"] in (await host.person.get(f"{host.path}/recordings/1/file")).ok()["url"]


async def test_polling_daily_is_spaced_out_and_bounded(dsn: str, data: Path, fake: FakeDaily) -> None:
    async with serving(dsn, data, rooms=rooms_at(fake, overdue_s=0.01, timeout_s=60, patience_s=60)) as town:
        host = await roomy(town)
        await host.do("start")
        await host.do("start_recording")
        await wait_for(lambda: len(fake.recordings) == 1)
        await host.do("stop_recording")
        (theirs,) = fake.recordings.values()
        await wait_for(lambda: theirs["status"] == "finished")
        slow, again = (Fault("GET", "/recordings", after_s=4.0) for _ in range(2))
        fake.faults += slow, again
        async with asyncio.timeout(PATIENCE_S):
            while slow.times:
                assert (await recordings(host))[0]["provider"]["status"] == "processing"
        # Daily was asked and has not answered yet.
        assert all(path != "/v1/recordings" for _, path, _ in fake.calls)
        for _ in range(3):
            await recordings(host)
        assert again.times == 1


async def test_a_recording_that_daily_cannot_start_has_failed(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town)
    await host.do("start")
    fake.faults.append(Fault("POST", f"/rooms/{host.session['name']}/recordings", status=503, times=3))
    await host.do("start_recording")
    assert "503" in (await until_recording(host, "failed"))["reason"]


async def test_live_links_to_the_recordings_of_daily(town: Town, fake: FakeDaily) -> None:
    teacher = await town.teacher()
    body = {"courseId": "c", "startsAt": "2030-01-01T00:00:00Z", "recordingEnabled": True}
    name = (await teacher.post("/live/sessions", body)).ok(201)["roomName"]
    path = f"/live/sessions/{name}"
    await teacher.post(f"{path}/start-recording")
    await wait_for(lambda: len(fake.recordings) == 1)
    await teacher.post(f"{path}/stop-recording")
    updated = "select count(*) from session_log where type = 'recording_updated'"
    await wait_for(lambda: town.query(updated) == [(2,)])
    found = (await teacher.get(f"{path}/recording")).ok()
    assert found["status"] == "finished"
    assert found["downloadLink"].startswith(f"{fake.url}/files/rec-")
    assert found["accessLink"]["url"] == found["downloadLink"]


# Daily's webhooks


async def test_visits_are_recorded_whatever_the_order_of_their_webhooks(town: Town, fake: FakeDaily) -> None:
    host = await roomy(town)
    anna = (await town.student("Anna")).at(host)
    await host.do("start")
    await anna.join()
    room = host.session["name"]
    visit = {
        "joined_at": 1_800_000_000, "session_id": "v1", "room": room, "user_id": anna.user_id, "user_name": "Anna",
        "owner": False, "permissions": {},
    }  # fmt: skip
    assert await fake.say("participant.left", {**visit, "duration": 90}) == 200
    assert await fake.say("participant.joined", visit) == 200
    await wait_for(lambda: town.query("select count(*) from provider_events where due_at is null") == [(2,)])
    attended = (await host.person.get(f"{host.path}/attendance")).ok()
    assert attended["visits"] == [
        {
            "user_id": anna.user_id, "name": "Anna", "owner": False, "joined_at": "2027-01-15T08:00:00.000Z",
            "left_at": "2027-01-15T08:01:30.000Z",
        }
    ]  # fmt: skip
    assert (await (await town.student("Ben")).at(host).person.get(f"{host.path}/attendance")).status == 403


async def posted(town: Town, raw: bytes, headers: dict[str, str]) -> int:
    return (await town.anyone.call("POST", "/v1/webhooks/daily", raw=raw, headers=headers)).status


async def test_a_webhook_of_daily_needs_a_recent_valid_signature(town: Town, fake: FakeDaily) -> None:
    raw = b'{"version":"1.0.0","type":"meeting.started","id":"e1","payload":{},"event_ts":1}'
    now = time.time()
    for stamp in (f"{now:.0f}", f"{now * 1000:.0f}"):
        assert await posted(town, raw, fake.signed(raw, stamp)) == 200
    for stamp in (f"{now - 400:.0f}", f"{(now + 400) * 1000:.0f}", "soon", ""):
        assert await posted(town, raw, fake.signed(raw, stamp)) == 401
    signed = fake.signed(raw, f"{now:.0f}")
    assert await posted(town, raw + b" ", signed) == 401
    assert await posted(town, raw, signed | {"X-Webhook-Signature": "AAAA"}) == 401
    assert await posted(town, raw, signed | {"X-Webhook-Timestamp": f"{now - 1:.0f}"}) == 401
    assert await posted(town, raw, {}) == 401
    assert await posted(town, b"no json", fake.signed(b"no json", f"{now:.0f}")) == 400
    assert town.query("select count(*) from provider_events") == [(1,)]


async def test_an_event_of_daily_is_processed_once_and_unknown_types_are_counted(town: Town, fake: FakeDaily) -> None:
    assert [await fake.say("meeting.ended", {}, id="same") for _ in range(3)] == [200] * 3
    assert await fake.say("waiting-participant.joined", {}) == 200
    assert town.query("select event_id from provider_events") == [("same",)]
    metrics = (await town.anyone.get("/metrics")).body.decode()
    assert 'homeroom_room_webhooks_total{type="unknown"} 1.0' in metrics


async def test_the_test_webhook_of_daily_gets_200(town: Town, fake: FakeDaily) -> None:
    for path in ("/v1/webhooks/daily", f"{TUTORIUM}/webhooks/daily"):
        headers = {"Authorization": f"Bearer {ACCOUNT}"}
        async with town.http.post(f"{fake.url}/v1/webhooks", json={"url": town.url + path}, headers=headers) as reply:
            assert reply.status == 200
        assert await fake.say("meeting.started", {}) == 200


async def test_an_accepted_webhook_is_processed_after_a_restart(dsn: str, data: Path, fake: FakeDaily) -> None:
    async with serving(dsn, data, rooms=rooms_at(fake)) as town:
        host = await roomy(town)
        payload = {"room": host.session["name"], "session_id": "v9", "joined_at": 1_800_000_000}
        body = json.dumps({"type": "participant.joined", "id": "e9", "payload": payload})
        # As after a crash: stored, and not processed yet.
        insert = "insert into provider_events (provider, event_id, type, body) values ('daily', 'e9', %s, %s)"
        town.query(insert, "participant.joined", body)
    async with serving(dsn, data, rooms=rooms_at(fake)) as town:
        await wait_for(lambda: town.query("select visit_id from room_visits") == [("v9",)])


# Built in


async def test_the_token_of_a_built_in_room_is_valid_for_its_session_only(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host = await roomy(town)
        room = host.session["room"]
        assert room == {"provider": "builtin", "name": host.session["name"], "url": f"/rooms/{room['name']}"}
        meeting = (await host.person.post(f"{host.path}/tokens")).ok(201)["meeting"]
        assert meeting["join_url"] == f"{town.url}/rooms/{room['name']}?t={meeting['token']}"
        claims = jwt.decode(meeting["token"], KEY, algorithms=["HS256"], audience="homeroom")
        assert (claims["room"], claims["is_owner"], claims["user_name"]) == (room["name"], True, "Tess")
        bearer = Client(town.http, town.url, meeting["token"])
        (await bearer.post(f"{host.path}/commands", {"type": "join"})).ok()
        assert (await bearer.get("/v1/sessions")).status == 403
        reply = await town.anyone.get(f"/rooms/{room['name']}?t={meeting['token']}")
        assert reply.headers["Location"] == f"../?room={room['name']}&t={meeting['token']}"
        await host.do("end")
        await wait_for(lambda: ledger(town) == [(room["name"], True, False, True)])


async def test_a_room_token_works_until_its_holder_is_removed(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        teacher = await town.teacher()
        body = {"courseId": "c", "startsAt": "2030-01-01T00:00:00Z"}
        live = (await teacher.post("/live/sessions", body)).ok(201)
        student = await town.student("Stu")
        token = (await student.post(f"/live/sessions/{live['roomName']}/token")).ok()["token"]
        path, guest = f"/v1/sessions/{live['_id']}/commands", Client(town.http, town.url, token)
        (await student.post(path, {"type": "join"})).refused(403, "not_invited")
        (await guest.post(path, {"type": "join"})).ok()
        await kicked(teacher, student, path)
        (await guest.post(path, {"type": "join"})).refused(403, "kicked")


async def kicked(teacher: Person, student: Person, path: str) -> None:
    me = (await student.get("/v1/me")).ok()["id"]
    (await teacher.post(path, {"type": "kick", "user_id": me, "ban": True})).ok()
