"""Commands: each is accepted once and answered with its events, and an Idempotency-Key gives it one effect."""

import asyncio
import base64
import gc
from typing import Any, get_args

import aiohttp
import pytest
from pycrdt import Doc, Text

from actors.session import commands as c
from server.api.pending_command import Pending
from tests.support import audio_files
from tests.support.client import Person, Seat
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")


def types(answer: Any) -> list[str]:
    return [event["type"] for event in answer["events"]]


async def upload(person: Person) -> str:
    form = aiohttp.FormData({"title": "Song"})
    form.add_field("file", audio_files.wav(60), filename="song.wav")
    piece: dict[str, str] = (await person.call("POST", "/v1/audio", raw=form)).ok(201)
    return piece["id"]


def yjs_update(text: str) -> str:
    """Return the update of an edit in a new document that shares no history with the session's."""
    document = Doc({"code": Text(text)})
    return base64.b64encode(document.get_update()).decode()


async def test_every_command_is_accepted_once(town: Town) -> None:
    """A class uses every command, in order. Each answer contains the events of its command."""
    done: set[str] = set()
    tess, anna, ben, cleo, dan = [await town.teacher()] + [
        await town.student(n) for n in ("Anna", "Ben", "Cleo", "Dan")
    ]
    host = await tess.create(features={"lobby": True})
    a, b, cl, d = (person.at(host) for person in (anna, ben, cleo, dan))

    async def play(seat: Seat, type: str, *events: str, status: int = 200, **fields: Any) -> Any:
        answer = (await seat.command(type, **fields)).ok(status)
        done.add(type)
        assert types(answer) == list(events), (type, answer)
        assert answer.keys() == {"seq", "events"}
        for event in answer["events"]:
            assert event["actor"] == seat.user_id
            assert event["at"].endswith("Z")
        if answer["events"]:
            assert answer["seq"] == answer["events"][-1]["seq"]
        return answer

    await play(host, "update", "session_updated", title="Physics 102")
    await play(host, "start", "session_started")
    await play(host, "start")
    await play(host, "join", "participant_joined")
    await play(host, "invite", "participant_invited", user_id=anna.id)
    await play(a, "join", "participant_joined")
    for seat in (b, cl, d):
        assert (await seat.join())["status"] == "waiting"
    await play(host, "admit", "participant_joined", user_id=ben.id)
    await play(host, "deny", "participant_denied", user_id=dan.id)
    await play(host, "admit", "participant_joined", user_id=cleo.id)
    await play(host, "lock", "session_locked")
    await play(host, "unlock", "session_unlocked")
    await play(host, "set_role", "role_changed", user_id=anna.id, role="cohost")
    await play(host, "set_permissions", "permissions_changed", user_id=ben.id, grant=["screen"], revoke=["chat"])
    (await b.command("send_message", text="hi")).refused(403, "not_permitted")
    await play(host, "mute", "participant_muted", user_id=ben.id)
    await play(host, "request_unmute", "unmute_requested", user_id=ben.id)
    await play(b, "unmute", "participant_unmuted")
    spared: Any = {"except": [anna.id]}
    answer = await play(host, "mute_all", "all_muted", **spared)
    assert set(answer["events"][0]["user_ids"]) == {ben.id, cleo.id}
    await play(b, "raise_hand", "hand_raised")
    await play(cl, "raise_hand", "hand_raised")
    await play(a, "raise_hand", "hand_raised")
    await play(cl, "lower_hand", "hand_lowered")
    called = await play(host, "call_next", "hand_called")
    assert called["events"][0]["user_id"] == ben.id
    await play(host, "lower_all", "hands_lowered")
    (await host.command("call_next")).refused(409, "queue_empty")
    sent = await play(a, "send_message", "chat_message", text="What is light?")
    message_id = sent["events"][0]["message_id"]
    await play(cl, "react", "message_reacted", message_id=message_id, emoji="👍")
    await play(host, "delete_message", "message_deleted", message_id=message_id)
    await play(a, "log_event", "event_logged", event_type="error", data={"code": 7})
    await play(a, "signal", status=202, to=tess.id, payload={"sdp": "…"})
    await play(a, "cursor", status=202, position={"x": 1, "y": 2})
    await play(a, "typing", status=202)
    await play(a, "set_media", "media_changed", video=True)
    await play(a, "ask_question", "question_asked", text="Why?")
    await host.do("update", features={"question_approval": True})
    await play(cl, "ask_question", "question_asked", text="May I?")
    await play(host, "approve_question", "question_approved", question_id=2)
    await play(a, "upvote_question", "question_upvoted", question_id=2)
    await play(host, "answer_question", "question_answered", question_id=2, text="You may.")
    await play(a, "dismiss_question", "question_dismissed", question_id=1)
    await play(host, "open_poll", "poll_opened", question="Which?", options=["A", "B"])
    await play(cl, "vote", "poll_voted", poll_id=1, options=[1])
    await play(host, "close_poll", "poll_closed", poll_id=1)
    audio_id = await upload(host.person)
    await play(host, "select_audio", "audio_selected", audio_id=audio_id)
    await play(host, "play", "audio_play")
    await play(host, "seek", "audio_seek", position=30)
    await play(host, "set_speed", "audio_speed", speed=2)
    await play(host, "pause", "audio_pause")
    await play(host, "stop", "audio_stop")
    await play(host, "send_voice", "chat_message", audio_id=audio_id)
    await play(host, "edit_code", "code_edited", base_version=0, text="1")
    await play(a, "edit_code", "code_edited", base_version=1, changes=[{"at": 1, "insert": "2"}])
    await play(a, "restore_code", "code_edited", version=1)
    await play(a, "set_language", "language_changed", language="python")
    merged = await play(a, "merge_code", "code_merged", "code_edited", "code_merged", update=yjs_update("3"))
    assert merged["events"][1]["version"] == 4
    await play(a, "draw", "board_drawn", points=[0, 0, 1, 1])
    await play(a, "draw", "board_drawn", points=[0, 1])
    await play(a, "erase", "board_erased", stroke_ids=[1])
    await play(host, "clear_board", "board_cleared")
    await play(host, "restore_board", "board_restored")
    await play(host, "start_recording", "recording_started")
    await play(host, "stop_recording", "recording_stopped")
    await play(host, "kick", "participant_kicked", user_id=cleo.id, ban=True, reason="noise")
    (await cl.command("raise_hand")).refused(403, "kicked")
    await play(a, "leave", "participant_left")
    await play(host, "end", "session_ended")
    (await host.command("start")).refused(410, "ended")
    other = await tess.create()
    await play(other, "cancel", "session_cancelled")
    (await other.command("start")).refused(410, "cancelled")

    assert done == {command.__struct_config__.tag for command in get_args(c.WireCommand)}
    log = await host.log()
    assert [row["seq"] for row in log] == list(range(1, len(log) + 1))
    assert not {"signal", "cursor", "typing"} & {row["type"] for row in log}


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None),
        (b"{", 400, None),
        (b"hello", 400, None),
        (b'{"type":"send_message","text":"\xff\xfe"}', 400, None),
        (b'{"type":"send_message","text":"a\\ud800b"}', 400, None),
        (b'{"type":"send_message","text":"a\\udc00b"}', 400, None),
        (b'{"type":"send_message","text":"a\x00b"}', 400, None),
        (b'{"type":"send_message","text":"a"} {}', 400, None),
        (b"\xef\xbb\xbf{}", 400, None),
        (b"[]", 422, None),
        (b"null", 422, None),
        (b"{}", 422, "type"),
        (b'{"type":"dance"}', 422, "type"),
        (b'{"type":7}', 422, "type"),
        (b'{"type":"create"}', 422, "type"),
        (b'{"type":"tick"}', 422, "type"),
        (b'{"type":"delete"}', 422, "type"),
        (b'{"type":"disconnect"}', 422, "type"),
        (b'{"type":"send_message"}', 422, "text"),
        (b'{"type":"send_message","text":7}', 422, "text"),
        (b'{"type":"send_message","text":" "}', 422, "text"),
        (b'{"type":"send_message","text":"a\\u0000b"}', 422, "text"),
        (b'{"type":"send_message","text":"a","user_id":"somebody"}', 422, "user_id"),
        (b'{"type":"send_message","text":"a","reply_to":"1"}', 422, "reply_to"),
        (b'{"type":"log_event","event_type":"error","data":{"a":{"b\\u0000":1}}}', 422, None),
        (b'{"type":"log_event","event_type":"Not A Type"}', 422, "event_type"),
        (b'{"type":"log_event","event_type":"dance"}', 422, "event_type"),
        (b'{"type":"log_event","event_type":"error","data":[]}', 422, "data"),
        (b'{"type":"set_permissions","user_id":"x","grant":["fly"]}', 422, None),
        (b'{"type":"set_role","user_id":"x","role":"king"}', 422, "role"),
        (b'{"type":"kick","user_id":"' + b"x" * 65 + b'"}', 422, "user_id"),
        (b'{"type":"signal","to":"x","payload":' + b"[" * 40 + b"]" * 40 + b"}", 422, None),
        (b'{"type":"signal","to":"x","payload":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}", 422, None),
        (b"[" * 60_000, 422, None),
    ],
)
async def test_an_invalid_body_is_refused_and_changes_nothing(
    town: Town, body: bytes, status: int, field: str | None
) -> None:
    host, *_ = await town.classroom()
    before = (await host.state())["cursor"]
    refusal = await host.person.call("POST", f"{host.path}/commands", raw=body)
    problem = refusal.refused(status)
    if field is not None:
        assert problem["field"] == field
    assert (await host.state())["cursor"] == before


