"""The socket of the `lesson` contract."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from actors.session.ids import SessionId, UserId
from storage.users import User
from tests.support.client import PATIENCE_S, Person
from tests.support.dialects.classroom import NOBODY, opened
from tests.support.serving import Town, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

SILENT = {"video_enabled": False, "audio_enabled": False, "screen_sharing": False}


async def test_the_first_frame_is_the_session_as_it_is(town: Town) -> None:
    room = await opened(town, joined=True)
    sent = {**SILENT, "video_enabled": True}
    (await room.tess.post(f"{room.path}/media-state/", sent)).ok()
    async with room.talk(room.anna) as talk:
        frame = await talk.next()
        assert frame["type"] == "session_state"
        state = frame["data"]
        assert state.keys() == {
            "session", "user_id", "role", "permissions", "participants", "media_states", "screen_sharer", "hands",
            "board", "server_time",
        }  # fmt: skip
        assert (state["user_id"], state["role"]) == (room.anna.id, "student")
        assert state["session"] == (await room.anna.post(f"{room.path}/jwt/")).ok()["session"]
        assert state["permissions"] == (await room.anna.get(f"{room.path}/permissions/")).ok()["permissions"]
        assert state["media_states"] == (await room.anna.get(f"{room.path}/media-state/")).ok()
        assert {"user_id": room.tess.id, **sent} in state["media_states"]
        people = {place["name"]: (place["role"], place["status"]) for place in state["participants"]}
        assert people == {"Tess": ("tutor", "joined"), "Anna": ("student", "joined")}
        assert state["screen_sharer"] is None


async def test_events_come_by_name(town: Town) -> None:
    room = await opened(town)
    async with room.talk(room.tess) as talk:
        await talk.until("session_state")
        async with room.talk(room.anna) as student:
            joined = (await talk.until("participant_joined"))["data"]
            assert joined == {"user_id": room.anna.id, "name": "Anna", "role": "student", "at": joined["at"]}
            assert (await talk.until("participant_online"))["data"]["user_id"] == room.anna.id
            await student.until("session_state")
            await student.send("event", {"event_type": "layout_change", "data": {"columns": 2}})
            logged = (await talk.until("event_logged"))["data"]
            assert logged == {
                "user_id": room.anna.id, "event_type": "layout_change", "data": {"columns": 2}, "at": logged["at"],
            }  # fmt: skip
            await student.send("error", {"message": "the board is gone"})
            assert (await talk.until("event_logged"))["data"]["event_type"] == "error"
        assert (await talk.until("participant_offline"))["data"]["user_id"] == room.anna.id


async def test_messages_are_the_commands_of_http(town: Town) -> None:
    room = await opened(town)
    async with room.talk(room.tess) as talk, room.talk(room.anna) as student:
        for one in (talk, student):
            await one.until("session_state")
        sent = {"video_enabled": True, "audio_enabled": True, "screen_sharing": True}
        for kind, state in (("media_state_update", sent), ("media_state", SILENT)):
            await student.send(kind, state)
            for one in (talk, student):
                assert (await one.until("media_state_update"))["data"] == {"user_id": room.anna.id, **state}
        await talk.send("permissions", {"user_id": room.anna.id, "can_draw": False})
        assert (await student.until("permissions_changed"))["data"]["permissions"]["can_draw"] is False
        await talk.send("kick", {"user_id": room.anna.id})
        assert (await student.until("participant_kicked"))["data"]["user_id"] == room.anna.id
        assert await student.closed() == 4403
        await talk.send("terminate")
        assert (await talk.until("session_ended"))["data"]["reason"] == "host"
        assert await talk.closed() == 4410
    assert (await room.classroom(room.anna))["status"] == "ended"


@pytest.mark.parametrize(
    ("sent", "reason", "kind"),
    [
        ("{", "malformed", None),
        ("[]", "invalid", None),
        ('{"data": {}}', "invalid", None),
        ('{"type": "fly", "data": {}}', "unknown_type", "fly"),
        ('{"type": "media_state", "data": {"video_enabled": 1}}', "invalid", "media_state"),
        ('{"type": "event", "data": {"event_type": "party", "data": {}}}', "invalid", "event"),
        ('{"type": "event"}', "invalid", "event"),
        ('{"type": "error", "data": {"x": "%s"}}' % ("x" * 5_000), "too_large", "error"),
        ('{"type": "kick", "data": {"user_id": "TESS"}}', "not_permitted", "kick"),
        ('{"type": "terminate"}', "not_permitted", "terminate"),
        ('{"type": "permissions", "data": {"user_id": "ANNA", "can_kick": true}}', "not_permitted", "permissions"),
        ('{"type": "permissions", "data": {"user_id": "ANNA"}}', "invalid", "permissions"),
    ],
)
async def test_a_bad_message_is_answered_and_the_socket_stays_open(
    town: Town, sent: str, reason: str, kind: str | None
) -> None:
    room = await opened(town, joined=True)
    async with room.talk(room.anna) as talk:
        await talk.until("session_state")
        await talk.ws.send_str(sent.replace("TESS", room.tess.id).replace("ANNA", room.anna.id))
        error = (await talk.until("error"))["data"]
        assert error.keys() == {"detail", "reason", "field", "type"}
        assert (error["reason"], error["type"]) == (reason, kind)
        assert error["detail"]
        await talk.send("media_state", {**SILENT, "video_enabled": True})
        assert (await talk.until("media_state_update"))["data"]["video_enabled"] is True


async def test_a_second_screen_is_refused_on_the_socket_too(town: Town) -> None:
    room = await opened(town, joined=True)
    share = {**SILENT, "screen_sharing": True}
    (await room.tess.post(f"{room.path}/media-state/", share)).ok()
    async with room.talk(room.anna) as talk:
        await talk.until("session_state")
        await talk.send("media_state", share)
        assert (await talk.until("error"))["data"]["reason"] == "screen_taken"


# Who gets in, and how it ends


async def refused(town: Town, session_id: str, token: str | None) -> int | None:
    """Open a socket that is refused; give the code."""
    url = f"{town.url}/lesson/ws/classroom/{session_id}/"
    async with town.http.ws_connect(url, params={} if token is None else {"token": token}) as ws:
        async with asyncio.timeout(PATIENCE_S):
            assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
        return ws.close_code


def scoped(town: Town, person: Person, session_id: str, seconds: float) -> str:
    """Make a session's token that is good for so long."""
    user = User(UserId(person.id), person.user["number"], person.name, None, None, person.user["role"], None)
    return town.server.services.tokens.issue_scoped(user, "a login", SessionId(session_id), time.time() + seconds)


