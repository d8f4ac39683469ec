"""The README's walk-through, pasted as it stands into bash, against a real server."""

import asyncio
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from server.bootstrap.lifecycle import running
from tests.support.serving import settings

README = Path(__file__).parents[2] / "README.md"
MARK = "<!-- tests/e2e/test_readme.py runs this block as it stands -->\n```bash\n"
PATIENCE_S = 40.0


def walk_through() -> str:
    return README.read_text().split(MARK)[1].split("```")[0]


async def pasted(script: str, url: str) -> str:
    """Run a script in bash; return its output. Failures show on standard error."""
    process = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-s"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "BASE": url},
    )
    async with asyncio.timeout(PATIENCE_S):
        out, errors = await process.communicate(script.encode())
    assert errors == b""
    assert process.returncode == 0
    return out.decode()


async def test_the_walk_through_prints_the_output_that_the_readme_shows(dsn: str, tmp_path: Path) -> None:
    async with running(settings(dsn, tmp_path)) as server:
        printed = await pasted(walk_through(), server.url)
        again = await pasted(walk_through(), server.url)
    assert "You missed this." in again, "it can be pasted twice"

    lines = printed.splitlines()
    said: list[dict[str, Any]] = [json.loads(line) for line in lines if line.startswith("{")]
    assert said[0]["title"] == "Physics 101"
    assert lines[1:3] == ["live", "joined"]

    answers = [answer for answer in said if "events" in answer]
    kinds = [[event["type"] for event in answer["events"]] for answer in answers]
    assert kinds == [
        ["recording_started"],
        ["chat_message"],
        ["hand_raised"],
        *2 * [["chat_message"]],
        ["participant_muted"],
        ["recording_stopped", "session_ended"],
    ]
    assert answers[3] == answers[4], "the same Idempotency-Key"
    refusal = next(answer for answer in said if answer.get("status") == 403)
    assert refusal["reason"] == "not_permitted"

    first, resumed = printed.split("event: resumed\n")
    assert first.count("event: snapshot\n") == 1
    assert re.search(r'event: chat_message\ndata: .*"This is live\."', first)
    assert "This is live." not in resumed.split("event: chat_message")[0]
    assert re.search(r'event: chat_message\ndata: .*"You missed this\."', resumed)

    archive = said[said.index(answers[-1]) + 1 : -2]
    assert archive[0]["recording"]["status"] == "finished"
    assert [line["type"] for line in archive[1:]].count("chat_message") == 4
    assert "event: recording_stopped\n" in resumed
    attended = [line.split(",") for line in lines if ",joined," in line or ",left," in line]
    assert [(row[2], row[3]) for row in attended] == [("Teacher One", "host"), ("Student Two", "member")]

    log, summary = said[-2:]
    texts = [row["details"]["text"] for row in log["items"]]
    assert texts == ["Good morning!", "Hello!", "This is live.", "You missed this."]
    assert summary["joined"] == 2
    assert summary["by_type"]["chat_message"] == 4


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([^)#]+)", README.read_text()))))
def test_every_link_of_the_readme_has_a_target(name: str) -> None:
    assert (README.parent / name).exists()