async def test_unknown_participants_and_messages_get_404(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    stranger = await town.student()
    for user_id in ("nobody", "", "0199aaaa-0000-7000-8000-000000000000", "' or 1=1", "☃", "x\n"):
        for type in ("invite", "kick", "mute", "unmute", "admit", "deny", "request_unmute", "lower_hand"):
            (await host.command(type, user_id=user_id)).refused(404)
        (await anna.command("send_message", text="hi", to=user_id)).refused(404, "unknown_participant", "to")
        (await anna.command("signal", to=user_id, payload=1)).refused(404, "unknown_participant", "to")
    (await host.command("mute", user_id=stranger.id)).refused(404, "unknown_participant", "user_id")
    for message_id in (0, -1, 99, 10**40):
        (await host.command("delete_message", message_id=message_id)).refused(404, "unknown_message", "message_id")
        (await anna.command("react", message_id=message_id, emoji="x")).refused(404, "unknown_message")
    (await host.command("log_event", event_type="error", data={"n": "x" * 5_000})).refused(413, "too_large", "data")


async def test_numbers_of_any_size_are_stored_and_sent_unchanged(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    large = {"n": 10**300, "f": 1.5e-300, "m": -(10**40)}
    await host.do("log_event", event_type="error", data=large)
    (await anna.command("signal", to=host.user_id, payload=large)).ok(202)
    (await anna.command("cursor", position=large)).ok(202)
    [row] = await host.log(type="event_logged")
    assert row["details"]["data"] == large
    await town.passivate(host)
    await host.say("still here")


async def test_text_is_returned_unchanged(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    text = 'Ω "quotes" \\ / <b>&amp;</b> \u2028\u2029 \x7f\ttab\nnew line 👩🏽‍🏫 ‮rtl'
    async with anna.stream() as stream:
        await stream.until("snapshot")
        assert (await host.say(text))["text"] == text
        assert (await stream.until("chat_message")).data["text"] == text
    assert (await anna.state())["chat"][-1]["text"] == text
    assert (await host.log(type="chat_message"))[-1]["details"]["text"] == text


async def test_repeating_a_key_and_body_does_nothing(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    first = await anna.command("send_message", text="once", idempotency_key="k-1")
    again = await anna.command("send_message", text="once", idempotency_key="k-1")
    assert again.ok() == first.ok()
    reordered = b'{ "reply_to": null, "text" : "\\u006fnce", "type":"send_message" }'
    third = await anna.person.call("POST", f"{anna.path}/commands", raw=reordered, headers={"Idempotency-Key": "k-1"})
    assert third.ok() == first.ok()
    (await anna.command("send_message", text="twice", idempotency_key="k-1")).refused(
        422, "key_reused", "Idempotency-Key"
    )
    (await anna.command("raise_hand", idempotency_key="k-1")).refused(422, "key_reused")
    # A key counts for one user and one session.
    await host.do("send_message", text="once", idempotency_key="k-1")
    assert len(await host.log(type="chat_message")) == 2


async def test_a_key_is_remembered_after_its_session_left_memory(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    first = await anna.do("send_message", text="a secret", idempotency_key="k-1")
    nothing = await anna.do("unmute", idempotency_key="k-2")
    assert nothing["events"] == []
    await town.passivate(host)
    assert await anna.do("send_message", text="a secret", idempotency_key="k-1") == first
    assert await anna.do("unmute", idempotency_key="k-2") == nothing
    (await anna.command("send_message", text="other", idempotency_key="k-1")).refused(422, "key_reused")
    town.fence(host)
    assert await anna.do("send_message", text="a secret", idempotency_key="k-1") == first
    await host.do("delete_message", message_id=first["events"][0]["message_id"])
    redacted = await anna.do("send_message", text="a secret", idempotency_key="k-1")
    assert redacted["seq"] == first["seq"]
    assert redacted["events"][0]["text"] == ""
    assert redacted["events"][0]["deleted"] is True
    assert len(await host.log(type="chat_message")) == 1


async def test_a_key_also_covers_ephemeral_commands(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with host.stream() as stream:
        await stream.until("snapshot")
        first = (await anna.command("typing", idempotency_key="k-1")).ok(202)
        again = await anna.command("typing", idempotency_key="k-1")
        assert again.json == first
        await anna.say("end")
        await stream.until("chat_message")
        assert stream.events.count("typing") == 1


async def test_a_key_used_twenty_times_at_once_has_one_effect(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    replies = await asyncio.gather(
        *(anna.command("send_message", text="once", idempotency_key="k-1") for _ in range(20))
    )
    assert len({reply.body for reply in replies}) == 1
    assert all(reply.status == 200 for reply in replies)
    assert len(await host.log(type="chat_message")) == 1
    # The same while the session is not in memory: all commands arrive before it is restored.
    await town.passivate(host)
    replies = await asyncio.gather(
        *(anna.command("send_message", text="again", idempotency_key="k-2") for _ in range(20))
    )
    assert [reply.status for reply in replies] == [200] * 20
    assert len(await host.log(type="chat_message")) == 2


async def test_a_refused_command_leaves_its_key_free(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    (await anna.command("lock", idempotency_key="k-1")).refused(403)
    await host.do("set_role", user_id=anna.user_id, role="cohost")
    assert types(await anna.do("lock", idempotency_key="k-1")) == ["session_locked"]


@pytest.mark.parametrize("key", ["", "x" * 65, "a\tb", "naïve"])
async def test_a_malformed_key_is_refused(town: Town, key: str) -> None:
    host, *_ = await town.classroom()
    (await host.command("lock", idempotency_key=key)).refused(422, "invalid", "Idempotency-Key")


async def test_patch_join_and_delete_take_keys_too(town: Town) -> None:
    host = await (await town.teacher()).create()
    await host.do("join")
    key = {"Idempotency-Key": "k-1"}
    anna = (await town.student()).at(host)
    first = (await anna.person.post("/v1/sessions/join", {"code": host.code}, **key)).ok()
    await anna.do("leave")
    again = (await anna.person.post("/v1/sessions/join", {"code": host.code}, **key)).ok()
    assert again["status"] == "left", "the key did its work the first time"
    assert first["status"] == "joined"
    one = await host.person.call("PATCH", host.path, {"title": "New"}, headers=key)
    assert one.ok()["title"] == "New"
    other = await host.person.call("PATCH", host.path, {"title": "Newer"}, headers=key)
    other.refused(422, "key_reused")


async def test_a_key_keeps_its_answer_after_the_session_is_deleted(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    said = (await anna.command("send_message", text="Hello", idempotency_key="k-1")).ok()
    key = {"Idempotency-Key": "k-2"}
    (await host.person.call("DELETE", host.path, headers=key)).ok(204)
    for path in (host.path, f"/v1/sessions/{host.session['number']}", f"/v1/sessions/{host.code.lower()}"):
        (await host.person.call("DELETE", path, headers=key)).ok(204)
    assert (await anna.command("send_message", text="Hello", idempotency_key="k-1")).ok() == said
    (await anna.command("send_message", text="Bye", idempotency_key="k-1")).refused(422, "key_reused")
    # For other users, and without that key, the session is unknown.
    (await host.person.call("DELETE", host.path)).refused(404, "unknown_session")
    (await host.person.call("DELETE", host.path, headers={"Idempotency-Key": "k-3"})).refused(404, "unknown_session")
    (await anna.command("send_message", text="Hello", idempotency_key="k-2")).refused(404, "unknown_session")
    (await anna.person.call("DELETE", host.path, headers=key)).refused(404, "unknown_session")


async def test_concurrent_commands_are_each_answered_with_their_own_event(town: Town) -> None:
    host, *seats = await town.classroom("Anna", "Ben", "Cleo")
    texts = [(seat, f"{seat.person.name} {number}") for number in range(25) for seat in seats]
    said = await asyncio.gather(*(seat.say(text) for seat, text in texts))
    assert [event["text"] for event in said] == [text for _, text in texts]
    assert len({event["seq"] for event in said}) == len(texts)
    rows = {row["seq"]: row for row in await host.log(type="chat_message")}
    for (seat, text), event in zip(texts, said, strict=True):
        assert rows[event["seq"]]["details"]["text"] == text
        assert rows[event["seq"]]["actor"] == seat.user_id


async def test_a_command_fenced_at_its_commit_is_executed_once_by_the_new_owner(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    for number in range(3):
        town.fence(host)
        await anna.say(f"message {number}")
    said = await host.log(type="chat_message")
    assert [row["details"]["text"] for row in said] == ["message 0", "message 1", "message 2"]


async def test_a_client_that_disconnects_before_its_answer_affects_no_other_client(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    path, token = f"{anna.path}/commands", anna.person.token
    with town.frozen(host):
        for number in range(3):
            body = f'{{"type":"send_message","text":"gone {number}"}}'
            _, writer = await town.open_socket()
            writer.write(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            await writer.drain()
            if number == 1:
                writer.transport.abort()
            else:
                writer.close()
        waiting = asyncio.create_task(anna.say("still here"))
        await asyncio.sleep(0.05)
    await waiting
    texts = [row["details"]["text"] for row in await host.log(type="chat_message")]
    assert texts[-1] == "still here"
    assert (await host.say("all of us"))["text"] == "all of us"


async def test_a_command_leaves_no_reference_cycle(town: Town) -> None:
    """A command's objects are freed by reference counting after its answer, on the fast lane and on the socket."""
    host = await (await town.teacher()).create()
    await host.do("join")
    gc.collect()
    gc.disable()
    try:
        for number in range(5):
            await host.say(str(number))
        assert [left for left in gc.get_objects() if isinstance(left, Pending)] == []
    finally:
        gc.enable()
