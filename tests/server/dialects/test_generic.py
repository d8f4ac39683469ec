"""What every dialect's rows get from the generic handlers, seen on one that is nobody's."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.settings.sections import BadSetting
from server.v1.table import API
from tests.server.api.test_live import upload
from tests.support.client import Client, Person, Stream
from tests.support.dialects.toy import dialect
from tests.support.serving import Town, serving


@pytest.fixture
async def toy(dsn: str, data: Path) -> AsyncIterator[Town]:
    async with serving(dsn, data, apis=(API, dialect())) as town:
        yield town


async def made(town: Town, **fields: Any) -> tuple[Person, int]:
    teacher = await town.teacher()
    room = (await teacher.post("/toy/rooms", {"title": "Physics", **fields})).ok(201)
    return teacher, room["n"]


async def test_a_session_of_a_dialect_is_one_of_homeroom_s(toy: Town) -> None:
    teacher, number = await made(toy)
    session = (await teacher.get(f"/v1/sessions/{number}")).ok()
    assert (session["title"], session["status"], session["capacity"]) == ("Physics", "live", 5)
    assert (await teacher.get("/toy/rooms")).ok() == [number]
    anna = await toy.student("Anna")
    room = (await anna.post(f"/toy/rooms/{number}/join", None)).ok()
    assert room == {"n": number, "title": "Physics", "people": ["Anna"], "made": 1}
    assert (await anna.get(f"/toy/rooms/{number}/")).ok() == {**room, "made": 0}


async def test_a_code_in_the_body_leads_to_a_session(toy: Town) -> None:
    teacher, number = await made(toy)
    code = (await teacher.get(f"/v1/sessions/{number}")).ok()["code"]
    assert (await teacher.post("/toy/enter", {"code": code.lower()})).ok()["n"] == number
    assert (await teacher.post(f"/toy/enter?code={code}")).ok()["n"] == number
    assert (await teacher.post("/toy/enter", {"code": "ZZZZZZ"})).status == 404


async def test_a_row_puts_its_own_body_into_the_shared_one(toy: Town) -> None:
    assert (await toy.anyone.post("/toy/account", {"text": "Zoe"})).ok(201) == "Zoe"


async def test_whom_a_number_means_is_looked_up_before(toy: Town) -> None:
    teacher, number = await made(toy)
    anna, ben = await toy.student("Anna"), await toy.student("Ben")
    before = time.time() * 1000
    path = f"/toy/rooms/{number}/invite"
    # Commands that come together are looked up for together.
    answer = (await teacher.post(path, {"who": anna.user["number"]})).ok()
    assert before - 1 <= answer.pop("now") <= time.time() * 1000
    assert answer == {"name": "Anna", "made": 2}
    # What is in the query counts beside an empty object, too.
    bodies: tuple[object, ...] = ({}, None)
    for body in bodies:
        assert (await teacher.post(f"{path}?who={ben.user['number']}", body)).ok()["name"] == "Ben"
    assert (await teacher.post(path, {})).status == 400
    for nobody in (teacher.user["number"], 0, -1, 2_000_000_000, 1 << 80):
        assert (await teacher.post(path, {"who": nobody})).status in (400, 404)
    assert (await anna.post(path, {"who": 2_000_000_000})).status == 403, "who may not ask learns nothing"


async def test_numbers_lead_to_people(toy: Town) -> None:
    teacher, number = await made(toy)
    anna = await toy.student("Anna")
    await anna.post(f"/toy/rooms/{number}/join", None)
    assert (await teacher.post(f"/toy/rooms/{number}/mute", {"who": 1, "extra": True})).ok()["made"] == 1
    reply = await teacher.post(f"/toy/rooms/{number}/mute", {"who": 2})
    assert (reply.status, reply.json["oops"]) == (404, "nobody is There is no participant 2.")


async def test_refusals_are_in_the_dialect_s_own_words(toy: Town) -> None:
    teacher, number = await made(toy)
    stranger = await toy.student("Mallory")
    for reply, status, text in (
        (await teacher.get("/toy/rooms/999"), 404, "no room 999"),
        (await stranger.post("/toy/rooms", {"title": "x"}), 403, "Only teachers may do this."),
        (await stranger.get(f"/toy/rooms/{number}"), 418, "Join the session first."),
        (await toy.anyone.get(f"/toy/rooms/{number}"), 401, "Send `Authorization: Bearer <access token>`."),
        (await teacher.post("/toy/rooms", {"title": ""}), 400, "`title`: expected `str` of length >= 1."),
        (await teacher.get("/toy/nowhere"), 404, "There is nothing at this path; see /docs."),
        (await teacher.call("PUT", "/toy/rooms", None), 405, "Use GET, POST."),
    ):
        assert (reply.status, reply.json["oops"]) == (status, text)


async def test_what_goes_wrong_while_looking_ends_no_session(toy: Town, caplog: pytest.LogCaptureFixture) -> None:
    teacher, number = await made(toy)
    await teacher.post(f"/toy/rooms/{number}/join", None)
    assert (await teacher.get(f"/toy/rooms/{number}/broken")).status == 500
    assert (await teacher.get(f"/toy/rooms/{number}")).ok()["people"] == ["Tess"]


async def test_nobody_is_somebody_else(toy: Town) -> None:
    teacher, number = await made(toy)
    me = (await teacher.get("/v1/me")).ok()["number"]
    assert (await teacher.get(f"/toy/rooms/{number}?me={me}")).status == 200
    assert (await teacher.get(f"/toy/rooms/{number}?me={me + 1}")).status == 403
    assert (await toy.anyone.get(f"/toy/rooms/{number}?me={me}")).status == 401


async def test_a_trusting_dialect_believes_who_has_no_token(dsn: str, data: Path) -> None:
    async with serving(dsn, data, apis=(API, dialect(trusting=True, open=("dialects.toy.trust",)))) as town:
        teacher, number = await made(town)
        me = (await teacher.get("/v1/me")).ok()["number"]
        assert (await town.anyone.get(f"/toy/rooms/{number}?me={me}")).status == 200
        assert (await town.anyone.get(f"/toy/rooms/{number}?me=x")).status == 400
        assert (await town.anyone.get(f"/toy/rooms/{number}?me=999")).status == 401
        assert (await town.anyone.get("/readyz")).ok()["open"] == ["dialects.toy.trust"]


async def test_forms_do_as_well(toy: Town) -> None:
    teacher, number = await made(toy)
    anna = await toy.student("Anna")
    await anna.post(f"/toy/rooms/{number}/join", None)
    for body, kind in ((b"who=1", "application/x-www-form-urlencoded"), (FORM, "multipart/form-data; boundary=b")):
        headers = {**teacher.headers, "Content-Type": kind}
        async with toy.http.post(f"{toy.url}/toy/rooms/{number}/mute", data=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
    async with toy.http.post(f"{toy.url}/toy/rooms/{number}/mute?who=1", headers=teacher.headers) as answer:
        assert answer.status == 200


FORM = b'--b\r\nContent-Disposition: form-data; name="who"\r\n\r\n1\r\n--b--\r\n'


async def test_a_form_in_a_charset_that_there_is_not_is_refused(toy: Town) -> None:
    teacher, number = await made(toy)
    field = b'--b\r\nContent-Disposition: form-data; name="who"\r\nContent-Type: text/plain; charset=klingon\r\n\r\n1'
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    reply = await teacher.call("POST", f"/toy/rooms/{number}/mute", raw=field + b"\r\n--b--\r\n", headers=headers)
    assert reply.status == 400


async def test_a_key_is_of_what_was_sent_whatever_has_become_of_the_session(toy: Town) -> None:
    teacher, number = await made(toy)
    path, key = f"/toy/rooms/{number}/turn", {"Idempotency-Key": "k-1"}
    first = (await teacher.call("POST", path, {"text": "x"}, headers=key)).ok()
    assert first == {"locked": True, "made": 1}
    assert (await teacher.call("POST", path, raw=b'{ "text" : "x" }', headers=key)).ok() == first
    assert (await teacher.call("POST", path, {"text": "y"}, headers=key)).json["field"] == "Idempotency-Key"
    assert (await teacher.post(path, {"text": "x"})).ok() == {"locked": False, "made": 1}, "without it, once more"


async def test_people_behind_one_address_are_not_counted_as_guests_when_they_log_in(dsn: str, data: Path) -> None:
    async with serving(dsn, data, apis=(API, dialect()), limits={"guests_per_minute": 1}) as town:
        for name in ("Zoe", "Zac", "Zed"):
            assert (await town.anyone.post("/toy/account", {"text": name})).ok(201) == name


async def test_a_stream_tells_it_in_the_dialect_s_frames(toy: Town) -> None:
    teacher, number = await made(toy)
    anna = await toy.student("Anna")
    async with toy.http.get(f"{toy.url}/toy/watch/{number}?token={anna.token}") as answer:
        stream = Stream(answer)
        assert (await stream.next()).data == {"you": 1}
        assert (await stream.next()).data == {"n": number}
        seen = stream.cursor
        await teacher.post(f"/toy/rooms/{number}/mute", {"who": 1})
        frame = await stream.until("muted")
        assert frame.data == {"who": 1}
    async with toy.http.get(
        f"{toy.url}/toy/watch/{number}", headers={**anna.headers, "Last-Event-ID": seen or ""}
    ) as answer:
        assert (await Stream(answer).until("muted")) == frame


async def test_a_socket_takes_messages_and_relays_the_rest(toy: Town) -> None:
    _, number = await made(toy)
    anna = await toy.student("Anna")
    async with toy.http.ws_connect(f"{toy.url}/toy/talk/{number}?token={anna.token}") as socket:
        assert (await socket.receive_json())["type"] == "hello"
        assert (await socket.receive_json())["type"] == "room"
        await socket.send_json({"type": "say", "data": {"text": "Hi"}})
        me = (await anna.get("/v1/me")).ok()["number"]
        assert await socket.receive_json() == {"type": "chat", "data": {"text": "Hi", "by": me}}
        await socket.send_json({"type": "wave", "data": {"hand": "left"}})
        waved = await socket.receive_json()
        assert (waved["type"], waved["data"]["hand"]) == ("wave", "left")
        for bad in (
            '{"type": "say", "data": {}}', "[]", "{", '{"type": "say"}', '{"type": "say", "data": {"text": "\\u0000"}}',
        ):  # fmt: skip
            await socket.send_str(bad)
            assert (await socket.receive_json())["type"] == "error"


async def test_a_socket_that_is_refused_is_closed_with_a_code(toy: Town) -> None:
    _, number = await made(toy)
    anna = await toy.student("Anna")
    for path, code in ((f"/toy/talk/{number}", 4401), (f"/toy/talk/999?token={anna.token}", 4404)):
        async with toy.http.ws_connect(toy.url + path) as socket:
            await socket.receive()
            assert socket.close_code == code


async def test_who_comes_without_a_credential_is_who_the_row_says(toy: Town) -> None:
    teacher = await toy.teacher()
    hall = (await teacher.post("/toy/halls", {"title": "x"})).ok(201)
    assert hall.keys() == {"n", "title", "people", "made", "at"}
    await teacher.post(f"/v1/sessions/{hall['n']}/commands", {"type": "start"})
    path = f"/toy/rooms/{hall['n']}/say"
    other = await teacher.create()
    scoped = (await teacher.post(f"{other.path}/tokens")).ok(201)["token"]
    for token in (None, "x.y.z", scoped):
        assert (await Client(toy.http, toy.url, token).post(path, {"text": "Hi"})).ok()["made"] == 1
    chat = (await teacher.get(f"/v1/sessions/{hall['n']}/chat")).ok()["items"]
    assert [one["user_id"] for one in chat] == [teacher.id] * 3
    # A credential that is good here counts.
    assert (await (await toy.student()).post(path, {"text": "Hi"})).status == 418


async def test_one_looks_on_without_a_credential(toy: Town) -> None:
    teacher, number = await made(toy)
    await teacher.post(f"/toy/rooms/{number}/join", None)
    gallery = f"{toy.url}/toy/gallery/{number}"
    async with toy.http.ws_connect(gallery) as socket:
        (await teacher.post(f"/v1/sessions/{number}/commands", {"type": "send_message", "text": "Hi"})).ok()
        me = (await teacher.get("/v1/me")).ok()["number"]
        assert await socket.receive_json() == {"type": "chat", "data": {"text": "Hi", "by": me}}
        await socket.send_json({"type": "say", "data": {"text": "I, too"}})
        assert await socket.receive_json() == {"type": "chat", "data": {"text": "I, too", "by": me}}
        assert (await teacher.get(f"/v1/sessions/{number}")).ok()["counts"] == {"joined": 1, "online": 0}
    (await teacher.post(f"/v1/sessions/{number}/commands", {"type": "lock"})).ok()
    for url, status in ((gallery, 423), (f"{gallery}?token=x.y.z", 401), (f"{toy.url}/toy/gallery/999", 404)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with toy.http.ws_connect(url):
                pass
        assert caught.value.status == status


async def test_keys_are_written_as_the_query_says(toy: Town) -> None:
    _, number = await made(toy)
    path = f"/toy/rooms/{number}/title"
    assert (await toy.anyone.get(path)).ok() == {"the_title": "PHYSICS", "of_n": number}
    assert (await toy.anyone.get(path, case="camel")).ok() == {"theTitle": "PHYSICS", "ofN": number}
    assert (await toy.anyone.get(path, case="Camel")).json["field"] == "case"


async def test_guesses_at_names_that_invite_are_counted(dsn: str, data: Path) -> None:
    async with serving(dsn, data, apis=(API, dialect()), limits={"join_attempts_per_minute": 3}) as town:
        for ref, status in (("999", 404), ("x", 404), ("1234567", 404), ("999", 429)):
            assert (await town.anyone.get(f"/toy/rooms/{ref}/title")).status == status


async def test_two_dialects_that_claim_one_path_do_not_start(dsn: str, data: Path) -> None:
    other = dialect(name="other", prefix="/toy")
    with pytest.raises(BadSetting, match=r"dialects\.other\.prefix = '/toy': POST /toy/rooms is claimed by toy"):
        async with serving(dsn, data, apis=(API, dialect(), other)):
            pass
    with pytest.raises(BadSetting, match="claimed by v1"):
        async with serving(dsn, data, apis=(API, dialect(prefix="/v1", rows=API.rows))):
            pass


async def test_a_sound_is_played_in_parts(toy: Town) -> None:
    teacher, stranger = await toy.teacher(), await toy.student()
    piece = await upload(teacher)
    path = f"/toy/sounds/{piece}?token={teacher.token}"
    whole = await toy.anyone.get(path)
    part = await toy.anyone.call("GET", path, headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert (await toy.anyone.call("HEAD", path)).headers["Content-Length"] == str(len(whole.body))
    assert (await toy.anyone.get(f"/toy/sounds/{piece}")).status == 401
    all_of_it = await teacher.call("GET", f"/toy/sounds/{piece}/whole", headers={"Range": "bytes=10-19"})
    assert (all_of_it.status, all_of_it.body) == (200, whole.body)
    assert all_of_it.headers["Content-Disposition"] == "inline"
    assert (await stranger.get(f"/toy/sounds/{piece}")).status == 418
