"""Replay: a session again, in its own rhythm, over SSE and on the command line."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import psycopg2

from tests.support.lesson import Frame, Person, School, Stream, lesson


def spread(dsn: str, session: str, *at_s: float) -> None:
    """Say when a session's rows happened, in seconds from its first."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        for seq, at in enumerate(at_s, 1):
            cursor.execute(
                "update session_log set at = (select at from session_log where session_id = %s and seq = 1)"
                " + %s * interval '1 s' where session_id = %s and seq = %s",
                (session, at, session, seq),
            )


async def ended(school: School, *texts: str) -> tuple[Person, Person, str]:
    """A past session: created 1, started 2, Teacher 3, Ann 4, messages from 5 on, ended."""
    teacher, ann = await school.person("Teacher", "teacher"), await school.person("Ann")
    session = await school.session(teacher, ann)
    for text in texts:
        await ann.does(session, "send_message", text=text)
    await teacher.does(session, "end")
    return teacher, ann, session


async def replayed(person: Person, session: str, **query: object) -> tuple[list[Frame], list[float]]:
    """Read a replay to its end; give its frames, and when each came, in seconds from the first."""
    loop = asyncio.get_running_loop()
    frames, times = [], []
    async with person.stream(f"/v1/sessions/{session}/replay", **query) as stream:
        async for frame in stream:
            frames.append(frame)
            times.append(loop.time())
    assert frames[-1].event == "replay_end"
    return frames, [at - times[0] for at in times]


