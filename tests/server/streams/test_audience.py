"""Which viewers receive which events: live, in snapshots, on resuming, in the state and in the log. Deleted texts."""

import asyncio

import pytest

from tests.support.client import Seat, Stream
from tests.support.serving import Town, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def resumed_texts(seat: Seat, cursor: str) -> list[str]:
    async with seat.stream(last_event_id=cursor) as stream:
        first = await stream.next()
        assert first.event == "resumed"
        for _ in range(first.data["missed"]):
            await stream.next()
        return stream.texts


async def test_only_its_two_sides_receive_a_direct_message(town: Town) -> None:
    host, anna, ben, cleo = await town.classroom("Anna", "Ben", "Cleo")
    seats = (host, anna, ben, cleo)
    async with host.stream() as s0, anna.stream() as s1, ben.stream() as s2, cleo.stream() as s3:
        streams: tuple[Stream, ...] = (s0, s1, s2, s3)
        for stream in streams:
            await stream.until("snapshot")
        cursor = (await host.state())["cursor"]
        sent = await anna.say("a secret", to=ben.user_id)
        await ben.do("react", message_id=sent["message_id"], emoji="👍")
        await ben.say("a reply", to=anna.user_id, reply_to=sent["message_id"])
        # Nobody else can react to it, answer it, or learn whether it exists.
        (await cleo.command("react", message_id=sent["message_id"], emoji="x")).refused(404, "unknown_message")
        (await cleo.command("send_message", text="?", reply_to=sent["message_id"])).refused(404, "unknown_message")
        await host.say("to everyone")
        for stream in streams:
            await stream.until("chat_message", lambda data: data["text"] == "to everyone")
        assert s1.texts == s2.texts == ["a secret", "a reply", "to everyone"]
        assert s0.texts == s3.texts == ["to everyone"]
        assert "message_reacted" not in s0.events
        assert "message_reacted" not in s3.events
    hidden = b"a secret"
    for seat in (host, cleo):
        body = (await seat.person.get(f"{seat.path}/state")).body
        assert hidden not in body
        assert b"a reply" not in body
        async with seat.stream() as stream:
            assert "a secret" not in str((await stream.until("snapshot")).data)
    for seat in (anna, ben):
        assert [message["text"] for message in (await seat.state())["chat"]] == ["a secret", "a reply", "to everyone"]
    remembered = [await resumed_texts(seat, cursor) for seat in seats]
    await wait_for(lambda: len(town.server.services.hub) == 0)
    await town.passivate(host)
    from_the_log = [await resumed_texts(seat, cursor) for seat in seats]
    two_sides = ["a secret", "a reply", "to everyone"]
    # The log has a row for moderators, without the text.
    said = await host.log(type="chat_message")
    assert [row["details"]["text"] for row in said] == ["", "", "to everyone"]
    assert said[0]["details"]["to"] == ben.user_id
    assert remembered == from_the_log == [["to everyone"], two_sides, two_sides, ["to everyone"]]


