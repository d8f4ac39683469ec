"""The socket: frames out, commands in, answers under the client's ids, and a close code for each reason to end."""

import asyncio
import contextlib
import itertools
import json
import struct
import time
from pathlib import Path
from typing import Any, get_args

import aiohttp
import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from actors.session.commands import WireCommand
from actors.session.ids import SessionId, UserId
from server.api.command_socket import ENVELOPE
from server.api.websocket import IN_FLIGHT
from server.streams.format import Bye
from server.streams.wire import message
from server.v1.frames import CLOSES
from tests.support.client import PATIENCE_S, Seat
from tests.support.serving import Town, serving, wait_for
from tests.support.talking import Closed, Talk, talk

pytestmark = pytest.mark.asyncio(loop_scope="session")


def durable(talk: Talk) -> list[str]:
    return [frame.id for frame in talk.seen if frame.id is not None and frame.event != "snapshot"]


async def refused(seat: Seat, status: int, reason: str, *, headers: dict[str, str] | None = None, **params: str) -> Any:
    """Try to open a socket, which must be refused before there is one."""
    sent = {
        "Authorization": f"Bearer {seat.person.token}", "Connection": "Upgrade", "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", **(headers or {}),
    }  # fmt: skip
    reply = await seat.person.call("GET", f"{seat.path}/socket", headers=sent, params=params)
    return reply.refused(status, reason)


# Frames and commands


