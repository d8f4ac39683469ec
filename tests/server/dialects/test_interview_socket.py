"""The socket of the `interview` contract."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from server.http.uuids import new_id
from tests.support.dialects.interviews import PARTICIPANT, Guest, Talk, created, data, pair, refused
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def everybody(talks: tuple[Talk, ...], kind: str) -> Any:
    """Read the next frame of each, which must be the same; give its data."""
    frames = [await talk.next() for talk in talks]
    assert [frame and frame["type"] for frame in frames] == [kind] * len(talks), frames
    assert all(frame == frames[0] for frame in frames)
    assert isinstance(frames[0]["data"].pop("timestamp"), int)
    return frames[0]["data"]


async def test_every_frame_goes_to_everybody_with_the_time(town: Town) -> None:
    ivy, carl = await pair(town)
    async with ivy.talk() as one, carl.talk() as two, carl.talk() as tab, ivy.talk(token=None) as onlooker:
        talks = (one, two, tab, onlooker)
        for speaker, kind, sent in (
            (carl, "code_change", {"code": "let x"}),
            (carl, "code_change", {"code": "let x"}),
            (ivy, "language_change", {"language": "python"}),
            (ivy, "language_change", {"language": "python"}),
            (carl, "cursor_position", {"position": {"lineNumber": 3, "column": 14}}),
            (ivy, "selection", {"from": [1, 2], "deep": {"er": None}}),
            (carl, "run", {"userId": 5}),
        ):
            talk = one if speaker is ivy else two
            await talk.send(kind, userId=new_id(), **sent) if "userId" not in sent else await talk.send(kind, **sent)
            told = await everybody(talks, kind)
            assert told == sent | {"userId": speaker.id}
        await two.send("ping")
        assert await everybody(talks, "ping") == {}
    session = await ivy.session()
    assert (session["code"], session["language"]) == ("let x", "python")


async def test_times_are_the_server_s(town: Town) -> None:
    ivy = await created(town)
    async with ivy.talk() as talk:
        for kind, sent in (("code_change", {"code": "x"}), ("other", {}), ("cursor_position", {"position": POINT})):
            await talk.send(kind, timestamp=5, **sent)
            frame = await talk.next()
            assert frame["type"] == kind
            assert abs(frame["data"]["timestamp"] - (await ivy.session())["updated_at"]) < 60_000


POINT = {"lineNumber": 1, "column": 1}


async def test_only_the_code_and_its_language_are_kept(town: Town) -> None:
    ivy = await created(town)
    async with ivy.talk() as talk:
        for kind, sent in (
            ("cursor_position", {"position": POINT}), ("wave", {}), ("code_change", {"code": "x"}),
            ("language_change", {"language": "html"}),
        ):  # fmt: skip
            await talk.send(kind, **sent)
            await talk.next()
    rows = town.query(
        "select type from session_log join sessions using (session_id) where name = %s order by seq", ivy.ref
    )
    kinds = [kind for (kind,) in rows]
    assert kinds[kinds.index("participant_online") + 1 :][:2] == ["code_edited", "language_changed"]
    assert not {"cursor", "relayed", "wave"} & set(kinds)


async def test_what_is_changed_elsewhere_is_told_too(town: Town) -> None:
    ivy, carl = await pair(town)
    command = f"/v1/sessions/{ivy.ref}/commands"
    async with carl.talk() as talk:
        await ivy.patch(ivy.path, {"code": "one", "language": "html"})
        assert await talk.frame("code_change") == {"code": "one", "userId": ivy.id}
        assert await talk.frame("language_change") == {"language": "html", "userId": ivy.id}
        changes = [{"at": 0, "delete": 1, "insert": "tw"}, {"at": 3, "delete": 1}]
        sent = {"type": "edit_code", "base_version": 1, "changes": changes}
        (await carl.post(command, sent)).ok()
        assert await talk.frame("code_change") == {"code": "twn", "userId": carl.id}
        (await ivy.post(command, {"type": "restore_code", "version": 1})).ok()
        assert await talk.frame("code_change") == {"code": "one", "userId": ivy.id}
        (await ivy.post(command, {"type": "send_message", "text": "Hello"})).ok()
        (await ivy.post(command, {"type": "cursor", "position": {"x": 1}})).ok(202)
        assert await talk.frame("cursor_position") == {"position": {"x": 1}, "userId": ivy.id}


async def test_joins_and_leaves_are_told_however_they_come_about(town: Town) -> None:
    ivy, carl = await created(town), Guest(town, "Carl")
    async with ivy.talk() as talk:
        await carl.join(ivy.ref)
        told = await talk.frame("user_join")
        assert told == {"user": await carl.place()}
        assert told["user"].keys() == PARTICIPANT
        await carl.delete(f"{ivy.path}/participants/{carl.id}")
        assert await talk.frame("user_leave") == {"userId": carl.id}
        async with carl.talk() as back:
            assert (await talk.frame("user_join"))["user"]["id"] == carl.id
            await back.send("user_join", user=carl.user | {"role": "interviewer", "id": ivy.id})
            for one in (talk, back):
                assert await one.frame("user_join") == {"user": await carl.place()}
            await back.send("user_leave", userId=ivy.id)
            for one in (talk, back):
                assert await one.frame("user_leave") == {"userId": carl.id}
            assert await back.closed() == 1000
        async with carl.talk() as back:
            assert (await talk.frame("user_join"))["user"]["id"] == carl.id
            await ivy.delete(f"{ivy.path}/participants/{carl.id}")
            for one in (talk, back):
                assert await one.frame("user_leave") == {"userId": carl.id}
            assert await back.closed() == 4403
        refused(await carl.upgrade(), 403, "FORBIDDEN")


async def test_online_is_who_has_joined_and_not_lost_touch(dsn: str, data: Path) -> None:
    async with serving(dsn, data, sessions={"grace_s": 0.2}) as town:
        ivy, carl = await pair(town)
        assert (await carl.place())["is_online"] is True
        async with ivy.talk() as talk:
            async with carl.talk() as other:
                await other.send("ping")
                await talk.frame("ping")
            assert await talk.frame("user_leave") == {"userId": carl.id}
            assert (await ivy.place(carl.id))["is_online"] is False
            async with carl.talk():
                assert (await talk.frame("user_join"))["user"] == await ivy.place(carl.id) | {"is_online": True}


async def test_a_short_absence_is_not_told_but_seen(town: Town) -> None:
    ivy, carl = await pair(town)
    session_id = town.query("select session_id::text from sessions where name = %s", ivy.ref)[0][0]
    channel = town.server.services.hub.channel(session_id, town.server.services.directory.tell)
    async with ivy.talk() as talk:
        async with carl.talk():
            pass
        await wait_for(lambda: len(channel.users()) == 1)
        assert (await ivy.place(carl.id))["is_online"] is False
        async with carl.talk() as back:
            assert (await ivy.place(carl.id))["is_online"] is True
            await back.send("ping")
            await talk.frame("ping")


async def test_what_cannot_be_done_is_said_to_the_sender_alone(town: Town) -> None:
    ivy, carl = await pair(town)
    async with ivy.talk() as talk, carl.talk() as other:
        for raw in (
            "{", "[]", "5", '{"data": {}}', '{"type": ""}', '{"type": "x", "data": []}', '{"type": "x", "data": null}',
            '{"type": "code_change"}', '{"type": "code_change", "data": {"code": 5}}',
            '{"type": "code_change", "data": {"code": "\\u0000"}}',
            '{"type": "language_change", "data": {"language": "cobol"}}',
            '{"type": "cursor_position", "data": {"position": {"lineNumber": "1", "column": 1}}}',
            '{"type": "user_join", "data": {"user": {"id": "x", "name": "X"}}}',
            json.dumps({"type": "x" * 65}), json.dumps({"type": "x", "data": {"x": "y" * 20_000}}),
            '{"type": "x", "data": ' + '{"x":' * 40 + "1" + "}" * 40 + "}",
        ):  # fmt: skip
            await other.ws.send_str(raw)
            assert await other.refused("INVALID_REQUEST")
        await other.send("ping")
        await talk.frame("ping")
        await other.frame("ping")


async def test_what_is_larger_than_a_frame_may_be_ends_the_socket(town: Town) -> None:
    ivy = await created(town)
    async with ivy.talk() as talk:
        await talk.send("code_change", code="x" * 65_000)
        assert (await talk.frame("code_change"))["code"] == "x" * 65_000
        # So long that it is not passed on when it changes nothing.
        await talk.send("code_change", code="x" * 65_000)
        await talk.send("ping")
        await talk.frame("ping")
        await talk.send("code_change", code="x" * 70_000)
        assert await talk.closed() == 1009


async def test_a_socket_is_refused_before_it_opens(town: Town) -> None:
    ivy = await created(town)
    other = await created(town)
    refused(await ivy.upgrade(token=other.token), 403, "FORBIDDEN")
    refused(await ivy.upgrade(token="x.y.z"), 401, "UNAUTHORIZED")
    reply = await town.anyone.get(f"/interview/ws/sessions/{ivy.ref}")
    refused(reply, 426, "INVALID_REQUEST")
    for ref in ("deadbeef", "nowhere"):
        ivy.ref = ref
        for token in (None, ivy.token):
            refused(await ivy.upgrade(token=token), 404, "SESSION_NOT_FOUND", "Session not found")
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                async with ivy.talk(token=token):
                    pass
            assert caught.value.status == 404


async def test_without_a_token_one_looks_on(town: Town) -> None:
    ivy, carl = await pair(town)
    async with ivy.talk(token=None) as onlooker, carl.talk() as talk:
        for kind, sent in (
            ("code_change", {"code": "x", "userId": ivy.id}), ("cursor_position", {"position": POINT}), ("ping", {}),
            ("user_join", {"user": ivy.user}), ("user_leave", {"userId": carl.id}),
        ):  # fmt: skip
            await onlooker.send(kind, **sent)
            await onlooker.refused("UNAUTHORIZED")
        await talk.send("ping")
        for one in (onlooker, talk):
            await one.frame("ping")
        # Nobody knows of one.
        assert len((await ivy.session())["participants"]) == 2
    async with carl.talk() as talk:
        await talk.send("ping")
        await talk.frame("ping")


async def test_onlookers_go_when_the_link_is_shut(town: Town) -> None:
    ivy, carl = await pair(town)
    for features in ({"lobby": True}, {"guests": False, "lobby": False}):
        async with ivy.talk(token=None) as onlooker, carl.talk() as talk:
            (await ivy.patch(f"/v1/sessions/{ivy.ref}", {"title": "Interview 2", "features": {"chat": False}})).ok()
            await talk.send("ping")
            await onlooker.frame("ping")
            (await ivy.patch(f"/v1/sessions/{ivy.ref}", {"features": features})).ok()
            assert await onlooker.closed() == 4403
            refused(await ivy.upgrade(token=None), 403, "FORBIDDEN")
            await talk.frame("ping")
            await talk.send("ping")
            await talk.frame("ping")
        (await ivy.patch(f"/v1/sessions/{ivy.ref}", {"features": {"lobby": False, "guests": True, "chat": True}})).ok()


async def test_an_onlooker_who_comes_as_the_link_is_shut_is_not_let_in(town: Town) -> None:
    ivy, carl = await pair(town)
    (session_id,) = town.query("select session_id::text from sessions where name = %s", ivy.ref)[0]
    [actor] = [one for one in town.server.services.directory if one.session_id == session_id]
    async with carl.talk() as talk:
        with town.locked("session_head", "session_id", session_id):
            # The door is looked at behind what is on its way to the log; meanwhile it is shut, on its way too.
            title = asyncio.create_task(ivy.patch(f"/v1/sessions/{ivy.ref}", {"title": "Interview 2"}))
            await wait_for(lambda: actor.backlog == 1)
            late = asyncio.create_task(ivy.upgrade(token=None))
            await wait_for(lambda: actor.backlog == 2)
            shut = asyncio.create_task(ivy.patch(f"/v1/sessions/{ivy.ref}", {"features": {"guests": False}}))
            await wait_for(lambda: actor.backlog == 3)
        refused(await late, 403, "FORBIDDEN")
        for answer in (await title, await shut):
            assert answer.status == 200
        await talk.send("ping")
        await talk.frame("ping")


async def test_onlookers_are_counted(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"streams_per_user": 2, "user_commands_per_s": 1, "user_burst": 2}) as town:
        ivy = await created(town)
        async with ivy.talk(token=None) as one, ivy.talk(token=None):
            refused(await ivy.upgrade(token=None), 429, "RATE_LIMITED")
            assert (await ivy.upgrade()).status == 101
            for code in ("UNAUTHORIZED", "UNAUTHORIZED", "RATE_LIMITED"):
                await one.send("ping")
                await one.refused(code)


async def test_an_end_of_the_session_ends_its_sockets(town: Town) -> None:
    ivy, carl = await pair(town)
    async with ivy.talk() as one, carl.talk() as two, carl.talk(token=None) as onlooker:
        (await ivy.delete(ivy.path)).ok(204)
        for talk in (one, two, onlooker):
            assert await talk.closed() == 4410


async def test_who_waits_outside_is_let_in_and_comes_back(town: Town) -> None:
    ivy, carl = await created(town), Guest(town, "Carl")
    (await ivy.patch(f"/v1/sessions/{ivy.ref}", {"features": {"lobby": True}})).ok()
    refused(await Guest(town, "Cleo").post(f"{ivy.path}/join", {"user": carl.user}), 403, "FORBIDDEN")
    assert data((await ivy.get(ivy.path)).ok())["id"] == ivy.ref
