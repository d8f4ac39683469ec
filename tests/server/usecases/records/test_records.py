"""Attendance, chat, questions, code, statistics and log filters, over HTTP."""

import csv
import io
from pathlib import Path
from typing import Any

from tests.support.lesson import Person, School, lesson


async def types(person: Person, session: str, **query: Any) -> list[str]:
    answer = await person.get(f"/v1/sessions/{session}/log", **query)
    assert answer.status == 200, answer.body
    return [row["type"] for row in answer.json["items"]]


async def test_attendance(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, ben = (
            await school.person("Teacher", "teacher"),
            await school.person("Ann"),
            await school.person("Ben"),
        )
        session = await school.session(teacher, ann, ben)
        await ben.does(session, "leave")
        await teacher.does(session, "end")
        answer = await teacher.get(f"/v1/sessions/{session}/attendance")
        assert answer.status == 200
        lines = {line["name"]: line for line in answer.json["items"]}
        assert list(lines) == ["Teacher", "Ann", "Ben"]
        assert (lines["Teacher"]["role"], lines["Teacher"]["share"], lines["Ann"]["late"]) == ("host", 1.0, False)
        # Who comes and goes within one millisecond has no interval.
        assert [span["to"] for span in lines["Ben"]["intervals"]] in ([], [lines["Ben"]["last_left_at"]])
        assert answer.json["until"] == lines["Ann"]["last_left_at"]

        (await ann.get(f"/v1/sessions/{session}/attendance", late_after_s=-1)).refused(422, "invalid", "late_after_s")
        (await ann.get(f"/v1/sessions/{session}/attendance", format="xls")).refused(422, "invalid", "format")
        own = (await ann.get(f"/v1/sessions/{session}/attendance")).json["items"]
        assert own == [lines["Ann"]]


async def test_attendance_opens_in_a_spreadsheet(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        names = ["=1+1", "+1", "-1", "@sum", 'Ann "A", the first', "Žofie"]
        people = []
        for number, name in enumerate(names):
            body = {"name": name, "email": f"{number}@example.org", "password": "correct horse", "role": "student"}
            made = (await school.send("POST", "/v1/auth/register", json=body)).json
            token = {"Authorization": f"Bearer {made['access_token']}"}
            people.append(Person(school, made["user"]["id"], name, token))
        session = await school.session(teacher, *people)
        answer = await teacher.get(f"/v1/sessions/{session}/attendance", format="csv")
        assert answer.headers["Content-Type"] == "text/csv"
        assert "attachment" in answer.headers["Content-Disposition"]
        assert answer.body.startswith(b"\xef\xbb\xbfuser_id,number,name,")
        text = answer.body.decode("utf-8-sig")
        assert text.endswith("\r\n")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        assert [row["name"] for row in rows[1:]] == ["'=1+1", "'+1", "'-1", "'@sum", names[4], names[5]]
        assert {len(row) for row in rows} == {14}
        assert rows[1]["kicked"] == "no"


async def test_records_are_for_those_who_may_see_them(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, eve = (
            await school.person("Teacher", "teacher"),
            await school.person("Ann"),
            await school.person("Eve"),
        )
        session = await school.session(teacher, ann)
        base = f"/v1/sessions/{session}"
        for path in ("export", "log/statistics"):
            (await school.send("GET", f"{base}/{path}")).refused(401, "unauthenticated")
            (await ann.get(f"{base}/{path}")).refused(403, "not_permitted")
        members = ("attendance", "chat", "questions", "code/history", "recordings", "replay")
        for path in members:
            (await school.send("GET", f"{base}/{path}")).refused(401, "unauthenticated")
            (await eve.get(f"{base}/{path}")).refused(403, "not_joined")
            (await ann.get(f"/v1/sessions/no-such-one/{path}")).refused(404, "unknown_session")

        # Whoever has left is out until it is over; whoever was thrown out stays out.
        await ann.does(session, "leave")
        for path in members[1:]:
            (await ann.get(f"{base}/{path}")).refused(403, "not_joined")
        await teacher.does(session, "end")
        assert (await ann.get(f"{base}/chat")).status == 200


async def test_whoever_was_only_in_the_lobby_sees_nothing_afterwards(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann = await school.person("Teacher", "teacher"), await school.person("Ann")
        session = await school.session(teacher, ann, features={"lobby": True})
        for end in (False, True):
            if end:
                await teacher.does(session, "end")
            for path in ("chat", "questions", "code/history", "recordings", "replay"):
                (await ann.get(f"/v1/sessions/{session}/{path}")).refused(403, "not_joined")


async def test_chat_is_read_latest_first_and_direct_messages_by_their_sides(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, ben = (
            await school.person("Teacher", "teacher"),
            await school.person("Ann"),
            await school.person("Ben"),
        )
        session = await school.session(teacher, ann, ben)
        for number in range(4):
            await ann.does(session, "send_message", text=f"Message {number}")
        await ann.does(session, "send_message", text="Between us", to=ben.user_id)
        await teacher.does(session, "send_message", text="Oops")
        await teacher.does(session, "delete_message", message_id=6)
        await ben.does(session, "react", message_id=4, emoji="👍")
        await ann.does(session, "react", message_id=4, emoji="👍")
        await ben.does(session, "react", message_id=4, emoji="🎉")
        await ben.does(session, "react", message_id=4, emoji="🎉", remove=True)

        path = f"/v1/sessions/{session}/chat"
        items = (await ann.get(path)).json["items"]
        assert [(m["message_id"], m["text"], m["deleted"]) for m in items[:3]] == [
            (6, "", True), (5, "Between us", False), (4, "Message 3", False),
        ]  # fmt: skip
        assert items[2]["reactions"] == {"👍": [ben.user_id, ann.user_id]}
        assert (items[2]["name"], items[0]["name"]) == ("Ann", "Teacher")
        state = (await ann.get(f"/v1/sessions/{session}/state")).json["chat"]
        assert items == state[::-1], "the log and the state say the same"
        for other in (teacher, await school.person("Eve")):
            if other is not teacher:
                code = (await teacher.get(f"/v1/sessions/{session}")).json["code"]
                await other.post("/v1/sessions/join", {"code": code})
            assert 5 not in [m["message_id"] for m in (await other.get(path)).json["items"]]

        seen: list[int] = []
        query: dict[str, Any] = {"limit": 2}
        while True:
            page = (await ben.get(path, **query)).json
            seen += [m["message_id"] for m in page["items"]]
            if page["next"] is None:
                break
            query["before"] = page["next"]
        assert seen == [6, 5, 4, 3, 2, 1]
        (await ben.get(path, limit=0)).refused(422, "invalid", "limit")


async def test_questions(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, ben = (
            await school.person("Teacher", "teacher"),
            await school.person("Ann"),
            await school.person("Ben"),
        )
        session = await school.session(teacher, ann, ben, features={"question_approval": True})
        await ann.does(session, "ask_question", text="Who am I?", anonymous=True)
        await ann.does(session, "ask_question", text="Why?")
        path = f"/v1/sessions/{session}/questions"
        assert [q["question_id"] for q in (await ann.get(path)).json["items"]] == [1, 2]
        assert (await ben.get(path)).json["items"] == []
        await teacher.does(session, "approve_question", question_id=1)
        await ben.does(session, "upvote_question", question_id=1)
        await teacher.does(session, "answer_question", question_id=1, text="You know")
        await teacher.does(session, "dismiss_question", question_id=2)
        (shown,) = (await ben.get(path)).json["items"]
        assert (shown["status"], shown["upvotes"], shown["answer"], shown["user_id"]) == (
            "answered",
            1,
            "You know",
            None,
        )
        first, second = (await teacher.get(path)).json["items"]
        assert (first["user_id"], first["name"], second["status"]) == (ann.user_id, "Ann", "dismissed")


async def test_code_history(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann = await school.person("Teacher", "teacher"), await school.person("Ann")
        session = await school.session(teacher, ann)
        path = f"/v1/sessions/{session}/code/history"
        assert (await ann.get(path)).json == {"items": [], "next": None}
        texts = [""]
        for version in range(5):
            text = texts[-1]
            if version == 2:
                edit: dict[str, Any] = {"text": "zwölf 🎓\n"}
                text = edit["text"]
            else:
                changes: list[dict[str, Any]] = [
                    {"at": 0, "insert": f"{version}é\n"},
                    {"at": len(text) // 2, "delete": 1},
                ]
                edit = {"changes": changes}
                for change in changes:
                    at = int(change["at"])
                    text = text[:at] + str(change.get("insert", "")) + text[at + int(change.get("delete", 0)) :]
            await teacher.does(session, "edit_code", base_version=version, **edit)
            texts.append(text)
        items = (await ann.get(path)).json["items"]
        assert [(v["version"], v["size"]) for v in items] == [(n, len(texts[n])) for n in (5, 4, 3, 2, 1)]
        assert {v["author"] for v in items} == {teacher.user_id}
        page = (await ann.get(path, limit=2)).json
        rest = (await ann.get(path, limit=10, cursor=page["next"])).json
        assert page["items"] + rest["items"] == items
        for version in range(1, 6):
            (found,) = (await ann.get(path, version=version)).json["items"]
            assert (found["version"], found["text"], found["size"]) == (version, texts[version], len(texts[version]))
        (await ann.get(path, version=6)).refused(404, "unknown_version", "version")


async def test_statistics(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, ben = (
            await school.person("Teacher", "teacher"),
            await school.person("Ann"),
            await school.person("Ben"),
        )
        session = await school.session(teacher, ann, ben)
        for _ in range(3):
            await ann.does(session, "send_message", text="Hello")
        await ann.does(session, "raise_hand")
        await ben.does(session, "raise_hand")
        await teacher.does(session, "call_next")
        for _ in range(3):
            await ann.does(session, "ask_question", text="Why?")
        await ben.does(session, "upvote_question", question_id=1)
        await ben.does(session, "upvote_question", question_id=2)
        await ben.does(session, "upvote_question", question_id=2, remove=True)
        await teacher.does(session, "answer_question", question_id=1)
        await teacher.does(session, "open_poll", question="Yes?", options=["Yes", "No"])
        await ann.does(session, "vote", poll_id=1, options=[0])
        await ben.does(session, "vote", poll_id=1, options=[1])
        found = (await teacher.get(f"/v1/sessions/{session}/log/statistics")).json
        assert found["joined"] == 3
        by_user = {one["user_id"]: one for one in found["participants"]}
        assert by_user[ann.user_id]["by_type"]["chat_message"] == 3
        assert by_user[ann.user_id]["total"] == sum(by_user[ann.user_id]["by_type"].values())
        assert sum(minute["messages"] for minute in found["messages_per_minute"]) == 3
        assert found["hands"] == {"raised": 2, "called": 1}
        assert found["questions"] == {
            "asked": 3, "answered": 1, "dismissed": 0, "upvotes": 1, "answered_share": 0.3333,
        }  # fmt: skip
        assert found["polls"] == [{"poll_id": 1, "question": "Yes?", "voters": 2, "turnout": 0.6667}]


async def filled(school: School) -> tuple[Person, str]:
    teacher, ann = await school.person("Teacher", "teacher"), await school.person("Ann")
    session = await school.session(teacher, ann)
    await ann.does(session, "send_message", text="Hello")
    await ann.does(session, "raise_hand")
    await teacher.does(session, "lower_all")
    return teacher, session


async def test_log_filters(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, session = await filled(school)
        path = f"/v1/sessions/{session}/log"
        every = await types(teacher, session)
        assert await types(teacher, session, order="desc") == every[::-1]
        assert await types(teacher, session, type="hand_raised,chat_message") == ["chat_message", "hand_raised"]
        repeated = await school.send("GET", f"{path}?type=hand_raised&type=chat_message", headers=teacher.headers)
        assert [row["type"] for row in repeated.json["items"]] == ["chat_message", "hand_raised"]
        (await teacher.get(path, type="hand_raised,nonsense")).refused(422, "invalid", "type")
        (await teacher.get(path, order="sideways")).refused(422, "invalid", "order")
        twice = await school.send("GET", f"{path}?limit=1&limit=2", headers=teacher.headers)
        twice.refused(422, "invalid", "limit")

        rows = (await teacher.get(path)).json["items"]
        middle = rows[3]["at"]
        early = (await teacher.get(path, until=middle)).json["items"]
        late = (await teacher.get(path, since=middle)).json["items"]
        assert early + late == rows
        seen: list[int] = []
        query: dict[str, Any] = {"order": "desc", "limit": 2}
        while True:
            page = (await teacher.get(path, **query)).json
            seen += [row["seq"] for row in page["items"]]
            if page["next"] is None:
                break
            query["cursor"] = page["next"]
        assert seen == [row["seq"] for row in rows][::-1]
