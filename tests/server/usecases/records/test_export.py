"""The export: the whole log, line by line, in constant memory, for as long as somebody reads it."""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import psycopg2
import pytest

from server.security.tokens import Tokens
from storage.users import User
from tests.support.lesson import Person, lesson

FILL = """
insert into session_log (session_id, epoch, seq, at, actor_id, type, event)
select session_id, 1, last_seq + n, now() + n * interval '1 ms', %(user_id)s::uuid, 'chat_message',
    jsonb_build_object('type', 'chat_message', 'message_id', n, 'text', 'Message ' || n || repeat('.', %(length)s))
from session_head, generate_series(1, %(rows)s) n where session_id = %(session_id)s;
update session_head set last_seq = last_seq + %(rows)s where session_id = %(session_id)s
"""


def fill(dsn: str, session_id: str, user_id: str, rows: int, length: int = 50) -> None:
    """Put rows into a log that nobody has open."""
    params = {"session_id": session_id, "user_id": user_id, "rows": rows, "length": length}
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(FILL, params)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(15):
        while not true():  # noqa: ASYNC110 - the hub has no event for this
            await asyncio.sleep(0.01)


async def lines(person: Person, path: str) -> list[Any]:
    answer = await person.get(path)
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    assert answer.body.endswith(b"\n")
    return [msgspec.json.decode(line) for line in answer.body.splitlines()]


def as_row(frame: dict[str, Any]) -> dict[str, Any]:
    """A stream's frame as the log prints it. The server's time is not the log's."""
    envelope = {name: frame.pop(name) for name in ("seq", "type", "actor", "at")}
    frame.pop("server_time", None)
    return {**envelope, "details": frame}


async def test_export_log_frames_and_attendance_agree(dsn: str, tmp_path: Path) -> None:
    """A small class, and what is said of it afterwards: event for event the same."""
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, ben = [
            await school.person(n, r) for n, r in (("T", "teacher"), ("Ann", "student"), ("Ben", "student"))
        ]
        made = (await teacher.post("/v1/sessions", {"title": "Physics 101"})).json
        session, code = made["id"], made["code"]
        async with teacher.stream(f"/v1/sessions/{session}/events") as stream:
            (first,) = await stream.until("snapshot")
            begin = int(first.body["cursor"].partition("-")[2])
            await teacher.does(session, "join")
            for person in (ann, ben):
                await person.post("/v1/sessions/join", {"code": code})
            await ann.does(session, "send_message", text="Hello")
            await ben.does(session, "send_message", text="To the teacher alone", to=teacher.user_id)
            await teacher.does(session, "send_message", text="Oops")
            await ann.does(session, "ask_question", text="Why?")
            await ben.does(session, "upvote_question", question_id=1)
            await teacher.does(session, "open_poll", question="Yes?", options=["Yes", "No"])
            await ann.does(session, "vote", poll_id=1, options=[1])
            await teacher.does(session, "edit_code", base_version=0, text="print(1)\n")
            await teacher.does(session, "edit_code", base_version=1, changes=[{"at": 6, "delete": 1, "insert": "2"}])
            await teacher.does(session, "start_recording")
            await ann.does(session, "raise_hand")
            await teacher.does(session, "log_event", event_type="layout_change", data={"to": "grid"})
            await ben.does(session, "leave")
            await teacher.does(session, "end")
            frames = await stream.until("session_ended")

        base = f"/v1/sessions/{session}"
        head, *exported = await lines(teacher, f"{base}/export")
        assert (head["type"], head["session"]["id"], head["last_seq"]) == ("session", session, exported[-1]["seq"])
        logged = (await teacher.get(f"{base}/log", limit=1_000)).json["items"]
        assert exported[: len(logged)] == logged
        assert [row["seq"] for row in exported] == list(range(1, len(exported) + 1))
        assert [as_row(frame.body) for frame in frames] == exported[begin : begin + len(frames)]

        async with teacher.stream(f"{base}/replay", speed=100) as stream:
            opening, *replayed, end = await stream.until("replay_end")
        assert opening.event == "snapshot"
        assert [as_row(frame.body) for frame in replayed] == exported[1:]
        assert end.body["cursor"] == replayed[-1].id

        attendance = (await teacher.get(f"{base}/attendance")).json
        came = {row["details"]["user_id"]: row["at"] for row in exported if row["type"] == "participant_joined"}
        assert {line["user_id"]: line["first_joined_at"] for line in attendance["items"]} == came
        gone = {row["details"]["user_id"]: row["at"] for row in exported if row["type"] == "participant_left"}
        at_end = next(row["at"] for row in exported if row["type"] == "session_ended")
        assert {line["user_id"]: line["last_left_at"] for line in attendance["items"]} == {
            user_id: gone.get(user_id, at_end) for user_id in came
        }


