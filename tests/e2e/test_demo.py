"""The demo: a class that a newcomer can join from the printed link, and that stops cleanly."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import aiohttp

from server.bootstrap.lifecycle import running
from server.demo.classes import play
from server.demo.lessons import LESSONS, STUDENTS, TEACHER
from tests.support.client import Person
from tests.support.serving import settings

ROOT = Path(__file__).parents[2]
PATIENCE_S = 40.0
FAST = 200.0


async def printed(process: asyncio.subprocess.Process, pattern: str) -> re.Match[str]:
    """Wait until the demo prints a line that matches."""
    assert process.stdout is not None
    said = []
    async with asyncio.timeout(PATIENCE_S):
        async for line in process.stdout:
            said.append(line.decode())
            if found := re.search(pattern, said[-1]):
                return found
    raise AssertionError(f"the demo ended without saying {pattern}: {said}")


async def test_a_newcomer_joins_the_demo_class_and_is_answered(dsn: str, tmp_path: Path) -> None:
    for _ in range(2):  # the second time on the database of the first
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "demo", "--port", "0", "--data", str(tmp_path)),
            cwd=ROOT,
            env={**os.environ, "HOMEROOM_DATABASE__DSN": dsn},
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            link = await printed(process, r"(http://127\.0\.0\.1:\d+)/\?code=([A-Z0-9]{6})$")
            async with aiohttp.ClientSession() as http:
                url, code = link.groups()
                async with http.get(link[0]) as page:
                    assert page.status == 200
                ann = await Person.register(http, url, "Ann", f"ann-{os.urandom(4).hex()}@example.org", "student")
                joined = (await ann.post("/v1/sessions/join", {"code": code})).ok()
                assert joined["session"]["title"] == LESSONS[0].title
                assert joined["session"]["owner"]["name"] == TEACHER
                async with ann.stream(f"/v1/sessions/{joined['session']['id']}/events") as stream:
                    # The message may be older than the stream.
                    there = (await stream.until("snapshot")).data["chat"]
                    if not any("Welcome, Ann" in message["text"] for message in there):
                        await stream.until("chat_message", lambda data: "Welcome, Ann" in data["text"])
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(PATIENCE_S):
                assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


async def test_the_demo_plays_one_class_after_another(dsn: str, tmp_path: Path) -> None:
    said: list[str] = []
    third = asyncio.Event()

    def say(text: str) -> None:
        said.append(text)
        if sum("code=" in line for line in said) == len(LESSONS) + 1:
            third.set()

    async with running(settings(dsn, tmp_path)) as server:
        playing = asyncio.create_task(play(server.url, "https://shown.example.org", say, speed=FAST))
        waiting = asyncio.create_task(third.wait())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.wait((playing, waiting), return_when=asyncio.FIRST_COMPLETED)
        assert third.is_set(), said
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        codes = re.findall(r"https://shown\.example\.org/\?code=(\w+)", "\n".join(said))
        assert len(set(codes)) == len(LESSONS) + 1
        for lesson, code in zip(LESSONS, codes, strict=False):
            session_id, _ = await server.services.session_lookup.resolve(code)
            rows = await server.services.log.read(session_id, 0, 1_000)
            happened = [type(row.event).__struct_config__.tag for row in rows]
            assert happened[-1] == "session_ended", lesson.title
            assert happened.count("participant_joined") == 1 + len(STUDENTS) + 1, "one leaves and comes back"
            wanted = {cue.do["type"] for cue in lesson.cues}
            assert {"send_message", "react", "raise_hand", "call_next", "mute", "unmute", "leave"} <= wanted
            assert {"hand_called", "message_reacted", "all_muted", "participant_left"} <= set(happened)
        last, _ = await server.services.session_lookup.resolve(codes[-1])
        summary = await server.services.log.summary(last)
        over = summary.by_type.get("session_ended", 0) + summary.by_type.get("session_cancelled", 0)
        assert over == 1, "broken off, and over: it may not have begun"


def test_the_script_refers_only_to_its_cast_and_to_earlier_messages() -> None:
    for lesson in LESSONS:
        spoken: set[str] = set()
        for cue in lesson.cues:
            named = {cue.do[key] for key in ("user_id", "to") if key in cue.do}
            assert {cue.who} | named <= {TEACHER, *STUDENTS}
            assert {cue.do[key] for key in ("message_id", "reply_to") if key in cue.do} <= spoken, cue
            if cue.do["type"] == "send_message":
                spoken.add(cue.who)
