"""Devices: whose they are, and until when."""

import pytest

from actors.session.ids import SessionId
from server.usecases import devices
from server.usecases.call import Call
from server.usecases.devices import TOKEN_LENGTH
from storage.devices import DEVICES_PER_USER
from tests.support.client import Person
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

# As FCM makes them.
PHONE = "cJug2GoHzEfcshCE_OLL24:APA91bHa8-Viell9xjbeV96V4Njhufk9V7KcOA940Gp7FY1Dxsxmo8AJ7_erhKKqsg"


async def put(person: Person, token: str, platform: str = "android") -> None:
    (await person.call("PUT", f"/v1/me/devices/{token}", {"platform": platform})).ok()


async def tokens(person: Person) -> list[str]:
    page = (await person.get("/v1/me/devices")).ok()
    assert page["next"] is None
    return [device["token"] for device in page["items"]]


async def test_a_device_is_registered_once_and_taken_back(town: Town) -> None:
    anna = await town.student()
    await put(anna, PHONE)
    await put(anna, f"{PHONE}2", "web")
    again = (await anna.call("PUT", f"/v1/me/devices/{PHONE}", {"platform": "ios"})).ok()
    assert again == (await anna.get("/v1/me/devices")).ok()["items"][0]
    assert again["platform"] == "ios"
    assert await tokens(anna) == [PHONE, f"{PHONE}2"], "the latest first"
    for _ in range(2):
        (await anna.delete(f"/v1/me/devices/{PHONE}")).ok(204)
    assert await tokens(anna) == [f"{PHONE}2"]


async def test_a_token_belongs_to_the_last_who_registered_it(town: Town) -> None:
    anna, ben = await town.student(), await town.student("Ben")
    await put(anna, "shared-tablet")
    await put(ben, "shared-tablet")
    assert await tokens(anna) == []
    (await anna.delete("/v1/me/devices/shared-tablet")).ok(204)
    assert await tokens(ben) == ["shared-tablet"], "it is not hers any more"


async def test_of_too_many_the_oldest_drops_out(town: Town) -> None:
    anna = await town.student()
    made = [f"device-{anna.id}-{number}" for number in range(DEVICES_PER_USER + 1)]
    for token in made[:-1]:
        await put(anna, token)
    await put(anna, made[0])
    await put(anna, made[-1])
    assert await tokens(anna) == [made[-1], made[0], *made[-2:1:-1]]


async def test_logging_out_takes_back_what_was_registered_under_that_login(town: Town) -> None:
    anna = await town.student()
    elsewhere = await anna.log_in_again()
    await put(anna, f"here-{anna.id}")
    await put(elsewhere, f"there-{anna.id}")
    (await anna.post("/v1/auth/logout")).ok(204)
    assert await tokens(elsewhere) == [f"there-{anna.id}"]
    change = {"password": "another horse", "current_password": "correct horse"}
    third = await anna.log_in_again()
    (await third.patch("/v1/me", change)).ok()
    assert await tokens(third) == [], "whoever knew the old password is logged out"


async def test_a_body_may_name_the_token_instead(town: Town) -> None:
    services, anna = town.server.services, await town.student()
    principal = await services.tokens.verify(anna.token or "")
    call = Call({}, None, devices.NamedDevice(PHONE, "ios"), principal, SessionId(""), "")
    assert (await devices.put_named(services, call)).token == PHONE
    assert await tokens(anna) == [PHONE]
    for _ in range(2):
        await devices.remove_named(services, call)
    assert await tokens(anna) == []


@pytest.mark.parametrize("token", ["with%20space", "%C3%A4", "x%00", "x" * (TOKEN_LENGTH + 1)])
async def test_what_is_no_token_is_refused_by_name(town: Town, token: str) -> None:
    anna = await town.student()
    (await anna.call("PUT", f"/v1/me/devices/{token}", {"platform": "ios"})).refused(422, "invalid", "token")
    (await anna.delete(f"/v1/me/devices/{token}")).refused(422, "invalid", "token")


async def test_a_platform_that_there_is_not_is_refused_by_name(town: Town) -> None:
    anna = await town.student()
    for body, field in (({"platform": "pager"}, "platform"), ({}, "platform"), ({"platform": "ios", "x": 1}, "x")):
        (await anna.call("PUT", "/v1/me/devices/x", body)).refused(422, "invalid", field)