async def test_a_deleted_message_is_in_no_export(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = await school.session(teacher)
        await teacher.does(session, "send_message", text="My secret")
        await teacher.does(session, "delete_message", message_id=1)
        answer = await teacher.get(f"/v1/sessions/{session}/export")
        assert b"My secret" not in answer.body


async def test_what_two_others_said_to_each_other_is_in_no_export(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, ben = [
            await school.person(n, r) for n, r in (("T", "teacher"), ("Ann", "student"), ("Ben", "student"))
        ]
        session = await school.session(teacher, ann, ben)
        await ann.does(session, "send_message", text="Between us", to=ben.user_id)
        await ann.does(session, "send_message", text="To the teacher", to=teacher.user_id)
        path = f"/v1/sessions/{session}"
        exported = [row for row in await lines(teacher, f"{path}/export") if row["type"] == "chat_message"]
        assert [(row["details"]["text"], row["details"]["to"]) for row in exported] == [
            ("", ben.user_id),
            ("To the teacher", teacher.user_id),
        ]
        assert exported == (await teacher.get(f"{path}/log", type="chat_message")).json["items"]


async def test_rows_of_every_size_come_whole(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = (await teacher.post("/v1/sessions", {"title": "Large rows"})).json["id"]
        for rows, length in ((700, 10), (3, 900_000), (700, 10), (40, 60_000), (1, 10)):
            fill(dsn, session, teacher.user_id, rows, length)
        _, *exported = await lines(teacher, f"/v1/sessions/{session}/export")
        assert [row["seq"] for row in exported] == list(range(1, 1 + 700 + 3 + 700 + 40 + 1 + 1))
        assert len(exported[702]["details"]["text"]) > 900_000


async def test_a_client_that_goes_away_stops_the_work(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = (await teacher.post("/v1/sessions", {"title": "Long"})).json["id"]
        fill(dsn, session, teacher.user_id, 20_000, 1_000)
        hub = school.server.services.hub
        async with school.client.get(
            f"{school.server.url}/v1/sessions/{session}/export", headers=teacher.headers
        ) as response:
            await response.content.readexactly(1_000)
            assert len(hub) == 1
            response.close()
        await until(lambda: len(hub) == 0)


async def test_an_export_ends_with_the_login(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = (await teacher.post("/v1/sessions", {"title": "Long"})).json["id"]
        fill(dsn, session, teacher.user_id, 20_000, 1_000)
        async with school.client.get(
            f"{school.server.url}/v1/sessions/{session}/export", headers=teacher.headers
        ) as response:
            await response.content.readexactly(1_000)
            assert (await teacher.post("/v1/auth/logout")).status == 204
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        await until(lambda: len(school.server.services.hub) == 0)


async def test_downloads_count_as_streams(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path, limits__streams_per_user=1) as school:
        teacher = await school.person("Teacher", "teacher")
        session = (await teacher.post("/v1/sessions", {"title": "Long"})).json["id"]
        fill(dsn, session, teacher.user_id, 20_000, 1_000)
        async with school.client.get(
            f"{school.server.url}/v1/sessions/{session}/export", headers=teacher.headers
        ) as response:
            await response.content.readexactly(1_000)
            refused = await teacher.get(f"/v1/sessions/{session}/export")
            refused.refused(429, "too_many_streams")
            assert refused.headers["Retry-After"] == "5"


# Memory, of a process of its own


@contextlib.contextmanager
def served(dsn: str, path: Path) -> Iterator[tuple[str, int, str]]:
    """Run `homeroom serve`; give its URL, its pid and its signing key."""
    key = "k" * 32
    environment = {**os.environ, "HOMEROOM_DATABASE__DSN": dsn, "HOMEROOM_AUTH__SIGNING_KEY": key}
    command = [sys.executable, "-m", "server", "serve", "--port", "0", "--data", str(path)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if ready := re.search(r"ready at (\S+)", line):
                yield ready[1], process.pid, key
                break
    finally:
        process.terminate()
        process.wait(20)
        if process.stdout is not None:
            process.stdout.close()


def memory_kib(pid: int, what: str) -> int:
    return int(re.search(rf"^{what}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])  # type: ignore[index]


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def growth(dsn: str, path: Path, rows: int) -> tuple[float, int, float]:
    """Export so many rows; give the growth of the server's memory in MiB, the bytes sent, and the seconds it took."""
    user_id, session_id = "01990000-0000-7000-8000-00000000000a", "01990000-0000-7000-8000-000000000001"
    with served(dsn, path) as (url, pid, key):
        user = User(user_id, 1, "Teacher", "t@example.org", None, "teacher", None)  # type: ignore[arg-type]
        with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(
                "insert into users (user_id, name, email, role) values (%s, 'Teacher', 't@example.org', 'teacher')",
                (user_id,),
            )
        token = Tokens(key, issuer="homeroom", audience="homeroom", ttl_s=3_600).issue(user, session_id)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(url, headers=headers) as client:
            async with client.post("/v1/sessions", json={"title": "Physics 101"}) as made:
                session_id = (await made.json())["id"]
            async with client.get(f"/v1/sessions/{session_id}/export") as warm:
                assert len((await warm.read()).splitlines()) == 2
            await asyncio.to_thread(fill, dsn, session_id, user_id, rows)
            before = memory_kib(pid, "VmRSS")
            forget_peak(pid)
            began = asyncio.get_running_loop().time()
            size = newlines = 0
            timeout = aiohttp.ClientTimeout(total=None)
            async with client.get(f"/v1/sessions/{session_id}/export", timeout=timeout) as response:
                async for part in response.content.iter_any():
                    size += len(part)
                    newlines += part.count(b"\n")
            took = asyncio.get_running_loop().time() - began
            assert newlines == rows + 2
            return (memory_kib(pid, "VmHWM") - before) / 1024, size, took


async def test_memory_stays_as_it_is(dsn: str, tmp_path: Path) -> None:
    grown, size, _ = await growth(dsn, tmp_path, 20_000)
    assert size > 3 << 20
    assert grown < 24, f"{grown:.1f} MiB"


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_million_rows(dsn: str, tmp_path: Path) -> None:
    grown, size, took = await growth(dsn, tmp_path, 1_000_000)
    print(json.dumps({"rows": 1_000_000, "grown_mib": round(grown, 1), "mib": size >> 20, "seconds": round(took, 1)}))
    assert grown < 64, f"{grown:.1f} MiB"
