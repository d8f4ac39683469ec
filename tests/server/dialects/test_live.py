"""The `live` contract, route by route."""

import json
import re
from typing import Any

import jwt
import pytest

from actors.messages import Execute
from actors.session.commands import Caller, Delete
from actors.session.ids import SessionId, UserId
from server.dialects.live.table import table
from server.settings.sections import Settings
from tests.support.client import Client, Person, Reply
from tests.support.serving import KEY, Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

BASE = "/live/sessions"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIELDS = {
    "_id", "courseId", "roomName", "status", "startsAt", "endsAt", "createdBy", "recordingEnabled", "maxParticipants",
    "createdAt", "updatedAt",
}  # fmt: skip
NEW = {"courseId": "course-1", "startsAt": "2030-05-01T10:00:00.000Z"}


async def created(town: Town, **fields: Any) -> tuple[Person, Any]:
    teacher = await town.teacher()
    return teacher, (await teacher.post(BASE, {**NEW, **fields})).ok(201)


def refused(reply: Reply, status: int, text: str) -> None:
    assert (reply.status, reply.json) == (status, {"error": text, "message": text})


async def user_id(person: Person) -> str:
    return str((await person.get("/v1/me")).ok()["id"])


async def test_a_session_is_created(town: Town) -> None:
    teacher, session = await created(town, recordingEnabled=True, maxParticipants=12)
    assert session.keys() == FIELDS
    assert (session["courseId"], session["startsAt"]) == ("course-1", NEW["startsAt"])
    assert (session["status"], session["endsAt"]) == ("scheduled", None)
    assert (session["recordingEnabled"], session["maxParticipants"]) == (True, 12)
    assert session["createdBy"] == await user_id(teacher)
    assert ISO.fullmatch(session["createdAt"])
    assert (await town.anyone.get(f"{BASE}/{session['roomName']}")).ok() == session
    assert session["roomName"] != "instructor"


@pytest.mark.parametrize("body", [{}, {"courseId": "x"}, {"startsAt": NEW["startsAt"]}, {"courseId": None}])
async def test_what_is_required_is_said(town: Town, body: Any) -> None:
    refused(await (await town.teacher()).post(BASE, body), 400, "courseId and startsAt are required")


@pytest.mark.parametrize(
    ("change", "field"),
    [({"startsAt": "soon"}, "startsAt"), ({"maxParticipants": 0}, "maxParticipants"), ({"courseId": 5}, "courseId")],
)
async def test_what_is_wrong_is_named(town: Town, change: Any, field: str) -> None:
    reply = await (await town.teacher()).post(BASE, {**NEW, **change})
    assert reply.status == 400
    assert reply.json["error"] == reply.json["message"]
    assert field in reply.json["error"]


async def test_without_a_token_and_without_the_right(town: Town) -> None:
    reply = await town.anyone.post(BASE, NEW)
    assert (reply.status, reply.json["error"]) == (401, "Unauthorized")
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert (await (await town.student()).post(BASE, NEW)).status == 403


async def test_an_unknown_session_is_a_text_with_500(town: Town) -> None:
    reply = await town.anyone.get(f"{BASE}/no-such-session")
    assert (reply.status, reply.body) == (500, b'"Session not found"')


async def test_deleting_ends_it(town: Town) -> None:
    teacher, session = await created(town)
    name = session["roomName"]
    other = await town.teacher()
    refused(await other.delete(f"{BASE}/{name}"), 403, f"Not authorized to delete session:{name}")
    refused(await teacher.delete(f"{BASE}/nowhere-x"), 404, "Session not found")
    ended = (await teacher.delete(f"{BASE}/{name}")).ok()
    assert ended["status"] == "ended"
    assert ISO.fullmatch(ended["endsAt"])
    assert (await town.anyone.get(f"{BASE}/{name}")).ok() == ended
    assert (await teacher.delete(f"{BASE}/{name}")).ok() == ended