async def test_who_is_not_let_in_is_told_by_a_code(town: Town) -> None:
    room = await opened(town)
    other = await opened(town)
    mallory = await town.student("Mallory")
    assert await refused(town, room.id, None) == 4401
    assert await refused(town, room.id, "x.y.z") == 4401
    assert await refused(town, room.id, scoped(town, room.anna, room.id, -1)) == 4401
    assert await refused(town, room.id, mallory.token) == 4403
    assert await refused(town, room.id, scoped(town, mallory, room.id, 60)) == 4403
    assert await refused(town, room.id, await other.token(other.anna)) == 4403
    assert await refused(town, NOBODY, mallory.token) == 4403
    token = await room.token(room.anna)
    (await room.tess.post(f"{room.path}/kick/", {"user_id": room.anna.id})).ok()
    assert await refused(town, room.id, token) == 4403


async def test_a_session_that_has_ended_closes_with_4410(town: Town) -> None:
    room = await opened(town)
    token = await room.token(room.anna)
    async with room.connected(token) as talk:
        await talk.until("session_state")
        (await room.tess.post(f"{room.path}/terminate/")).ok()
        await talk.until("session_ended")
        assert await talk.closed() == 4410
    async with room.connected(token) as talk:
        assert (await talk.until("session_state"))["data"]["session"]["status"] == "ended"
        assert await talk.closed() == 4410
    assert await refused(town, room.id, (await town.student("Mallory")).token) == 4403


async def test_a_token_that_expires_closes_its_socket(dsn: str, data: Path) -> None:
    # It is looked at with the heartbeats; streams end after their lifetime, sockets of dialects do not.
    async with serving(dsn, data, streams={"heartbeat_s": 0.15, "lifetime_s": 0.01}) as town:
        room = await opened(town, joined=True)
        async with room.connected(scoped(town, room.anna, room.id, 60)) as lasting:
            await lasting.until("session_state")
            # Who does not read answers no pings.
            reading = asyncio.create_task(lasting.until("media_state_update"))
            async with room.connected(scoped(town, room.anna, room.id, 1.5)) as talk:
                await talk.until("session_state")
                assert await talk.closed() == 4401
            (await room.anna.post(f"{room.path}/media-state/", {**SILENT, "video_enabled": True})).ok()
            assert (await reading)["data"]["video_enabled"] is True


async def test_logging_out_closes_the_socket(town: Town) -> None:
    room = await opened(town)
    async with room.talk(room.anna) as talk:
        await talk.until("session_state")
        (await room.anna.post("/v1/auth/logout")).ok(204)
        assert await talk.closed() == 4401


async def test_what_v1_does_is_told_here(town: Town) -> None:
    room = await opened(town, joined=True)
    commands = f"/v1/sessions/{room.id}/commands"

    async def do(person: Person, kind: str, **fields: Any) -> None:
        (await person.post(commands, {"type": kind, **fields})).ok()

    async with room.talk(room.anna) as talk:
        await talk.until("session_state")
        await do(room.tess, "send_message", text="Hello")
        assert (await talk.until("chat_message"))["data"]["text"] == "Hello"
        await do(room.tess, "draw", points=[0.1, 0.2, 0.3, 0.4])
        assert (await talk.until("board_drawn"))["data"]["stroke_id"] == 1
        await do(room.anna, "raise_hand")
        assert (await talk.until("hand_raised"))["data"]["user_id"] == room.anna.id
        await do(room.tess, "set_role", user_id=room.anna.id, role="cohost")
        changed = (await talk.until("role_changed"))["data"]
        assert (changed["role"], changed["permissions"]["can_kick"]) == ("tutor", True)
        await do(room.tess, "update", title="Decimals")
        assert (await talk.until("session_updated"))["data"]["title"] == "Decimals"
        await do(room.tess, "ask_question", text="Unknown to old clients")
        await do(room.tess, "mute_all")
        await do(room.anna, "leave")
        assert (await talk.until("participant_left"))["data"]["reason"] == "left"
        assert await talk.closed() == 1000
    assert "question" not in json.dumps(talk.seen)
