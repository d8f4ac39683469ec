"""Invitations on users' devices: sent once each, from the outbox, whatever happens in between."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from server.bootstrap.lifecycle import running
from server.settings.sections import BadSetting
from tests.support import fcm as fake
from tests.support.client import Person, Seat
from tests.support.serving import Town, serving, settings, wait_for

QUICK = {"backoff_s": 0.02, "poll_s": 0.02, "pause_after": 1_000}
"""How the outbox tries again, where a test waits for it."""


class Pushed:
    """A town whose invitations go to a fake FCM."""

    def __init__(self, town: Town, fcm: fake.Fcm) -> None:
        self.town = town
        self.fcm = fcm

    async def owner(self, *devices: str, name: str = "Anna") -> Person:
        """Make a student with devices."""
        person = await self.town.student(name)
        for device in devices:
            await register(person, device)
        return person

    async def host(self, **fields: Any) -> Seat:
        host = await (await self.town.teacher("Özil")).create(**fields)
        await host.join()
        return host

    def outbox(self) -> list[tuple[str, int, Any]]:
        """Return status, attempts and the latest error of the pushes, oldest first."""
        return self.town.query(
            "select status, attempts, history -> -1 ->> 'error' from outbox where kind = 'push' order by id"
        )

    async def done(self, count: int = 1) -> list[tuple[str, int, Any]]:
        """Wait until so many pushes wait for nothing any more."""
        await wait_for(lambda: sum(row[0] != "pending" for row in self.outbox()) >= count)
        return self.outbox()


async def register(person: Person, device: str, platform: str = "android") -> None:
    (await person.call("PUT", f"/v1/me/devices/{device}", {"platform": platform})).ok()


async def devices(person: Person) -> list[str]:
    return [device["token"] for device in (await person.get("/v1/me/devices")).ok()["items"]]


async def invite(host: Seat, person: Person) -> None:
    await host.do("invite", user_id=person.id)


@contextlib.asynccontextmanager
async def pushing(dsn: str, data: Path, fcm: fake.Fcm, **changed: Any) -> AsyncIterator[Pushed]:
    push = {"provider": "fcm", "fcm_key_file": str(fcm.key_file(data.with_suffix(".json"))), "fcm_url": fcm.url}
    async with serving(dsn, data, push=push, outbox=QUICK | changed) as town:
        yield Pushed(town, fcm)


@pytest.fixture
async def pushed(dsn: str, data: Path, fcm: fake.Fcm) -> AsyncIterator[Pushed]:
    async with pushing(dsn, data, fcm) as pushed:
        yield pushed


@pytest.mark.parametrize(("kind", "numbered"), [("classroom", True), ("tutoring", True), ("lesson", False)])
async def test_an_invitation_reaches_every_device_of_the_invited_user(
    pushed: Pushed, kind: str, numbered: bool
) -> None:
    anna = await pushed.owner("phone", "tablet")
    await pushed.owner("another-s", name="Ben")
    host = await pushed.host(title="Physics <101>", kind=kind)
    await invite(host, anna)
    await pushed.done()
    assert sorted(message["token"] for message in pushed.fcm.sent) == ["phone", "tablet"]
    number = str(host.session["number"])
    for message in pushed.fcm.sent:
        assert message["notification"] == {
            "title": "Session Invitation",
            "body": "Özil invited you to join 'Physics <101>'",
        }
        assert message["data"] == {
            "type": "session_invitation",
            "session_id": number if numbered else host.id,
            "session_uuid": host.id,
            "session_number": number,
        }
    await invite(host, anna)
    ben = await pushed.owner("phone", name="Ben")
    await invite(host, ben)
    await pushed.done(2)
    assert len(pushed.fcm.sent) == 3, "who is invited already is not told again; the phone has changed hands"


async def test_invitations_count_the_devices_of_a_user(pushed: Pushed) -> None:
    anna = await pushed.owner("phone", "tablet")
    assert await pushed.town.server.services.invitations.count(anna.id) == 2  # type: ignore[arg-type]


async def test_only_devices_that_were_not_reached_are_tried_again(pushed: Pushed) -> None:
    anna = await pushed.owner("phone", "tablet", "gone", "watch")
    fcm = pushed.fcm
    fcm.answers(
        "phone", fake.UNAVAILABLE, fake.INTERNAL, fake.BAD_GATEWAY, fake.QUOTA._replace(headers={"Retry-After": "0"})
    )
    fcm.answers("gone", fake.UNREGISTERED)
    fcm.answers("watch", fake.BAD_MESSAGE)
    await invite(await pushed.host(), anna)
    assert await pushed.done() == [("delivered", 5, None)]
    assert dict(fcm.tries) == {"phone": 5, "tablet": 1, "gone": 1, "watch": 1}
    assert [message["token"] for message in fcm.sent] == ["tablet", "phone"]
    assert sorted(await devices(anna)) == ["phone", "tablet", "watch"]
    counts = pushed.town.server.services.invitations.results
    assert counts == {"sent": 2, "later": 4, "gone": 1, "refused": 1}
    metrics = (await pushed.town.anyone.get("/metrics")).body.decode()
    assert 'homeroom_pushes_total{outcome="later"} 4.0' in metrics


async def test_a_push_waits_for_retry_after(pushed: Pushed) -> None:
    anna = await pushed.owner("phone")
    pushed.fcm.answers("phone", fake.QUOTA._replace(headers={"Retry-After": "600"}))
    await invite(await pushed.host(), anna)
    await wait_for(lambda: pushed.outbox()[0][2] is not None)
    ((seconds,),) = pushed.town.query("select extract(epoch from next_at - now())::int from outbox")
    assert 590 <= seconds <= 600
    assert pushed.fcm.tries["phone"] == 1


async def test_a_push_that_every_device_refuses_is_a_dead_letter(pushed: Pushed) -> None:
    anna = await pushed.owner("phone", "tablet")
    for device in ("phone", "tablet"):
        pushed.fcm.answers(device, fake.TOO_BIG)
    await invite(await pushed.host(), anna)
    assert await pushed.done() == [("dead", 1, "INVALID_ARGUMENT: Request contains an invalid argument.")]
    assert sorted(await devices(anna)) == ["phone", "tablet"]


async def test_an_invitation_that_was_answered_or_has_ended_is_not_sent(pushed: Pushed) -> None:
    anna, ben = await pushed.owner("phone"), await pushed.owner("tablet", name="Ben")
    one, two = await pushed.host(title="One"), await pushed.host(title="Two")
    hour = fake.UNAVAILABLE._replace(headers={"Retry-After": "3600"})
    for device in ("phone", "tablet"):
        pushed.fcm.answers(device, hour)
    await invite(one, anna)
    await invite(two, ben)
    await wait_for(lambda: all(row[2] is not None for row in pushed.outbox()))
    await anna.at(one).do("join")
    await two.do("end")
    pushed.town.query("update outbox set next_at = now()")
    assert [row[0] for row in await pushed.done(2)] == ["delivered", "delivered"]
    assert pushed.fcm.sent == []


async def test_a_pending_push_is_sent_after_a_restart(dsn: str, data: Path, fcm: fake.Fcm) -> None:
    fcm.answers("phone", fake.UNAVAILABLE)
    async with pushing(dsn, data, fcm, backoff_s=600.0) as first:
        anna = await first.owner("phone", "tablet")
        await invite(await first.host(), anna)
        await wait_for(lambda: first.outbox()[0][2] is not None)
    first.town.query("update outbox set next_at = now()")
    assert [message["token"] for message in fcm.sent] == ["tablet"]
    async with pushing(dsn, data, fcm) as second:
        await second.done()
    assert [message["token"] for message in fcm.sent] == ["tablet", "phone"]


async def test_an_interrupted_push_is_sent_again_under_the_same_tag(pushed: Pushed) -> None:
    """FCM accepted it and the server does not know: it is sent at least once, and a device shows the last of a tag."""
    anna = await pushed.owner("phone")
    pushed.fcm.answers("phone", fake.LOST)
    await invite(await pushed.host(), anna)
    await pushed.done()
    one, two = pushed.fcm.sent
    assert one["android"] == two["android"]
    assert one["apns"]["headers"]["apns-collapse-id"] == two["apns"]["headers"]["apns-collapse-id"]


async def test_a_failed_commit_sends_no_push(pushed: Pushed) -> None:
    anna = await pushed.owner("phone")
    host, other = await pushed.host(), await pushed.host()
    pushed.town.query(
        "create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$"
    )
    pushed.town.query(
        "create trigger refuse before insert on session_log for each row "
        f"when (new.session_id = '{host.id}') execute function refuse()"
    )
    assert (await host.command("invite", user_id=anna.id)).status == 503
    await invite(other, anna)
    await pushed.done()
    assert len(pushed.fcm.sent) == 1
    assert pushed.fcm.sent[0]["data"]["session_uuid"] == other.id


async def test_without_a_provider_no_push_is_stored(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        off = Pushed(town, fake.Fcm())
        anna = await off.owner("phone")
        await invite(await off.host(), anna)
        assert await off.done() == [("delivered", 1, None)]
        assert await town.server.services.invitations.count(anna.id) == 0  # type: ignore[arg-type]
        assert await devices(anna) == ["phone"]


@pytest.mark.parametrize("file", ["", "missing.json"])
async def test_an_invalid_key_file_stops_the_start_and_is_named(dsn: str, data: Path, file: str) -> None:
    given = settings(dsn, data, push={"provider": "fcm", "fcm_key_file": file and str(data / file)})
    with pytest.raises(BadSetting, match=r"push\.fcm_key_file = "):
        async with running(given):
            pass
