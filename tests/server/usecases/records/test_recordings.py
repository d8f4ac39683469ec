"""Recordings: intervals of a session, and signed URLs to what everyone could see of them."""

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from server.http.problems import Problem
from server.security.signed_urls import UrlSigner
from tests.support.lesson import Answered, Person, School, lesson


def lines(answer: Answered) -> tuple[Any, list[Any]]:
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    head, *rows = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    return head, rows


async def links(person: Person, session: str, recording: int = 1) -> Any:
    answer = await person.get(f"/v1/sessions/{session}/recordings/{recording}")
    assert answer.status == 200, answer.body
    return answer.json


async def recorded(school: School) -> tuple[Person, Person, Person, str]:
    """A class of which the middle is recorded."""
    teacher, ann, ben = (
        await school.person("Teacher", "teacher"),
        await school.person("Ann"),
        await school.person("Ben"),
    )
    session = await school.session(teacher, ann, ben, features={"question_approval": True})
    await teacher.does(session, "edit_code", base_version=0, text="print(1)\n")
    await ann.does(session, "send_message", text="Before")
    await teacher.does(session, "draw", points=[0.1, 0.2, 0.3, 0.4])
    await teacher.does(session, "start_recording")
    await ann.does(session, "send_message", text="During")
    await ann.does(session, "send_message", text="Between us", to=ben.user_id)
    await ann.does(session, "ask_question", text="Not approved")
    await ben.does(session, "ask_question", text="Approved", anonymous=True)
    await teacher.does(session, "approve_question", question_id=2)
    await teacher.does(session, "stop_recording")
    await ann.does(session, "send_message", text="After")
    return teacher, ann, ben, session


async def test_recordings_are_listed_with_their_status(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, _, session = await recorded(school)
        await teacher.does(session, "start_recording")
        first, second = (await ann.get(f"/v1/sessions/{session}/recordings")).json["items"]
        assert (first["recording_id"], first["status"], second["status"]) == (1, "finished", "recording")
        assert (second["stopped_at"], second["last_seq"]) == (None, None)
        assert first["duration"] >= 0
        await teacher.does(session, "end")
        assert [r["status"] for r in (await ann.get(f"/v1/sessions/{session}/recordings")).json["items"]] == [
            "finished"
        ] * 2
        (await ann.get(f"/v1/sessions/{session}/recordings/3")).refused(404, "unknown_recording", "recording")


async def test_an_archive_holds_what_everyone_could_see(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, ben, session = await recorded(school)
        found = await links(teacher, session)
        head, rows = lines(await school.send("GET", found["download_url"]))
        assert [row["type"] for row in rows] == [
            "recording_started", "chat_message", "question_approved", "recording_stopped",
        ]  # fmt: skip
        logged = (await teacher.get(f"/v1/sessions/{session}/log", limit=1_000)).json["items"]
        assert all(row in logged for row in rows)
        assert (rows[0]["seq"], rows[-1]["seq"]) == (found["first_seq"], found["last_seq"])
        assert head["type"] == "recording"
        assert (head["recording"]["recording_id"], head["chat_count"], head["audio"]) == (1, 1, [])
        state = head["state"]
        assert {p["name"] for p in state["participants"]} == {"Teacher", "Ann", "Ben"}
        assert (state["code"]["text"], state["code"]["version"], len(state["board"]["strokes"])) == ("print(1)\n", 1, 1)
        assert [m["text"] for m in state["chat"]] == ["Before"]
        assert state["session"]["code"] == "", "a join code is no part of what may be passed on"
        body = (await school.send("GET", found["download_url"])).body
        for secret in (b"Between us", b"Not approved", b"After", b'"type":"question_asked"'):
            assert secret not in body
        assert rows[2]["details"].get("user_id") is None
        assert (await links(ben, session))["first_seq"] == found["first_seq"]


async def test_a_running_recording_is_archived_up_to_now(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = await school.session(teacher)
        await teacher.does(session, "start_recording")
        await teacher.does(session, "send_message", text="Hello")
        _, rows = lines(await school.send("GET", (await links(teacher, session))["download_url"]))
        assert [row["type"] for row in rows] == ["recording_started", "chat_message"]


async def test_urls_that_are_not_as_signed_are_refused(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, _, session = await recorded(school)
        await teacher.does(session, "start_recording")
        found = await links(ann, session)
        for url in (found["download_url"], found["replay_url"]):
            assert url.startswith(school.server.url)
            (await school.send("GET", url[:-1] + ("0" if url[-1] != "0" else "1"))).refused(
                403, "bad_signature", "signature"
            )
            (await school.send("GET", url.replace("expires=", "expires=9"))).refused(403, "bad_signature", "signature")
            (await school.send("GET", url.partition("&signature")[0])).refused(403, "bad_signature", "signature")
        # A signature is good for one thing.
        other = found["download_url"].replace("/recordings/1/", "/recordings/2/")
        (await school.send("GET", other)).refused(403, "bad_signature", "signature")
        other = found["replay_url"].replace("recording=1", "recording=2")
        (await school.send("GET", other)).refused(403, "bad_signature", "signature")
        bare = f"/v1/sessions/{session}/recordings/1/archive"
        (await ann.get(bare)).refused(403, "bad_signature", "signature")


async def test_urls_expire(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path, recordings__url_ttl_s=1) as school:
        teacher, _, _, session = await recorded(school)
        found = await links(teacher, session)
        async with asyncio.timeout(10):
            while (answer := await school.send("GET", found["download_url"])).status == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        answer.refused(403, "expired", "expires")
        (await school.send("GET", found["replay_url"])).refused(403, "expired", "expires")


def test_signatures() -> None:
    mine, theirs = UrlSigner("k" * 32, ttl_s=60), UrlSigner("j" * 32, ttl_s=60)
    expires = mine.expiry()
    signature = mine.signature("/a", expires)
    mine.verify("/a", expires, signature)
    for resource, until, given in (
        ("/b", expires, signature), ("/a", expires + 1, signature), ("/a", expires, theirs.signature("/a", expires)),
        ("/a", None, signature), ("/a", expires, None), ("/a", expires, "é"),
    ):  # fmt: skip
        with pytest.raises(Problem, match="does not fit this URL"):
            mine.verify(resource, until, given)
    past = int(time.time()) - 1
    with pytest.raises(Problem, match="has expired"):
        mine.verify("/a", past, mine.signature("/a", past))


async def test_a_signed_replay_needs_no_other_credential(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, _, session = await recorded(school)
        found = await links(teacher, session)
        _, rows = lines(await school.send("GET", found["download_url"]))
        async with school.stream(found["replay_url"] + "&speed=100") as stream:
            opening, *frames, _ = await stream.until("replay_end")
        assert opening.event == "snapshot"
        assert (opening.body["you"], opening.body["session"]["code"]) == (None, "")
        assert [(f.event, f.body["seq"]) for f in frames] == [(row["type"], row["seq"]) for row in rows]
