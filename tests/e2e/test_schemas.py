"""Every API conforms to its own OpenAPI description: schemathesis sends valid and invalid requests."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.dialects import tables
from server.settings.sections import Settings
from server.v1.table import API
from tests.support.client import Person
from tests.support.dialects.toy import dialect as toy
from tests.support.serving import Town, serving

APIS = (API, *tables(Settings()), toy())
CHECKS = "status_code_conformance,content_type_conformance,response_schema_conformance"
EXAMPLES = 4
"""Requests of a kind and route; the long run has more."""
PATIENCE_S = 240
STREAMS = "text/event-stream"


@pytest.fixture
async def town(dsn: str, tmp_path: Path) -> AsyncIterator[Town]:
    lifted = {"guests_per_minute": 1_000_000, "user_commands_per_s": 1_000_000, "user_burst": 1_000_000}
    async with serving(dsn, tmp_path / "data", apis=APIS, limits=lifted) as town:
        yield town


def endless(operation: dict[str, Any]) -> bool:
    """Return whether a route's answer is endless or not HTTP."""
    return "101" in operation["responses"] or any(
        STREAMS in answer.get("content", {}) for answer in operation["responses"].values()
    )


def narrowed(document: dict[str, Any], ref: str) -> dict[str, Any]:
    """Restrict a description to one existing session, without endless routes and without logging out."""
    for path, item in list(document["paths"].items()):
        for method, operation in list(item.items()):
            if endless(operation) or path.endswith(("/logout", "/auth/refresh", "/broken/")):
                del item[method]
            # The description does not contain the handling of keys.
            operation["parameters"] = [one for one in operation["parameters"] if one["name"] != "case"]
            for parameter in operation["parameters"]:
                if parameter["name"] == "ref":
                    parameter["schema"] = {"enum": [ref]}
    return document


MAKING: dict[str, tuple[str, dict[str, Any], str]] = {
    "tutorium": ("/tutorium/api/v1/sessions", {"title": "Physics"}, "id"),
    "seeds": ("/seeds/sessions", {"title": "Physics"}, "session_id"),
    "lesson": ("/v1/sessions", {"title": "Physics", "kind": "lesson"}, "id"),
    "live": ("/live/sessions", {"courseId": "c", "startsAt": "2030-01-01T00:00:00Z"}, "roomName"),
    "toy": ("/toy/rooms", {"title": "Physics"}, "n"),
    "v1": ("/v1/sessions", {"title": "Physics"}, "id"),
}
"""Where an API's sessions are made, of what, and what names them in the answer."""


async def session_for(town: Town, teacher: Person, api: Any) -> str:
    """Create a session; return its reference in an API."""
    if api.name == "interview":
        body = {"creator": {"id": teacher.id, "name": teacher.name}}
        return str((await teacher.post("/interview/api/v1/sessions", body)).ok(201)["data"]["id"])
    path, body, named = MAKING[api.name]
    reply = await teacher.post(path, body)
    return str(reply.ok(reply.status)[named])


async def explored(document: Path, url: str, token: str, checks: str, examples: int) -> tuple[int, str]:
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", url, "--checks", checks,
        "--header", f"Authorization: Bearer {token}", "--max-examples", str(examples), "--seed", "1",
        "--phases", "examples,coverage,fuzzing", "--no-color", "--request-timeout", "8", "--warnings", "off",
        "--suppress-health-check", "all", "--generation-database", "none",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=document.parent
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode or 0, output.decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
async def test_every_answer_of_an_api_conforms_to_its_openapi_description(
    town: Town, tmp_path: Path, caplog: pytest.LogCaptureFixture, api: Any
) -> None:
    teacher = await town.teacher()
    document = (await town.anyone.get(api.description_path)).ok()
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(narrowed(document, await session_for(town, teacher, api))))
    # A 500 that a product's own document has is no failure; an unexpected one is in the log.
    meant = any("500" in operation["responses"] for item in document["paths"].values() for operation in item.values())
    checks = CHECKS if meant else f"not_a_server_error,{CHECKS}"
    status, output = await explored(path, town.url, teacher.token or "", checks, EXAMPLES)
    assert status == 0, output[-20_000:]
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