async def test_a_deleted_one_is_not_there_though_it_was_looked_up_before(town: Town) -> None:
    _, session = await created(town)
    path, session_id = f"{BASE}/{session['roomName']}", SessionId(session["_id"])
    (await town.anyone.get(path)).ok()
    by = Caller(UserId(session["createdBy"]), "Tess")
    # By a client that does not wait for the answer.
    await town.server.services.directory.ask(session_id, Execute(Delete(), by))
    assert (await town.anyone.get(path)).status == 500


async def test_recording(town: Town) -> None:
    teacher, session = await created(town, recordingEnabled=True)
    name = session["roomName"]
    path, other = f"{BASE}/{name}", await town.teacher()
    refused(await other.post(f"{path}/start-recording"), 403, f"Not authorized to record session:{name}")
    refused(await teacher.post(f"{BASE}/nowhere-x/start-recording"), 404, "Session not found")
    refused(await teacher.get(f"{path}/recording"), 404, "This session has not been recorded")
    assert (await teacher.post(f"{path}/stop-recording")).status == 409
    started = (await teacher.post(f"{path}/start-recording")).ok()
    assert started.keys() == {"recordingId", "startedAt"}
    assert (await town.anyone.get(path)).ok()["status"] == "live"
    refused(await teacher.post(f"{path}/start-recording"), 409, "Recording already in progress")
    text = f"Not authorized to stop recording session:{name}"
    refused(await other.post(f"{path}/stop-recording"), 403, text)
    stopped = (await teacher.post(f"{path}/stop-recording")).ok()
    assert stopped.keys() == {"recordingId", "stoppedAt", "duration"}
    assert stopped["recordingId"] == started["recordingId"]
    assert stopped["duration"] >= 0
    ended = (await town.anyone.get(path)).ok()
    assert (ended["status"], ended["endsAt"]) == ("ended", stopped["stoppedAt"])
    refused(await other.get(f"{path}/recording"), 403, f"Not authorized to access recording for session:{name}")
    recording = (await teacher.get(f"{path}/recording")).ok()
    assert recording.keys() == {
        "recordingId", "startedAt", "stoppedAt", "duration", "status", "downloadLink", "accessLink",
    }  # fmt: skip
    assert (recording["status"], recording["duration"]) == ("finished", stopped["duration"])
    assert recording["accessLink"].keys() == {"url", "expiresAt"}
    for link in (recording["downloadLink"], recording["accessLink"]["url"]):
        reply = await town.anyone.get(link.removeprefix(town.url))
        assert reply.status == 200
        first = json.loads(reply.body.splitlines()[0])
        assert first["state"]["session"]["id"] == session["_id"]


async def test_recording_has_to_be_enabled(town: Town) -> None:
    teacher, session = await created(town)
    reply = await teacher.post(f"{BASE}/{session['roomName']}/start-recording")
    refused(reply, 400, "Recording is not enabled for this session")
    assert (await town.anyone.get(f"{BASE}/{session['roomName']}")).ok()["status"] == "scheduled"


async def test_only_the_creator_s_token_is_an_owner_s(town: Town) -> None:
    teacher, session = await created(town)
    student = await town.student("Stu")
    for person, is_owner in ((teacher, True), (student, False)):
        answer = (await person.post(f"{BASE}/{session['roomName']}/token")).ok()
        assert answer.keys() == {"token"}
        claims = jwt.decode(answer["token"], KEY, algorithms=["HS256"], audience="homeroom")
        assert (claims["is_owner"], claims["room"]) == (is_owner, session["roomName"])
        assert claims["user_name"] == ("Tess" if is_owner else "Stu")
    refused(await teacher.post(f"{BASE}/nowhere-x/token"), 500, "Failed to get session token")


async def test_an_instructor_s_sessions_newest_first(town: Town) -> None:
    teacher, first = await created(town)
    second = (await teacher.post(f"{BASE}/", {**NEW, "courseId": "course-2"})).ok(201)
    listed = (await town.anyone.get(f"{BASE}/instructor/{await user_id(teacher)}")).ok()
    assert listed == [second, first]
    assert (await town.anyone.get(f"{BASE}/instructor/nobody")).ok() == []


