"""The `tutorium` contract, route by route."""

import re
from typing import Any

import pytest

from tests.support.client import Client, Person, Reply
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

BASE = "/tutorium/api/v1"
NAIVE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?")
RESPONSE = {
    "title", "description", "scheduled_start", "max_participants", "enable_recording", "enable_chat", "id",
    "teacher_id", "status", "daily_room_url", "room_code", "actual_start", "ended_at", "created_at", "updated_at",
}  # fmt: skip
DETAIL = RESPONSE | {"teacher_join_url", "participant_count"}


async def created(town: Town, **fields: Any) -> tuple[Person, Any]:
    teacher = await town.teacher()
    return teacher, (await teacher.post(f"{BASE}/sessions", {"title": "Algebra", **fields})).ok(201)


def refused(reply: Reply, status: int, detail: str) -> None:
    assert (reply.status, reply.json) == (status, {"detail": detail})


async def number(person: Person) -> int:
    return int((await person.get(f"{BASE}/users/me")).ok()["id"])


async def test_a_session_is_created_with_a_room_and_its_teacher_invited(town: Town) -> None:
    teacher, session = await created(town)
    assert session.keys() == DETAIL
    assert session["status"] == "scheduled"
    assert session["teacher_id"] == await number(teacher)
    assert {key: session[key] for key in ("title", "description", "scheduled_start", "max_participants")} == {
        "title": "Algebra", "description": None, "scheduled_start": None, "max_participants": 50,
    }  # fmt: skip
    assert (session["enable_recording"], session["enable_chat"], session["participant_count"]) == (False, True, 0)
    assert (session["actual_start"], session["ended_at"]) == (None, None)
    assert re.fullmatch(r"[A-Z0-9]{6}", session["room_code"])
    assert session["daily_room_url"]
    assert session["teacher_join_url"].startswith(session["daily_room_url"] + "?t=")
    for field in ("created_at", "updated_at"):
        assert NAIVE.fullmatch(session[field])
    people = (await teacher.get(f"{BASE}/sessions/{session['id']}/participants")).ok()
    assert people == [
        {
            "id": 1, "session_id": session["id"], "user_id": session["teacher_id"], "role": "teacher",
            "connection_status": "invited", "joined_at": None, "left_at": None,
        }
    ]  # fmt: skip


async def test_times_are_naive_and_utc(town: Town) -> None:
    for sent, printed in (
        ("2030-05-01T10:00:00", "2030-05-01T10:00:00"),
        ("2030-05-01T10:00:00.250000", "2030-05-01T10:00:00.250000"),
        ("2030-05-01T10:00:00+02:00", "2030-05-01T08:00:00"),
        ("2030-05-01T10:00:00Z", "2030-05-01T10:00:00"),
        # Their instants are in years that cannot be printed.
        ("0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59.999000"),
    ):
        _, session = await created(town, scheduled_start=sent)
        assert session["scheduled_start"] == printed


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "title"), ({"title": " "}, "title"), ({"title": "x" * 201}, "title"), ({"title": 5}, "title"),
        ({"title": "x", "max_participants": 0}, "max_participants"),
        ({"title": "x", "max_participants": 101}, "max_participants"),
        ({"title": "x", "enable_chat": "maybe"}, "enable_chat"),
        ({"title": "x", "scheduled_start": "soon"}, "scheduled_start"),
    ],
)  # fmt: skip
async def test_what_is_no_session_is_422_and_says_where(town: Town, body: Any, field: str) -> None:
    reply = await (await town.teacher()).post(f"{BASE}/sessions", body)
    assert reply.status == 422
    (said,) = reply.json["detail"]
    assert said["loc"] == ["body", field]
    assert said["msg"]
    assert said["type"] == ("missing" if body == {} else "value_error")


