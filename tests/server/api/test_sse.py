"""Streams: a snapshot and every event after it, a cursor and exactly the events since, and a reason at the end."""

import asyncio
import gc
import json
import socket
import struct
import time
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest

from actors.session.state import State
from tests.support.client import Client, Frame, Seat, Stream
from tests.support.serving import KEY, Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


def durable(frames: list[Frame]) -> list[str]:
    return [frame.id for frame in frames if frame.id is not None and frame.event != "snapshot"]


def get_events(seat: Seat) -> bytes:
    lines = f"GET {seat.path}/events HTTP/1.1", "Host: x", f"Authorization: Bearer {seat.person.token}", "", ""
    return "\r\n".join(lines).encode()


def heard(stream: Stream, count: int) -> bool:
    return len(stream.texts) >= count


async def say(seat: Seat, *texts: str) -> None:
    for text in texts:
        await seat.say(text)


async def test_a_stream_is_a_snapshot_and_the_events_after_it(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    await host.say("before")
    async with anna.stream() as stream:
        assert stream.response.headers["Cache-Control"] == "no-cache"
        # The connection ends with the stream. Otherwise a client might send its next request at that moment.
        assert stream.response.headers["Connection"] == "close"
        first = await stream.next()
        assert first.event == "snapshot"
        assert first.id == first.data["cursor"]
        state = await anna.state()
        for changing in ("server_time",):
            first.data.pop(changing), state.pop(changing)
        assert first.data == state
        assert [message["text"] for message in first.data["chat"]] == ["before"]
        assert first.data["you"]["user_id"] == anna.user_id
        event = await host.say("after")
        frame = await stream.next()
        assert frame == Frame(f"{str(first.id).split('-')[0]}-{event['seq']}", "chat_message", event)
        assert frame.data["actor"] == host.user_id


async def test_every_subscriber_gets_every_event_once_and_in_order(town: Town) -> None:
    host, *seats = await town.classroom("Anna", "Ben", "Cleo")
    async with seats[0].stream() as one, seats[1].stream() as two, seats[2].stream() as three:
        streams = [one, two, three]
        for stream in streams:
            await stream.until("snapshot")
        await asyncio.gather(*(seat.say(f"{seat.person.name} {n}") for seat in (host, *seats) for n in range(30)))
        await host.do("raise_hand")
        for stream in streams:
            await stream.until("hand_raised")
            seqs = [frame.data["seq"] for frame in stream.seen if frame.event == "chat_message"]
            assert len(seqs) == 120
            assert seqs == sorted(set(seqs))
        assert one.texts == two.texts == three.texts


async def missed(seat: Seat, cursor: str, *, header: bool = True) -> list[Frame]:
    """Resume; return the frames up to a mark that is set afterwards."""
    how: dict[str, Any] = {"last_event_id": cursor} if header else {"cursor": cursor}
    async with seat.stream(**how) as stream:
        first = await stream.next()
        assert first.event == "resumed", first
        assert first.data["from"] == cursor
        frames = [await stream.next() for _ in range(first.data["missed"])]
        if frames:
            assert frames[-1].id is not None
        mark = await seat.say("mark")
        assert (await stream.until("chat_message", lambda data: data["seq"] == mark["seq"])).data["text"] == "mark"
        assert all(frame.event.startswith("participant_") for frame in stream.seen[1 + len(frames) : -1])
        return frames


async def test_resuming_from_every_cursor_gives_exactly_the_later_events(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with host.stream() as witness:
        start = (await witness.until("snapshot")).id
        await say(host, *(f"message {number}" for number in range(12)))
        await witness.until("chat_message", lambda data: data["text"] == "message 11")
        seen = list(witness.seen[1:])
    ids = [start, *durable(seen)]
    for cut, cursor in enumerate(ids):
        assert cursor is not None
        for header in (True, False):
            frames = await missed(anna, cursor, header=header)
            assert frames[: len(seen) - cut] == seen[cut:]
            later = [frame for frame in frames[len(seen) - cut :] if frame.event == "chat_message"]
            assert {frame.data["text"] for frame in later} <= {"mark"}


async def test_a_resume_reads_the_log_after_the_channel_left_memory(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    async with anna.stream() as stream:
        cursor = (await stream.until("snapshot")).id
    await wait_for(lambda: len(town.server.services.hub) == 0)
    assert cursor is not None
    await say(host, "one", "two")
    await town.passivate(host)
    await say(host, "three")
    town.fence(host)
    await say(host, "four")
    frames = await missed(anna, cursor)
    assert [frame.data["text"] for frame in frames if frame.event == "chat_message"] == ["one", "two", "three", "four"]
    epochs = [int(frame.id.split("-")[0]) for frame in frames if frame.id]
    assert epochs == sorted(epochs)
    assert epochs[0] < epochs[-1]
    ids = [cursor, *(frame.id for frame in frames if frame.id)]
    for cut, again in enumerate(ids):
        assert (await missed(anna, again))[: len(frames) - cut] == frames[cut:]


async def test_remembered_events_do_not_keep_the_state_from_before_a_takeover(town: Town) -> None:
    """A session's state is large, and a channel remembers the latest events across takeovers."""
    host, anna = await town.classroom("Anna")
    async with anna.stream() as stream:
        for text in ("one", "two", "three", "four"):
            town.fence(host)
            await host.say(text)
            await stream.until("chat_message")
        gc.collect()
        kept = [one for one in gc.get_objects() if isinstance(one, State) and one.session.id == host.id]
        assert len(kept) == 1


async def test_a_resume_reads_the_log_if_memory_holds_too_few_events(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"replay_events": 3}) as town:
        host, anna = await town.classroom("Anna")
        async with anna.stream() as stream:
            cursor = (await stream.until("snapshot")).id
        assert cursor is not None
        await say(host, *(f"message {number}" for number in range(20)))
        frames = await missed(anna, cursor)
        said = [frame.data["text"] for frame in frames if frame.event == "chat_message"]
        assert said == [f"message {number}" for number in range(20)]


async def test_resuming_while_others_chat_loses_and_doubles_nothing(town: Town) -> None:
    """Cut and resume repeatedly while messages arrive: from memory, from the log, across a takeover."""
    host, anna, ben = await town.classroom("Anna", "Ben")
    told: list[int] = []
    talking = True

    async def talk() -> None:
        number = 0
        while talking:
            told.append((await ben.say(f"{number}"))["seq"])
            number += 1

    cursor: str | None = None
    heard: list[int] = []
    talker = asyncio.create_task(talk())
    for cut in range(40):
        async with anna.stream(last_event_id=cursor) as stream:
            if cursor is None:
                await stream.until("snapshot")
            else:
                assert (await stream.next()).event == "resumed"
            for _ in range(cut % 4 + 1):
                await stream.until("chat_message")
            heard += [frame.data["seq"] for frame in stream.seen if frame.event == "chat_message"]
            cursor = stream.cursor
        if cut % 10 == 5:
            town.fence(host)
    talking = False
    await talker
    async with anna.stream(last_event_id=cursor) as stream:
        mark = await host.say("mark")
        await stream.until("chat_message", lambda data: data["seq"] == mark["seq"])
        heard += [frame.data["seq"] for frame in stream.seen if frame.event == "chat_message"]
    assert heard == sorted(set(heard))
    expected = [*told, mark["seq"]]
    assert heard == expected[-len(heard) :]
    assert len(heard) >= len(expected) - 1, "only what the first snapshot held may be absent"


async def test_a_cursor_that_cannot_be_resumed_completely_gets_a_reset(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    await say(host, "one", "two")
    epoch, seq = (await anna.state())["cursor"].split("-")
    for cursor in (
        f"{int(epoch) + 1}-{seq}",
        f"{int(epoch) + 1}-2",
        f"{epoch}-{int(seq) + 50}",
        "0-0",
        f"{epoch}-0",
        "0-3",
    ):
        async with anna.stream(last_event_id=cursor) as stream:
            reset = await stream.next()
            assert reset.event == "reset", (cursor, reset)
            assert reset.id is None
            assert reset.data["reason"]
            snapshot = await stream.next()
            assert snapshot.event == "snapshot"
            assert [m["text"] for m in snapshot.data["chat"] if not m["deleted"]] == ["one", "two"]
            await host.say("live")
            await stream.until("chat_message", lambda data: data["text"] == "live")
            assert stream.texts == ["live"]
            await host.do("delete_message", message_id=stream.seen[-1].data["message_id"])
            await stream.until("message_deleted")


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1-", "-1", "1-x", "1--1", "½-1", "1-" + "9" * 30, "1-1-1", " ", "1-1\u0000"]
)
async def test_a_malformed_cursor_is_refused(town: Town, cursor: str) -> None:
    host, *_ = await town.classroom()
    (await host.person.get(f"{host.path}/events", cursor=cursor)).refused(422, "invalid", "cursor")


async def test_an_empty_last_event_id_starts_with_a_snapshot(town: Town) -> None:
    host, *_ = await town.classroom()
    async with host.stream(last_event_id="") as stream:
        assert (await stream.next()).event == "snapshot"


async def test_every_stream_ends_with_a_reason(town: Town) -> None:
    host, anna, ben, cleo = await town.classroom("Anna", "Ben", "Cleo")
    async with (
        anna.stream() as hers,
        ben.stream() as his,
        ben.stream() as his_other,
        cleo.stream() as cleos,
        host.stream() as mine,
    ):
        for stream in (hers, his, his_other, cleos, mine):
            await stream.until("snapshot")
        await anna.do("leave")
        assert (await hers.bye("left"))[-1].event == "participant_left"
        assert hers.seen[-1].data["retry"] is None
        await host.do("kick", user_id=ben.user_id)
        for stream in (his, his_other):
            assert (await stream.bye("kicked"))[-1].event == "participant_kicked"
        await host.do("kick", user_id=cleo.user_id, ban=True, reason="noise")
        before = await cleos.bye("kicked")
        assert before[-1].data["reason"] == "noise"
        # Removed participants receive nothing more and cannot return.
        for seat in (ben, cleo):
            (await seat.person.get(f"{seat.path}/events")).refused(403, "kicked")
            (await seat.person.get(f"{seat.path}/state")).refused(403)
            (await seat.command("send_message", text="hi")).refused(403, "kicked")
        (await anna.person.get(f"{anna.path}/events")).refused(403, "not_joined")
        (await anna.person.get(f"{anna.path}/state")).refused(403, "not_joined")
        (await cleo.person.post("/v1/sessions/join", {"code": host.code})).refused(403, "kicked")
        await anna.join()
        await ben.join()
        async with anna.stream() as again:
            await again.until("snapshot")
            await host.do("end")
            assert (await again.bye("ended"))[-1].event == "session_ended"
        assert (await mine.bye("ended"))[-1].event == "session_ended"
        # A participant may read the ended session: the missed events, and its end.
        async with anna.stream(last_event_id=again.cursor) as past:
            assert (await past.next()).event == "resumed"
            await past.bye("ended")
        async with anna.stream() as past:
            frames = await past.bye("ended")
            assert [frame.event for frame in frames] == ["snapshot"]
            assert frames[0].data["session"]["status"] == "ended"


async def test_heartbeats_keep_a_quiet_stream_alive(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"heartbeat_s": 0.1}) as town:
        host, *_ = await town.classroom()
        async with host.stream() as stream:
            await stream.until("snapshot")
            for _ in range(3):
                await stream.beat()


async def test_a_stream_ends_with_its_token(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"heartbeat_s": 0.1}) as town:
        host, *_ = await town.classroom()
        claims = jwt.decode(str(host.person.token), options={"verify_signature": False})
        short = jwt.encode({**claims, "exp": int(time.time()) + 2}, KEY, algorithm="HS256")
        client = Client(town.http, town.url, short)
        async with client.stream(f"{host.path}/events") as stream:
            assert [frame.event for frame in await stream.bye("expired")] == ["snapshot"]
        (await client.get(f"{host.path}/events")).refused(401, "expired")