async def test_participants(town: Town) -> None:
    teacher, session = await created(town)
    path, student = f"{BASE}/{session['roomName']}", await town.student()
    joined = (await student.post(f"{path}/join")).ok()
    me = await user_id(student)
    assert joined.keys() == {
        "_id", "userId", "sessionId", "role", "joinedAt", "leftAt", "wasKicked", "micAllowed", "cameraAllowed",
        "createdAt", "updatedAt",
    }  # fmt: skip
    assert (joined["userId"], joined["sessionId"], joined["role"]) == (me, session["_id"], "student")
    assert (joined["micAllowed"], joined["cameraAllowed"], joined["wasKicked"]) == (True, True, False)
    assert (await teacher.get(f"{path}/participants")).ok() == [joined]
    quiet = (await teacher.patch(f"{path}/participants/{me}", {"micAllowed": False})).ok()
    assert (quiet["micAllowed"], quiet["cameraAllowed"]) == (False, True)
    assert (await student.patch(f"{path}/participants/{me}", {"micAllowed": True})).status == 403
    assert (await student.post(f"{path}/leave")).ok()["leftAt"]
    await student.post(f"{path}/join")
    kicked = (await teacher.delete(f"{path}/participants/{me}")).ok()
    assert (kicked["wasKicked"], kicked["_id"]) == (True, joined["_id"])
    refused(await student.post(f"{path}/join"), 403, "You were removed from this session")
    refused(await teacher.delete(f"{path}/participants/nobody"), 404, "Participant not found")


async def test_a_session_is_changed_by_its_creator(town: Town) -> None:
    teacher, session = await created(town)
    path = f"{BASE}/{session['roomName']}"
    body = {"title": "Waves", "maxParticipants": 7, "recordingEnabled": True, "startsAt": "2031-01-01T00:00:00Z"}
    changed = (await teacher.patch(path, body)).ok()
    assert (changed["maxParticipants"], changed["recordingEnabled"]) == (7, True)
    assert changed["startsAt"] == "2031-01-01T00:00:00.000Z"
    name = session["roomName"]
    refused(await (await town.teacher()).patch(path, body), 403, f"Not authorized to modify session:{name}")


# Two users, every row


MATRIX: dict[str, Any] = {
    "PATCH /{ref}": {"title": "Mallory's"},
    "DELETE /{ref}": None,
    "POST /{ref}/start-recording": None,
    "POST /{ref}/stop-recording": None,
    "GET /{ref}/recording": None,
    "GET /{ref}/participants": None,
    "PATCH /{ref}/participants/{user_id}": {"micAllowed": False},
    "DELETE /{ref}/participants/{user_id}": None,
    "POST /{ref}/leave": None,
}
OPEN = {
    "POST ", "GET /instructor/{instructor_id}", "GET /{ref}",
    # By the contract everybody with an account may come in.
    "POST /{ref}/join", "POST /{ref}/token",
}  # fmt: skip


async def test_every_row_is_in_the_matrix() -> None:
    assert {
        f"{row.method} {row.path.removeprefix('/sessions')}" for row in table(Settings()).rows
    } == MATRIX.keys() | OPEN


@pytest.mark.parametrize("name", MATRIX)
async def test_a_user_outside_the_session_gets_nothing(town: Town, name: str) -> None:
    teacher, session = await created(town, recordingEnabled=True, courseId="XYLOPHONE")
    await teacher.post(f"{BASE}/{session['roomName']}/start-recording")
    student = await town.student()
    await student.post(f"{BASE}/{session['roomName']}/join")
    method, path = name.split()
    path = BASE + path.format(ref=session["roomName"], user_id=await user_id(student))
    stranger = await town.teacher("Mallory")
    for client, status in ((stranger, 403), (town.anyone, 401), (Client(town.http, town.url, "x.y.z"), 401)):
        reply = await client.call(method, path, MATRIX[name])
        assert reply.status == status, (reply.status, reply.body)
        assert b"XYLOPHONE" not in reply.body
