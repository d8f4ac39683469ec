"""For operators and for authors of clients: health, metrics, logs, CORS, errors and the documentation."""

import asyncio
import contextlib
import json
import logging
import re
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import psycopg2
import pytest

from actors.session.errors import Reason
from server import dialects
from server.api.routes import Api, UploadRoute
from server.bootstrap.lifecycle import running
from server.bootstrap.logging import set_up
from server.http.problems import STATUS
from server.settings.sections import Settings
from server.v1.table import API
from storage.embedded import server as embedded_postgres
from tests.support.client import PATIENCE_S, Client
from tests.support.serving import KEY, Town, read_answer, serving, settings, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL, GOOD = "https://evil.example.org", "https://app.example.org"


# Errors


async def test_every_reason_has_a_status() -> None:
    assert STATUS.keys() == set(Reason)
    assert all(400 <= HTTPStatus(status) < 500 for status in STATUS.values())


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/nowhere", 404),
        ("POST", "/v1", 404),
        ("GET", "/v1/sessions/x/y/z", 404),
        ("GET", "/static/nothing.js", 404),
        ("GET", "/static/../../config.toml", 404),
        ("GET", "/static/%2e%2e/%2e%2e/config.toml", 404),
        ("PUT", "/v1/sessions", 405),
        ("DELETE", "/v1/auth/login", 405),
        ("GET", "/v1/auth/login", 405),
        ("OPTIONS", "/v1/sessions", 405),
        ("POST", "/livez", 405),
        ("TRACE", "/v1/me", 405),
    ],
)
async def test_every_refusal_is_a_problem(town: Town, method: str, path: str, status: int) -> None:
    answer = await town.exchange(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
    assert answer[0] == status
    assert answer[1]["content-type"] == "application/problem+json"
    assert json.loads(answer[2])["status"] == status
    if status == 405:
        assert answer[1]["allow"]


async def test_head_is_answered_without_a_body(town: Town) -> None:
    for path in ("/livez", "/v1/me", "/v1/sessions/x/events", "/"):
        reply = await town.anyone.call("HEAD", path)
        assert reply.status in (200, 401, 405)
        assert reply.body == b""


async def test_every_answer_has_a_request_id_of_its_own(town: Town) -> None:
    host, *_ = await town.classroom()
    replies = [
        await town.anyone.get("/livez"),
        await town.anyone.get("/nowhere"),
        await host.command("lock"),
        await host.command("lock", idempotency_key=""),
        await host.person.get(host.path),
    ]
    ids = {reply.headers["X-Request-Id"] for reply in replies}
    assert len(ids) == len(replies)
    assert all(reply.headers["X-Content-Type-Options"] == "nosniff" for reply in replies)
    assert {reply.headers.get("Server", "Homeroom") for reply in replies} == {"Homeroom"}


# The database becomes unavailable and returns


async def terminate(town: Town) -> None:
    town.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid()"
    )


