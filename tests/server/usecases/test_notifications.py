"""One's own stream, `/v1/me/events`: what stands, what comes, and exactly what was missed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client, Frame, Person, Seat, Stream
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATH = "/v1/me/events"


async def invite(host: Seat, *people: Person) -> None:
    for person in people:
        await host.do("invite", user_id=person.id)


async def classes(town: Town, count: int) -> list[Seat]:
    """Make live classes of one teacher."""
    teacher = await town.teacher()
    return [await started(await teacher.create(title=f"Class {number}")) for number in range(1, count + 1)]


async def started(host: Seat) -> Seat:
    await host.join()
    return host


def invited_to(seat: Seat) -> dict[str, Any]:
    kept = ("id", "number", "name", "kind", "title", "starts_at")
    return {"status": "live", **{key: seat.session[key] for key in kept}}


def by(seat: Seat) -> dict[str, str]:
    return {"id": seat.person.id, "name": seat.person.name}


def titles(stream: Stream) -> list[str]:
    return [frame.data["session"]["title"] for frame in stream.seen if frame.event == "session_invitation"]


async def test_a_stream_begins_with_what_stands_and_goes_on_with_what_comes(town: Town) -> None:
    one, two = await classes(town, 2)
    anna, ben = await town.student(), await town.student("Ben")
    await invite(one, anna, ben)
    async with anna.stream(PATH) as stream:
        first = await stream.next()
        assert first.event == "snapshot"
        assert first.id == first.data["cursor"]
        assert first.data.keys() == {"cursor", "invitations", "server_time"}
        (invitation,) = first.data["invitations"]
        assert invitation.pop("at") <= first.data["server_time"]
        assert invitation == {"session": invited_to(one), "by": by(one)}

        await invite(two, ben, anna)
        frame = await stream.next()
        at = frame.data.pop("at")
        assert frame.data == {"seq": 2, "type": "session_invitation", "session": invited_to(two), "by": by(two)}
        assert frame.event == "session_invitation"
        assert frame.id is not None
        assert frame.id.endswith("-2")

        await anna.at(two).do("join")
        await one.do("kick", user_id=anna.id)
        closed = [(await stream.next()).data for _ in range(2)]
        assert all(data.pop("at") >= at for data in closed)
        assert closed == [
            {"seq": 3, "type": "invitation_closed", "session_id": two.id, "reason": "joined"},
            {"seq": 4, "type": "invitation_closed", "session_id": one.id, "reason": "withdrawn"},
        ]
    async with ben.stream(PATH) as stream:
        assert [data["session"]["title"] for data in (await stream.next()).data["invitations"]] == [
            "Class 2",
            "Class 1",
        ]
        await one.do("end")
        assert (await stream.next()).data["reason"] == "over"
    async with ben.stream(PATH) as stream:
        assert [data["session"]["title"] for data in (await stream.next()).data["invitations"]] == ["Class 2"]


async def test_every_tab_gets_every_notification_once(town: Town) -> None:
    hosts = await classes(town, 6)
    anna, ben = await town.student(), await town.student("Ben")
    async with anna.stream(PATH) as one, anna.stream(PATH) as two, ben.stream(PATH) as other:
        for stream in (one, two, other):
            await stream.until("snapshot")
        await asyncio.gather(*(invite(host, anna) for host in hosts[:5]))
        await invite(hosts[5], ben, anna)
        for stream in (one, two):
            await stream.until("session_invitation", lambda data: data["session"]["title"] == "Class 6")
            assert [frame.data["seq"] for frame in stream.seen[1:]] == [1, 2, 3, 4, 5, 6]
        await other.until("session_invitation")
        assert titles(other) == ["Class 6"], "nobody sees another's"


async def test_resuming_from_every_cursor_gives_exactly_the_later_events(town: Town) -> None:
    hosts = await classes(town, 4)
    anna = await town.student()
    async with anna.stream(PATH) as witness:
        start = (await witness.until("snapshot")).id
        await asyncio.gather(*(invite(host, anna) for host in hosts))
        await hosts[0].do("end")
        await witness.until("invitation_closed")
        seen = witness.seen[1:]
    assert len(seen) == 5
    for cut, cursor in enumerate([start, *(frame.id for frame in seen)]):
        assert cursor is not None
        for header in (True, False):
            how: dict[str, Any] = {"last_event_id": cursor} if header else {"params": {"cursor": cursor}}
            async with anna.stream(PATH, **how) as stream:
                first = await stream.next()
                data = {"from": cursor, "to": seen[-1].id, "missed": 5 - cut}
                assert first == Frame(None, "resumed", data)
                assert [await stream.next() for _ in range(5 - cut)] == seen[cut:]


async def test_a_cursor_that_leads_nowhere_gets_a_reset_and_what_stands(town: Town) -> None:
    (host,) = await classes(town, 1)
    anna = await town.student()
    await invite(host, anna)
    for cursor in ("1-1", "0-1", "1-0", "1700000000000-7", "1-999999999999999999999"):
        async with anna.stream(PATH, last_event_id=cursor) as stream:
            assert (await stream.next()).event == "reset"
            assert len((await stream.until("snapshot")).data["invitations"]) == 1
    for wrong in ("x", "1", "-1-1", "1-1-1"):
        (await anna.call("GET", PATH, headers={"Last-Event-ID": wrong})).refused(422, "invalid", "cursor")
        (await anna.get(PATH, cursor=wrong)).refused(422, "invalid", "cursor")


async def test_it_goes_on_over_a_restart_of_the_server(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        one, two = await classes(town, 2)
        anna = await town.student()
        async with anna.stream(PATH) as stream:
            await stream.until("snapshot")
            await invite(one, anna)
            cursor = (await stream.until("session_invitation")).id
        await invite(two, anna)
        token = anna.token
    async with serving(dsn, data) as town:
        again = Client(town.http, town.url, token)
        async with again.stream(PATH, last_event_id=cursor) as stream:
            assert (await stream.next()).data["missed"] == 1
            assert (await stream.next()).data["session"]["id"] == two.id


async def test_what_another_server_commits_is_shown_too(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as here, serving(dsn, data, streams={"notifications_look_s": 0.05}) as there:
        (host,) = await classes(here, 1)
        anna = await here.student()
        away = Client(there.http, there.url, anna.token)
        async with away.stream(PATH) as stream:
            await stream.until("snapshot")
            await invite(host, anna)
            assert (await stream.next()).data["session"]["id"] == host.id


async def test_a_ticket_opens_ones_own_stream_once_and_nothing_else(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    page = Client(town.http, town.url)
    own = (await anna.person.post("/v1/me/tickets")).ok(201)
    assert own.keys() == {"ticket", "expires_at"}
    (await page.get(f"{host.path}/events", ticket=own["ticket"])).refused(401, "bad_ticket")
    (await page.get(PATH, ticket=own["ticket"])).refused(401, "bad_ticket")
    session_s = (await anna.person.post(f"{host.path}/tickets")).ok(201)["ticket"]
    (await page.get(PATH, ticket=session_s)).refused(401, "bad_ticket")
    fresh = (await anna.person.post("/v1/me/tickets")).ok(201)["ticket"]
    async with page.stream(PATH, params={"ticket": fresh}) as stream:
        await stream.until("snapshot")
        other = (await classes(town, 1))[0]
        await invite(other, anna.person)
        await stream.until("session_invitation")
    (await page.get(PATH, ticket=fresh)).refused(401, "bad_ticket")
    late = (await anna.person.post("/v1/me/tickets")).ok(201)["ticket"]
    (await anna.person.post("/v1/auth/logout")).ok(204)
    (await page.get(PATH, ticket=late)).refused(401, "revoked")


async def test_logging_out_ends_it_at_once_and_other_logins_streams_go_on(town: Town) -> None:
    anna = await town.student()
    elsewhere = await anna.log_in_again()
    async with anna.stream(PATH) as stream, elsewhere.stream(PATH) as other:
        for one in (stream, other):
            await one.until("snapshot")
        (await anna.post("/v1/auth/logout")).ok(204)
        await stream.bye("expired")
        await invite((await classes(town, 1))[0], anna)
        await other.until("session_invitation")


async def test_it_counts_among_its_user_s_streams_beats_and_says_goodbye(dsn: str, data: Path) -> None:
    async with serving(
        dsn, data, limits={"streams_per_user": 2}, streams={"heartbeat_s": 0.15, "lifetime_s": 60.0}
    ) as town:
        anna = await town.student()
        async with anna.stream(PATH) as one, anna.stream(PATH) as two:
            for stream in (one, two):
                await stream.until("snapshot")
            await one.beat()
            (await anna.get(PATH)).refused(429, "too_many_streams")
            two.close()
            await wait_for(lambda: len(town.server.services.hub) == 1)
            assert list(town.server.services.user_streams.users()) == [anna.id]
            town.server.services.hub.drain()
            await one.bye("draining")
        await wait_for(lambda: not town.server.services.user_streams.users())


async def test_credentials_for_one_session_open_no_stream_of_ones_own(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    scoped = (await anna.person.post(f"{anna.path}/tokens")).ok(201)["token"]
    client = Client(town.http, town.url, scoped)
    for reply in (await client.get(PATH), await client.post("/v1/me/tickets"), await client.get("/v1/me/devices")):
        reply.refused(403, "wrong_scope")


async def test_opening_while_invitations_come_loses_none_and_shows_none_twice(town: Town) -> None:
    hosts = await classes(town, 12)
    anna = await town.student()

    async def opens(delay: int) -> None:
        for _ in range(3 * delay):
            await asyncio.sleep(0)
        async with anna.stream(PATH) as stream:
            standing = [data["session"]["id"] for data in (await stream.until("snapshot")).data["invitations"]]
            while len(standing) < len(hosts):
                standing.append((await stream.until("session_invitation")).data["session"]["id"])
            assert sorted(standing) == sorted(host.id for host in hosts)

    async def invites() -> None:
        for host in hosts:
            await invite(host, anna)

    await asyncio.gather(invites(), *(opens(number) for number in range(8)))
