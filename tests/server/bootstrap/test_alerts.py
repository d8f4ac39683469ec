"""The alert rules and the dashboard in `docs/monitoring`: their metrics exist, and each alert fires by its cause.

A cause is brought about once on a real server, between two scrapes. Prometheus's own `promtool test rules` then sees
counters that grow as much every minute, and gauges as they were after it.
"""

import asyncio
import contextlib
import json
import re
import resource
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from actors.ports import LogUnavailable
from server.api.handlers import DirectCommandEndpoint
from storage.errors import StorageError
from storage.outbox import Backlog
from tests.support.client import Seat
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

MONITORING = Path(__file__).parents[3] / "docs" / "monitoring"
RULES = MONITORING / "alerts.yml"
DASHBOARD = MONITORING / "dashboard.json"
PROMTOOL = shutil.which("promtool")
METRIC = re.compile(r"\b(?:homeroom|process|python)_[a-z_]+")
NAMES = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(), re.M)
MINUTES = 20
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (package `prometheus`)")


async def scrape(town: Town) -> dict[str, float]:
    """Return the samples of a scrape, by name and labels."""
    text = (await town.anyone.get("/metrics")).body.decode()
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


class Class(NamedTuple):
    """What a cause has to work with."""

    town: Town
    host: Seat
    patch: pytest.MonkeyPatch


Cause = Callable[[Class], "contextlib.AbstractAsyncContextManager[None]"]
"""Brings the trouble about; the second scrape happens inside the block."""


def raising(error: Exception) -> Callable[..., Awaitable[Any]]:
    async def fail(*args: object) -> Any:
        raise error

    return fail


@contextlib.asynccontextmanager
async def broken_handler(here: Class) -> AsyncIterator[None]:
    def broken(*args: object) -> Any:
        raise RuntimeError("as the test says")

    here.patch.setattr(DirectCommandEndpoint, "answered", broken)
    (await here.host.command("lock")).refused(500)
    yield


@contextlib.asynccontextmanager
async def failing_commit(here: Class) -> AsyncIterator[None]:
    here.patch.setattr(here.town.server.services.log, "append", raising(LogUnavailable("as the test says")))
    (await here.host.command("lock")).refused(503)
    yield


@contextlib.asynccontextmanager
async def refused_commit(here: Class) -> AsyncIterator[None]:
    here.patch.setattr(here.town.server.services.log, "append", raising(StorageError("as the test says")))
    (await here.host.command("lock")).refused(503)
    yield


@contextlib.asynccontextmanager
async def slow_command(here: Class) -> AsyncIterator[None]:
    append = here.town.server.services.log.append

    async def slow(*args: Any) -> Any:
        await asyncio.sleep(0.6)
        return await append(*args)

    here.patch.setattr(here.town.server.services.log, "append", slow)
    (await here.host.command("lock")).ok()
    yield


@contextlib.asynccontextmanager
async def hanging_commit(here: Class) -> AsyncIterator[None]:
    with here.town.frozen(here.host):
        waiting = asyncio.create_task(here.host.command("lock"))
        persistence = here.town.server.persistence
        await wait_for(lambda: persistence.commit_started is not None)
        assert persistence.commit_started is not None
        # As if it had begun earlier.
        persistence.commit_started -= 4.0
        yield
    (await waiting).ok()


@contextlib.asynccontextmanager
async def busy_pool(here: Class) -> AsyncIterator[None]:
    # All connections wait for this lock; further readers wait for a connection.
    with here.town.locked("users", "name", "Tess"):
        waiting = [asyncio.create_task(here.host.person.patch("/v1/me", {"name": "Tess"})) for _ in range(120)]
        await asyncio.sleep(1.0)
    await asyncio.gather(*waiting)
    yield


@contextlib.asynccontextmanager
async def slow_readers(here: Class) -> AsyncIterator[None]:
    head = f"GET {here.host.path}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {here.host.person.token}\r\n\r\n"
    hub, sockets = here.town.server.services.hub, []
    for _ in range(4):
        _, writer = await here.town.open_socket(receive_buffer=4096)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(head.encode())
        sockets.append(writer)
    await wait_for(lambda: len(hub) == 4)
    while hub.closed["slow"] < 4:
        await here.host.say("x" * 2000)
    yield
    for writer in sockets:
        writer.transport.abort()


@contextlib.asynccontextmanager
async def full_mailbox(here: Class) -> AsyncIterator[None]:
    commands = [here.host.command("send_message", text="hello") for _ in range(50)]
    assert 429 in {reply.status for reply in await asyncio.gather(*commands)}
    yield


@contextlib.asynccontextmanager
async def guessed_passwords(here: Class) -> AsyncIterator[None]:
    for number in range(8):
        login = {"email": here.host.person.email, "password": f"guess {number}"}
        (await here.town.anyone.post("/v1/auth/login", login)).refused(401)
    yield