async def test_only_teachers_create(town: Town) -> None:
    student = await town.student()
    refused(await student.post(f"{BASE}/sessions", {"title": "x"}), 403, "Only teachers can create sessions")
    reply = await town.anyone.post(f"{BASE}/sessions", {"title": "x"})
    refused(reply, 401, "Not authenticated")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_lists_are_one_s_own_newest_first_and_total_counts_all(town: Town) -> None:
    teacher, student = await town.teacher(), await town.student()
    made = [(await teacher.post(f"{BASE}/sessions", {"title": f"L{n}"})).ok(201)["id"] for n in range(3)]
    await created(town)
    await teacher.patch(f"{BASE}/sessions/{made[1]}", {"status": "active"})
    await student.post(f"{BASE}/sessions/{made[0]}/join", {})
    listed = (await teacher.get(f"{BASE}/sessions")).ok()
    assert ([one["id"] for one in listed["sessions"]], listed["total"]) == (made[::-1], 3)
    assert listed["sessions"][0].keys() == RESPONSE
    page = (await teacher.get(f"{BASE}/sessions", skip="1", limit="1")).ok()
    assert ([one["id"] for one in page["sessions"]], page["total"]) == ([made[1]], 3)
    active = (await teacher.get(f"{BASE}/sessions/", status="active")).ok()
    assert ([one["id"] for one in active["sessions"]], active["total"]) == ([made[1]], 1)
    theirs = (await student.get(f"{BASE}/sessions")).ok()
    assert ([one["id"] for one in theirs["sessions"]], theirs["total"]) == ([made[0]], 1)
    reply = await teacher.get(f"{BASE}/sessions", limit="many")
    assert (reply.status, reply.json["detail"][0]["loc"]) == (422, ["query", "limit"])


async def test_an_update_changes_only_what_is_sent(town: Town) -> None:
    teacher, session = await created(town, description="About x", scheduled_start="2030-05-01T10:00:00")
    path = f"{BASE}/sessions/{session['id']}"
    changed = (await teacher.patch(path, {"title": "Geometry", "extra": 1})).ok()
    assert changed.keys() == RESPONSE
    assert (changed["title"], changed["description"]) == ("Geometry", "About x")
    changed = (await teacher.patch(path, {"description": None, "scheduled_start": None})).ok()
    assert (changed["title"], changed["description"], changed["scheduled_start"]) == ("Geometry", None, None)
    for body in ({"title": None}, {"status": None}, {"title": ""}, {"status": "paused"}):
        assert (await teacher.patch(path, body)).status == 422
    student = await town.student()
    await student.post(f"{path}/join", {})
    refused(await student.patch(path, {"title": "Mine"}), 403, "Not authorized")


async def test_a_status_goes_only_forward(town: Town) -> None:
    teacher, session = await created(town)
    path = f"{BASE}/sessions/{session['id']}"
    assert (await teacher.patch(path, {"status": "ended"})).status == 409
    assert (await teacher.patch(path, {"status": "scheduled"})).ok()["actual_start"] is None
    begun = (await teacher.patch(path, {"status": "active", "title": "Now"})).ok()
    assert (begun["status"], begun["title"]) == ("active", "Now")
    assert begun["actual_start"]
    assert (await teacher.patch(path, {"status": "active"})).ok()["actual_start"] == begun["actual_start"]
    for status in ("scheduled", "cancelled"):
        assert (await teacher.patch(path, {"status": status, "title": "No"})).status == 409
    ended = (await teacher.patch(path, {"status": "ended"})).ok()
    assert (ended["status"], ended["title"]) == ("ended", "Now")
    assert ended["ended_at"]
    assert (await teacher.patch(path, {"status": "ended"})).ok() == ended
    assert (await teacher.patch(path, {"status": "active"})).status == 409
    teacher, session = await created(town)
    cancelled = (await teacher.patch(f"{BASE}/sessions/{session['id']}", {"status": "cancelled"})).ok()
    assert (cancelled["status"], cancelled["ended_at"]) == ("cancelled", None)