async def test_lost_database_connections_are_replaced_silently(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host, anna = await town.classroom("Anna")
        async with anna.stream() as stream:
            await stream.until("snapshot")
            for number in range(3):
                await terminate(town)
                await host.insist("send_message", text=f"after {number}")
                (await anna.person.get(anna.path)).ok()
                await stream.until("chat_message")
                assert stream.texts[-1] == f"after {number}"
        said = await host.log(type="chat_message")
        assert [row["details"]["text"] for row in said] == [f"after {number}" for number in range(3)]


async def test_a_commit_whose_connection_breaks_is_answered_503_and_done_once(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host, anna = await town.classroom("Anna")
        async with host.stream() as stream:
            await stream.until("snapshot")
            with town.frozen(host):
                waiting = asyncio.create_task(anna.command("send_message", text="once", idempotency_key="k-1"))
                rows: list[Any] = []
                async with asyncio.timeout(PATIENCE_S):
                    while not rows:
                        rows = town.query(
                            "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' "
                            "and datname = current_database()"
                        )
                        await asyncio.sleep(0.01)
            refused = await waiting
            refused.refused(503, "unavailable")
            assert int(refused.headers["Retry-After"]) >= 1
            again = await anna.insist("send_message", text="once", idempotency_key="k-1")
            assert again["events"][0]["text"] == "once"
            # The stream stayed open and missed nothing.
            await stream.until("chat_message")
            await host.say("after")
            await stream.until("chat_message", lambda data: data["text"] == "after")
            assert stream.texts == ["once", "after"]
        assert len(await host.log(type="chat_message")) == 2


async def test_requests_get_503_while_the_database_is_away_and_succeed_afterwards(
    data: Path, scratch: str | None
) -> None:
    import shutil
    import tempfile

    directory = Path(tempfile.mkdtemp(prefix="homeroom-away-", dir=scratch))
    fast = {"fsync": "off"}
    postgres = await asyncio.to_thread(embedded_postgres.start, directory, settings=fast)
    try:
        async with serving(postgres.dsn, data, database={"connect_timeout_s": 0.3}) as town:
            host, anna = await town.classroom("Anna")
            async with anna.stream() as stream:
                await stream.until("snapshot")
                await host.say("before")
                (await town.anyone.get("/readyz")).ok()
                await asyncio.to_thread(postgres.stop)
                for reply in (
                    await host.command("send_message", text="lost", idempotency_key="k-1"),
                    await host.person.get("/v1/sessions"),
                    await host.person.post("/v1/sessions", {"title": "x"}),
                    await host.person.get(f"{host.path}/log"),
                    await town.anyone.post("/v1/auth/login", {"email": "a@b.cd", "password": "x" * 8}),
                ):
                    reply.refused(503, "unavailable")
                    assert int(reply.headers["Retry-After"]) >= 1
                    assert b"psycopg" not in reply.body
                    assert str(directory).encode() not in reply.body
                assert (await town.anyone.get("/readyz")).status == 503
                (await town.anyone.get("/livez")).ok()
                postgres = await asyncio.to_thread(embedded_postgres.start, directory, settings=fast)
                await host.insist("send_message", text="lost", idempotency_key="k-1")
                (await town.anyone.get("/readyz")).ok()
                await stream.until("chat_message", lambda data: data["text"] == "lost")
                assert stream.texts == ["before", "lost"]
            texts = [row["details"]["text"] for row in await host.log(type="chat_message")]
            assert texts == ["before", "lost"]
    finally:
        await asyncio.to_thread(postgres.stop)
        shutil.rmtree(directory)


# Logs


async def test_logs_contain_no_token_code_ticket_or_text(
    dsn: str, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root, aiohttps = logging.getLogger(), logging.getLogger("aiohttp.server")
    handlers, level, disabled = root.handlers[:], root.level, aiohttps.disabled
    set_up("debug")
    try:
        async with serving(dsn, data, server={"log_level": "debug"}) as town:
            host, anna = await town.classroom("Anna")
            said = await host.say("XYLOPHONE")
            ticket = (await anna.person.post(f"{anna.path}/tickets")).ok(201)["ticket"]
            async with town.anyone.stream(f"{anna.path}/events", params={"ticket": ticket}) as stream:
                await stream.until("snapshot")
            await town.anyone.get(f"/v1/sessions/{host.code}")
            await anna.person.get(f"/v1/sessions/{host.code}")
            (await town.anyone.post("/v1/auth/refresh", {"refresh_token": anna.person.refresh_token})).ok()
            (await town.anyone.post("/v1/auth/refresh", {"refresh_token": anna.person.refresh_token})).refused(401)
            await town.exchange(
                f"GET /v1/me HTTP/1.1\r\nAuthorization: Bearer {host.person.token}\r\nBad header\r\n\r\n".encode()
            )
            await host.command("delete_message", message_id=said["message_id"])
            await terminate(town)
            await host.insist("send_message", text="XYLOPHONE")
    finally:
        root.handlers[:], root.level, aiohttps.disabled = handlers, level, disabled
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert {"/v1/sessions/{ref}/commands", "/v1/sessions/{ref}/events", "/v1/auth/refresh"} <= {
        r["route"] for r in requests
    }
    assert all(r["id"] and r["status"] and r["ms"] >= 0 for r in requests)
    assert {r["session"] for r in requests if r.get("session")} == {host.id}
    for secret in (
        host.person.token, anna.person.token, anna.person.refresh_token, ticket, host.code, "XYLOPHONE",
        "correct horse", KEY, str(host.person.email),
    ):  # fmt: skip
        assert str(secret) not in written


# CORS


async def test_only_pages_of_the_configured_origins_may_call_the_api(dsn: str, data: Path) -> None:
    async with serving(dsn, data, server={"cors_origins": (GOOD,)}) as town:
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        path = "/v1/sessions/x/commands"
        yes = await town.anyone.call("OPTIONS", path, headers={"Origin": GOOD, **preflight})
        assert yes.status == 204
        assert yes.headers["Access-Control-Allow-Origin"] == GOOD
        assert "POST" in yes.headers["Access-Control-Allow-Methods"]
        allowed = yes.headers["Access-Control-Allow-Headers"].lower()
        assert all(name in allowed for name in ("authorization", "content-type", "idempotency-key", "last-event-id"))
        no = await town.anyone.call("OPTIONS", path, headers={"Origin": EVIL, **preflight})
        assert no.status == 403
        assert "Access-Control-Allow-Origin" not in no.headers
        host, *_ = await town.classroom()
        for origin in (GOOD, EVIL, "null", GOOD.upper(), f"{GOOD}.evil.example.org"):
            for reply in (
                await host.person.call("GET", host.path, headers={"Origin": origin}),
                await host.person.post(f"{host.path}/commands", {"type": "lock"}, Origin=origin),
                await town.anyone.call("GET", "/v1/me", headers={"Origin": origin}),
                await town.anyone.call("GET", "/nowhere", headers={"Origin": origin}),
            ):
                assert reply.headers.get("Access-Control-Allow-Origin") == (GOOD if origin == GOOD else None)
                if origin == GOOD:
                    assert "Origin" in reply.headers["Vary"]
                    assert "Retry-After" in reply.headers["Access-Control-Expose-Headers"]
        async with Client(town.http, town.url, host.person.token).stream(f"{host.path}/events") as stream:
            assert "Access-Control-Allow-Origin" not in stream.response.headers


# Metrics and health


async def test_metrics_name_no_user_or_session(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        host, anna = await town.classroom("Anna")
        async with anna.stream() as stream:
            await stream.until("snapshot")
            await host.say("hello")
            await stream.until("chat_message")
            reply = await town.anyone.get("/metrics")
        text = reply.body.decode()
        assert reply.status == 200
        assert re.search(r"^homeroom_streams 1\.0$", text, re.M)
        assert re.search(r"^homeroom_sessions 1\.0$", text, re.M)
        counts = re.findall(r'^homeroom_sessions_by_status{status="(\w+)"} (\S+)$', text, re.M)
        assert dict(counts) == {"scheduled": "0.0", "live": "1.0", "ended": "0.0", "cancelled": "0.0"}
        assert re.search(r"^homeroom_commit_seconds_count [1-9]", text, re.M)
        assert not re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-7", text)
        for name in (host.code, host.id, anna.user_id, "Anna", host.session["name"]):
            assert name not in text
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
            (await town.anyone.call("GET", "/metrics", headers={header: "for=203.0.113.1"})).refused(404)
        proxied = await town.anyone.call("GET", "/metrics", headers={"X-Forwarded-For": "203.0.113.1"})
        proxied.refused(404, "not_found")


@pytest.mark.parametrize(("who", "status"), [("off", 404), ("open", 200)])
async def test_the_metrics_setting_decides_who_reads_metrics(dsn: str, data: Path, who: str, status: int) -> None:
    async with serving(dsn, data, server={"metrics": who}) as town:
        forwarded = {"X-Forwarded-For": "203.0.113.1"}
        assert (await town.anyone.call("GET", "/metrics", headers=forwarded)).status == status
        assert (await town.anyone.get("/metrics")).status == status


async def test_health_and_readiness_report_the_server_as_up(town: Town) -> None:
    assert (await town.anyone.get("/livez")).ok() == {"status": "ok"}
    ready = await town.anyone.get("/readyz")
    assert ready.ok() == {"status": "ok", "database": "ok"}
    assert ready.headers["Cache-Control"] == "no-store"


async def test_the_clock_endpoint_returns_the_server_time(town: Town) -> None:
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", (await town.anyone.get("/v1/time")).ok()["server_time"]
    )


# Documentation


def references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(references, node.values()))
    return set().union(*map(references, node)) if isinstance(node, list) else set()


async def test_openapi_describes_parameters_body_and_answers_of_every_route(town: Town) -> None:
    document = (await town.anyone.get("/openapi.json")).ok()
    assert document["openapi"].startswith("3.1")
    operations = {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    assert operations.keys() == {f"{row.method} {API.prefix}{row.path}" for row in API.rows}
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)
    schemas = document["components"]["schemas"]
    assert {reference.rpartition("/")[2] for reference in references(document)} <= schemas.keys()
    for row in API.rows:
        operation = operations[f"{row.method} {API.prefix}{row.path}"]
        assert operation["summary"]
        assert operation["security"] == ([] if row.public else [{"bearer": []}])
        assert str(row.status) in operation["responses"]
        assert "application/problem+json" in operation["responses"]["429"]["content"]
        assert ("requestBody" in operation) == (row.body is not None or isinstance(row, UploadRoute))
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", row.path))
        assert all({"name", "in", "schema"} <= parameter.keys() for parameter in operation["parameters"])
    for name, schema in schemas.items():
        for pattern in re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(schema)):
            assert r"\Z" not in pattern, (name, pattern)


@pytest.mark.parametrize("api", [API, *dialects.tables(Settings())], ids=lambda api: api.prefix)
async def test_every_pattern_has_a_description_in_words(town: Town, api: Api) -> None:
    """A reader of the description does not have to read regular expressions."""
    document = (await town.anyone.get("/openapi.json" if api is API else f"{api.prefix}/openapi.json")).ok()

    def wordless(schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict):
            if isinstance(pattern := schema.get("pattern"), str) and pattern != r"\S" and "description" not in schema:
                yield schema
            for inner in schema.values():
                yield from wordless(inner)
        elif isinstance(schema, list):
            for inner in schema:
                yield from wordless(inner)

    assert list(wordless(document)) == []


async def test_a_text_that_does_not_match_a_pattern_is_refused_in_words(town: Town) -> None:
    host, *_ = await town.classroom()
    for path, word in (
        (f"{host.path}/log?cursor=x", "`cursor` must be a `next` that this list returned."),
        (f"{host.path}/log?user=me", "`user` must be a user's id, a UUID."),
        (f"{host.path}/attendance?format=xml", "`format` must be one of `csv`, `json`."),
    ):
        assert (await host.person.get(path)).refused(422, "invalid")["detail"] == word
    refused = (await host.command("set_language", language="C plus plus")).refused(422, "invalid")
    assert refused["detail"] == "`language` must be a language's name in lower case, such as `python` or `c++`."
    refused = (await host.command("update", language="english please")).refused(422, "invalid")
    assert refused["detail"] == "`language` must be a language's tag, such as `en` or `pt-BR`."
    refused = (await host.person.post("/v1/sessions/join", {"code": "K7-Q2M\n"})).refused(422, "invalid")
    assert refused["detail"] == "`code` must be six letters and digits."


async def test_answers_match_their_openapi_schema(town: Town) -> None:
    """Each answer has exactly the documented fields."""
    document = (await town.anyone.get("/openapi.json")).ok()

    def fields(name: str) -> set[str]:
        return set(document["components"]["schemas"][name]["properties"])

    host, anna = await town.classroom("Anna")
    await host.say("hello")
    await anna.do("raise_hand")
    state = await anna.state()
    assert state.keys() == fields("StateView")
    assert state["session"].keys() == fields("SessionView")
    assert state["participants"][0].keys() == fields("ParticipantView")
    assert state["hands"][0].keys() == fields("HandView")
    assert state["chat"][0].keys() == fields("MessageView")
    assert (await host.person.get("/v1/me")).ok().keys() == fields("UserView")
    assert (await host.person.get(f"{host.path}/log/summary")).ok().keys() == fields("SummaryView")
    assert (await host.command("nonsense")).json.keys() <= fields("ProblemBody")


async def test_the_pages_are_served_and_load_nothing_from_other_servers(town: Town) -> None:
    for path in ("/", "/docs"):
        reply = await town.anyone.get(path)
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/html")
        policy = reply.headers["Content-Security-Policy"]
        assert "default-src '" in policy
        assert "unsafe" not in policy
        assert "http" not in policy


# Shutting down


async def test_draining_ends_streams_and_loses_nothing_acknowledged(
    dsn: str, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as http, contextlib.AsyncExitStack() as serves:
        town = Town(await serves.enter_async_context(running(settings(dsn, data))), http, dsn)
        host, anna = await town.classroom("Anna")
        reader, writer = await town.open_socket()
        ready = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
        writer.write(ready)
        assert (await read_answer(reader))[0] == 200
        async with anna.stream() as stream:
            await stream.until("snapshot")
            with town.frozen(host):
                pending = asyncio.create_task(host.command("send_message", text="in flight"))
                await wait_for(lambda: town.actor(host).backlog > 0)
                stopping = asyncio.create_task(serves.aclose())
                before = await stream.bye("draining")
                assert stream.seen[-1].data["retry"] > 0
                assert "chat_message" not in [frame.event for frame in before], "shown before it was committed"
                # Open connections learn that this server is draining; new ones are refused.
                writer.write(ready)
                status, _, body = await read_answer(reader)
                assert (status, json.loads(body)["status"]) == (503, "draining")
                with pytest.raises(ConnectionError):
                    await town.open_socket()
            reply = await pending
            await stopping
        writer.close()
        reply.ok()
    assert not caplog.records
    async with serving(dsn, data) as town:
        again = Client(town.http, town.url, anna.person.token)
        async with again.stream(f"{anna.path}/events", last_event_id=stream.cursor) as stream:
            assert (await stream.next()).event == "resumed"
            await stream.until("chat_message")
            assert stream.texts == ["in flight"]


async def test_a_drained_server_leaves_no_task_and_no_connection(dsn: str, data: Path) -> None:
    before = set(asyncio.all_tasks())
    threads = threading.active_count()
    async with serving(dsn, data) as town:
        _, anna = await town.classroom("Anna")
        async with anna.stream() as stream:
            await stream.until("snapshot")
        query = "select count(*) from nodes"
        assert town.query(query) == [(1,)]
    assert town.query(query) == [(0,)]
    assert town.query("select count(*) from session_snapshot") == [(1,)]
    await wait_for(lambda: set(asyncio.all_tasks()) <= before)
    await wait_for(lambda: threading.active_count() <= threads + 1)
    connection = psycopg2.connect(dsn)
    with connection.cursor() as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity where application_name = 'homeroom' and datname = current_database()"
        )
        assert cursor.fetchone() == (0,)
    connection.close()