@contextlib.asynccontextmanager
async def full_disk(here: Class) -> AsyncIterator[None]:
    usage = shutil.disk_usage("/")
    here.patch.setattr(shutil, "disk_usage", lambda path: type(usage)(100, 95, 5))
    yield


@contextlib.asynccontextmanager
async def old_delivery(here: Class) -> AsyncIterator[None]:
    here.town.server.services.dispatcher.backlog["webhook"] = Backlog(1, 4_000.0, 0)
    yield


@contextlib.asynccontextmanager
async def many_descriptors(here: Class) -> AsyncIterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(32):
            _, writer = await here.town.open_socket()
            stack.callback(writer.close)
        resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 16, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


CAUSES: dict[str, tuple[Cause, dict[str, dict[str, Any]]]] = {
    "HomeroomInternalErrors": (broken_handler, {}),
    "HomeroomUnavailable": (failing_commit, {}),
    "HomeroomSlowCommands": (slow_command, {}),
    "HomeroomCommitsFail": (failing_commit, {}),
    "HomeroomCommitsRefused": (refused_commit, {}),
    "HomeroomCommitHangs": (hanging_commit, {}),
    "HomeroomPoolExhausted": (busy_pool, {"database": {"pool_size": 1}}),
    "HomeroomSlowReaders": (slow_readers, {"streams": {"buffer_bytes": 65_536, "send_buffer_bytes": 4096}}),
    "HomeroomMailboxFull": (full_mailbox, {"limits": {"mailbox": 1}}),
    "HomeroomPasswordGuessing": (guessed_passwords, {}),
    "HomeroomDiskFull": (full_disk, {}),
    "HomeroomDeliveriesLate": (old_delivery, {}),
    "HomeroomDescriptors": (many_descriptors, {}),
}
"""The cause of each alert, and the settings of its server."""


def series(before: dict[str, float], after: dict[str, float]) -> list[dict[str, str]]:
    """Return samples as promtool takes them."""
    given = []
    for name, value in after.items():
        labelled = name if name.endswith("}") else name + "{}"
        labelled = labelled.replace("{", '{job="homeroom",' if not labelled.endswith("{}") else '{job="homeroom"', 1)
        growth = value - before.get(name, 0.0)
        counts = re.search(r"_(total|bucket|count|sum)(\{|$)", name)
        given.append({"series": labelled, "values": f"0+{growth!r}x{MINUTES}" if counts else f"{value!r}x{MINUTES}"})
    return given


def fires(alert: str, before: dict[str, float], after: dict[str, float], folder: Path) -> bool:
    """Return whether an alert fires at the end of `MINUTES` in which this happens every minute."""
    used = set(METRIC.findall(rule(alert)))
    keep = [one for one in series(before, after) if one["series"].partition("{")[0] in used]
    assert keep, used
    expected = [{"eval_time": f"{MINUTES}m", "alertname": alert, "exp_alerts": []}]
    test = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [
        {"interval": "1m", "input_series": keep, "alert_rule_test": expected}
    ]}  # fmt: skip
    file = folder / "test.json"
    file.write_text(json.dumps(test))
    result = promtool("test", "rules", str(file))
    assert result.returncode == 0 or "got:[" in result.stdout + result.stderr, result
    return result.returncode != 0


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run promtool and return its result."""
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)


def rule(alert: str) -> str:
    """Return the text of one rule."""
    return RULES.read_text().partition(f"alert: {alert}\n")[2].partition("- alert:")[0]


async def test_every_metric_of_the_rules_and_the_dashboard_exists(town: Town) -> None:
    present = {name.partition("{")[0] for name in await scrape(town)}
    used = set(METRIC.findall(RULES.read_text() + DASHBOARD.read_text()))
    assert used - present == set()


async def test_every_alert_has_a_cause_and_an_explanation() -> None:
    assert set(NAMES) == CAUSES.keys()
    operations = (MONITORING.parent / "operations.md").read_text()
    assert [name for name in NAMES if f"`{name}`" not in operations] == []


@needs_promtool
async def test_promtool_accepts_the_rules_and_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    as_rules = {"groups": [{"name": "dashboard", "rules": [
        {"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(expressions)
    ]}]}  # fmt: skip
    (tmp_path / "dashboard.json").write_text(json.dumps(as_rules))
    result = promtool("check", "rules", str(RULES), str(tmp_path / "dashboard.json"))
    assert result.returncode == 0, result


@needs_promtool
@pytest.mark.parametrize("alert", NAMES)
async def test_each_alert_fires_by_its_cause_and_not_without_it(
    alert: str, dsn: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause, changed = CAUSES[alert]
    async with serving(dsn, data, None, **changed) as town:
        host, *_ = await town.classroom()
        (await host.command("raise_hand")).ok()
        before = await scrape(town)
        with monkeypatch.context() as patch:
            async with cause(Class(town, host, patch)):
                after = await scrape(town)
        assert not fires(alert, before, before, data)
        assert fires(alert, before, after, data)
