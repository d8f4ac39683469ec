"""Five products on one server at once: each sees its own sessions, `/v1` sees all, and all survive a restart."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import aiohttp
import pytest

from tests.support.client import Client
from tests.support.processes import LIFTED, Server, directory, homeroom
from tests.support.product_flows import FLOWS, ISSUER, SECRET, Flow, Interview, Lesson, Seeds

SESSIONS = 100
"""Of each product."""
AT_ONCE = 24
"""Sessions that are played, or looked at, at the same time."""
PATIENCE_S = 30.0
PRESENCE = ("participant_online", "participant_offline")
"""Rows whose places are the network's to say."""
SETTINGS = {
    **LIFTED,
    "auth": {**LIFTED["auth"], "address_attempts_per_minute": 1_000_000},
    "auth.issuers.products": {"issuer": ISSUER, "secret": SECRET, "algorithms": ["HS256"]},
    "limits": {**LIFTED["limits"], "guests_per_minute": 1_000_000},
}


async def each(flows: Sequence[Flow], do: Callable[[Flow], Awaitable[None]]) -> float:
    """Run a step for all sessions, a bounded number at a time; return the seconds that it took."""
    began, places = time.monotonic(), asyncio.Semaphore(AT_ONCE)

    async def one(flow: Flow) -> None:
        async with places:
            try:
                await do(flow)
            except Exception as error:
                error.add_note(f"in {flow.product}'s session {flow.number}, {flow.ref!r}")
                raise

    async with asyncio.TaskGroup() as tasks:
        for flow in flows:
            tasks.create_task(one(flow))
    return time.monotonic() - began


async def seen_by_its_owner(flow: Flow) -> None:
    """Check that `/v1` has every record of the session and lists it."""
    path, owner = f"/v1/sessions/{flow.ref}", flow.owner
    async with asyncio.timeout(PATIENCE_S):
        while (session := (await owner.get(path)).ok())["counts"]["online"]:  # noqa: ASYNC110 - they have just gone
            await asyncio.sleep(0.02)
    assert (session["kind"], session["status"], session["owner"]["name"]) == (flow.kind, flow.status, owner.name)
    rows = (await owner.get(f"{path}/log", limit="200")).ok()["items"]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["type"] for row in rows if row["type"] not in PRESENCE] == flow.log
    flow.rows = len(rows)
    summary = (await owner.get(f"{path}/log/summary")).ok()
    assert (summary["total"], summary["by_type"]) == (len(rows), Counter(row["type"] for row in rows))
    attended = [one["name"] for one in (await owner.get(f"{path}/attendance")).ok()["items"] if one["first_joined_at"]]
    assert sorted(attended) == flow.names
    if flow.product != "interview":  # a guest has no other session
        own = (await owner.get("/v1/sessions", kind=flow.kind)).ok()["items"]
        assert [one["id"] for one in own] == [session["id"]]
    await flow.listed()


async def kept(flow: Flow) -> None:
    flow.kept = await flow.shown()


async def same(flow: Flow) -> None:
    assert await flow.shown() == flow.kept
    await flow.listed()


async def goes_on(flow: Flow) -> None:
    """Check that a session which was live still is: a message through `/v1` becomes its next row."""
    command = {"type": "update", "description": "After"}
    reply = await flow.owner.post(f"/v1/sessions/{flow.ref}/commands", command)
    if flow.status == "ended":
        reply.refused(410, "ended")
    else:
        assert reply.ok()["seq"] == flow.rows + 1


def counted(metrics: str) -> dict[str, int]:
    """Return the number of sessions in memory, by status."""
    found = re.findall(r'^homeroom_sessions_by_status{status="(\w+)"} (\d+)\.0$', metrics, re.M)
    return {status: int(count) for status, count in found}


async def watched_over(server: Server, http: aiohttp.ClientSession) -> float:
    """Restart the server while each product's own streams are open; return the seconds that it took."""
    seeds, lesson, interview = Seeds(http, server.url, 0), Lesson(http, server.url, 0), Interview(http, server.url, 0)
    await each([seeds, lesson, interview], lambda flow: flow.play())
    async with (
        seeds.other.stream(seeds.stream) as stream,
        lesson.talk(lesson.socket, lesson.other) as pupil,
        interview.talk(interview.socket, interview.other) as candidate,
    ):
        await stream.until("session_state")
        await pupil.hears("session_state")
        began = time.monotonic()
        await server.terminate()
        assert await stream.rest() == []
        for talk in (pupil, candidate):
            await talk.closed(1012)
    await server.start()
    took = time.monotonic() - began
    (await seeds.owner.post(f"{seeds.path}/chat", {"message": "Back again"})).ok()
    async with seeds.other.stream(seeds.stream, last_event_id=stream.cursor) as stream:
        frame = await stream.next()
        assert (frame.event, frame.data["text"]) == ("chat", "Back again"), "what was missed, and nothing twice"
    async with lesson.talk(lesson.socket, lesson.other) as pupil:
        await pupil.hears("session_state")
    async with interview.talk(interview.socket, interview.other) as candidate:
        await candidate.send("wave", hand="right")
        await candidate.hears("wave", hand="right")
    return took


async def lived_through(server: Server, sessions: int) -> None:
    """Play sessions of each product at once; check them before and after a restart."""
    async with homeroom(server), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        flows = [flow(http, server.url, number) for number in range(sessions) for flow in FLOWS]
        took = {"played": await each(flows, lambda flow: flow.play())}
        took["looked at"] = await each(flows, seen_by_its_owner) + await each(flows, kept)
        metrics = (await Client(http, server.url).get("/metrics")).body.decode()
        by_status = Counter(flow.status for flow in flows)
        assert counted(metrics) == {"scheduled": 0, "live": 0, "ended": 0, "cancelled": 0} | by_status
        assert "homeroom_streams 0.0" in metrics
        names = re.findall(r"[0-9a-f]{8}-[0-9a-f]{4}-\w{4}-|Tess|Anna|Ivy|example", metrics)
        assert not names, names
        assert not [flow.ref for flow in flows if len(flow.ref) > 4 and flow.ref in metrics]
        took["stopped and started"] = await watched_over(server, http)
        took["looked at again"] = await each(flows, same)
        await each(flows, goes_on)
        assert "Traceback" not in server.complaints(), server.complaints()
    print(f"\n{len(flows)} sessions:", ", ".join(f"{what} in {seconds:.1f} s" for what, seconds in took.items()))


@pytest.mark.timeout(180)
async def test_one_server_serves_five_products_at_once(scratch: str | None) -> None:
    with directory(scratch) as data:
        await lived_through(Server(data, settings=SETTINGS), SESSIONS)