async def test_a_direct_message_to_the_host_and_from_them(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    await anna.say("may I go", to=host.user_id)
    await host.say("you may", to=anna.user_id)
    assert [m["text"] for m in (await host.state())["chat"]] == ["may I go", "you may"]
    assert (await ben.state())["chat"] == []
    assert [row["details"]["text"] for row in await host.log(type="chat_message")] == ["may I go", "you may"]


async def test_the_lobby_receives_nothing_of_the_class(town: Town) -> None:
    host, anna = await town.classroom("Anna", features={"lobby": True})
    await host.do("admit", user_id=anna.user_id)
    await anna.say("said before")
    dan = (await town.student("Dan")).at(host)
    eve = (await town.student("Eve")).at(host)
    async with host.stream() as mine, anna.stream() as hers:
        await mine.until("snapshot")
        await hers.until("snapshot")
        assert (await dan.join())["status"] == "waiting"
        assert (await mine.until("participant_waiting")).data["user_id"] == dan.user_id
        async with dan.stream() as waiting:
            first = await waiting.next()
            assert (first.event, first.id) == ("snapshot", None)
            assert first.data["cursor"] is None
            assert (first.data["participants"], first.data["chat"], first.data["hands"]) == ([], [], [])
            assert first.data["you"]["status"] == "waiting"
            state = await dan.state()
            assert (state["participants"], state["chat"], state["cursor"]) == ([], [], None)
            await anna.say("said meanwhile")
            await anna.do("raise_hand")
            (await anna.command("typing")).ok(202)
            (await anna.command("cursor", position={})).ok(202)
            await host.say("to anna", to=anna.user_id)
            assert (await eve.join())["status"] == "waiting"
            for command in ("send_message", "raise_hand", "typing", "unmute"):
                fields = {"text": "let me in"} if command == "send_message" else {}
                (await dan.command(command, **fields)).refused(403, "waiting")
            await host.do("set_role", user_id=dan.user_id, role="observer")
            await host.do("admit", user_id=dan.user_id)
            before = await waiting.bye("admitted")
            assert {frame.event for frame in before} <= {"role_changed", "participant_online"}
            assert waiting.seen[-1].data["retry"] == 0
            # After admission a stream starts afresh: EventSource would resume from any id received in the lobby.
            assert waiting.cursor is None
        async with dan.stream() as inside:
            first = await inside.next()
            assert [m["text"] for m in first.data["chat"]] == ["said before", "said meanwhile"]
            assert {p["user_id"] for p in first.data["participants"]} == {host.user_id, anna.user_id, dan.user_id}
        # Participants learn of users in the lobby only when those are admitted.
        await hers.until("participant_joined")
        assert not {"participant_waiting", "participant_denied"} & set(hers.events)
        assert eve.user_id not in str([frame.data for frame in hers.seen])
        async with eve.stream() as waiting:
            await waiting.until("snapshot")
            await host.do("deny", user_id=eve.user_id)
            await waiting.bye("kicked")
        (await eve.person.get(f"{eve.path}/state")).refused(403)


async def test_an_old_cursor_shows_nothing_in_the_lobby(town: Town) -> None:
    host, *_ = await town.classroom()
    cursor = (await host.state())["cursor"]
    await host.do("update", features={"lobby": True})
    dan = (await town.student("Dan")).at(host)
    await dan.join()
    await host.say("inside")
    async with dan.stream(last_event_id=cursor) as waiting:
        first = await waiting.next()
        assert first.event == "snapshot"
        assert first.data["chat"] == []
        await host.say("inside too")
        await host.do("admit", user_id=dan.user_id)
        assert await waiting.bye("admitted") == []


async def test_moderators_and_the_participant_concerned_see_moderation(town: Town) -> None:
    host, anna, ben, cleo = await town.classroom("Anna", "Ben", "Cleo")
    await host.do("set_role", user_id=cleo.user_id, role="cohost")
    async with anna.stream() as hers, ben.stream() as his, cleo.stream() as cohosts:
        for stream in (hers, his, cohosts):
            await stream.until("snapshot")
        await host.do("mute", user_id=anna.user_id)
        await host.do("request_unmute", user_id=anna.user_id)
        await host.do("log_event", event_type="error", data={"why": "x"})
        await host.do("invite", user_id=(await town.student("Dan")).id)
        await host.say("mark")
        for stream in (hers, his, cohosts):
            await stream.until("chat_message")
        assert "unmute_requested" in hers.events
        assert "event_logged" not in hers.events
        assert not {"unmute_requested", "event_logged", "participant_invited"} & set(his.events)
        assert {"unmute_requested", "event_logged", "participant_invited"} <= set(cohosts.events)


async def test_nobody_learns_who_is_muted_by_guessing_in_another_session(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    other, ben = await town.classroom("Ben")
    for command in ("mute", "kick", "set_role", "request_unmute", "admit"):
        fields = {"role": "member"} if command == "set_role" else {}
        (await other.command(command, user_id=anna.user_id, **fields)).refused(404, "unknown_participant")
        (await ben.command(command, user_id=anna.user_id, **fields)).refused(403)
        (await ben.person.at(host).command(command, user_id=anna.user_id, **fields)).refused(403, "not_joined")


def everything(town: Town) -> str:
    """Return every text, JSON and byte column of every table, as one string."""
    columns = town.query(
        "select table_name, column_name, data_type from information_schema.columns where table_schema = 'public'"
    )
    texts = []
    for table, column, kind in columns:
        wanted = f"encode({column}, 'escape')" if kind == "bytea" else f"{column}::text"
        texts += [str(row[0]) for row in town.query(f"select {wanted} from {table} where {column} is not null")]
    return "\n".join(texts)


async def test_a_deleted_text_is_nowhere(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    cursor = (await host.state())["cursor"]
    secrets = ["GLOCKENSPIEL-1", "GLOCKENSPIEL-2", "GLOCKENSPIEL-3"]
    sent = await anna.do("send_message", text=secrets[0], idempotency_key="k-1")
    await ben.say(secrets[1], to=anna.user_id)
    last = (await ben.say(secrets[2]))["message_id"]
    # This stores a snapshot with the texts, which has to be redacted too.
    await town.passivate(host)
    assert all(secret in everything(town) for secret in secrets)
    await host.do("delete_message", message_id=sent["events"][0]["message_id"])
    (await host.command("delete_message", message_id=2)).ok()
    async with host.stream() as stream:
        await stream.until("snapshot")
        await ben.do("delete_message", message_id=last)
        await stream.until("message_deleted")
        assert "GLOCKENSPIEL" not in str([frame.data for frame in stream.seen[1:]])
    await town.committed()
    assert "GLOCKENSPIEL" not in everything(town)
    for seat in (host, anna, ben):
        assert b"GLOCKENSPIEL" not in (await seat.person.get(f"{seat.path}/state")).body
        assert await resumed_texts(seat, cursor) in (["", "", ""], ["", ""])
    assert "GLOCKENSPIEL" not in str(await host.log())
    again = await anna.do("send_message", text=secrets[0], idempotency_key="k-1")
    assert "GLOCKENSPIEL" not in str(again)
    await wait_for(lambda: len(town.server.services.hub) == 0)
    await town.passivate(host)
    await host.do("end")
    await town.passivate(host)
    assert "GLOCKENSPIEL" not in everything(town)
    assert b"GLOCKENSPIEL" not in (await anna.person.get(f"{anna.path}/state")).body
    (await anna.command("react", message_id=last, emoji="x")).refused(410)


async def test_a_text_deleted_in_the_same_commit_is_never_stored(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    with town.frozen(host):
        first = asyncio.create_task(anna.say("held up"))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(anna.say("ZITHER"))
        await asyncio.sleep(0.02)
        third = asyncio.create_task(anna.do("delete_message", message_id=2))
        await asyncio.sleep(0.02)
    await asyncio.gather(first, second, third)
    assert "ZITHER" not in everything(town)
    assert [message["text"] for message in (await anna.state())["chat"]] == ["held up", ""]


async def test_only_the_author_or_a_moderator_deletes(town: Town) -> None:
    _, anna, ben = await town.classroom("Anna", "Ben")
    sent = await anna.say("mine")
    (await ben.command("delete_message", message_id=sent["message_id"])).refused(403, "not_permitted")
    await anna.do("delete_message", message_id=sent["message_id"])
    (await anna.command("delete_message", message_id=sent["message_id"])).ok()
    (await ben.command("send_message", text="?", reply_to=sent["message_id"])).refused(404, "unknown_message")
