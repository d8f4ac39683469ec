"""The `seeds` walk with curl: as in the README, and as in the product's own document, without a token."""

import json
import re
from pathlib import Path

import msgspec

from server.bootstrap.lifecycle import running
from server.settings.sections import DialectsSettings, SeedsSettings
from tests.e2e.test_readme import README, pasted
from tests.support.serving import settings

MARK = "<!-- tests/e2e/test_seeds.py runs this block as it stands -->\n```bash\n"
NO_TOKEN = """
post() { curl -sS -X POST "$BASE/seeds$1" "${@:2}"; echo; }
post /auth/register -H 'Content-Type: application/json' \
  -d '{"name": "Teacher", "phone_number": "9876543210", "password": "secret123", "role": "teacher"}'
post /auth/register -H 'Content-Type: application/json' \
  -d '{"name": "Student", "phone_number": "9876543211", "password": "secret123", "role": "student"}'
post '/sessions?user_id=1' -H 'Content-Type: application/json' -d '{"title": "Maths"}'
post '/sessions/1/join' -F user_id=2
post '/sessions/1/participants/1/mute?mute=true&user_id=1'
curl -sS "$BASE/seeds/sessions/1/logs?user_id=1"; echo
"""
ROWS = ["session_created", "participant_joined", "participant_muted"]


async def test_the_seeds_walk_of_the_readme_works_with_tokens(dsn: str, tmp_path: Path) -> None:
    async with running(settings(dsn, tmp_path)) as server:
        printed = await pasted(README.read_text().split(MARK)[1].split("```")[0], server.url)
    joined, muted, *frames, log = printed.splitlines()
    assert json.loads(joined)["participant_id"] == 1
    assert json.loads(muted) == {"ok": True, "muted": True}
    assert re.findall(r"^event: (\w+)$", "\n".join(frames), re.MULTILINE) == ["connected", "session_state"]
    assert [row["event_type"] for row in json.loads(log)["logs"]] == ROWS[::-1]


async def test_the_seeds_walk_works_without_tokens_if_trust_user_id_is_on(dsn: str, tmp_path: Path) -> None:
    dialects = DialectsSettings(seeds=SeedsSettings(trust_user_id=True))
    trusting = msgspec.structs.replace(settings(dsn, tmp_path), dialects=dialects)
    async with running(trusting) as server:
        *_, log = (await pasted(NO_TOKEN, server.url)).splitlines()
    assert [row["event_type"] for row in json.loads(log)["logs"]] == ROWS[::-1]


async def test_the_seeds_walk_is_refused_without_tokens_if_trust_user_id_is_off(dsn: str, tmp_path: Path) -> None:
    async with running(settings(dsn, tmp_path)) as server:
        *_, joined, muted, log = (await pasted(NO_TOKEN, server.url)).splitlines()
    assert [json.loads(line) for line in (joined, muted, log)] == 3 * [{"detail": "Not authenticated"}]
