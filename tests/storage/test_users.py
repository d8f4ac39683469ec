"""Accounts, and the logins that their refresh tokens continue."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from actors.ports import NotUnique
from actors.session.commands import Person
from actors.session.ids import Millis
from storage.devices import Devices
from storage.pool import Pool
from storage.users import User, Users
from tests.support.author import ANN, BEN, user

LOGIN, OTHER_LOGIN = "01990000-0000-7000-a000-000000000001", "01990000-0000-7000-a000-000000000002"
ANNA = User(ANN, 0, "Ann", "ann@example.org", "+4930123456", "student", "hash")
BENN = User(BEN, 0, "Ben", "ben@example.org", None, "teacher", None)


def soon(seconds: int = 60) -> Millis:
    return Millis(round(time.time() + seconds) * 1000)


@pytest.fixture
async def users(dsn: str) -> AsyncIterator[Users]:
    async with await Pool.open(dsn, size=4) as pool:
        yield Users(pool)


async def test_an_account_is_found_by_id_email_and_phone(users: Users) -> None:
    ann = await users.create(ANNA)
    ben = await users.create(BENN)
    now = soon(0)
    assert ann == structs.replace(ANNA, number=1, created_at=ann.created_at)
    assert ben == structs.replace(BENN, number=2, created_at=ben.created_at)
    assert now - 60_000 < ann.created_at <= ben.created_at < now + 60_000
    assert await users.find(ANN) == ann
    assert await users.find_login(email="ann@example.org") == await users.find_login(phone="+4930123456") == ann
    assert await users.find_login(email="ben@example.org") == ben
    # Ben has no phone: asking for none does not find him.
    assert await users.find_login(phone=None) is None
    assert await users.find(user(9)) is None
    assert await users.people([ANN, BEN, user(9)]) == {ANN: Person("Ann", 1), BEN: Person("Ben", 2)}
    assert await users.people([]) == {}


@pytest.mark.parametrize(("what", "value"), [("email", "ann@example.org"), ("phone", "+4930123456")])
async def test_an_email_or_phone_is_taken_once(users: Users, what: str, value: str) -> None:
    await users.create(ANNA)
    with pytest.raises(NotUnique) as caught:
        await users.create(structs.replace(BENN, **{what: value}))
    assert caught.value.what == what
    assert await users.find(BEN) is None
    ben = await users.create(BENN)
    with pytest.raises(NotUnique) as caught:
        await users.change(BEN, name="Benjamin", **{what: value})
    assert caught.value.what == what
    assert await users.find(BEN) == ben


async def test_a_change_is_of_what_is_given(users: Users) -> None:
    ann = await users.create(ANNA)
    assert await users.change(ANN, name="Anna", email="anna@example.org") == structs.replace(
        ann, name="Anna", email="anna@example.org"
    )
    assert await users.change(ANN, password_hash="another") == await users.find(ANN)
    assert await users.change(BEN, name="Nobody") is None


async def test_a_refresh_token_is_exchanged_once_under_concurrency(users: Users) -> None:
    await users.create(ANNA)
    await users.open_login(LOGIN, ANN, "first", soon())
    tries = [users.rotate(LOGIN, "first", f"next {number}", soon()) for number in range(8)]
    results = await asyncio.gather(*tries)
    assert results.count(ANN) == 1
    winner = results.index(ANN)
    assert await users.rotate(LOGIN, "first", "stolen", soon()) is None
    assert await users.rotate(LOGIN, f"next {winner}", "third", soon()) == ANN


async def test_a_login_ends_by_revocation_and_by_time(users: Users) -> None:
    await users.create(ANNA)
    await users.open_login(LOGIN, ANN, "first", soon())
    await users.open_login(OTHER_LOGIN, ANN, "old", soon(-1))
    assert await users.rotate(OTHER_LOGIN, "old", "new", soon()) is None
    assert await users.revoke(LOGIN) is True
    assert await users.revoke(LOGIN) is False
    assert await users.rotate(LOGIN, "first", "next", soon()) is None
    assert await users.revoked(60) == [(LOGIN, 0.0)]
    assert await users.revoked(0) == []


async def test_all_other_logins_of_a_user_end(users: Users) -> None:
    await users.create(ANNA)
    await users.create(BENN)
    logins = [f"01990000-0000-7000-a000-{number:012d}" for number in range(4)]
    for login, owner in zip(logins, (ANN, ANN, ANN, BEN), strict=True):
        await users.open_login(login, owner, "first", soon())
    assert sorted(await users.revoke_all(ANN, but=logins[1])) == [logins[0], logins[2]]
    assert await users.revoke_all(ANN, but=logins[1]) == []
    assert await users.rotate(logins[1], "first", "next", soon()) == ANN
    assert await users.rotate(logins[3], "first", "next", soon()) == BEN


async def test_logins_long_over_are_forgotten_and_get_no_messages(users: Users, dsn: str) -> None:
    await users.create(ANNA)
    await users.open_login(LOGIN, ANN, "first", soon(-8 * 24 * 3600))
    await users.open_login(OTHER_LOGIN, ANN, "second", soon(-24 * 3600))
    async with await Pool.open(dsn, size=1) as pool:
        devices = Devices(pool)
        await devices.put(ANN, LOGIN, "old phone", "ios")
        await devices.put(ANN, OTHER_LOGIN, "phone", "ios")
        assert await users.forget_logins() == 1
        assert [device.token for device in await devices.of_user(ANN)] == ["phone"]
    assert await users.revoke(LOGIN) is False
    assert await users.revoke(OTHER_LOGIN) is True


# Guests by an id that they have made up


async def test_an_id_is_its_latest_presenter_s_until_there_is_a_login(users: Users) -> None:
    presented = "6f1c1f6e-0000-4000-8000-000000000001"

    async def present(name: str, new_id: int, issuer: str = "interview:1") -> User | None:
        return await users.save_guest(issuer, presented, new_id=user(new_id), name=name, colour="teal")

    first = await present("Gus", 11)
    assert first is not None
    assert (first.user_id, first.name, first.role, first.colour) == (user(11), "Gus", "guest", "teal")
    assert await present("Gustav", 12) == structs.replace(first, name="Gustav")
    logins = await asyncio.gather(*(users.open_only_login(first.user_id, "digest", soon()) for _ in range(5)))
    assert logins.count(True) == 1
    assert await present("Mallory", 13) is None
    assert (await users.find(first.user_id)) == structs.replace(first, name="Gustav")
    elsewhere = await present("Mallory", 14, "interview:2")
    assert elsewhere is not None
    assert elsewhere.user_id == user(14)


async def test_no_guest_has_the_id_of_a_user(users: Users) -> None:
    await users.create(ANNA)
    assert await users.save_guest("interview:1", ANN, new_id=user(11), name="Mallory", colour=None) is None


async def test_two_who_present_an_id_at_once_are_one_guest(users: Users) -> None:
    presented = "6f1c1f6e-0000-4000-8000-000000000002"
    made = await asyncio.gather(
        *(
            users.save_guest("interview:1", presented, new_id=user(20 + n), name=f"Gus {n}", colour=None)
            for n in range(8)
        )
    )
    assert len({guest.user_id for guest in made if guest is not None}) == 1
    assert None not in made


async def test_only_the_latest_used_tokens_are_known_again(users: Users) -> None:
    await users.create(ANNA)
    await users.open_login(LOGIN, ANN, "0", soon())
    for number in range(102):
        assert await users.rotate(LOGIN, str(number), str(number + 1), soon()) == ANN
    known = [number for number in range(103) if await users.used(LOGIN, str(number))]
    assert known == list(range(2, 102))
