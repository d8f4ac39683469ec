"""What `/metrics` shows of requests, streams, commits and storage, and that readiness notices failing commits."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from actors.ports import LogUnavailable
from server.settings.types import Secret
from tests.support.client import PATIENCE_S
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

TOKEN = "a token of thirty-two bytes or more"


async def metrics(town: Town) -> dict[str, float]:
    """Return the samples of a scrape, by name and labels."""
    text = (await town.anyone.get("/metrics")).body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


COMMANDS = 'homeroom_requests_total{method="POST",route="/v1/sessions/{ref}/commands",status="200"}'
ALWAYS = (
    COMMANDS,
    COMMANDS.replace("200", "500"),
    COMMANDS.replace("200", "503"),
    'homeroom_refusals_total{reason="busy"}',
    'homeroom_refusals_total{reason="not_joined"}',
    'homeroom_request_seconds_bucket{api="v1",kind="direct_command",le="+Inf"}',
    'homeroom_logins_total{outcome="rejected"}',
    'homeroom_streams_closed_total{reason="slow"}',
    'homeroom_commit_failures_total{cause="unavailable"}',
    'homeroom_outbox_oldest_seconds{kind="webhook"}',
    'homeroom_outbox_attempts_total{kind="push",outcome="dead"}',
    'homeroom_pushes_total{outcome="later"}',
    "homeroom_pool_wait_seconds_total",
    "homeroom_stream_buffered_bytes",
    "homeroom_uploads",
)


async def test_the_first_scrape_has_every_series_that_an_alert_needs(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        first = await metrics(town)
        assert [name for name in ALWAYS if first.get(name) != 0] == []
        assert first["homeroom_disk_bytes"] >= first["homeroom_disk_free_bytes"] > 0
        assert [value for name, value in first.items() if name.startswith("homeroom_build_info{")] == [1]


async def test_requests_refusals_and_latencies_are_counted_on_every_way_of_answering(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host, anna = await town.classroom("Anna")
        before = await metrics(town)
        for _ in range(3):
            await host.say("in the fast lane")
        (await host.command("send_message", text="by aiohttp", idempotency_key="k-1")).ok()
        (await anna.command("lock")).refused(403, "not_permitted")
        (await town.anyone.get("/v1/me")).refused(401)
        (await town.anyone.get("/nowhere")).refused(404)
        after = await metrics(town)

        def more(name: str) -> float:
            return after[name] - before.get(name, 0)

        assert more(COMMANDS) == 4
        assert more(COMMANDS.replace("200", "403")) == 1
        assert more('homeroom_refusals_total{reason="not_permitted"}') == 1
        assert more('homeroom_requests_total{method="GET",route="/v1/me",status="401"}') == 1
        assert more('homeroom_requests_total{method="*",route="unknown",status="404"}') == 1
        assert more('homeroom_request_seconds_count{api="v1",kind="direct_command"}') == 5


async def test_logins_are_counted_by_result(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        tess = await town.teacher()
        for password in ("correct horse", "wrong horse", "wrong again"):
            await town.anyone.post("/v1/auth/login", {"email": tess.email, "password": password})
        samples = await metrics(town)
        assert samples['homeroom_logins_total{outcome="accepted"}'] == 1
        assert samples['homeroom_logins_total{outcome="rejected"}'] == 2
        assert samples['homeroom_refusals_total{reason="bad_credentials"}'] == 2


async def test_streams_are_counted_once_when_they_open_and_close(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host, anna = await town.classroom("Anna")
        async with host.stream() as left, anna.stream() as kicked:
            await left.until("snapshot")
            await kicked.until("snapshot")
            await host.do("kick", user_id=anna.user_id)
            await kicked.bye("kicked")
        await wait_for(lambda: len(town.server.services.hub) == 0)
        samples = await metrics(town)
        assert samples["homeroom_streams_opened_total"] == 2
        assert samples['homeroom_streams_closed_total{reason="kicked"}'] == 1
        assert samples['homeroom_streams_closed_total{reason="client"}'] == 1


# Commits


async def test_readiness_reports_a_commit_that_hangs(dsn: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.bootstrap.health.COMMIT_HANGS_S", 0.05)
    async with serving(dsn, data) as town:
        host, *_ = await town.classroom()
        with town.frozen(host):
            waiting = asyncio.create_task(host.command("send_message", text="hello"))
            async with asyncio.timeout(PATIENCE_S):
                while (ready := await town.anyone.get("/readyz")).status == 200:
                    pass
            assert ready.json == {"status": "unavailable", "database": "commits fail"}
            assert (await metrics(town))["homeroom_commit_running_seconds"] > 0.05
        (await waiting).ok()
        (await town.anyone.get("/readyz")).ok()
        assert (await metrics(town))["homeroom_commit_running_seconds"] == 0


async def test_readiness_reports_a_failed_commit_until_one_succeeds(
    dsn: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*args: object) -> None:
        raise LogUnavailable("as the test says")

    async with serving(dsn, data) as town:
        host, *_ = await town.classroom()
        with monkeypatch.context() as patch:
            patch.setattr(town.server.services.log, "append", unavailable)
            (await host.command("send_message", text="hello")).refused(503)
            refused = await town.anyone.get("/readyz")
        assert (refused.status, refused.json["database"]) == (503, "commits fail")
        assert (await metrics(town))['homeroom_commit_failures_total{cause="unavailable"}'] == 1
        await host.insist("send_message", text="again")
        (await town.anyone.get("/readyz")).ok()


async def test_a_failed_commit_does_not_keep_a_server_without_traffic_unready(
    dsn: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*args: object) -> None:
        raise LogUnavailable("as the test says")

    monkeypatch.setattr("server.bootstrap.health.COMMIT_FAILED_S", 0.0)
    async with serving(dsn, data) as town:
        host, *_ = await town.classroom()
        monkeypatch.setattr(town.server.services.log, "append", unavailable)
        (await host.command("send_message", text="hello")).refused(503)
        (await town.anyone.get("/readyz")).ok()


# Who may read, and what is logged


async def test_a_token_opens_metrics_to_other_machines(dsn: str, data: Path) -> None:
    remote = {"X-Forwarded-For": "203.0.113.1"}
    async with serving(dsn, data, server={"metrics_token": Secret(TOKEN)}) as town:
        allowed = await town.anyone.call("GET", "/metrics", headers={**remote, "Authorization": f"Bearer {TOKEN}"})
        assert allowed.status == 200
        for wrong in (TOKEN, f"Bearer {TOKEN}x", "Bearer ", "Bearer é"):
            (await town.anyone.call("GET", "/metrics", headers={**remote, "Authorization": wrong})).refused(404)
    async with serving(dsn, data) as town:
        (await town.anyone.call("GET", "/metrics", headers={**remote, "Authorization": "Bearer "})).refused(404)


@pytest.mark.parametrize(("level", "logged"), [("info", False), ("debug", True)])
async def test_health_checks_and_files_are_logged_at_level_debug(
    dsn: str, data: Path, capfd: pytest.CaptureFixture[str], level: str, *, logged: bool
) -> None:
    quiet = ("/livez", "/readyz", "/metrics", "/docs")
    async with serving(dsn, data, server={"log_level": level}) as town:
        for path in quiet:
            assert (await town.anyone.get(path)).status == 200
        (await town.anyone.get("/v1/me")).refused(401)
    lines = [json.loads(line) for line in re.findall(r"^\{.*\}$", capfd.readouterr().err, re.M)]
    levels = {line["route"]: line["level"] for line in lines if line["event"] == "request"}
    assert levels["/v1/me"] == "info"
    assert {route: levels[route] for route in quiet if route in levels} == (
        dict.fromkeys(quiet, "debug") if logged else {}
    )


async def test_a_token_of_any_bytes_is_compared(dsn: str, data: Path) -> None:
    async with serving(dsn, data, server={"metrics_token": Secret(TOKEN)}) as town:
        head = b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 203.0.113.1\r\nConnection: close\r\n"
        assert (await town.exchange(head + b"Authorization: Bearer \xff\xfe\r\n\r\n"))[0] == 404
