"""The parts of a live session over HTTP: what each participant may see in state, frames and answers."""

from typing import Any

import aiohttp
import pytest

from tests.support import audio_files
from tests.support.client import Person, Seat, Stream
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOBODY = "0199aaaa-0000-7000-8000-000000000000"


async def upload(person: Person) -> str:
    form = aiohttp.FormData({"title": "Song"})
    form.add_field("file", audio_files.wav(60), filename="song.wav")
    piece: dict[str, str] = (await person.call("POST", "/v1/audio", raw=form)).ok(201)
    return piece["id"]


def place_of(state: Any, seat: Seat) -> Any:
    return next(place for place in state["participants"] if place["user_id"] == seat.user_id)


async def last(stream: Stream, event: str) -> Any:
    return (await stream.until(event)).data


# Media


async def test_media_are_part_of_the_state_and_reported_one_by_one(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben", kind="tutoring")
    await anna.do("set_media", video=True, screen=True)
    await ben.do("set_media", audio=True)
    (await ben.command("set_media", screen=True)).refused(409, "screen_taken", "screen")
    state = await ben.state()
    assert place_of(state, anna)["media"] == {"video": True, "audio": False, "screen": True}
    assert state["sharer"] == anna.user_id
    everyone = (await ben.person.get(f"{ben.path}/media")).ok()
    assert everyone["sharer"] == anna.user_id
    sent = {item["user_id"]: (item["video"], item["audio"], item["screen"]) for item in everyone["items"]}
    nothing = (False, False, False)
    assert sent == {host.user_id: nothing, anna.user_id: (True, False, True), ben.user_id: (False, True, False)}
    one = (await ben.person.get(f"{ben.path}/media/{anna.user_id}")).ok()
    assert one == {"user_id": anna.user_id, "video": True, "audio": False, "screen": True, "muted": False}
    for unknown in (NOBODY, "nobody"):
        (await ben.person.get(f"{ben.path}/media/{unknown}")).refused(404, "unknown_participant")
    await anna.do("leave")
    (await ben.person.get(f"{ben.path}/media/{anna.user_id}")).refused(404, "unknown_participant")


async def test_a_waiting_participant_sees_only_themselves(town: Town) -> None:
    host, _ = await town.classroom("Anna")
    await host.do("update", features={"lobby": True})
    ben = (await town.student("Ben")).at(host)
    assert (await ben.join())["status"] == "waiting"
    assert [item["user_id"] for item in (await ben.person.get(f"{ben.path}/media")).ok()["items"]] == [ben.user_id]
    (await ben.person.get(f"{ben.path}/media/{host.user_id}")).refused(404, "unknown_participant")
    state = await ben.state()
    assert (state["polls"], state["questions"], state["code"], state["board"]) == ([], [], None, None)
    assert state["playback"] is state["recording"] is state["sharer"] is None


# Playback


async def test_playback_is_the_same_in_frames_answers_and_snapshots(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    audio_id = await upload(host.person)
    (await host.command("play")).refused(409, "no_audio")
    (await host.command("select_audio", audio_id=NOBODY)).refused(404, "unknown_audio", "audio_id")
    async with anna.stream() as stream:
        await stream.until("snapshot")
        for type, event, position, speed, fields in (
            ("select_audio", "audio_selected", 0.0, 1.0, {"audio_id": audio_id}),
            ("play", "audio_play", 10.0, 1.5, {"position": 10.0, "speed": 1.5}),
            ("seek", "audio_seek", 20.0, 1.5, {"position": 20.0}),
            ("set_speed", "audio_speed", None, 2.0, {"speed": 2.0}),
            ("pause", "audio_pause", None, 2.0, {}),
            ("stop", "audio_stop", 0.0, 2.0, {}),
        ):
            [answer] = (await host.do(type, **fields))["events"]
            for shown in (answer, await last(stream, event)):
                assert shown["at"].endswith("Z")
                assert shown["server_time"] >= shown["at"]
                assert shown["speed"] == speed
                assert shown["position"] == position or position is None
        await host.do("play", position=59.9)
        ended = await last(stream, "audio_ended")
        assert (ended["position"], ended["speed"], ended["actor"]) == (0.0, 2.0, None)
    await host.do("play", position=30.0)
    late = (await town.student("Late")).at(host)
    await late.join()
    playing = (await late.state())["playback"]
    assert playing["track"] == {"audio_id": audio_id, "title": "Song", "duration": pytest.approx(60)}
    assert (playing["status"], playing["speed"]) == ("playing", 2.0)
    assert 30 < playing["position"] < 60
    assert playing["at"] == playing["server_time"]


# Questions


async def asks(seat: Seat, text: str, **fields: Any) -> int:
    number: int = (await seat.do("ask_question", text=text, **fields))["events"][0]["question_id"]
    return number


async def test_the_author_of_an_anonymous_question_appears_only_in_the_log(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    cursor = (await ben.state())["cursor"]
    async with ben.stream() as members, host.stream() as moderators, anna.stream() as own_stream:
        for stream in (members, moderators, own_stream):
            await stream.until("snapshot")
        [answer] = (await anna.do("ask_question", text="Who am I?", anonymous=True))["events"]
        assert answer["actor"] == anna.user_id, "she knows herself"
        for stream, asker in ((members, None), (moderators, anna.user_id), (own_stream, anna.user_id)):
            frame = await last(stream, "question_asked")
            assert (frame["text"], frame["actor"]) == ("Who am I?", asker)
        await anna.do("upvote_question", question_id=1)
        async with ben.stream(last_event_id=cursor) as resumed:
            assert (await last(resumed, "question_asked"))["actor"] is None
        async with host.stream(last_event_id=cursor) as resumed:
            assert (await last(resumed, "question_asked"))["actor"] == anna.user_id
        [seen] = (await ben.state())["questions"]
        assert (seen["user_id"], seen["name"], seen["anonymous"], seen["upvotes"]) == (None, None, True, 1)
        [known] = (await host.state())["questions"]
        assert (known["user_id"], known["name"]) == (anna.user_id, "Anna")
        own = await anna.state()
        assert own["questions"][0]["user_id"] is None
        assert own["mine"] == {"votes": {}, "upvoted": [1], "asked": [1]}
        await anna.do("dismiss_question", question_id=1)
        for stream in (members, moderators):
            assert (await last(stream, "question_dismissed"))["actor"] is None
    [row] = await host.log(type="question_asked")
    assert row["actor"] == anna.user_id
    assert (await ben.state())["questions"] == []


async def test_a_resume_from_the_log_hides_anonymous_authors_too(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    cursor = (await ben.state())["cursor"]
    await asks(anna, "Who am I?", anonymous=True)
    await host.do("open_poll", question="Which?", options=["A", "B"], anonymous=True)
    await anna.do("vote", poll_id=1, options=[1])
    # With the session, its channel leaves memory, and with the channel the events that it remembers.
    await town.passivate(host)
    async with ben.stream(last_event_id=cursor) as stream:
        for event in ("question_asked", "poll_voted"):
            frame = await last(stream, event)
            assert frame["actor"] is None
            assert anna.user_id not in str(frame)


async def test_a_hidden_question_reaches_only_moderators_and_its_author(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben", features={"question_approval": True})
    async with ben.stream() as stream:
        await stream.until("snapshot")
        number = await asks(anna, "May I?")
        assert [question["text"] for question in (await host.state())["questions"]] == ["May I?"]
        assert [question["status"] for question in (await anna.state())["questions"]] == ["hidden"]
        assert (await ben.state())["questions"] == []
        (await ben.command("upvote_question", question_id=number)).refused(404, "unknown_question", "question_id")
        await host.do("approve_question", question_id=number)
        assert (await last(stream, "question_approved"))["text"] == "May I?"
        assert "question_asked" not in stream.events
        second = await asks(anna, "And this?")
        await host.do("dismiss_question", question_id=second)
        await host.say("next")
        await stream.until("chat_message")
        assert "question_dismissed" not in stream.events
    assert [question["text"] for question in (await ben.state())["questions"]] == ["May I?"]


# Polls


async def test_polls_show_counts_and_voters_unless_they_are_anonymous(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    await host.do("open_poll", question="Which?", options=["A", "B"])
    await host.do("open_poll", question="Secretly?", options=["A", "B", "C"], anonymous=True, multiple=True)
    for poll_id, options in ((1, [0]), (2, [2, 0])):
        await anna.do("vote", poll_id=poll_id, options=options)
    (await anna.command("vote", poll_id=1, options=[1])).refused(409, "already_voted", "poll_id")
    (await anna.command("vote", poll_id=9, options=[1])).refused(404, "unknown_poll", "poll_id")
    open_one, secret = (await ben.state())["polls"]
    assert (open_one["counts"], open_one["voted"], open_one["voters"]) == ([1, 0], 1, {anna.user_id: [0]})
    assert (secret["counts"], secret["voted"], secret["voters"]) == ([1, 0, 1], 1, None)
    assert anna.user_id not in str(secret)
    _, secret = (await host.state())["polls"]
    assert secret["voters"] is None
    assert (await anna.state())["mine"]["votes"] == {"1": [0], "2": [0, 2]}
    assert (await ben.state())["mine"]["votes"] == {}
    [closed] = (await host.do("close_poll", poll_id=1))["events"]
    assert closed["results"] == [1, 0]
    (await ben.command("vote", poll_id=1, options=[1])).refused(409, "poll_closed", "poll_id")


# Code, board, recording


async def test_an_edit_of_an_old_version_is_refused_with_the_current_code(town: Town) -> None:
    host, anna = await town.classroom("Anna", kind="interview")
    await host.do("edit_code", base_version=0, text="one")
    problem = (await anna.command("edit_code", base_version=0, text="two")).refused(409, "behind", "base_version")
    assert problem["current"] == {"version": 1, "text": "one", "language": "javascript"}
    assert "current" not in (await anna.command("edit_code", base_version=1)).refused(422, "not_allowed", "text")
    await anna.do("edit_code", base_version=1, changes=[{"at": 3, "insert": "!"}])
    assert (await host.state())["code"] == {"version": 2, "language": "javascript", "text": "one!"}
    (await anna.command("edit_code", base_version=2, changes=[{"at": 99}])).refused(422, "not_allowed", "changes[0]")


async def test_the_board_is_part_of_the_state(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben", kind="tutoring")
    await anna.do("draw", points=[0, 0, 0.5, 1], color="#ff0000")
    [stroke] = (await ben.state())["board"]["strokes"]
    assert (stroke["stroke_id"], stroke["user_id"], stroke["points"]) == (1, anna.user_id, [0, 0, 0.5, 1])
    await host.do("set_permissions", user_id=ben.user_id, revoke=["erase"])
    (await ben.command("erase", stroke_ids=[1])).refused(403, "not_permitted", "stroke_ids")
    await host.do("clear_board")
    assert (await ben.state())["board"] == {"version": 2, "strokes": [], "cleared": [stroke]}


async def test_the_state_shows_a_running_recording(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    assert (await anna.state())["recording"] is None
    (await host.command("stop_recording")).refused(409, "not_recording")
    [started] = (await host.do("start_recording"))["events"]
    (await host.command("start_recording")).refused(409, "recording")
    shown = (await anna.state())["recording"]
    assert shown == {"recording_id": 1, "user_id": host.user_id, "started_at": started["at"]}
    await host.do("end")
    assert (await anna.state())["recording"] is None


async def test_a_voice_note_is_a_message_until_it_is_deleted(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    audio_id = await upload(host.person)
    await host.do("send_voice", audio_id=audio_id)
    [message] = (await anna.state())["chat"]
    assert (message["text"], message["voice"]) == ("", {"audio_id": audio_id, "duration": pytest.approx(60)})
    await host.do("delete_message", message_id=message["message_id"])
    [message] = (await anna.state())["chat"]
    assert (message["deleted"], message["voice"]) == (True, None)


async def test_a_session_shows_its_time_settings(town: Town) -> None:
    host = await (await town.teacher()).create(
        starts_at="2030-01-02T08:00:00Z", auto_start=True, early=30, empty_after=60, host_gone_after=90
    )
    shown = host.session
    assert (shown["auto_start"], shown["early"], shown["empty_after"], shown["host_gone_after"]) == (True, 30, 60, 90)


async def test_a_session_without_a_host_ends_by_itself(town: Town) -> None:
    host, anna = await town.classroom("Anna", host_gone_after=1)
    async with anna.stream() as stream:
        await stream.until("snapshot")
        await host.do("leave")
        assert (await last(stream, "session_ended"))["reason"] == "host_gone"
        await stream.bye("ended")


# Permissions


async def test_permissions_are_returned_with_their_reasons(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    await host.do("set_permissions", user_id=anna.user_id, grant=["draw"], revoke=["chat"])
    plain = (await anna.person.get(f"{anna.path}/permissions")).ok()
    assert plain == {
        "user_id": anna.user_id,
        "role": "member",
        "permissions": ["ask", "draw", "speak", "video", "vote"],
    }
    explained = (await anna.person.get(f"{anna.path}/permissions", explain="1")).ok()
    why = {one["permission"]: (one["allowed"], one["because"]) for one in explained["explain"]}
    assert len(why) == 13
    assert (why["draw"], why["chat"], why["speak"]) == ((True, "granted"), (False, "revoked"), (True, "role"))
    assert (why["moderate"], why["record"]) == ((False, "role"), (False, "role"))
    of_anna = (await host.person.get(f"{host.path}/permissions", user_id=anna.user_id, explain="1")).ok()
    assert of_anna == explained
    assert (await host.person.get(f"{host.path}/permissions")).ok()["role"] == "host"
    (await ben.person.get(f"{ben.path}/permissions", user_id=anna.user_id)).refused(403, "not_permitted", "user_id")
    (await host.person.get(f"{host.path}/permissions", user_id=NOBODY)).refused(404, "unknown_participant", "user_id")
    (await host.person.get(f"{host.path}/permissions", explain="why")).refused(422, "invalid", "explain")
    await host.do("update", features={"board": False})
    assert "draw" not in (await anna.person.get(f"{anna.path}/permissions")).ok()["permissions"]
    await host.do("end")
    ended = (await anna.person.get(f"{anna.path}/permissions", explain="1")).ok()
    assert ended["permissions"] == []
    assert {one["because"] for one in ended["explain"]} == {"ended"}


async def test_revoking_a_permission_ends_its_use_at_once(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    await anna.do("set_media", audio=True)
    await host.do("set_permissions", user_id=anna.user_id, revoke=["speak"])
    assert place_of(await host.state(), anna)["media"]["audio"] is False
    (await anna.command("unmute")).refused(403, "not_permitted")
    (await anna.command("set_media", audio=True)).refused(403, "not_permitted")