async def test_a_stream_ends_after_its_lifetime_and_resumes_from_its_cursor(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"heartbeat_s": 0.1, "lifetime_s": 0.3}) as town:
        host, *_ = await town.classroom()
        async with host.stream() as stream:
            await stream.bye("expired")
        async with host.stream(last_event_id=stream.cursor) as stream:
            assert (await stream.next()).event == "resumed"


async def test_several_streams_of_a_user_are_one_presence(dsn: str, data: Path) -> None:
    async with serving(dsn, data, sessions={"grace_s": 0.2}) as town:
        host, anna = await town.classroom("Anna")
        async with host.stream() as watching:
            await watching.until("snapshot")
            async with anna.stream() as one:
                await one.until("snapshot")
                async with anna.stream() as two, anna.stream() as three:
                    await two.until("snapshot")
                    await three.until("snapshot")
                await wait_for(lambda: len(town.server.services.hub) == 2)
                assert (await host.state())["session"]["counts"] == {"joined": 2, "online": 2}
                await host.say("still one")
                await one.until("chat_message")
            gone = await watching.until("participant_left")
            assert gone.data["user_id"] == anna.user_id
            assert gone.data["reason"] == "gone"
            assert gone.data["last_seen"] < gone.data["at"]
            about = [f.event for f in watching.seen if f.data.get("user_id") == anna.user_id]
            assert about == ["participant_online", "participant_offline", "participant_left"]
            # A participant who lost all streams returns by opening one.
            async with anna.stream() as back:
                await back.until("snapshot")
                await watching.until("participant_joined")
            assert (await host.state())["session"]["counts"]["joined"] >= 1


