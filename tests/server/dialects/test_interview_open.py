"""The `interview` dialect with `open`: whoever has the link is believed."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.http.uuids import new_id
from server.settings.sections import InterviewSettings
from tests.server.dialects.test_interview_access import send
from tests.support.client import Client
from tests.support.dialects.interviews import BASE, Guest, created, data, pair, refused
from tests.support.serving import Town, serving


@pytest.fixture
async def opened(dsn: str, data: Path) -> AsyncIterator[Town]:
    async with serving(dsn, data, dialects={"interview": InterviewSettings(open=True)}) as town:
        yield town


async def test_it_is_said_that_it_is_open(opened: Town) -> None:
    assert (await opened.anyone.get("/readyz")).ok()["open"] == ["dialects.interview.open"]
    document = (await opened.anyone.get("/interview/openapi.json")).ok()
    assert document["paths"]["/interview/api/v1/sessions/{ref}"]["patch"]["security"] == []


async def test_anybody_with_the_link_does_what_the_creator_may(opened: Town) -> None:
    ivy, carl = await pair(opened)
    anyone = opened.anyone
    for name, body, status in (
        ("PATCH /api/v1/sessions/{ref}", {"code": "x"}, 200),
        ("PUT /api/v1/sessions/{ref}/code", {"code": "y", "language": "html"}, 200),
        ("PATCH /api/v1/sessions/{ref}/participants/{participant_id}", {"is_online": False}, 200),
        ("DELETE /api/v1/sessions/{ref}/participants/{participant_id}", None, 204),
    ):
        assert (await send(anyone, name, ivy.ref, carl.id, body)).status == status, name
    session = await ivy.session()
    assert (session["code"], len(session["participants"])) == ("y", 1)
    edits = data((await anyone.get(f"{ivy.path}/code/snapshots")).ok())["snapshots"]
    assert {one["user_id"] for one in edits} == {ivy.id}
    assert (await anyone.delete(ivy.path)).status == 204
    refused(await anyone.patch(ivy.path, {"code": "x"}), 404, "SESSION_NOT_FOUND")
    refused(await anyone.patch(f"{BASE}/sessions/deadbeef", {"code": "x"}), 404, "SESSION_NOT_FOUND")


async def test_a_token_counts_where_there_is_one(opened: Town) -> None:
    ivy, carl = await pair(opened)
    refused(await carl.delete(ivy.path), 403, "FORBIDDEN")
    async with carl.talk() as talk:
        await talk.send("code_change", code="x", userId=ivy.id)
        assert await talk.frame("code_change") == {"code": "x", "userId": carl.id}


async def test_messages_are_from_whom_they_say_or_the_creator(opened: Town) -> None:
    ivy, carl = await pair(opened)
    async with ivy.talk(token=None) as one, carl.talk(token=None) as two:
        for sent, from_ in ((carl.id, carl.id), (carl.id.upper(), carl.id), (new_id(), ivy.id), (5, ivy.id)):
            for kind, fields in (
                ("code_change", {"code": f"by {sent}"}),
                ("cursor_position", {"position": {"lineNumber": 1, "column": 2}}),
                ("wave", {"hand": "left"}),
            ):
                await two.send(kind, userId=sent, **fields)
                for talk in (one, two):
                    assert await talk.frame(kind) == fields | {"userId": from_}
        await two.send("ping")
        for talk in (one, two):
            assert await talk.frame("ping") == {}


async def test_who_is_not_there_yet_comes_in_by_a_message(opened: Town) -> None:
    ivy = await created(opened)
    carl = Guest(opened, "Carl")
    carl.ref = ivy.ref
    async with ivy.talk(token=None) as one, carl.talk(token=None) as two:

        async def both(kind: str) -> Any:
            told = [await talk.frame(kind) for talk in (one, two)]
            assert told[0] == told[1]
            return told[0]

        await one.send("user_join", user=ivy.user)
        assert await both("user_join") == {"user": await ivy.place()}
        for _ in range(2):
            await two.send("user_join", user=carl.user)
            assert await both("user_join") == {"user": await carl.place()}
        await two.send("code_change", code="x", userId=carl.id)
        assert await both("code_change") == {"code": "x", "userId": carl.id}
        await two.send("user_leave", userId=carl.id)
        assert await both("user_leave") == {"userId": carl.id}
        assert (await carl.place())["is_online"] is False
        await two.send("user_join", user=carl.user)
        assert (await both("user_join"))["user"]["id"] == carl.id
    assert [one["name"] for one in (await ivy.session())["participants"]] == ["Ivy", "Carl"]


async def test_one_joins_again_without_a_token_and_gets_none(opened: Town) -> None:
    ivy, carl = await pair(opened)
    token, carl.token = carl.token, None
    session = await carl.join(ivy.ref)
    assert len(session["participants"]) == 2
    assert carl.token is None
    assert data((await Client(opened.http, opened.url, token).patch(ivy.path, {"code": "x"})).ok())["code"] == "x"
    # The first token of somebody who came by a message is theirs.
    cleo = Guest(opened, "Cleo")
    async with ivy.talk(token=None) as talk:
        await talk.send("user_join", user=cleo.user)
        await talk.frame("user_join")
    await cleo.join(ivy.ref)
    assert cleo.token is not None


async def test_an_account_is_taken_at_nobody_s_word(opened: Town) -> None:
    ivy, teacher = await created(opened), await opened.teacher()
    me = {"id": teacher.id, "name": "Tess"}
    (await teacher.post(f"{ivy.path}/join", {"user": me})).ok()
    refused(await opened.anyone.post(f"{ivy.path}/join", {"user": me}), 409, "CONFLICT")
    async with ivy.talk(token=None) as talk:
        await talk.send("code_change", code="x", userId=teacher.id)
        assert (await talk.frame("code_change"))["userId"] == ivy.id
        await talk.send("user_join", user=me)
        await talk.refused("CONFLICT")
