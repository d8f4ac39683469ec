"""`seeds` when things come late or from elsewhere: what was missed, what is over, what other APIs do."""

from pathlib import Path
from typing import Any

import pytest

from server.settings.sections import SeedsSettings
from tests.support.client import Client
from tests.support.dialects.school import BASE, PASSWORD, Lesson, detail, lesson, phone, pupil
from tests.support.serving import Town, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def v1(room: Lesson, person: Client, type: str, **fields: Any) -> Any:
    return (await person.post(f"/v1/sessions/{room.number}/commands", {"type": type, **fields})).ok()


async def user_id(person: Client) -> str:
    return str((await person.get("/v1/me")).ok()["id"])


async def test_a_class_is_never_full(town: Town) -> None:
    room = await lesson(town, joined=False)
    assert (await room.tess.get(f"/v1/sessions/{room.number}")).ok()["capacity"] == 10_000


async def test_what_was_missed_is_told_as_it_was_then(town: Town) -> None:
    room = await lesson(town)
    one, two = [(await room.tess.piece(title))["audio_id"] for title in ("One", "Two")]
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        (await room.act(room.tess, "chat", text="Now")).ok()
        await stream.until("chat")

    # Another speed is heard while it plays, and not before.
    for path in (
        f"play?audio_id={one}", "control?action=seek&position=5", "control?action=speed&speed=2",
        f"select?audio_id={two}", "control?action=speed&speed=0.5",
    ):  # fmt: skip
        (await room.tess.post(f"{room.path}/audio/{path}")).ok()
    (await room.act(room.tess, "chat", text="Then")).ok()
    happened = [
        ("audio_selected", one), ("audio_play", one), ("audio_seek", one), ("audio_play", one), ("audio_selected", two),
    ]  # fmt: skip
    async with room.anna.watch(room.number, last_event_id=stream.cursor) as back:
        await back.until("chat", lambda data: data["text"] == "Then")
        assert [(frame.event, frame.data.get("audio_id")) for frame in back.seen[:-1]] == happened
    assert [(kind, said["audio_id"]) for kind, _, said in room.rows() if kind.startswith("audio")] == happened


async def test_what_was_taken_back_is_not_shown(town: Town) -> None:
    room = await lesson(town)
    for text in ("Oops", "Hello"):
        (await room.act(room.anna, "chat", text=text)).ok()
    await v1(room, room.anna, "delete_message", message_id=1)
    assert [one["message"] for one in (await room.anna.get(f"{room.path}/chat")).ok()] == ["Hello"]
    assert room.rows()[2] == ("chat_message", room.anna.id, {"message": "", "message_length": 0})


async def test_an_account_is_made_and_nobody_logged_in(town: Town) -> None:
    number = phone()
    body = {"name": "Tess", "phone_number": number, "password": PASSWORD, "role": "teacher"}
    account = (await town.anyone.post(f"{BASE}/auth/register", body)).ok()
    logins = "select count(*) from logins join users using (user_id) where number = %s"
    assert town.query(logins, account["user_id"]) == [(0,)]
    (await town.anyone.post(f"{BASE}/auth/login", {"phone_number": number, "password": PASSWORD})).ok()
    assert town.query(logins, account["user_id"]) == [(1,)]


async def test_whoever_leaves_the_lobby_has_not_been_here(town: Town) -> None:
    room = await lesson(town, joined=False)
    await v1(room, room.tess, "update", features={"lobby": True})
    await room.join(room.tess)
    async with room.tess.watch(room.number) as stream:
        await room.join(room.anna)
        await v1(room, room.anna, "leave")
        await room.join(room.anna)
        await v1(room, room.tess, "admit", user_id=await user_id(room.anna))
        await v1(room, room.anna, "leave")
        await stream.until("participant_left")
        told = [event for event in stream.events if event.startswith("participant")]
        assert told == ["participant_joined", "participant_left"]
    assert room.types() == ["session_created", "participant_joined", "participant_joined", "participant_left"]


async def test_whom_a_lost_right_mutes_is_told_to_be_muted(town: Town) -> None:
    room = await lesson(town)
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        anna = await user_id(room.anna)
        await v1(room, room.tess, "set_permissions", user_id=anna, revoke=["draw"])
        await v1(room, room.tess, "set_permissions", user_id=anna, revoke=["speak"])
        assert (await stream.next()).data == {"participant_id": 1, "is_muted": True}
        reply = await room.act(room.anna, "mute_self", mute=False)
        assert detail(reply, 403) == "Teacher permission required"


async def test_a_stream_of_what_is_over_ends_and_is_not_opened_again(town: Town) -> None:
    room = await lesson(town)
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        (await room.act(room.tess, "chat", text="Bye")).ok()
        await stream.until("chat")
    (await room.tess.delete(room.path)).ok()
    # Who was away hears of it once; an EventSource would come again for ever, but for an answer that is no stream.
    async with room.anna.watch(room.number, last_event_id=stream.cursor) as back:
        await back.rest()
        assert back.events == ["session_ended"]
    url = f"{town.url}{BASE}/sse/sessions/{room.number}"
    for person in (room.anna, room.tess):
        for since in ({}, {"Last-Event-ID": back.cursor or ""}):
            async with town.http.get(url, headers=person.headers | since) as answer:
                assert answer.status == 400, since
                assert await answer.json() == {"detail": "Session is not active"}
    stranger = await pupil(town, name="Mallory")
    async with town.http.get(url, headers=stranger.headers | {"Last-Event-ID": stream.cursor or ""}) as answer:
        assert answer.status == 403


async def test_who_is_believed_has_no_login_to_end(dsn: str, tmp_path: Path) -> None:
    async with serving(dsn, tmp_path / "data", dialects={"seeds": SeedsSettings(trust_user_id=True)}) as town:
        room = await lesson(town)
        anyone = town.anyone
        for _ in range(2):
            assert (await anyone.post(f"{BASE}/auth/logout?user_id={room.anna.id}")).ok()["ok"] is True
        async with anyone.stream(f"{BASE}/sse/sessions/{room.number}?user_id={room.anna.id}") as stream:
            assert (await stream.next()).data["user_id"] == room.anna.id
        (await anyone.post(f"{BASE}/users/fcm-token?user_id={room.anna.id}", {"token": "x", "device_type": "web"})).ok()
        assert (await room.anna.get("/v1/me")).status == 200