async def test_joining_and_leaving(town: Town) -> None:
    teacher, session = await created(town)
    student, path = await town.student(), f"{BASE}/sessions/{session['id']}"
    joined = (await student.post(f"{path}/join", {})).ok()
    assert joined.keys() == {"join_url", "room_name", "token"}
    assert joined["join_url"] == f"{session['daily_room_url']}?t={joined['token']}"
    assert joined["room_name"].startswith("session-")
    assert (await student.get(path)).ok()["status"] == "scheduled"
    assert (await student.get(path)).ok()["participant_count"] == 1
    assert (await teacher.post(f"{path}/join", {})).ok()["token"] != joined["token"]
    assert (await teacher.get(path)).ok()["status"] == "active"
    _, first = (await student.get(f"{path}/participants")).ok()
    assert (await student.post(f"{path}/leave", {})).ok() == {"success": True}
    _, left = (await teacher.get(f"{path}/participants")).ok()
    assert (left["connection_status"], left["joined_at"]) == ("left", first["joined_at"])
    assert left["left_at"]
    assert (await student.post(f"{path}/join", {})).status == 200
    _, again = (await teacher.get(f"{path}/participants")).ok()
    assert again == {**first, "connection_status": "joined"}
    assert again["role"] == "student"


async def test_joining_by_code_ignores_case(town: Town) -> None:
    _, session = await created(town)
    student = await town.student()
    joined = (await student.post(f"{BASE}/sessions/join-by-code", {"room_code": session["room_code"].lower()})).ok()
    assert joined.keys() == {"session_id", "join_url", "room_name", "token"}
    assert joined["session_id"] == session["id"]
    for code in ("ZZZZZ0", "no", "ÄÖÜ"):
        refused(await student.post(f"{BASE}/sessions/join-by-code", {"room_code": code}), 404, "Invalid room code")


async def test_refused_joins(town: Town) -> None:
    teacher, session = await created(town, max_participants=1)
    path, anna, ben = f"{BASE}/sessions/{session['id']}", await town.student("Anna"), await town.student("Ben")
    await anna.post(f"{path}/join", {})
    refused(await ben.post(f"{path}/join", {}), 409, "Session is full")
    me = (await anna.get("/v1/me")).ok()["id"]
    kick = {"type": "kick", "user_id": me}
    (await teacher.post(f"/v1/sessions/{session['id']}/commands", kick)).ok()
    refused(await anna.post(f"{path}/join", {}), 403, "You were removed from this session")
    _, gone = (await teacher.get(f"{path}/participants")).ok()
    assert gone["connection_status"] == "kicked"
    assert gone["left_at"]
    await teacher.patch(path, {"status": "active"})
    await teacher.patch(path, {"status": "ended"})
    refused(await ben.post(f"{path}/join", {}), 410, "Session has ended")
    teacher, session = await created(town)
    await teacher.patch(f"{BASE}/sessions/{session['id']}", {"status": "cancelled"})
    refused(await ben.post(f"{BASE}/sessions/{session['id']}/join", {}), 410, "Session was cancelled")
    refused(await ben.post(f"{BASE}/sessions/999999/join", {}), 404, "Session not found")
    refused(await ben.post(f"{BASE}/sessions/x/join", {}), 404, "Session not found")


async def test_deleting_takes_it_away(town: Town) -> None:
    teacher, session = await created(town)
    path, student = f"{BASE}/sessions/{session['id']}", await town.student()
    await student.post(f"{path}/join", {})
    refused(await student.delete(path), 403, "Not authorized")
    reply = await teacher.delete(path)
    assert (reply.status, reply.body) == (204, b"")
    refused(await teacher.get(path), 404, "Session not found")
    assert (await student.get(f"{BASE}/sessions")).ok() == {"sessions": [], "total": 0}


async def test_accounts(town: Town) -> None:
    body = {"name": "Tina", "email": "tina@tutorium.example", "password": "correct horse", "role": "teacher"}
    user = (await town.anyone.post(f"{BASE}/auth/register", body)).ok(201)
    assert user == {"id": user["id"], "name": "Tina", "email": body["email"], "role": "teacher"}
    refused(await town.anyone.post(f"{BASE}/auth/register", body), 409, "Email already registered")
    login = {"email": body["email"], "password": body["password"]}
    token = (await town.anyone.post(f"{BASE}/auth/login", login)).ok()
    assert token == {"access_token": token["access_token"], "token_type": "bearer"}
    form = {"username": body["email"], "password": body["password"]}
    async with town.http.post(f"{town.url}{BASE}/auth/login", data=form) as answer:
        assert answer.status == 200
    tina = Client(town.http, town.url, token["access_token"])
    assert (await tina.get(f"{BASE}/users/me")).ok() == user
    wrong = {**login, "password": "wrong horse"}
    refused(await town.anyone.post(f"{BASE}/auth/login", wrong), 401, "Incorrect email or password")