async def test_frames_are_those_of_the_stream(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann = await school.person("Teacher", "teacher"), await school.person("Ann")
        session = await school.session(teacher, ann)
        async with ann.stream(f"/v1/sessions/{session}/events") as stream:
            (first,) = await stream.until("snapshot")
            await ann.does(session, "send_message", text="Hello")
            await teacher.does(session, "send_message", text="To Ann", to=ann.user_id)
            await ann.does(session, "ask_question", text="Why?", anonymous=True)
            await teacher.does(session, "log_event", event_type="layout_change")
            await teacher.does(session, "end")
            live = await stream.until("session_ended")
        after = int(first.body["cursor"].partition("-")[2])
        frames, _ = await replayed(ann, session, speed=100, **{"from": after + 1})
        assert frames[1:-1] == live
        assert "event_logged" not in {frame.event for frame in frames}
        assert "event_logged" in {frame.event for frame in (await replayed(teacher, session, speed=100))[0]}


async def test_the_rhythm_is_kept_and_silences_are_cut(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, session = await ended(school, "One", "Two")
        spread(dsn, session, 0, 1, 2, 32, 62.001, 92.5, 122.9)
        frames, times = await replayed(teacher, session, speed=100)
        assert [frame.event for frame in frames] == [
            "snapshot", "session_started", "participant_joined", "participant_joined",
            "gap", "chat_message", "gap", "chat_message", "gap", "session_ended", "replay_end",
        ]  # fmt: skip
        assert frames[4].body["seconds"] == 30.001
        # Due at 0, 0.01, 0.31, then thrice 0.02: silences of 30 s become 2 s, all a hundred times as fast.
        for index, due in ((2, 0.01), (3, 0.31), (5, 0.33), (7, 0.35), (9, 0.37)):
            assert due - 0.02 <= times[index] < due + 2, (index, times)
        frames, times = await replayed(teacher, session, speed=100, gaps=1)
        assert "gap" not in {frame.event for frame in frames}
        assert times[-1] >= 1.2


async def test_from_a_row_or_a_moment(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann, session = await ended(school, "One", "Two", "Three")
        spread(dsn, session, 0, 10, 11, 12, 20, 30, 40, 50)
        frames, _ = await replayed(ann, session, speed=100, **{"from": 6})
        assert [frame.body["seq"] for frame in frames[1:-1]] == [6, 7, 8]
        assert [message["text"] for message in frames[0].body["chat"]] == ["One"]
        assert frames[0].body["cursor"] == "2-5"  # row 1 is of the epoch before
        assert frames[0].body["session"]["status"] == "live"
        frames, times = await replayed(ann, session, speed=100, **{"from": "15.5s"})
        assert [frame.body["seq"] for frame in frames[1:-1]] == [6, 7, 8]
        assert times[1] >= 0.03, "the clock starts at the moment, not at a row"
        frames, _ = await replayed(teacher, session, speed=100, **{"from": 999})
        assert [frame.event for frame in frames] == ["snapshot", "replay_end"]
        for bad in ("0", "-1", "1.5", "s", "x"):
            (await ann.get(f"/v1/sessions/{session}/replay", **{"from": bad})).refused(422, "invalid", "from")
        for bad in ("0.2", "101", "x"):
            (await ann.get(f"/v1/sessions/{session}/replay", speed=bad)).refused(422, "invalid", "speed")


async def test_a_recording_is_played_alone(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = await school.session(teacher)
        await teacher.does(session, "start_recording")
        await teacher.does(session, "send_message", text="Hello")
        await teacher.does(session, "stop_recording")
        await teacher.does(session, "send_message", text="After")
        frames, _ = await replayed(teacher, session, speed=100, recording=1)
        assert [frame.event for frame in frames] == [
            "snapshot", "recording_started", "chat_message", "recording_stopped", "replay_end",
        ]  # fmt: skip
        (await teacher.get(f"/v1/sessions/{session}/replay", recording=2)).refused(
            404, "unknown_recording", "recording"
        )


async def test_a_live_session_is_played_up_to_now(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = await school.session(teacher)
        await teacher.does(session, "send_message", text="Hello")
        frames, _ = await replayed(teacher, session, speed=100)
        assert [frame.event for frame in frames[-2:]] == ["chat_message", "replay_end"]


async def test_it_resumes_where_it_was(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, session = await ended(school, "One", "Two")
        whole, _ = await replayed(teacher, session, speed=100)
        place = whole[3]
        path = f"/v1/sessions/{session}/replay"
        headers = {**teacher.headers, "Last-Event-ID": str(place.id)}
        async with school.stream(path, headers=headers, params={"speed": 100}) as stream:
            resumed, *rest = await stream.until("replay_end")
        assert (resumed.event, resumed.body) == ("resumed", {"from": "2-4", "to": "2-7", "missed": 3})
        assert rest == whole[4:]
        for unknown in ("1-4", "2-99", "2-0"):
            frames, _ = await replayed(teacher, session, speed=100, cursor=unknown)
            assert [frame.event for frame in frames[:2]] == ["reset", "snapshot"]
            assert frames[2:] == whole[1:]
        (await teacher.get(path, cursor="nonsense")).refused(422, "invalid", "cursor")


async def test_a_ticket_opens_it(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, session = await ended(school)
        ticket = (await teacher.post(f"/v1/sessions/{session}/tickets")).json["ticket"]
        query = {"ticket": ticket, "speed": "100"}
        async with school.stream(f"/v1/sessions/{session}/replay", params=query) as stream:
            await stream.until("replay_end")
        again = await school.send("GET", f"/v1/sessions/{session}/replay", params=query)
        again.refused(401, "bad_ticket")


async def test_a_ticket_of_a_login_that_is_over_opens_nothing(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, session = await ended(school)
        ticket = (await teacher.post(f"/v1/sessions/{session}/tickets")).json["ticket"]
        await teacher.post("/v1/auth/logout")
        over = await school.send("GET", f"/v1/sessions/{session}/replay", params={"ticket": ticket})
        over.refused(401, "revoked")


async def test_what_is_deleted_while_it_waits_is_not_shown(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher = await school.person("Teacher", "teacher")
        session = await school.session(teacher)
        await teacher.does(session, "send_message", text="My secret")
        spread(dsn, session, 0, 1, 2, 12)
        async with teacher.stream(f"/v1/sessions/{session}/replay", speed=4) as stream:
            await stream.until("participant_joined")
            await teacher.does(session, "delete_message", message_id=1)
            frames = await stream.until("replay_end")
        assert (frames[0].event, frames[0].body["text"], frames[0].body["deleted"]) == ("chat_message", "", True)


async def test_it_ends_with_the_login(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, session = await ended(school)
        spread(dsn, session, 0, 1, 2, 30, 60)
        async with teacher.stream(f"/v1/sessions/{session}/replay", speed=0.25) as stream:
            await stream.until("session_started")
            await teacher.post("/v1/auth/logout")
            frames = await stream.until("bye")
        assert frames[-1].body == {"reason": "expired", "retry": 0}
        assert len(school.server.services.hub) == 0


async def test_it_ends_with_the_server(dsn: str, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack, aiohttp.ClientSession() as client:
        school = await stack.enter_async_context(lesson(dsn, tmp_path))
        teacher, _, session = await ended(school)
        spread(dsn, session, 0, 1, 2, 30, 60)
        url = f"{school.server.url}/v1/sessions/{session}/replay"
        async with client.get(url, headers=teacher.headers) as response:
            stream = Stream(response)
            await stream.until("session_started")
            stopping = asyncio.create_task(stack.aclose())
            frames = await stream.until("bye")
            await stopping
        assert frames[-1].body["reason"] == "draining"


async def test_it_ends_when_its_reader_is_thrown_out(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, ann = await school.person("Teacher", "teacher"), await school.person("Ann")
        session = await school.session(teacher, ann)
        spread(dsn, session, 0, 1, 2, 30)
        async with ann.stream(f"/v1/sessions/{session}/replay", speed=0.25) as stream:
            await stream.until("session_started")
            await teacher.does(session, "kick", user_id=ann.user_id)
            frames = await stream.until("bye")
        assert frames[-1].body == {"reason": "kicked", "retry": None}


async def test_a_reader_who_goes_away_stops_the_work(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        teacher, _, session = await ended(school)
        spread(dsn, session, 0, 1, 2, 30, 60)
        hub = school.server.services.hub
        async with teacher.stream(f"/v1/sessions/{session}/replay", speed=0.25) as stream:
            await stream.until("session_started")
            assert len(hub) == 1
        async with asyncio.timeout(10):
            while len(hub):  # noqa: ASYNC110 - the hub has no event for this
                await asyncio.sleep(0.01)


async def test_on_the_command_line(dsn: str, tmp_path: Path) -> None:
    async with lesson(dsn, tmp_path) as school:
        _, _, session = await ended(school, "One", "Two")

    def printed(*options: str) -> list[str]:
        command = [sys.executable, "-m", "server", "replay", session, "--data", str(tmp_path), *options]
        environment = {**os.environ, "HOMEROOM_DATABASE__DSN": dsn}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    whole = await asyncio.to_thread(printed)
    assert [line.split()[2] for line in whole] == [
        "session_created", "session_started", "participant_joined", "participant_joined",
        "chat_message", "chat_message", "session_ended",
    ]  # fmt: skip
    assert await asyncio.to_thread(printed, "--from", "5", "--follow") == whole[4:]
    spread(dsn, session, 0, 1, 2, 3, 4, 40, 41)
    played = await asyncio.to_thread(printed, "--speed", "100")
    assert [line.split()[2] for line in played if "silence" not in line] == [line.split()[2] for line in whole]
    assert "36 s of silence" in played[5]
