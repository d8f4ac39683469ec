"""The `seeds` contract: its routes as they are printed there, the log that they leave, and the words of refusals."""

import datetime
import re
from typing import Any

import pytest

from tests.dialects.school import BASE, PASSWORD, Pupil, detail, invalid, lesson, phone
from tests.server.client import Client
from tests.server.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}")
NOBODY = 2_000_000_000


# Accounts


async def test_registering_and_logging_in(town: Town) -> None:
    number = phone()
    body = {"name": "Tess", "phone_number": number, "password": PASSWORD, "role": "teacher", "extra": 1}
    account = (await town.anyone.post(f"{BASE}/auth/register", body)).ok()
    assert account == {
        "user_id": account["user_id"], "name": "Tess", "phone_number": number, "role": "teacher",
        "created_at": account["created_at"],
    }  # fmt: skip
    assert MOMENT.fullmatch(account["created_at"])
    as_json = {"phone_number": number, "password": PASSWORD}
    for reply in (
        await town.anyone.post(f"{BASE}/auth/login", as_json),
        await Pupil.send(
            Pupil(town, account, {"access_token": "x"}), "/auth/login", username=number, password=PASSWORD
        ),
    ):
        login = reply.ok()
        assert login == {
            "access_token": login["access_token"], "token_type": "bearer", "user_id": account["user_id"],
            "role": "teacher", "name": "Tess",
        }  # fmt: skip
        assert (await Client(town.http, town.url, login["access_token"]).get(f"{BASE}/audio/list")).ok() == []
    assert detail(await town.anyone.post(f"{BASE}/auth/register", body), 400) == "Phone already registered"
    assert detail(await town.anyone.post(f"{BASE}/auth/login", as_json | {"password": "wrong!"}), 401) == (
        "Invalid credentials"
    )
    assert invalid(await town.anyone.post(f"{BASE}/auth/login", {"password": PASSWORD})) == (
        ["body", "phone_number"], "missing",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""), ("name", "x" * 201), ("phone_number", "123456789"), ("phone_number", "1" * 21),
        ("phone_number", "not a phone"), ("password", "short"), ("role", 5),
    ],
)  # fmt: skip
async def test_what_is_no_account(town: Town, field: str, value: Any) -> None:
    body = {"name": "Tess", "phone_number": phone(), "password": PASSWORD, "role": "teacher", field: value}
    assert invalid(await town.anyone.post(f"{BASE}/auth/register", body)) == (["body", field], "value_error")


async def test_a_role_that_is_none(town: Town) -> None:
    body = {"name": "Tess", "phone_number": phone(), "password": PASSWORD, "role": "principal"}
    assert detail(await town.anyone.post(f"{BASE}/auth/register", body), 400) == "Invalid role"


async def test_three_rows(town: Town) -> None:
    room = await lesson(town)
    assert (await room.tess.post(f"{room.path}/participants/1/mute?mute=true")).ok() == {"ok": True, "muted": True}
    joined_at = room.rows()[1][2]["joined_at"]
    assert MOMENT.fullmatch(joined_at)
    assert room.rows() == [
        ("session_created", room.tess.id, {"title": "Fractions"}),
        (
            "participant_joined", room.anna.id,
            {"user_name": "Anna", "participant_id": 1, "joined_at": joined_at},
        ),
        (
            "participant_muted", room.tess.id,
            {"participant_id": 1, "target_user_id": room.anna.id, "is_self_mute": False},
        ),
    ]  # fmt: skip
    [(_, session_id, _, _, _, created_at), *_] = town.query("select * from logs where session_id = %s", room.number)
    assert session_id == room.number
    assert isinstance(created_at, datetime.datetime)
    assert created_at.tzinfo is None


async def test_sessions(town: Town) -> None:
    room = await lesson(town, joined=False)
    assert room.made == {
        "session_id": room.number, "title": "Fractions", "is_active": True, "created_by": room.tess.id,
        "created_at": room.made["created_at"], "ended_at": None, "participant_count": 0, "teacher_name": "Tess",
    }  # fmt: skip
    assert MOMENT.fullmatch(room.made["created_at"])
    assert detail(await room.anna.post(f"{BASE}/sessions", {"title": "x"}), 403) == "Teacher permission required"
    assert invalid(await room.tess.post(f"{BASE}/sessions", {"title": ""}))[0] == ["body", "title"]
    later = (await room.tess.post(f"{BASE}/sessions", {"title": "Later"})).ok()
    for person, query in ((room.anna, {}), (room.tess, {"mine": "true"})):
        found = (await person.get(f"{BASE}/sessions/active", **query)).ok()
        numbers = [one["session_id"] for one in found]
        assert numbers == sorted(numbers, reverse=True)
        assert room.made in found
        assert later in found
    assert (await room.anna.get(f"{BASE}/sessions/active", mine="true")).ok() == []
    assert detail(await room.anna.delete(room.path), 403) == "Only creator can end session"
    ended = (await room.tess.delete(room.path)).ok()
    assert ended.keys() == {"ok", "message"}
    assert ended["ok"] is True
    assert detail(await room.tess.delete(room.path), 400) == "Session already ended"
    assert detail(await room.tess.delete(f"{BASE}/sessions/{NOBODY}"), 404) == "Session not found"
    assert detail(await room.anna.post(f"{room.path}/join"), 400) == "Session is not active"
    assert room.made not in (await room.tess.get(f"{BASE}/sessions/active", mine="true")).ok()
    assert [(kind, list(said)) for kind, _, said in room.rows()][-1] == ("session_ended", ["ended_at"])