async def test_a_socket_sends_the_same_events_as_the_stream(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with anna.stream() as stream, talk(anna) as one:
        await stream.until("snapshot")
        first = await one.until("snapshot")
        assert first.id == first.data["cursor"]
        await host.say("Hello")
        await host.do("raise_hand")
        await one.until("hand_raised")
        await stream.until("hand_raised")
        assert one.seen[-2:] == stream.seen[-2:]


async def test_a_command_is_answered_under_its_id_after_its_commit(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        await one.until("snapshot")
        answer = await one.ask("send_message", text="Hello", id="mine")
        assert answer["status"] == 200
        assert answer["data"]["events"][0]["text"] == "Hello"
        frame = await one.until("chat_message")
        assert frame.data == answer["data"]["events"][0]
        assert (await host.log())[-1]["seq"] == answer["data"]["seq"]
        assert (await one.ask("typing"))["status"] == 202
        assert (await one.do("raise_hand", id=-7))["events"][0]["type"] == "hand_raised"


async def test_commands_are_decided_in_order_and_none_is_lost(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    async with talk(anna) as one, talk(ben) as two, talk(host) as three:
        for each in (one, two, three):
            await each.until("snapshot")
        ids = [await each.send("send_message", text=f"{name} {n}") for n in range(100) for each, name in
               ((one, "a"), (two, "b"))]  # fmt: skip
        for id_ in ids[::2]:
            assert (await one.answer(id_))["status"] == 200
        for id_ in ids[1::2]:
            assert (await two.answer(id_))["status"] == 200
        assert one.order == sorted(one.order)
        mark = await three.do("raise_hand")
        await three.until("hand_raised", lambda data: data["seq"] == mark["events"][0]["seq"])
        for name in "ab":
            assert [text for text in three.texts if text[0] == name] == [f"{name} {n}" for n in range(100)]


async def test_commands_beyond_the_in_flight_limit_wait_and_are_answered(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        await one.until("snapshot")
        with town.frozen(host):
            ids = [await one.send("send_message", text=str(n)) for n in range(2 * IN_FLIGHT)]
            actor = town.actor(host)
            await wait_for(lambda: actor.backlog == IN_FLIGHT)
            assert not one.answers
        for id_ in ids:
            assert (await one.answer(id_))["status"] == 200
        assert actor.backlog == 0


async def test_a_client_that_sends_many_commands_at_once_gets_every_answer_and_delays_no_other(town: Town) -> None:
    """A batch of messages from one socket is executed one at a time: other clients' commands run in between."""
    host, anna = await town.classroom("Anna")
    reader, writer = await raw_socket(town, anna)
    count = 5_000
    writer.write(b"\x81\x81\0\0\0\0{" * count)
    answers = 0

    async def read() -> None:
        nonlocal answers
        while answers < count:
            answers += (await reader.readuntil(b"}}")).count(b"refused")

    async with asyncio.timeout(PATIENCE_S):
        reading = asyncio.create_task(read())
        await host.say("in between")
        assert answers < count
        await reading
    writer.close()


async def test_a_key_used_again_gets_the_first_answer(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        first = await one.do("send_message", text="once", key="k-1")
        assert await one.do("send_message", text="once", key="k-1") == first
        again = await anna.command("send_message", idempotency_key="k-1", text="once")
        assert again.ok() == first
        await one.refused(422, "key_reused", type="send_message", text="else", key="k-1")
        assert [row["details"]["text"] for row in await host.log(type="chat_message")] == ["once"]


async def test_commands_that_need_inputs_from_the_database_get_them(town: Town) -> None:
    host, _ = await town.classroom("Anna")
    cleo = await town.student("Cleo")
    async with talk(host) as one:
        invited = await one.send("invite", user_id=cleo.id)
        said = await one.send("send_message", text="after")
        assert (await one.answer(invited))["data"]["events"][0]["name"] == "Cleo"
        assert (await one.answer(said))["status"] == 200
        assert one.order == [invited, said]
        problem = await one.refused(404, "unknown_user", type="invite", user_id="01990000-0000-7000-8000-000000000000")
        assert problem["field"] == "user_id"


# Refusals


async def test_a_refusal_is_a_problem_and_leaves_the_socket_open(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        assert (await one.refused(422, "invalid", type="send_message", text=""))["field"] == "text"
        assert (await one.refused(422, "invalid", type="no_such_command"))["field"] == "type"
        assert (await one.refused(422, "invalid", type="raise_hand", more=1))["field"] == "more"
        assert (await one.refused(422, "invalid", type="raise_hand", key=""))["field"] == "key"
        assert (await one.refused(422, "invalid", type="send_message", text="a\0b"))["field"] == "text"
        await one.refused(403, "not_permitted", type="mute_all")
        await one.refused(404, "unknown_message", type="delete_message", message_id=99)
        deep: Any = {}
        for _ in range(40):
            deep = {"deeper": deep}
        await one.ws.send_json({"id": 5, "type": "signal", "to": host.user_id, "payload": deep})
        assert (await one.answer(None))["data"]["reason"] == "too_deep"
        assert (await one.do("send_message", text="still here"))["seq"]


async def test_a_socket_refuses_the_same_commands_as_http(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    asked: list[dict[str, Any]] = [
        {"type": "mute", "user_id": ben.user_id},
        {"type": "kick", "user_id": host.user_id},
        {"type": "set_role", "user_id": anna.user_id, "role": "host"},
        {"type": "set_permissions", "user_id": anna.user_id, "grant": ["moderate"]},
        {"type": "lower_hand", "user_id": ben.user_id},
        {"type": "update", "title": "Mine"},
        {"type": "edit_code", "base_version": 0, "text": "x"},
        {"type": "merge_code", "update": "AAA="},
        {"type": "restore_code", "version": 0},
        {"type": "draw", "points": [0, 0]},
        {"type": "start_recording"},
        {"type": "open_poll", "question": "?", "options": ["a", "b"]},
        {"type": "end"},
    ]
    async with talk(anna) as one:
        for body in asked:
            by_http = (await anna.command(**body)).refused(403)
            answer = await one.ask(**body)
            assert (answer["event"], answer["status"], answer["data"]) == ("refused", 403, by_http), body
    done = {row["type"] for row in await host.log(user=anna.user_id)}
    assert done <= {"participant_joined", "participant_online", "participant_offline"}


@pytest.mark.parametrize(
    ("sent", "status", "field"),
    [
        ("", 400, None),
        ("nonsense", 400, None),
        ("[1]", 422, None),
        ("{}", 422, "id"),
        ('{"id": null, "type": "raise_hand"}', 422, "id"),
        ('{"id": "", "type": "raise_hand"}', 422, "id"),
        ('{"id": 1.5, "type": "raise_hand"}', 422, "id"),
        (json.dumps({"id": "x" * 65, "type": "raise_hand"}), 422, "id"),
        (json.dumps({"id": 2**60, "type": "raise_hand"}), 422, "id"),
    ],
)
async def test_an_invalid_message_is_refused_without_an_id(
    town: Town, sent: str, status: int, field: str | None
) -> None:
    _, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        await one.ws.send_str(sent)
        answer = await one.answer(None)
        assert (answer["event"], answer["status"], answer["data"].get("field")) == ("refused", status, field)
        assert await one.do("raise_hand")


async def test_no_command_has_a_field_named_like_one_of_the_envelope() -> None:
    for command in get_args(WireCommand):
        assert not ENVELOPE & {field.encode_name for field in structs.fields(command)}


async def test_a_binary_or_oversized_message_closes_the_socket(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        await one.until("snapshot")
        await one.ws.send_bytes(b"\0")
        await one.rest()
        assert one.ws.close_code == 1003
    async with talk(anna) as one:
        await one.until("snapshot")
        await one.ws.send_str(json.dumps({"id": 1, "type": "send_message", "text": "x" * 70_000}))
        await one.rest()
        assert one.ws.close_code == 1009
    state = await anna.state()
    assert state["chat"] == []


async def test_commands_on_a_socket_count_towards_the_rate_limit_of_http(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"user_commands_per_s": 1, "user_burst": 8}) as town:
        _, anna = await town.classroom("Anna")
        async with talk(anna) as one:
            answers = [await one.ask("send_message", text=str(n)) for n in range(10)]
            refusals = [answer for answer in answers if answer["status"] == 429]
            assert refusals
            assert refusals[0]["data"]["reason"] == "too_fast"
            assert refusals[0]["retry"] >= 1_000
            (await anna.command("send_message", text="by HTTP")).refused(429, "too_fast")


# Opening


async def test_a_refused_handshake_gets_an_http_problem(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    ben = (await town.student("Ben")).at(host)
    (await anna.person.get(f"{anna.path}/socket")).refused(426, "upgrade_required")
    await refused(ben, 403, "not_joined")
    await refused(anna, 401, "unauthenticated", headers={"Authorization": ""})
    await refused(anna, 401, "bad_ticket", ticket="nonsense")
    await refused(anna, 422, "invalid", cursor="nonsense")
    await refused(anna, 426, "upgrade_required", headers={"Sec-WebSocket-Version": "1"})


async def test_a_ticket_opens_one_socket_of_its_session(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    ticket = (await anna.person.post(f"{anna.path}/tickets")).ok(201)["ticket"]
    async with talk(anna, ticket=ticket) as one:
        await one.until("snapshot")
        assert (await one.do("raise_hand"))["events"][0]["actor"] == anna.user_id
    await refused(anna, 401, "bad_ticket", ticket=ticket)


async def test_only_pages_of_the_configured_origins_may_open_a_socket(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    for origin in ("http://localhost:3000", f"http://127.0.0.1:{town.port}"):
        async with talk(anna, headers={"Origin": origin}) as one:
            await one.until("snapshot")
    for origin in ("https://evil.example.org", "null", f"http://127.0.0.1:{town.port + 1}"):
        await refused(anna, 403, "wrong_origin", headers={"Origin": origin})


async def test_sockets_and_streams_of_a_user_are_counted_together(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"streams_per_user": 2}) as town:
        _, anna = await town.classroom("Anna")
        async with talk(anna) as one, anna.stream() as stream:
            await one.until("snapshot")
            await stream.until("snapshot")
            await refused(anna, 429, "too_many_streams")
        await wait_for(lambda: not len(town.server.services.hub))
        async with talk(anna) as one:
            await one.until("snapshot")


async def test_opening_and_closing_a_socket_changes_presence(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with host.stream() as stream:
        await stream.until("snapshot")
        async with talk(anna):
            assert (await stream.until("participant_online")).data["user_id"] == anna.user_id
        assert (await stream.until("participant_offline")).data["user_id"] == anna.user_id


# Resuming


@settings(max_examples=5, deadline=None, derandomize=True)
@given(lengths=st.lists(st.integers(0, 25), min_size=1, max_size=20))
async def test_resuming_over_and_over_gives_every_event_once(town: Town, lengths: list[int]) -> None:
    """`lengths`: how many events each connection reads before the next one resumes, repeated in a cycle."""
    host, anna, ben = await town.classroom("Anna", "Ben")
    connections = itertools.cycle(lengths)
    seen: list[str] = []
    cursor: str | None = None
    async with talk(host) as witness, talk(ben) as writer:
        await witness.until("snapshot")

        async def write() -> None:
            for n in range(200):
                await writer.do("send_message", text=str(n))

        writing = asyncio.create_task(write())
        while not writing.done() or cursor is None:
            async with talk(anna) if cursor is None else talk(anna, cursor=cursor) as one:
                first = await one.next()
                assert first["event"] == ("snapshot" if cursor is None else "resumed"), first
                for _ in range(next(connections)):
                    if writing.done():
                        break
                    await one.next()
                seen += durable(one)
                cursor = one.cursor or cursor
        await writing
        mark = await writer.do("raise_hand")
        assert cursor is not None
        async with talk(anna, cursor=cursor) as one:
            await one.until("hand_raised", lambda data: data["seq"] == mark["seq"])
            seen += durable(one)
        await witness.until("hand_raised", lambda data: data["seq"] == mark["seq"])
        start = seen[0]
        expected = durable(witness)
        assert seen == expected[expected.index(start) :]
        assert len(witness.texts) == 200


async def test_a_cursor_that_cannot_be_resumed_gets_a_reset_and_a_snapshot(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    async with talk(anna, cursor="77-3") as one:
        assert (await one.next())["event"] == "reset"
        assert (await one.next())["event"] == "snapshot"


# Ends


async def test_every_reason_for_closing_has_a_close_code() -> None:
    assert CLOSES.keys() == set(get_args(Bye))
    assert len(set(CLOSES.values())) == len(CLOSES)


async def test_a_removed_participant_receives_the_removal_as_the_last_event(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    async with talk(anna) as one, talk(anna) as two, talk(ben) as three:
        for each in (one, two, three):
            await each.until("snapshot")
        await host.do("kick", user_id=anna.user_id)
        await host.say("without Anna")
        for each in (one, two):
            frames = await each.bye("kicked", 4403)
            assert frames[-1].event == "participant_kicked"
            assert each.seen[-1].data["retry"] is None
        await three.until("chat_message")
    await refused(anna, 403, "kicked")


async def test_a_leave_command_is_answered_before_the_socket_closes(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        assert (await one.do("leave"))["events"][0]["type"] == "participant_left"
        await one.bye("left", 4000)


async def test_the_socket_closes_when_the_session_ends(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with talk(host) as one, talk(anna) as two:
        await two.until("snapshot")
        assert (await one.do("end"))["events"][-1]["type"] == "session_ended"
        await one.bye("ended", 4410)
        assert (await two.bye("ended", 4410))[-1].event == "session_ended"


async def test_logging_out_closes_the_socket_at_once(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    other = (await anna.person.log_in_again()).at(anna)
    async with talk(anna) as one, talk(other) as two:
        await one.until("snapshot")
        await two.until("snapshot")
        await anna.person.post("/v1/auth/logout")
        await one.bye("expired", 4401)
        assert await two.do("raise_hand")


async def test_a_command_after_the_token_expired_is_refused_and_closes_the_socket(dsn: str, data: Path) -> None:
    async with serving(dsn, data, auth={"access_ttl_s": 4}, streams={"heartbeat_s": 60}) as town:
        _, anna = await town.classroom("Anna")
        async with talk(anna) as one:
            await one.until("snapshot")
            assert anna.person.token is not None
            ends_at = jwt.decode(anna.person.token, options={"verify_signature": False})["exp"]
            assert (await one.ask("typing"))["status"] == 202
            await wait_for(lambda: time.time() >= ends_at)
            await one.refused(401, "expired", type="typing")
            await one.bye("expired", 4401)


async def test_a_draining_server_closes_sockets_with_its_own_code(dsn: str, data: Path) -> None:
    async with aiohttp.ClientSession() as http:
        async with contextlib.AsyncExitStack() as server:
            town = await server.enter_async_context(serving(dsn, data))
            _, anna = await town.classroom("Anna")
            anna.person.http = http
            async with talk(anna) as one:
                await one.until("snapshot")
                await one.do("send_message", text="before")
                stopping = asyncio.create_task(server.aclose())
                await one.bye("draining", 1012)
                await stopping
        async with serving(dsn, data) as town:
            anna.person.url = town.url
            assert one.cursor is not None
            async with talk(anna, cursor=one.cursor) as again:
                assert (await again.next())["event"] == "resumed"
                assert (await again.do("send_message", text="after"))["events"][0]["message_id"] == 2


async def test_an_admitted_participant_reconnects_for_a_full_snapshot(town: Town) -> None:
    host, *_ = await town.classroom(features={"lobby": True})
    anna = (await town.student()).at(host)
    await anna.join()
    async with talk(anna) as one:
        assert (await one.until("snapshot")).id is None
        await host.say("not for the lobby")
        await host.do("admit", user_id=anna.user_id)
        frames = await one.bye("admitted", 4001)
        assert "chat_message" not in [frame.event for frame in frames]


async def test_each_socket_receives_only_events_for_its_participant(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    async with talk(anna) as one, talk(ben) as two:
        await one.until("snapshot")
        await two.until("snapshot")
        await one.do("send_message", text="psst", to=host.user_id)
        await one.do("send_message", text="for all")
        await one.until("chat_message", lambda data: data["text"] == "for all")
        await two.until("chat_message", lambda data: data["text"] == "for all")
        assert one.texts == ["psst", "for all"]
        assert two.texts == ["for all"]
        assert (await two.refused(404, "unknown_message", type="delete_message", message_id=1))["reason"]


# Readers


async def raw_socket(town: Town, seat: Seat, *, receive_buffer: int | None = None) -> tuple[Any, Any]:
    reader, writer = await town.open_socket(receive_buffer=receive_buffer)
    writer.write(
        f"GET {seat.path}/socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {seat.person.token}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 101")
    assert "permessage-deflate" not in head
    return reader, writer


async def test_a_client_that_does_not_read_is_disconnected_and_delays_no_other(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"buffer_bytes": 16_384, "send_buffer_bytes": 4_096}) as town:
        host, anna, ben = await town.classroom("Anna", "Ben")
        reader, writer = await raw_socket(town, anna, receive_buffer=4_096)
        async with talk(ben) as two:
            await two.until("snapshot")
            hub = town.server.services.hub
            assert len(hub) == 2
            sent = 0
            while len(hub) == 2:
                await host.say("x" * 2_000)
                sent += 1
                assert sent < 200
            assert (await host.say("the end"))["seq"]
            await two.until("chat_message", lambda data: data["text"] == "the end")
            assert len(two.texts) == sent + 1
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(10_000_000)
        writer.close()


async def test_a_client_that_answers_no_ping_is_disconnected(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"heartbeat_s": 0.2}) as town:
        host, anna = await town.classroom("Anna")
        async with talk(host) as alive:
            await alive.until("snapshot")
            reader, writer = await raw_socket(town, anna)
            await alive.until("participant_online")
            # aiohttp's client answers pings while it receives.
            assert (await alive.until("participant_offline")).data["user_id"] == anna.user_id
            assert b"\x89\x00" in await reader.read()
            writer.close()
            assert await alive.do("raise_hand")


async def test_a_ping_is_answered(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    reader, writer = await raw_socket(town, anna)
    writer.write(b"\x89\x84\0\0\0\0ping")
    await reader.readuntil(b"\x8a\x04ping")
    writer.write(b"\x88\x82\0\0\0\0" + struct.pack(">H", 1000))
    rest = await reader.read()
    assert rest.endswith(b"\x88\x02" + struct.pack(">H", 1000))
    writer.close()


async def test_events_of_one_commit_are_written_together(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    reader, writer = await raw_socket(town, anna)
    async with talk(host) as one:
        await one.until("snapshot")
        with town.frozen(host):
            ids = [await one.send("send_message", text=f"m{n}") for n in range(20)]
            actor = town.actor(host)
            await wait_for(lambda: actor.backlog == len(ids))
        for id_ in ids:
            await one.answer(id_)
    received = await reader.readuntil(b'"text":"m19"}}')
    assert received.count(b'"event":"chat_message"') == 20
    writer.close()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
async def test_frames_of_every_size_are_valid(size: int) -> None:
    text = b"x" * size
    frame = message(text)
    lengths = {True: 2, size > 125: 4, size > 65_535: 10}
    head = max(length for holds, length in lengths.items() if holds)
    assert frame[head:] == text
    assert frame[0] == 0x81


async def test_a_closed_socket_leaves_its_channel(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    async with talk(anna) as one:
        await one.until("snapshot")
        await one.ws.close()
        with pytest.raises(Closed):
            await one.next()
    channel = town.server.services.hub.channel(SessionId(anna.id), town.server.services.directory.tell)
    await wait_for(lambda: UserId(anna.user_id) not in channel.users())
