"""Who may what in `seeds`: two users and every row; `user_id` without a token, believed and not."""

import logging
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.dialects.seeds import table as seeds
from server.settings.sections import Settings
from tests.support.client import Client, Reply
from tests.support.dialects.school import BASE, WAV, Lesson, Pupil, detail, lesson, pupil
from tests.support.serving import Town, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "XYLOPHONE"
ROWS = {f"{row.method} {row.path}": row for row in seeds.table(Settings()).rows}

# A body with which the row works for whoever may; None: it takes none. FILE: a form with one.
FILE = object()
PUBLIC: dict[str, Any] = {
    "POST /auth/register": {"name": "x", "phone_number": "5550000000", "password": "secret", "role": "student"},
    "POST /auth/login": {"phone_number": "5550000000", "password": "secret"},
}
OPEN: dict[str, Any] = {
    # The contract: "array of all active sessions", which whoever is logged in may join by their numbers.
    "GET /sessions/active": None,
    "POST /sessions/{ref}/join": None,
    "GET /sse/sessions/{ref}": None,
    # The contract: all students, for all teachers.
    "GET /users/students": None,
    # One's own.
    "POST /auth/logout": None,
    "POST /users/fcm-token": {"token": "x", "device_type": "ios"},
    "DELETE /users/fcm-token": {"token": "x"},
    "POST /sessions": {"title": "x"},
    "POST /audio/upload": FILE,
    "GET /audio/list": None,
}
"""What is open to whoever has a token, or is of their own things alone."""
CLOSED: dict[str, Any] = {
    "DELETE /sessions/{ref}": None,
    "GET /sessions/{ref}/state": None,
    "POST /sessions/{ref}/invite": {"student_id": 1},
    "DELETE /sessions/{ref}/participants/{participant_id}": None,
    "POST /sessions/{ref}/participants/{participant_id}/mute": {"mute": True},
    "POST /sessions/{ref}/action": {"type": "raise_hand"},
    "GET /sessions/{ref}/logs": None,
    "GET /sessions/{ref}/logs/summary": None,
    "POST /sessions/{ref}/chat": {"message": "x"},
    "GET /sessions/{ref}/chat": None,
    "POST /sessions/{ref}/voice": FILE,
    "POST /sessions/{ref}/questions": {"question": "x"},
    "GET /sessions/{ref}/questions": None,
    "POST /sessions/{ref}/questions/{question_id}/answer": {"answer": "x"},
    "GET /audio/{audio_id}/stream": None,
    "GET /audio/{audio_id}/play": None,
    "POST /sessions/{ref}/audio/select": {"audio_id": 1},
    "POST /sessions/{ref}/audio/play": None,
    "POST /sessions/{ref}/audio/pause": None,
    "POST /sessions/{ref}/audio/control": {"action": "pause"},
    "GET /sessions/{ref}/audio/state": None,
    "GET /sessions/{ref}/playback": None,
}


async def send(client: Client, name: str, room: Lesson, audio_id: int, body: Any, query: str = "") -> Reply:
    method, path = name.split(" ")
    path = BASE + path.format(ref=room.number, participant_id=1, question_id=1, audio_id=audio_id) + query
    if body is FILE:
        form = aiohttp.FormData({"title": "x"})
        form.add_field("file", WAV, filename="x.wav")
        return await client.call(method, path, raw=form)
    return await client.call(method, path, {**body, "audio_id": audio_id} if body and "audio_id" in body else body)


async def furnished(town: Town) -> tuple[Lesson, int]:
    """Begin a session in which everything that can be read says the secret."""
    room = await lesson(town, title=SECRET)
    audio_id = (await room.tess.piece(SECRET))["audio_id"]
    (await room.tess.post(f"{room.path}/audio/play?audio_id={audio_id}")).ok()
    (await room.act(room.anna, "chat", text=SECRET)).ok()
    (await room.anna.post(f"{room.path}/questions", {"question": SECRET})).ok()
    return room, audio_id


async def test_every_row_is_one_of_these() -> None:
    assert PUBLIC.keys() | OPEN.keys() | CLOSED.keys() == ROWS.keys()
    assert [name for name, row in ROWS.items() if row.public] == list(PUBLIC)


@pytest.mark.parametrize("name", [*OPEN, *CLOSED])
async def test_nobody_gets_anything_without_a_token(town: Town, name: str) -> None:
    room, audio_id = await furnished(town)
    before = room.rows()
    body = (OPEN | CLOSED)[name]
    for query in ("", f"?user_id={room.tess.id}", f"?user_id={room.anna.id}"):
        reply = await send(town.anyone, name, room, audio_id, body, query)
        assert detail(reply, 401) == "Not authenticated"
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert room.rows() == before


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("name", CLOSED)
async def test_a_user_outside_the_session_gets_nothing(town: Town, name: str, role: str) -> None:
    room, audio_id = await furnished(town)
    mallory = await pupil(town, role, "Mallory")
    before = room.rows()
    reply = await send(mallory, name, room, audio_id, CLOSED[name])
    assert reply.status in (401, 403, 404), reply
    assert detail(reply, reply.status)
    assert SECRET.encode() not in reply.body
    # Nor with somebody else's number beside their own token.
    claimed = await send(mallory, name, room, audio_id, CLOSED[name], f"?user_id={room.tess.id}")
    assert detail(claimed, 403) == "`user_id` is not who the token says you are."
    assert room.rows() == before