async def test_a_participant_who_reconnects_within_the_grace_time_never_left(dsn: str, data: Path) -> None:
    async with serving(dsn, data, sessions={"grace_s": 1.0}) as town:
        host, anna = await town.classroom("Anna")
        async with host.stream() as watching:
            await watching.until("snapshot")
            async with anna.stream() as stream:
                await stream.until("snapshot")
            await watching.until("participant_offline")
            async with anna.stream(last_event_id=stream.cursor) as again:
                await watching.until("participant_online")
                await asyncio.sleep(1.2)  # the grace time has to pass
                await host.say("mark")
                await again.until("chat_message")
            assert "participant_left" not in watching.events
        assert await host.log(type="participant_left") == []


async def test_a_stream_cancelled_while_opening_leaves_nobody_online(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    hub = town.server.services.hub
    with town.frozen(host):
        for _ in range(3):
            _, writer = await town.open_socket()
            writer.write(get_events(anna))
            await wait_for(lambda: len(hub) == 1)
            writer.transport.abort()
            await wait_for(lambda: len(hub) == 0)
    async with host.stream() as watching:
        snapshot = await watching.until("snapshot")
        [hers] = [p for p in snapshot.data["participants"] if p["user_id"] == anna.user_id]
        if hers["online"]:
            await watching.until("participant_offline", lambda data: data["user_id"] == anna.user_id)
    assert not [p for p in (await host.state())["participants"] if p["user_id"] == anna.user_id and p["online"]]


async def test_subscribers_that_disconnect_during_a_fan_out_affect_no_other(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    host, anna = await town.classroom("Anna")
    async with host.stream() as stream:
        await stream.until("snapshot")
        for round in range(6):
            writers = []
            for _ in range(6):
                reader, writer = await town.open_socket()
                writer.write(get_events(anna))
                await reader.readuntil(b'"you"')
                writers.append(writer)
            said = [asyncio.create_task(host.say(f"{round}.{number}")) for number in range(10)]
            for writer in writers:
                # A reset without a close: the server notices when a write fails.
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                await asyncio.sleep(0)
            await asyncio.gather(*said)
        await host.say("end")
        await stream.until("chat_message", lambda data: data["text"] == "end")
        assert len(stream.texts) == 61
    assert not caplog.records


async def test_only_a_slow_subscriber_is_disconnected_and_it_can_resume(dsn: str, data: Path) -> None:
    small = {"buffer_bytes": 65_536, "send_buffer_bytes": 8_192, "replay_bytes": 65_536}
    async with serving(dsn, data, streams=small) as town:
        host, anna = await town.classroom("Anna")
        reader, writer = await town.open_socket(receive_buffer=4_096)
        writer.write(get_events(anna))
        await reader.readuntil(b'"you"')
        hub = town.server.services.hub
        async with host.stream() as brisk:
            await brisk.until("snapshot")
            reading = asyncio.create_task(brisk.until("chat_message", lambda data: data["text"] == "end"))
            sent = 0
            while len(hub) == 2:
                assert sent < 8_000, "never cut off"
                await asyncio.gather(*(host.say(f"{sent + n} " + "x" * 1_900) for n in range(10)))
                sent += 10
                await wait_for(partial(heard, brisk, sent))
            await host.say("end")
            await reading
            assert len(brisk.texts) == sent + 1
        # She received complete frames up to some point, and resumes from there.
        received = b""
        try:
            while piece := await reader.read(65_536):
                received += piece
        except ConnectionError:
            pass
        writer.close()
        ids = [line[4:].decode() for line in received.split(b"\n") if line.startswith(b"id: ")]
        last = int(ids[-2].split("-")[1])
        async with anna.stream(last_event_id=ids[-2]) as again:
            assert (await again.next()).event == "resumed"
            await again.until("chat_message", lambda data: data["text"] == "end")
            seqs = [frame.data["seq"] for frame in again.seen if frame.id]
            assert seqs[:20] == list(range(last + 1, last + 21))


async def test_tickets_open_one_stream_of_one_session(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    other = await host.person.create()

    async def ticket() -> str:
        made = (await anna.person.post(f"{anna.path}/tickets")).ok(201)
        assert made.keys() == {"ticket", "expires_at"}
        return str(made["ticket"])

    nobody = Client(town.http, town.url)
    one = await ticket()
    async with nobody.stream(f"{anna.path}/events", params={"ticket": one}) as stream:
        snapshot = await stream.until("snapshot")
        assert snapshot.data["you"]["user_id"] == anna.user_id
        (await nobody.get(f"{anna.path}/events", ticket=one)).refused(401, "bad_ticket")
        await host.say("one")
        await stream.until("chat_message")
    # An EventSource reconnects with the same URL. It needs a new ticket, and then resumes from the cursor.
    again = {"ticket": await ticket(), "cursor": str(stream.cursor)}
    async with nobody.stream(f"{anna.path}/events", params=again) as stream:
        assert (await stream.next()).event == "resumed"
    wrong = await ticket()
    (await nobody.get(f"{other.path}/events", ticket=wrong)).refused(401, "bad_ticket")
    (await nobody.get(f"{anna.path}/events", ticket=wrong)).refused(401, "bad_ticket")
    (await nobody.get(f"{anna.path}/events", ticket="guess")).refused(401, "bad_ticket")
    (await nobody.get(f"{anna.path}/events", ticket="")).refused(401)
    (await nobody.get(f"{anna.path}/state", ticket=await ticket())).refused(401)
    stranger = await town.student("Mallory")
    (await stranger.post(f"{anna.path}/tickets")).refused(403, "not_joined")
    kicked = await ticket()
    await host.do("kick", user_id=anna.user_id)
    (await nobody.get(f"{anna.path}/events", ticket=kicked)).refused(403, "kicked")


async def test_a_ticket_expires(dsn: str, data: Path) -> None:
    async with serving(dsn, data, auth={"ticket_ttl_s": 1}) as town:
        host, *_ = await town.classroom()
        made = (await host.person.post(f"{host.path}/tickets")).ok(201)
        await asyncio.sleep(1.05)  # the expiry is tested
        (await town.anyone.get(f"{host.path}/events", ticket=made["ticket"])).refused(401, "bad_ticket")


async def test_an_ephemeral_event_is_sent_at_once_without_an_id_and_is_not_stored(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    async with host.stream() as mine, ben.stream() as his:
        cursor = (await mine.until("snapshot")).id
        await his.until("snapshot")
        before = (await host.state())["cursor"]
        (await anna.command("typing")).ok(202)
        (await anna.command("cursor", position={"x": 1.5})).ok(202)
        (await anna.command("signal", to=host.user_id, payload={"sdp": "v=0"})).ok(202)
        typing = await mine.until("typing")
        assert typing.id is None
        assert typing.data["actor"] == anna.user_id
        assert (await mine.until("cursor")).data["position"] == {"x": 1.5}
        assert (await mine.until("signal")).data["payload"] == {"sdp": "v=0"}
        assert (await host.state())["cursor"] == before
        await anna.say("mark")
        await his.until("chat_message")
        assert "signal" not in his.events
        assert {"typing", "cursor"} <= set(his.events)
    assert cursor is not None
    async with host.stream(last_event_id=cursor) as again:
        await again.until("chat_message")
        assert not {"typing", "cursor", "signal"} & set(again.events)
    assert town.query("select count(*) from session_log where type in ('typing', 'cursor', 'signal')") == [(0,)]


async def test_a_slow_subscriber_gets_only_the_latest_cursor_of_each_participant(dsn: str, data: Path) -> None:
    async with serving(dsn, data, streams={"heartbeat_s": 10, "send_buffer_bytes": 8_192}) as town:
        host, anna = await town.classroom("Anna")
        reader, writer = await town.open_socket(receive_buffer=4_096)
        writer.write(get_events(host))
        await reader.readuntil(b'"you"')
        padding = "x" * 1_000
        sent = 400
        for start in range(0, sent, 100):
            await asyncio.gather(*(anna.command("cursor", position={"n": start + n, "p": padding}) for n in range(100)))
        await anna.say("mark")
        received = b""
        positions: list[int] = []
        # Some cursors are skipped, but not the last: others see the present position.
        async with asyncio.timeout(30):
            while not positions or positions[-1] < sent - 100 or b'"text":"mark"' not in received:
                received += await reader.read(65_536)
                lines = received[: received.rfind(b"\n")].split(b"\n")
                shown = [json.loads(line[6:]) for line in lines if line.startswith(b'data: {"at"')]
                positions = [data["position"]["n"] for data in shown if data["type"] == "cursor"]
        writer.close()
        assert len(positions) < sent // 2


async def test_a_user_outside_the_session_gets_no_stream(town: Town) -> None:
    host, *_ = await town.classroom()
    stranger = await town.student("Mallory")
    (await stranger.get(f"{host.path}/events")).refused(403, "not_joined")
    (await town.anyone.get(f"{host.path}/events")).refused(401)
    (await stranger.get("/v1/sessions/no-such-name/events")).refused(404, "unknown_session")
