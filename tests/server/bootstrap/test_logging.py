"""The server's own log: every line that is written for a request carries its id, and no other line does."""

import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from actors.ports import LogUnavailable
from actors.runtime import LoopActor
from server.api.handlers import DirectCommandEndpoint
from server.bootstrap.logging import set_up
from server.http.access_log import RequestLog
from server.http.request_id import working_for
from tests.support.serving import Town, serving
from tests.support.stage import turns
from tests.support.talking import talk

pytestmark = pytest.mark.asyncio(loop_scope="session")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Set up logging as the server does; return a function that reads the lines written so far."""
    written = io.StringIO()
    root, aiohttps = logging.getLogger(), logging.getLogger("aiohttp.server")
    handlers, level, disabled = root.handlers[:], root.level, aiohttps.disabled
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        set_up("info")
        try:
            yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
        finally:
            root.handlers[:], root.level, aiohttps.disabled = handlers, level, disabled


def fail(*args: object, **kwargs: object) -> Any:
    raise RuntimeError("as the test says")


@pytest_asyncio.fixture(loop_scope="session")
async def town(dsn: str, data: Path) -> AsyncIterator[Town]:
    async with serving(dsn, data) as town:
        yield town


async def test_lines_of_a_request_carry_its_id(town: Town, lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    anna = await town.student("Anna")
    monkeypatch.setattr(town.server.services.users, "find", fail)
    # The second one arrives on the same connection.
    answers = [await anna.get("/v1/me") for _ in range(2)]
    for answer in answers:
        answer.refused(500, "internal")
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert [line.get("id") for line in lines()] == ids
    assert ids[0] != ids[1]


async def test_lines_of_a_command_in_the_fast_lane_carry_its_id(
    town: Town, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, *_ = await town.classroom()
    monkeypatch.setattr(DirectCommandEndpoint, "answered", fail)
    answer = await host.command("raise_hand")
    answer.refused(500, "internal")
    [line] = lines()
    assert (line["logger"], line.get("id")) == ("server.api.pending_command", answer.headers["X-Request-Id"])


async def test_lines_of_a_repeated_command_carry_its_id(
    town: Town, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, *_ = await town.classroom()
    (await host.command("raise_hand", idempotency_key="once")).ok()
    monkeypatch.setattr(DirectCommandEndpoint, "reply", fail)
    answer = await host.command("raise_hand", idempotency_key="once")
    answer.refused(500, "internal")
    [line] = lines()
    assert (line["logger"], line.get("id")) == ("server.api.pending_command", answer.headers["X-Request-Id"])


@pytest.mark.parametrize("key", [None, "with a key"])
async def test_lines_of_restoring_a_session_carry_the_id_of_the_request_that_needs_it(
    town: Town, lines: Lines, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    host, *_ = await town.classroom()
    await host.do("raise_hand")
    await town.passivate(host)

    async def unavailable(*args: object) -> None:
        raise LogUnavailable("as the test says")

    monkeypatch.setattr(town.server.services.log, "claim", unavailable)
    answer = await host.command("lower_hand", idempotency_key=key)
    answer.refused(503, "unavailable")
    [line] = lines()
    assert (line["logger"], line.get("id")) == ("actors.directory", answer.headers["X-Request-Id"])


class Failing(LoopActor):
    def on_receive(self, message: Any) -> object:
        return fail()


async def test_lines_of_an_actor_which_works_for_many_requests_carry_no_id(lines: Lines) -> None:
    with working_for("a request"):
        Failing.start().tell("something")
    await turns()
    [line] = lines()
    assert line["logger"] == "actors.runtime"
    assert "id" not in line


async def test_lines_of_a_command_on_a_socket_carry_the_id_of_the_sockets_request(
    dsn: str, data: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids: dict[str, str] = {}
    monkeypatch.setattr(RequestLog, "add", lambda log, id, method, route, *rest, quiet: ids.update({route: id}))
    async with serving(dsn, data, server={"log_level": "info"}) as town:
        host, *_ = await town.classroom()
        async with talk(host) as socket:
            await socket.until("snapshot")
            monkeypatch.setattr(DirectCommandEndpoint, "answered", fail)
            await socket.refused(500, "internal", type="raise_hand")
    [line] = lines()
    assert (line["logger"], line.get("id")) == ("server.api.pending_command", ids["/v1/sessions/{ref}/socket"])
