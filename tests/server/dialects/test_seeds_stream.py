"""The stream of `seeds`: its frames in their order, what each event says, and coming back."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Stream
from tests.support.dialects.school import BASE, Lesson, detail, lesson, pupil
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
NOTHING_ON = {"audio_id": None, "status": "stopped", "speed": 1.0, "position": 0.0}


async def next_is(stream: Stream, event: str) -> Any:
    """Give the data of the next frame, which must be of this event."""
    frame = await stream.next()
    assert frame.event == event, frame
    return frame.data


def person(user: Any, *, muted: bool = False, hand: bool = False, teacher: bool = False) -> Any:
    return {
        "user_id": user.id, "name": user.name, "is_muted": muted, "raised_hand": hand, "is_teacher": teacher,
    }  # fmt: skip


async def test_connecting_joins_and_shows_the_session(town: Town) -> None:
    room = await lesson(town, joined=False)
    async with room.anna.watch(room.number) as stream:
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        assert stream.response.headers["Cache-Control"] == "no-cache"
        assert await next_is(stream, "connected") == {
            "session_id": room.number, "participant_id": 1, "user_id": room.anna.id,
        }  # fmt: skip
        assert await next_is(stream, "session_state") == {
            "participant_id": 1, "participants": {"1": person(room.anna)}, "playback": NOTHING_ON,
        }  # fmt: skip
        async with room.tess.watch(room.number) as other:
            assert (await next_is(other, "connected"))["participant_id"] == 2
            people = (await next_is(other, "session_state"))["participants"]
            assert people == {"1": person(room.anna), "2": person(room.tess, teacher=True)}
            assert await next_is(stream, "participant_joined") == {
                "participant_id": 2, "user_id": room.tess.id, "name": "Tess", "is_muted": False, "is_teacher": True,
            }  # fmt: skip
        async with room.anna.watch(room.number):
            pass
    assert room.types() == ["session_created", "participant_joined", "participant_joined"]


async def test_each_event(town: Town) -> None:
    room = await lesson(town)
    await room.join(room.tess)
    ben = await pupil(town, "student", "Ben")
    piece = await room.tess.piece()
    audio_id = piece["audio_id"]
    anna = {"participant_id": 1, "user_id": room.anna.id}
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")

        async def told(event: str, reply: Any) -> Any:
            reply.ok()
            return await next_is(stream, event)

        assert await told("hand_raised", await room.act(room.anna, "raise_hand")) == anna
        assert await told("hand_lowered", await room.act(room.anna, "lower_hand")) == anna
        for mute in (True, False):
            assert await told("participant_muted", await room.act(room.anna, "mute_self", mute=mute)) == {
                "participant_id": 1, "is_muted": mute,
            }  # fmt: skip
        said = await told("chat", await room.act(room.tess, "chat", text="Good morning"))
        assert MOMENT.fullmatch(said.pop("timestamp"))
        assert said == {"from": 2, "sender_name": "Tess", "text": "Good morning"}
        path = f"{room.path}/audio"
        assert await told("audio_selected", await room.tess.post(f"{path}/select?audio_id={audio_id}")) == {
            "audio_id": audio_id, "title": "A song",
        }  # fmt: skip
        assert await told("audio_play", await room.tess.send(f"/sessions/{room.number}/audio/play", speed="1.5")) == {
            "audio_id": audio_id, "speed": 1.5, "position": 0.0,
        }  # fmt: skip
        assert await told(
            "audio_seek", await room.tess.post(f"{path}/control", {"action": "seek", "position": 20})
        ) == {"audio_id": audio_id, "position": 20.0}
        faster = await told("audio_play", await room.tess.post(f"{path}/control", {"action": "speed", "speed": 2}))
        assert faster["speed"] == 2.0
        assert 20 <= faster["position"] < 25
        paused = await told("audio_pause", await room.tess.post(f"{path}/pause"))
        assert paused.keys() == {"position"}
        # Heard of once it plays again.
        (await room.tess.post(f"{path}/control", {"action": "speed", "speed": 1})).ok()
        again = await told("audio_play", await room.tess.post(f"{path}/control", {"action": "play"}))
        assert (again["speed"], again["position"]) == (1.0, paused["position"])
        await room.join(ben)
        assert (await next_is(stream, "participant_joined"))["participant_id"] == 3
        (await room.act(room.tess, "kick_participant", target_participant_id=3)).ok()
        assert await next_is(stream, "participant_kicked") == {"participant_id": 3, "user_id": ben.id}
        ended = await told("session_ended", await room.tess.delete(room.path))
        assert ended.keys() == {"session_id", "ended_at"}
        assert await stream.rest() == []


async def test_what_other_apis_do_is_told_too(town: Town) -> None:
    room = await lesson(town)
    ben = await pupil(town, "student", "Ben")
    await room.join(ben)
    session = f"/v1/sessions/{room.number}/commands"
    piece = await room.tess.piece()
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        (await room.act(room.anna, "raise_hand")).ok()
        (await room.act(ben, "raise_hand")).ok()
        (await room.tess.post(session, {"type": "lower_all"})).ok()
        (await room.tess.post(session, {"type": "mute_all"})).ok()
        for number, event in ((1, "hand_raised"), (2, "hand_raised"), (1, "hand_lowered"), (2, "hand_lowered")):
            assert (await next_is(stream, event))["participant_id"] == number
        for number in (1, 2):
            assert await next_is(stream, "participant_muted") == {"participant_id": number, "is_muted": True}
        (await room.tess.send(f"/sessions/{room.number}/audio/play", audio_id=str(piece["audio_id"]))).ok()
        await stream.until("audio_play")
        (await room.tess.post(session, {"type": "stop"})).ok()
        assert await next_is(stream, "audio_pause") == {"position": 0.0}
        # A message to one alone is no part of this product.
        (
            await room.tess.post(session, {"type": "send_message", "text": "psst", "to": user_id(town, room.anna.id)})
        ).ok()
        (await room.act(ben, "chat", text="Hello")).ok()
        assert (await next_is(stream, "chat"))["text"] == "Hello"


def user_id(town: Town, number: int) -> str:
    [(found,)] = town.query("select user_id::text from users where number = %s", number)
    return str(found)


async def test_signals_reach_one_alone_and_are_not_kept(town: Town) -> None:
    room = await lesson(town)
    ben = await pupil(town, "student", "Ben")
    await room.join(ben)
    before = room.types()
    payload = {"sdp": "v=0", "candidates": [1, None]}
    async with room.anna.watch(room.number) as anna, ben_watching(room, ben) as bens:
        for stream in (anna, bens):
            await stream.until("session_state")
        (await room.act(ben, "webrtc_signal", target_participant_id=1, payload=payload)).ok()
        (await room.act(room.anna, "chat", text="Got it")).ok()
        assert await next_is(anna, "webrtc_signal") == {"from": 2, "to": 1, "payload": payload}
        assert (await next_is(anna, "chat"))["text"] == "Got it"
        assert (await next_is(bens, "chat"))["text"] == "Got it"
    assert room.types() == [*before, "chat_message"]


def ben_watching(room: Lesson, ben: Any) -> Any:
    return ben.watch(room.number)


async def test_whoever_is_kicked_is_told_why_and_stays_out_until_invited(town: Town) -> None:
    room = await lesson(town)
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        assert (await room.tess.delete(f"{room.path}/participants/1")).ok()["ok"] is True
        assert [(frame.event, frame.data) for frame in await stream.rest()] == [
            ("participant_kicked", {"participant_id": 1, "user_id": room.anna.id}),
            ("kicked", {"reason": "Removed by teacher"}),
        ]
    for reply in (
        await room.anna.get(f"{BASE}/sse/sessions/{room.number}"), await room.anna.post(f"{room.path}/join"),
        await room.anna.get(f"{room.path}/state"),
    ):  # fmt: skip
        assert reply.status == 403
    assert room.rows()[-1] == (
        "participant_kicked", room.tess.id, {"kicked_user_id": room.anna.id, "reason": "Removed by teacher"},
    )  # fmt: skip
    (await room.tess.post(f"{room.path}/invite", {"student_id": room.anna.id})).ok()
    assert await room.join(room.anna) == 1


async def test_coming_back_to_where_one_was(town: Town) -> None:
    room = await lesson(town)
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        (await room.act(room.tess, "chat", text="One")).ok()
        frame = await stream.until("chat")
        assert frame.id == stream.cursor
    (await room.act(room.tess, "chat", text="Two")).ok()
    (await room.act(room.tess, "mute_participant", target_participant_id=1)).ok()
    async with room.anna.watch(room.number, last_event_id=stream.cursor) as back:
        assert (await next_is(back, "chat"))["text"] == "Two"
        assert (await next_is(back, "participant_muted"))["is_muted"] is True
        (await room.act(room.tess, "chat", text="Three")).ok()
        assert (await next_is(back, "chat"))["text"] == "Three"
    # A place that is none of this log: the session is shown again.
    async with room.anna.watch(room.number, last_event_id="9-9999") as lost:
        assert (await next_is(lost, "connected"))["participant_id"] == 1


async def test_leaving_is_closing_for_longer_than_the_grace_time(dsn: str, tmp_path: Path) -> None:
    async with serving(dsn, tmp_path / "data", sessions={"grace_s": 0.3}) as town:
        room = await lesson(town, joined=False)
        async with room.tess.watch(room.number) as teachers:
            await teachers.until("session_state")
            async with room.anna.watch(room.number) as one, room.anna.watch(room.number) as two:
                await one.until("session_state")
                await two.until("session_state")
            async with room.anna.watch(room.number) as back:
                await back.until("session_state")
            left = await teachers.until("participant_left")
            assert left.data == {"participant_id": 2, "user_id": room.anna.id}
        assert room.types() == ["session_created", *2 * ["participant_joined"], "participant_left"]
        assert room.rows()[-1] == ("participant_left", room.anna.id, {"participant_id": 2})
        async with room.anna.watch(room.number) as again:
            assert (await next_is(again, "connected"))["participant_id"] == 2
        await wait_for(lambda: room.types().count("participant_left") == 3)
        assert room.types().count("participant_joined") == 3


async def test_a_token_in_the_query(town: Town) -> None:
    room = await lesson(town)
    nobody = Client(town.http, town.url)
    path = f"{BASE}/sse/sessions/{room.number}"
    async with nobody.stream(path, params={"token": room.anna.token or ""}) as stream:
        assert (await next_is(stream, "connected"))["user_id"] == room.anna.id
    reply = await nobody.get(path, token="nonsense")
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert detail(await nobody.get(path), 401) == "Not authenticated"
    assert (await nobody.get(path, user_id=str(room.anna.id))).status == 401
    assert (await room.anna.get(path, user_id=str(room.tess.id))).status == 403


async def test_teachers_hear_of_invitations(town: Town) -> None:
    room = await lesson(town)
    ben = await pupil(town, "student", "Ben")
    async with room.tess.watch(room.number) as teachers, room.anna.watch(room.number) as stream:
        for one in (teachers, stream):
            await one.until("session_state")
        (await room.tess.post(f"{room.path}/invite", {"student_id": ben.id})).ok()
        (await room.act(room.tess, "chat", text="Welcome")).ok()
        assert (await teachers.until("session_invitation")).data == {
            "session_id": room.number, "title": "Fractions", "student_id": ben.id,
        }  # fmt: skip
        await stream.until("chat")
        assert "session_invitation" not in stream.events


async def test_everybody_gets_each_event_once(town: Town) -> None:
    room = await lesson(town)
    people = await asyncio.gather(*(pupil(town, "student", f"Student {n}") for n in range(5)))
    async with room.anna.watch(room.number) as stream:
        await stream.until("session_state")
        await asyncio.gather(*(room.join(one) for one in people))
        numbers = [(await next_is(stream, "participant_joined"))["participant_id"] for _ in people]
    assert numbers == [2, 3, 4, 5, 6]