async def test_a_session_of_another_product_is_not_there(town: Town) -> None:
    teacher = await town.teacher()
    other = (await teacher.post("/v1/sessions", {"title": "x", "kind": "classroom"})).ok(201)
    refused(await teacher.get(f"{BASE}/sessions/{other['number']}"), 404, "Session not found")


async def test_it_is_a_session_like_any_other_in_v1(town: Town) -> None:
    teacher, session = await created(town)
    await teacher.post(f"{BASE}/sessions/{session['id']}/join", {})
    ours = (await teacher.get(f"/v1/sessions/{session['room_code']}")).ok()
    assert (ours["number"], ours["kind"], ours["status"]) == (session["id"], "tutoring", "live")
    log = (await teacher.get(f"/v1/sessions/{session['id']}/log")).ok()["items"]
    assert [row["type"] for row in log] == [
        "session_created", "participant_invited", "session_started", "participant_joined",
    ]  # fmt: skip
    assert (await teacher.get(f"/v1/sessions/{session['id']}/attendance")).status == 200


async def test_pages_of_both_origins_may_call(town: Town) -> None:
    for origin in ("http://localhost:3000", "http://localhost:8000"):
        reply = await town.anyone.call(
            "OPTIONS", f"{BASE}/sessions", headers={"Origin": origin, "Access-Control-Request-Method": "PATCH"}
        )
        assert (reply.status, reply.headers["Access-Control-Allow-Origin"]) == (204, origin)
        assert "PATCH" in reply.headers["Access-Control-Allow-Methods"]
    elsewhere = {"Origin": "http://localhost:8000", "Access-Control-Request-Method": "GET"}
    assert (await town.anyone.call("OPTIONS", "/v1/sessions", headers=elsewhere)).status == 403


async def test_its_description_and_pages(town: Town) -> None:
    paths = (await town.anyone.get("/tutorium/openapi.json")).ok()["paths"]
    assert f"{BASE}/sessions/{{ref}}/join" in paths
    for page in ("docs", "redoc"):
        reply = await town.anyone.get(f"/tutorium/{page}")
        assert (reply.status, reply.headers["Location"]) == (303, "../docs?api=tutorium")


# Two users, every row


MATRIX: dict[str, tuple[Any, int]] = {
    "GET /sessions/{ref}": (None, 403),
    "PATCH /sessions/{ref}": ({"title": "Mallory's"}, 403),
    "DELETE /sessions/{ref}": (None, 403),
    "POST /sessions/{ref}/leave": ({}, 403),
    "GET /sessions/{ref}/participants": (None, 403),
}
OPEN = {
    "POST /auth/register", "POST /auth/login", "GET /users/me", "POST /sessions", "GET /sessions",
    # By the contract everybody with an account may join; until then they see nothing.
    "POST /sessions/{ref}/join", "POST /sessions/join-by-code",
    # Carries a signature instead of a token.
    "POST /webhooks/daily",
}  # fmt: skip


async def test_every_row_is_in_the_matrix() -> None:
    from server.dialects.tutorium.table import table
    from server.settings.sections import Settings

    rows = {f"{row.method} {row.path.removeprefix('/api/v1')}" for row in table(Settings()).rows}
    assert rows == MATRIX.keys() | OPEN


@pytest.mark.parametrize("name", MATRIX)
async def test_a_user_outside_the_session_gets_nothing(town: Town, name: str) -> None:
    _, session = await created(town, title="XYLOPHONE")
    method, path = name.split()
    body, status = MATRIX[name]
    stranger = await town.teacher("Mallory")
    for client, expected in ((stranger, status), (town.anyone, 401), (Client(town.http, town.url, "x.y.z"), 401)):
        reply = await client.call(method, BASE + path.format(ref=session["id"]), body)
        assert reply.status == expected, (reply.status, reply.body)
        assert b"XYLOPHONE" not in reply.body
