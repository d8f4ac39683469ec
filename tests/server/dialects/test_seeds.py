"""The `seeds` contract: its routes as they are printed there, the log that they leave, and the words of refusals."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from tests.server.outbound.test_push import pushing
from tests.support import fcm as fake
from tests.support.client import Client
from tests.support.dialects.school import BASE, PASSWORD, WAV, Pupil, detail, invalid, lesson, phone, pupil
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
NOBODY = 2_000_000_000


# Accounts


async def test_registering_and_logging_in(town: Town) -> None:
    number = phone()
    body = {"name": "Tess", "phone_number": number, "password": PASSWORD, "role": "teacher", "extra": 1}
    account = (await town.anyone.post(f"{BASE}/auth/register", body)).ok()
    assert account == {
        "user_id": account["user_id"], "name": "Tess", "phone_number": number, "role": "teacher",
        "created_at": account["created_at"],
    }  # fmt: skip
    assert MOMENT.fullmatch(account["created_at"])
    as_json = {"phone_number": number, "password": PASSWORD}
    for reply in (
        await town.anyone.post(f"{BASE}/auth/login", as_json),
        await Pupil.send(
            Pupil(town, account, {"access_token": "x"}), "/auth/login", username=number, password=PASSWORD
        ),
    ):
        login = reply.ok()
        assert login == {
            "access_token": login["access_token"], "token_type": "bearer", "user_id": account["user_id"],
            "role": "teacher", "name": "Tess",
        }  # fmt: skip
        assert (await Client(town.http, town.url, login["access_token"]).get(f"{BASE}/audio/list")).ok() == []
    assert detail(await town.anyone.post(f"{BASE}/auth/register", body), 400) == "Phone already registered"
    assert detail(await town.anyone.post(f"{BASE}/auth/login", as_json | {"password": "wrong!"}), 401) == (
        "Invalid credentials"
    )
    assert invalid(await town.anyone.post(f"{BASE}/auth/login", {"password": PASSWORD})) == (
        ["body", "phone_number"], "missing",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "x" * 201), ("phone_number", "123456789"), ("phone_number", "1" * 21),
        ("phone_number", "not a phone"), ("password", "short"), ("role", 5),
    ],
)  # fmt: skip
async def test_what_is_no_account(town: Town, field: str, value: Any) -> None:
    body = {"name": "Tess", "phone_number": phone(), "password": PASSWORD, "role": "teacher", field: value}
    assert invalid(await town.anyone.post(f"{BASE}/auth/register", body)) == (["body", field], "value_error")


async def test_a_role_that_is_none(town: Town) -> None:
    body = {"name": "Tess", "phone_number": phone(), "password": PASSWORD, "role": "principal"}
    assert detail(await town.anyone.post(f"{BASE}/auth/register", body), 400) == "Invalid role"


async def test_three_rows(town: Town) -> None:
    room = await lesson(town)
    assert (await room.tess.post(f"{room.path}/participants/1/mute?mute=true")).ok() == {"ok": True, "muted": True}
    joined_at = room.rows()[1][2]["joined_at"]
    assert MOMENT.fullmatch(joined_at)
    assert room.rows() == [
        ("session_created", room.tess.id, {"title": "Fractions"}),
        (
            "participant_joined", room.anna.id,
            {"user_name": "Anna", "participant_id": 1, "joined_at": joined_at},
        ),
        (
            "participant_muted", room.tess.id,
            {"participant_id": 1, "target_user_id": room.anna.id, "is_self_mute": False},
        ),
    ]  # fmt: skip
    [(_, session_id, _, _, _, created_at), *_] = town.query("select * from logs where session_id = %s", room.number)
    assert session_id == room.number
    assert isinstance(created_at, datetime.datetime)
    assert created_at.tzinfo is None


async def test_sessions(town: Town) -> None:
    room = await lesson(town, joined=False)
    assert room.made == {
        "session_id": room.number, "title": "Fractions", "is_active": True, "created_by": room.tess.id,
        "created_at": room.made["created_at"], "ended_at": None, "participant_count": 0, "teacher_name": "Tess",
    }  # fmt: skip
    assert MOMENT.fullmatch(room.made["created_at"])
    assert detail(await room.anna.post(f"{BASE}/sessions", {"title": "x"}), 403) == "Teacher permission required"
    assert invalid(await room.tess.post(f"{BASE}/sessions", {"title": ""}))[0] == ["body", "title"]
    later = (await room.tess.post(f"{BASE}/sessions", {"title": "Later"})).ok()
    for person, query in ((room.anna, {}), (room.tess, {"mine": "true"})):
        found = (await person.get(f"{BASE}/sessions/active", **query)).ok()
        numbers = [one["session_id"] for one in found]
        assert numbers == sorted(numbers, reverse=True)
        assert room.made in found
        assert later in found
    assert (await room.anna.get(f"{BASE}/sessions/active", mine="true")).ok() == []
    assert detail(await room.anna.delete(room.path), 403) == "Only creator can end session"
    ended = (await room.tess.delete(room.path)).ok()
    assert ended.keys() == {"ok", "message"}
    assert ended["ok"] is True
    assert detail(await room.tess.delete(room.path), 400) == "Session already ended"
    assert detail(await room.tess.delete(f"{BASE}/sessions/{NOBODY}"), 404) == "Session not found"
    assert detail(await room.anna.post(f"{room.path}/join"), 400) == "Session is not active"
    assert room.made not in (await room.tess.get(f"{BASE}/sessions/active", mine="true")).ok()
    assert [(kind, list(said)) for kind, _, said in room.rows()][-1] == ("session_ended", ["ended_at"])


async def test_bodies_that_are_none(town: Town) -> None:
    tess = await pupil(town, "teacher", "Tess")
    for raw in (b"{", b"\xff", b'{"title": "\\ud800"}'):
        reply = await tess.call("POST", f"{BASE}/sessions", raw=raw, headers={"Content-Type": "application/json"})
        assert invalid(reply) == (["body"], "json_invalid")
    bodies: tuple[object, ...] = ([], "x", 1, None)
    for body in bodies:
        assert invalid(await tess.post(f"{BASE}/sessions", body))[0][0] == "body"
    assert detail(await tess.get(f"{BASE}/nothing"), 404) == "Not Found"
    assert detail(await tess.call("PATCH", f"{BASE}/sessions"), 405) == "Method Not Allowed"


# People


async def test_joining_again_is_the_same_place(town: Town) -> None:
    room = await lesson(town, joined=False)
    joined = (await room.anna.send(f"/sessions/{room.number}/join", user_id=str(room.anna.id))).ok()
    assert joined == {
        "participant_id": 1, "session_id": room.number, "user_id": room.anna.id, "name": "Anna", "is_muted": False,
        "hand_raised": False, "is_teacher": False, "joined_at": joined["joined_at"],
    }  # fmt: skip
    assert MOMENT.fullmatch(joined["joined_at"])
    assert (await room.anna.post(f"{room.path}/join?user_id={room.anna.id}")).ok() == joined
    assert (await room.tess.post(f"{room.path}/join")).ok()["participant_id"] == 2
    assert room.types() == ["session_created", "participant_joined", "participant_joined"]
    reply = await room.anna.post(f"{room.path}/join?user_id={room.tess.id}")
    assert detail(reply, 403) == "`user_id` is not who the token says you are."
    (await room.act(room.anna, "raise_hand")).ok()
    state = (await room.tess.get(f"{room.path}/state")).ok()
    assert state == {
        "session_id": room.number, "is_active": True, "active_audio": None,
        "participants": [
            {"id": 1, "user_id": room.anna.id, "name": "Anna", "muted": False, "hand_raised": True},
            {"id": 2, "user_id": room.tess.id, "name": "Tess", "muted": False, "hand_raised": False},
        ],
    }  # fmt: skip


async def test_a_class_made_elsewhere_is_not_a_lesson_of_seeds(town: Town) -> None:
    """Whoever made it there has not asked that everybody finds it, and comes in by its number."""
    host, anna = (await town.classroom(title="Behind a code"))[0], await pupil(town)
    path = f"{BASE}/sessions/{host.session['number']}"
    for reply in (
        await anna.post(f"{path}/join"), await anna.get(f"{path}/state"), await host.person.get(f"{path}/logs"),
        await anna.get(f"{BASE}/sse/sessions/{host.session['number']}"),
    ):  # fmt: skip
        assert detail(reply, 404) == "Session not found"
    active = (await anna.get(f"{BASE}/sessions/active")).ok()
    assert "Behind a code" not in [session["title"] for session in active]


async def test_muting_and_removing(town: Town) -> None:
    room = await lesson(town)
    path = f"{room.path}/participants"
    for query, muted in (("", True), ("?mute=false", False), ("?mute=true", True), ("?mute=false", False)):
        assert (await room.tess.post(f"{path}/1/mute{query}")).ok() == {"ok": True, "muted": muted}
        # So it stays, whatever an empty body says.
        assert (await room.tess.post(f"{path}/1/mute{query}", {})).ok() == {"ok": True, "muted": muted}
    assert (await room.anna.post(f"{path}/1/mute")).ok() == {"ok": True, "muted": True}
    target = {"participant_id": 1, "target_user_id": room.anna.id}
    assert room.rows()[2:] == [
        ("participant_muted", room.tess.id, {**target, "is_self_mute": False}),
        ("participant_unmuted", room.tess.id, {**target, "is_self_unmute": False}),
        ("participant_muted", room.tess.id, {**target, "is_self_mute": False}),
        ("participant_unmuted", room.tess.id, {**target, "is_self_unmute": False}),
        ("participant_muted", room.anna.id, {**target, "is_self_mute": True}),
    ]
    await room.join(room.tess)
    assert detail(await room.anna.post(f"{path}/2/mute"), 403) == "Teacher permission required"
    assert detail(await room.anna.delete(f"{path}/2"), 403)
    for reply in (await room.tess.post(f"{path}/7/mute"), await room.tess.delete(f"{path}/7")):
        assert detail(reply, 404) == "Participant not found"
    assert invalid(await room.tess.delete(f"{path}/one")) == (["path", "participant_id"], "value_error")
    removed = (await room.tess.delete(f"{path}/1")).ok()
    assert (removed.keys(), removed["ok"]) == ({"ok", "message"}, True)
    assert (await room.tess.get(f"{room.path}/state")).ok()["participants"][0]["id"] == 2


async def test_all_at_once_is_a_row_for_each(town: Town) -> None:
    room = await lesson(town)
    ben = await pupil(town, "student", "Ben")
    await room.join(ben)
    for person in (room.anna, ben):
        (await room.act(person, "raise_hand")).ok()
    for kind in ("mute_all", "call_next", "lower_all"):
        (await room.tess.post(f"/v1/sessions/{room.number}/commands", {"type": kind})).ok()
    muted = [("participant_muted", room.tess.id, {
        "participant_id": number, "target_user_id": person.id, "is_self_mute": False,
    }) for number, person in ((1, room.anna), (2, ben))]  # fmt: skip
    lowered = [("hand_lowered", room.tess.id, {"participant_id": number}) for number in (1, 2)]
    assert room.rows()[-4:] == [*muted, *lowered]
    ids = [row[0] for row in town.query("select log_id from logs")]
    assert len(set(ids)) == len(ids)


async def test_inviting(town: Town) -> None:
    room = await lesson(town)
    ben = await pupil(town, "student", "Ben")
    answer = (await room.tess.send(f"/sessions/{room.number}/invite", student_id=str(ben.id))).ok()
    assert answer == {
        "ok": True, "message": "Ben is invited", "student_id": ben.id, "session_id": room.number,
        "notifications_sent": 0,
    }  # fmt: skip
    assert (await room.tess.post(f"{room.path}/invite?student_id={ben.id}")).ok() == answer
    assert room.rows()[2:] == [("participant_invited", room.tess.id, {"invited_user_id": ben.id})]
    for number in (room.tess.id, NOBODY):
        assert detail(await room.tess.post(f"{room.path}/invite", {"student_id": number}), 404) == "Student not found"
    for person in (room.anna, ben):
        reply = await person.post(f"{room.path}/invite", {"student_id": room.anna.id})
        assert detail(reply, 403) == "Teacher permission required"
    assert invalid(await room.tess.post(f"{room.path}/invite", {"student_id": "x"}))[0] == ["body", "student_id"]
    # Who is invited sees nothing yet.
    assert detail(await ben.get(f"{room.path}/state"), 403) == "Not a participant of this session"
    for number in (1, 9):
        reply = await room.act(ben, "webrtc_signal", target_participant_id=number)
        assert detail(reply, 403) == "Not a participant of this session"


@pytest.mark.asyncio(loop_scope="function")  # as the fixture of the fake FCM
async def test_an_invitation_goes_to_devices(dsn: str, tmp_path: Path, fcm: fake.Fcm) -> None:
    async with pushing(dsn, tmp_path / "data", fcm) as pushed:
        room = await lesson(pushed.town, joined=False)
        for method, body in (
            ("POST", {"token": "phone", "device_type": "android"}), ("POST", {"token": "pad", "device_type": "ios"}),
            ("POST", {"token": "old", "device_type": "web"}), ("DELETE", {"token": "old", "device_type": "web"}),
        ):  # fmt: skip
            answer = (await room.anna.call(method, f"{BASE}/users/fcm-token", body)).ok()
            assert answer["ok"] is True
        reply = await room.tess.post(f"{room.path}/invite", {"student_id": room.anna.id})
        assert reply.ok()["notifications_sent"] == 2
        await pushed.done()
        assert sorted(message["token"] for message in fcm.sent) == ["pad", "phone"]
        assert {message["data"]["session_id"] for message in fcm.sent} == {str(room.number)}
        again = await room.tess.post(f"{room.path}/invite", {"student_id": room.anna.id})
        assert again.ok()["notifications_sent"] == 0


async def test_devices(town: Town) -> None:
    anna = await pupil(town)
    path = f"{BASE}/users/fcm-token"
    assert (await anna.call("DELETE", f"{path}?token=never-seen")).ok() == {"ok": True}
    assert (await anna.send("/users/fcm-token", token="a-phone", device_type="ios")).ok() == {
        "ok": True, "device_type": "ios",
    }  # fmt: skip
    reply = await anna.post(path, {"token": "x", "device_type": "fridge"})
    assert invalid(reply) == (["body", "device_type"], "value_error")
    assert invalid(await anna.post(path, {"device_type": "ios"})) == (["body", "token"], "missing")


async def test_students_are_for_teachers(town: Town) -> None:
    tess, anna = await pupil(town, "teacher", "Tess"), await pupil(town)
    found = (await tess.get(f"{BASE}/users/students")).ok()
    assert {"user_id": anna.id, "name": "Anna", "phone_number": anna.phone} in found
    assert tess.id not in [student["user_id"] for student in found]
    assert len((await tess.get(f"{BASE}/users/students", limit="1")).ok()) == 1
    assert detail(await anna.get(f"{BASE}/users/students"), 403) == "Teacher permission required"


# Actions


async def test_each_action(town: Town) -> None:
    room = await lesson(town)
    for type, fields in (
        ("mute_self", {"mute": True}), ("mute_self", {"mute": False}), ("raise_hand", {}), ("lower_hand", {}),
        ("chat", {"text": "Hello"}),
    ):  # fmt: skip
        answer = (await room.act(room.anna, type, **fields)).ok()
        assert answer == {"ok": True, "type": type, "participant_id": 1}
    for type, fields in (
        ("mute_participant", {}), ("mute_participant", {"mute": False}), ("mute_participant", {"mute": True}),
        ("unmute_participant", {}), ("chat", {"text": "Good morning"}), ("kick_participant", {}),
    ):  # fmt: skip
        # The creator acts without having joined.
        answer = (await room.act(room.tess, type, target_participant_id=1, **fields)).ok()
        assert answer == {"ok": True, "type": type, "participant_id": None}
    assert (await room.act(room.tess, "end_session")).ok()["ok"] is True
    target = {"participant_id": 1, "target_user_id": room.anna.id}
    anna, tess = room.anna.id, room.tess.id
    assert room.rows()[2:-1] == [
        ("participant_muted", anna, {**target, "is_self_mute": True}),
        ("participant_unmuted", anna, {**target, "is_self_unmute": True}),
        ("hand_raised", anna, {"participant_id": 1}),
        ("hand_lowered", anna, {"participant_id": 1}),
        ("chat_message", anna, {"message": "Hello", "message_length": 5}),
        ("participant_muted", tess, {**target, "is_self_mute": False}),
        ("participant_unmuted", tess, {**target, "is_self_unmute": False}),
        ("participant_muted", tess, {**target, "is_self_mute": False}),
        ("participant_unmuted", tess, {**target, "is_self_unmute": False}),
        ("chat_message", tess, {"message": "Good morning", "message_length": 12}),
        ("participant_kicked", tess, {"kicked_user_id": anna, "reason": "Removed by teacher"}),
    ]
    kind, user, ended = room.rows()[-1]
    assert (kind, user, list(ended)) == ("session_ended", tess, ["ended_at"])


async def test_actions_that_are_refused(town: Town) -> None:
    room = await lesson(town)
    await room.join(room.tess)
    for type in ("mute_participant", "unmute_participant", "kick_participant", "end_session"):
        for fields in ({}, {"target_participant_id": 2}):
            assert detail(await room.act(room.anna, type, **fields), 403) == "Teacher permission required"
    for type in ("mute_participant", "unmute_participant", "kick_participant", "webrtc_signal"):
        assert detail(await room.act(room.tess, type), 400) == "target_participant_id required"
        assert detail(await room.act(room.tess, type, target_participant_id=9), 404) == "Participant not found"
    for words in ({}, {"text": ""}, {"text": "  "}):
        assert detail(await room.act(room.anna, "chat", **words), 400) == "Empty message"
    assert detail(await room.act(room.anna, "{dance}"), 400) == "Unknown action type: {dance}"
    assert invalid(await room.anna.post(f"{room.path}/action", {})) == (["body", "type"], "missing")
    (await room.tess.delete(room.path)).ok()
    assert detail(await room.act(room.anna, "raise_hand"), 400) == "Session is not active"


# Chat, questions, voice


async def test_chat(town: Town) -> None:
    room = await lesson(town)
    sent = (await room.anna.post(f"{room.path}/chat", {"message": "Hello", "participant_id": 1})).ok()
    assert sent == {
        "message_id": 1, "session_id": room.number, "participant_id": 1, "sender_name": "Anna", "message": "Hello",
        "timestamp": sent["timestamp"], "is_system_message": False, "audio_id": None, "duration": None,
    }  # fmt: skip
    assert MOMENT.fullmatch(sent["timestamp"])
    second = (await room.tess.send(f"/sessions/{room.number}/chat", message="Welcome")).ok()
    assert (second["participant_id"], second["sender_name"]) == (None, "Tess")
    private = {"type": "send_message", "text": "XYLOPHONE", "to": user_id(town, room.anna.id)}
    (await room.tess.post(f"/v1/sessions/{room.number}/commands", private)).ok()
    for person in (room.anna, room.tess):
        assert (await person.get(f"{room.path}/chat")).ok() == [sent, second]
    assert (await room.anna.get(f"{room.path}/chat", limit="1")).ok() == [second]
    assert "XYLOPHONE" not in str(room.rows())
    assert b"XYLOPHONE" not in (await room.tess.get(f"{room.path}/logs")).body
    assert detail(await room.anna.post(f"{room.path}/chat", {"message": "x", "participant_id": 2}), 403)
    for message in ("", " ", "x" * 2_001):
        assert invalid(await room.anna.post(f"{room.path}/chat", {"message": message}))[0] == ["body", "message"]
    assert invalid(await room.anna.get(f"{room.path}/chat", limit="0"))[0] == ["query", "limit"]
    (await room.tess.post(f"/v1/sessions/{room.number}/commands", {"type": "delete_message", "message_id": 1})).ok()
    assert (await room.anna.get(f"{room.path}/chat")).ok() == [second]
    assert ("chat_message", room.anna.id, {"message": "", "message_length": 0}) in room.rows()


def user_id(town: Town, number: int) -> str:
    [(found,)] = town.query("select user_id::text from users where number = %s", number)
    return str(found)


async def test_a_voice_note_is_a_message(town: Town) -> None:
    room = await lesson(town)
    note = (await room.anna.upload(f"/sessions/{room.number}/voice")).ok()
    assert (note["participant_id"], note["message"], note["duration"]) == (1, "", 60.0)
    assert (await room.tess.get(f"{room.path}/chat")).ok() == [note]
    assert (await room.tess.get(f"{BASE}/audio/{note['audio_id']}/stream")).body == WAV
    (await room.tess.delete(room.path)).ok()
    assert detail(await room.anna.upload(f"/sessions/{room.number}/voice"), 400) == "Session is not active"
    # What its session does not take is not kept.
    assert [one["audio_id"] for one in (await room.anna.get(f"{BASE}/audio/list")).ok()] == [note["audio_id"]]


async def test_questions(town: Town) -> None:
    room = await lesson(town)
    asked = (await room.anna.post(f"{room.path}/questions", {"question": "Why?"})).ok()
    assert asked == {
        "question_id": 1, "session_id": room.number, "participant_id": 1, "asked_by": "Anna", "question": "Why?",
        "status": "open", "answer": None, "created_at": asked["created_at"],
    }  # fmt: skip
    path = f"{room.path}/questions/1/answer"
    assert detail(await room.anna.post(path, {"answer": "So"}), 403) == "Teacher permission required"
    answered = (await room.tess.post(path, {"answer": "Because"})).ok()
    assert answered == {**asked, "status": "answered", "answer": "Because"}
    assert (await room.anna.get(f"{room.path}/questions")).ok() == [answered]
    assert detail(await room.tess.post(f"{room.path}/questions/9/answer", {"answer": "x"}), 404) == (
        "Question not found"
    )
    assert "question_asked" not in room.types()


# The log


async def test_the_log(town: Town) -> None:
    room = await lesson(town)
    for text in ("One", "Two"):
        (await room.act(room.anna, "chat", text=text)).ok()
    log = (await room.tess.get(f"{room.path}/logs")).ok()
    assert log.keys() == {"session_id", "total_logs", "logs"}
    assert (log["session_id"], log["total_logs"]) == (room.number, 4)
    assert [row["event_type"] for row in log["logs"]] == room.types()[::-1]
    for row in log["logs"]:
        assert row.keys() == {"log_id", "event_type", "user_id", "event_details", "created_at"}
        assert MOMENT.fullmatch(row["created_at"])
    seen = {
        row[0]: (row[1], row[2], row[3], row[4], row[5].isoformat(timespec="microseconds"))
        for row in town.query("select * from logs where session_id = %s", room.number)
    }
    assert seen == {
        row["log_id"]: (room.number, row["user_id"], row["event_type"], row["event_details"], row["created_at"])
        for row in log["logs"]
    }
    filtered = (await room.tess.get(f"{room.path}/logs", event_type="chat_message", limit="1")).ok()
    assert filtered["total_logs"] == 1
    assert filtered["logs"][0]["event_details"] == {"message": "Two", "message_length": 3}
    assert (await room.tess.get(f"{room.path}/logs", event_type="participant_online")).ok()["logs"] == []
    for limit in ("0", "1001", "x"):
        assert invalid(await room.tess.get(f"{room.path}/logs", limit=limit)) == (["query", "limit"], "value_error")
    summary = (await room.tess.get(f"{room.path}/logs/summary")).ok()
    assert summary == {
        "session_id": room.number, "total_events": 4,
        "event_counts": {"session_created": 1, "participant_joined": 1, "chat_message": 2},
        "unique_participants_joined": 1, "participants_left": 0,
        "first_event": log["logs"][-1]["created_at"], "last_event": log["logs"][0]["created_at"],
    }  # fmt: skip
    other = await pupil(town, "teacher", "Theo")
    await room.join(other)
    for person, words in ((room.anna, "Teacher permission required"), (other, None)):
        said = detail(await person.get(f"{room.path}/logs"), 403)
        assert words is None or said == words
        assert detail(await person.get(f"{room.path}/logs/summary"), 403)


async def test_logging_out(town: Town) -> None:
    anna = await pupil(town)
    assert (await anna.post(f"{BASE}/auth/logout")).ok() == {"ok": True}
    assert (await anna.get(f"{BASE}/sessions/active")).status == 401