@pytest.mark.parametrize("name", CLOSED)
async def test_whoever_may_gets_what_the_others_did_not(town: Town, name: str) -> None:
    room, audio_id = await furnished(town)
    who = room.tess if name not in ("POST /sessions/{ref}/action",) else room.anna
    body = {"student_id": room.anna.id} if name.endswith("/invite") else CLOSED[name]
    reply = await send(who, name, room, audio_id, body)
    assert reply.status == 200, reply


async def test_a_session_of_another_kind_is_not_here(town: Town) -> None:
    host = await (await town.teacher()).create(kind="tutoring")
    number = host.session["number"]
    for method, path in (("POST", "/join"), ("GET", "/state"), ("GET", "/logs")):
        reply = await host.person.call(method, f"{BASE}/sessions/{number}{path}")
        assert detail(reply, 404) == "Session not found"
    assert town.query("select * from logs where session_id = %s", number) == []


async def test_who_is_in_the_lobby_waits(town: Town) -> None:
    room = await lesson(town, joined=False)
    update = {"type": "update", "features": {"lobby": True}}
    (await room.tess.post(f"/v1/sessions/{room.number}/commands", update)).ok()
    anna, number = room.anna, room.number
    (await anna.post(f"{BASE}/sessions/{number}/join")).ok()
    for path in ("/state", "/chat", "/questions", "/audio/state"):
        assert detail(await anna.get(f"{BASE}/sessions/{number}{path}"), 403)
    async with anna.watch(number) as stream:
        assert (await stream.next()).event == "connected"
        people = (await stream.next()).data["participants"]
        assert [one["name"] for one in people.values()] == ["Anna"]


# Believed without a token


@pytest.mark.asyncio(loop_scope="function")
async def test_a_number_is_believed_where_the_settings_say_so(
    dsn: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dialects = {"seeds": type(Settings().dialects.seeds)(trust_user_id=True)}
    with caplog.at_level(logging.WARNING):
        async with serving(dsn, tmp_path / "data", dialects=dialects) as town:
            await believed(town)
            ready = (await town.anyone.get("/readyz")).body.decode()
    assert "dialects.seeds.trust_user_id" in ready
    assert "dialects.seeds.trust_user_id" in caplog.text


async def believed(town: Town) -> None:
    nobody = town.anyone
    tess, anna = await pupil(town, "teacher", "Tess"), await pupil(town)
    made = (await nobody.post(f"{BASE}/sessions?user_id={tess.id}", {"title": "Maths"})).ok()
    room = Lesson(town, tess, anna, made)
    joined = await Pupil.send(anonymous(town, anna), f"/sessions/{room.number}/join", user_id=str(anna.id))
    assert joined.ok()["user_id"] == anna.id
    (await nobody.post(f"{room.path}/participants/1/mute?mute=true&user_id={tess.id}")).ok()
    assert room.types() == ["session_created", "participant_joined", "participant_muted"]
    assert detail(await nobody.post(f"{room.path}/participants/1/mute?mute=false&user_id={anna.id + 99}"), 401)
    assert detail(await nobody.get(f"{room.path}/logs"), 401) == "Not authenticated"
    assert detail(await nobody.get(f"{room.path}/logs?user_id={anna.id}"), 403) == "Teacher permission required"
    assert (await nobody.get(f"{room.path}/logs?user_id={tess.id}")).ok()["total_logs"] == 3
    assert (await nobody.get(f"{room.path}/logs?user_id=tess")).status == 422
    # With a token it has to be true all the same.
    assert detail(await anna.get(f"{room.path}/logs?user_id={tess.id}"), 403)
    async with nobody.stream(f"{BASE}/sse/sessions/{room.number}", params={"user_id": str(anna.id)}) as stream:
        assert (await stream.next()).data["user_id"] == anna.id
    device = {"token": "phone", "device_type": "ios"}
    assert (await nobody.post(f"{BASE}/users/fcm-token?user_id={anna.id}", device)).ok()["ok"] is True
    for fields, query, status in (
        ({"user_id": str(tess.id)}, "", 200), ({}, f"?user_id={tess.id}", 200), ({}, "", 401),
        ({"user_id": str(anna.id)}, "", 403), ({"user_id": str(anna.id)}, f"?user_id={tess.id}", 403),
    ):  # fmt: skip
        reply = await anonymous(town, tess).upload(f"/audio/upload{query}", WAV, **fields, title="A song")
        assert reply.status == status, reply
    pieces = (await nobody.get(f"{BASE}/audio/list?user_id={tess.id}")).ok()
    assert len(pieces) == 2
    path = f"{BASE}/audio/{pieces[0]['audio_id']}/stream"
    assert (await nobody.get(f"{path}?user_id={tess.id}")).body == WAV
    # It is this dialect's own setting: nobody is believed elsewhere.
    assert (await nobody.get(f"/v1/sessions/{room.number}?user_id={tess.id}")).status == 401


def anonymous(town: Town, who: Pupil) -> Pupil:
    """Give somebody without their token."""
    same = Pupil(town, {"user_id": who.id, "name": who.name, "phone_number": who.phone}, {"access_token": ""})
    same.token = None
    return same
