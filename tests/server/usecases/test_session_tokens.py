"""Credentials for one session alone: what they open, what they do not, and when they are over."""

import asyncio
import contextlib
import re
import time
from pathlib import Path
from typing import Any

import jwt
import psycopg2
import pytest

from actors.session.ids import SessionId, UserId
from server.api.routes import DirectCommandRoute, Row, SocketRoute, UploadRoute
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.security.tokens import Tokens
from server.v1.table import API
from storage.users import User
from tests.server.api.test_live import upload
from tests.server.usecases.test_accounts import WAITING
from tests.support.client import Client, Person, Reply, Seat
from tests.support.serving import KEY, Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOBODY = "0199aaaa-0000-7000-8000-000000000000"


class Bearer(Person):
    """Somebody with nothing but a token for one session."""

    def __init__(self, client: Client, token: str, user_id: str) -> None:
        Client.__init__(self, client.http, client.url, token)
        self.id = user_id


async def scoped(seat: Seat) -> Seat:
    """Give the same seat, by a token that is good for it alone."""
    made = (await seat.person.post(f"{seat.path}/tokens")).ok(201)
    return Seat(Bearer(seat.person, made["token"], seat.user_id), seat.session)


async def guest(town: Town, seat: Seat, name: str = "Gus", ref: str | None = None, **fields: str) -> Seat:
    made = (await town.anyone.post(f"/v1/sessions/{ref or seat.code}/guests", {"name": name, **fields})).ok(201)
    return Seat(Bearer(town.anyone, made["token"], made["user"]["id"]), seat.session)


async def party(town: Town, *names: str) -> list[Seat]:
    return await town.classroom(*names, features={"guests": True})


# Tokens for one session


async def test_a_token_for_one_session(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    made = (await anna.person.post(f"{anna.path}/tokens")).ok(201)
    assert made.keys() == {"token", "expires_at", "permissions", "meeting"}
    assert made["meeting"] is None
    assert made["permissions"] == ["ask", "chat", "speak", "video", "vote"]
    seat = Seat(Bearer(anna.person, made["token"], anna.user_id), anna.session)
    await seat.say("Hello")
    assert (await seat.state())["you"]["name"] == "Anna"
    async with seat.stream() as stream:
        await stream.until("snapshot")
    ticket = (await seat.person.post(f"{seat.path}/tickets")).ok(201)["ticket"]
    async with Client(town.http, town.url).stream(f"{seat.path}/events", params={"ticket": ticket}) as stream:
        await stream.until("snapshot")


async def test_another_token_never_outlives_the_one_it_came_from(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    first = (await anna.person.post(f"{anna.path}/tokens")).ok(201)
    bearer = Bearer(anna.person, first["token"], anna.user_id)
    second = (await bearer.post(f"{anna.path}/tokens")).ok(201)
    assert second["expires_at"] <= first["expires_at"]
    claims = [jwt.decode(made["token"], options={"verify_signature": False}) for made in (first, second)]
    assert claims[0]["login"] == claims[1]["login"]
    assert claims[0]["session"] == claims[1]["session"] == anna.id


async def test_who_has_no_place_gets_none(town: Town) -> None:
    host, _ = await town.classroom("Anna")
    stranger = await town.student()
    (await stranger.post(f"{host.path}/tokens")).refused(403, "not_joined")
    (await stranger.post(f"/v1/sessions/{NOBODY}/tokens")).refused(404, "unknown_session")
    (await town.anyone.post(f"{host.path}/tokens")).refused(401)


def filled(row: Row, seat: Seat) -> tuple[str, Any]:
    """Give a path and a body that a row takes, about a session."""
    path = re.sub(r"\{(\w+)\}", lambda match: seat.id if match[1] == "ref" else NOBODY, row.path)
    bodies: dict[str, Any] = {
        "/sessions/join": {"code": seat.code},
        "/sessions/{ref}/commands": {"type": "leave"},
        "/sessions/{ref}": {"title": "Mine"} if row.method == "PATCH" else None,
    }
    return path, bodies.get(row.path)


async def send(client: Client, row: Row, seat: Seat, prefix: str) -> Reply:
    path, body = filled(row, seat)
    headers = {}
    if isinstance(row, SocketRoute):
        headers = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
    if isinstance(row, UploadRoute):
        headers = {"Content-Type": "multipart/form-data; boundary=x"}
    return await client.call(row.method, prefix + path, body, headers=headers)


ROWS = [(api.prefix, row) for api in (API,) for row in api.rows if not row.public]


@pytest.mark.parametrize(("prefix", "row"), ROWS, ids=[f"{row.method} {row.path}" for _, row in ROWS])
async def test_a_token_opens_no_other_session_and_no_account(town: Town, prefix: str, row: Row) -> None:
    _, anna = await town.classroom("Anna")
    other = await (await town.teacher()).create()
    await anna.person.post("/v1/sessions/join", {"code": other.code})
    seat = await scoped(anna)
    reply = await send(seat.person, row, other, prefix)
    if getattr(row, "scoped", False) or row.path == "/audio/{audio_id}/content":
        reply.refused(404)
    else:
        reply.refused(403, "wrong_scope")


SESSION_ROWS = [(prefix, row) for prefix, row in ROWS if "{ref}" in row.path or (isinstance(row, DirectCommandRoute))]


@pytest.mark.parametrize(("prefix", "row"), SESSION_ROWS, ids=[f"{row.method} {row.path}" for _, row in SESSION_ROWS])
async def test_a_user_outside_the_session_gets_nothing(town: Town, prefix: str, row: Row) -> None:
    host, _ = await town.classroom("Anna")
    before = len(await host.log())
    stranger = await town.student("Stranger")
    assert (await send(stranger, row, host, prefix)).status in (403, 404)
    (await send(town.anyone, row, host, prefix)).refused(401)
    host_guest = Client(town.http, town.url, "not.a.token")
    (await send(host_guest, row, host, prefix)).refused(401)
    assert len(await host.log()) == before


async def test_logging_out_ends_every_token_of_that_login(town: Town) -> None:
    _, anna = await town.classroom("Anna")
    seat = await scoped(anna)
    other = await scoped((await anna.person.log_in_again()).at(anna))
    async with seat.stream() as stream:
        await stream.until("snapshot")
        (await anna.person.post("/v1/auth/logout")).ok(204)
        await stream.bye("expired")
    (await seat.command("raise_hand")).refused(401, "revoked")
    (await seat.person.get(f"{seat.path}/state")).refused(401, "revoked")
    await other.do("raise_hand")


@pytest.mark.parametrize("ban", [True, False])
async def test_being_removed_ends_it_at_once(town: Town, ban: bool) -> None:
    host, anna = await town.classroom("Anna")
    seat = await scoped(anna)
    async with seat.stream() as stream:
        await stream.until("snapshot")
        await host.do("kick", user_id=anna.user_id, ban=ban)
        for type in ("join", "raise_hand", "leave"):
            (await seat.command(type)).refused(403, "kicked")
        (await seat.person.post("/v1/sessions/join", {"code": anna.code})).refused(403, "kicked")
        await stream.bye("kicked")
    for path in ("state", "events", "media", "permissions"):
        (await seat.person.get(f"{seat.path}/{path}")).refused(403)
    (await seat.person.post(f"{seat.path}/tokens")).refused(403)
    (await seat.person.post(f"{seat.path}/tickets")).refused(403)


async def test_an_older_token_stays_over_when_its_holder_is_back(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    piece_id = await upload(host.person)
    await host.do("select_audio", audio_id=piece_id)
    seat = await scoped(anna)
    await host.do("kick", user_id=anna.user_id)
    await anna.join()
    await town.passivate(host)
    (await seat.command("raise_hand")).refused(403, "kicked")
    (await seat.person.get(f"{seat.path}/events")).refused(403, "kicked")
    for path in ("", "/state", "/media", "/permissions", "/chat", "/code", "/attendance", "/playback", "/replay"):
        (await seat.person.get(f"{seat.path}{path}")).refused(403, "kicked")
    for path in ("tokens", "tickets"):
        (await seat.person.post(f"{seat.path}/{path}")).refused(403, "kicked")
    for path in ("", "/content", "/url"):
        (await seat.person.get(f"/v1/audio/{piece_id}{path}")).refused(403, "kicked")
    await (await scoped(anna)).do("raise_hand")


async def test_a_removal_in_the_millisecond_of_a_token_ends_it() -> None:
    """Instants are whole milliseconds, rounded down: one that is rounded up would be after what came after it."""
    tokens = Tokens(KEY, issuer="x", audience="x", ttl_s=60)
    user = User(UserId(NOBODY), 1, "Anna", None, None, "student", None)
    for _ in range(200):
        token = tokens.issue_scoped(user, new_id(), SessionId(new_id()), time.time() + 60)
        removed_at = now_millis()
        issued_at = (await tokens.verify(token)).caller().issued_at
        assert issued_at is not None
        assert removed_at - 1_000 < issued_at <= removed_at


async def test_a_change_of_role_counts_at_once_on_tokens_and_open_streams(town: Town) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    await host.do("set_role", user_id=anna.user_id, role="cohost")
    seat = await scoped(anna)
    async with seat.stream() as stream:
        await stream.until("snapshot")
        await ben.do("log_event", event_type="error")
        await stream.until("event_logged")
        await host.do("set_role", user_id=anna.user_id, role="member")
        (await seat.command("mute", user_id=ben.user_id)).refused(403, "not_permitted")
        await ben.do("log_event", event_type="error")
        await ben.say("after")
        await stream.until("chat_message")
        assert stream.events.count("event_logged") == 1
    (await seat.person.get(f"{seat.path}/log")).refused(403, "not_permitted")


# Guests


async def test_a_guest_comes_in_by_code_or_id(town: Town) -> None:
    host, anna = await party(town, "Anna")
    for ref in (host.code, host.code.lower(), host.id):
        seat = await guest(town, host, "Gus", ref, colour="#00aa00")
        await seat.do("join")
        await seat.say("Hello")
        [place] = [one for one in (await anna.state())["participants"] if one["user_id"] == seat.user_id]
        assert (place["name"], place["guest"], place["colour"], place["role"]) == ("Gus", True, "#00aa00", "member")
    places = (await anna.state())["participants"]
    assert [(place["guest"], place["colour"]) for place in places[:2]] == [(False, None)] * 2
    async with seat.stream() as stream:
        await stream.until("snapshot")


async def test_what_a_guest_is_told(town: Town) -> None:
    host, _ = await party(town, "Anna")
    reply = await town.anyone.post(f"/v1/sessions/{host.code}/guests", {"name": "Gus", "colour": "#00aa00"})
    made = reply.ok(201)
    assert reply.headers["Cache-Control"] == "no-store"
    assert made.keys() == {"token", "user", "expires_at"}
    assert made["user"]["role"] == "guest"
    assert (made["user"]["name"], made["user"]["colour"]) == ("Gus", "#00aa00")
    rows = town.query("select role, colour, email, password_hash from users where user_id = %s", made["user"]["id"])
    assert rows == [("guest", "#00aa00", None, None)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": " "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "Gus", "colour": "green"}, "colour"),
        ({"name": "Gus", "colour": "#00aa00\n"}, "colour"),
        ({"name": "Gus", "role": "teacher"}, "role"),
    ],
)
async def test_guests_that_are_none(town: Town, body: Any, field: str) -> None:
    host, _ = await party(town, "Anna")
    (await town.anyone.post(f"/v1/sessions/{host.code}/guests", body)).refused(422, "invalid", field)


async def test_only_where_guests_are_taken_and_only_by_what_is_hard_to_guess(town: Town) -> None:
    host, _ = await town.classroom("Anna")
    gus = {"name": "Gus"}
    (await town.anyone.post(f"{host.path}/guests", gus)).refused(403, "feature_off")
    await host.do("update", features={"guests": True})
    for ref in (host.session["number"], host.session["name"]):
        (await town.anyone.post(f"/v1/sessions/{ref}/guests", gus)).refused(404, "unknown_session")
    (await town.anyone.post(f"/v1/sessions/{NOBODY}/guests", gus)).refused(404, "unknown_session")
    seat = await guest(town, host)
    await host.do("update", features={"guests": False})
    (await seat.command("join")).refused(409, "feature_off")
    await host.do("update", features={"guests": True})
    await host.do("end")
    (await town.anyone.post(f"{host.path}/guests", gus)).refused(410, "ended")


async def test_a_guest_has_no_account(town: Town) -> None:
    host, _ = await party(town, "Anna")
    seat = await guest(town, host)
    for method, path in (("GET", "/v1/me"), ("PATCH", "/v1/me"), ("GET", "/v1/sessions"), ("POST", "/v1/auth/logout")):
        (await seat.person.call(method, path, {} if method == "PATCH" else None)).refused(403, "wrong_scope")
    (await seat.person.post("/v1/sessions", {"title": "Mine"})).refused(403, "wrong_scope")
    body = {"name": "Gus", "email": "gus@example.org", "password": "correct horse", "role": "guest"}
    (await town.anyone.post("/v1/auth/register", body)).refused(422, "invalid", "role")


async def test_a_token_that_a_guest_asks_for_as_they_are_removed_is_no_way_back(town: Town) -> None:
    host, _ = await party(town, "Anna")
    seat = await guest(town, host)
    await seat.do("join")
    with contextlib.closing(psycopg2.connect(town.dsn)) as connection, connection.cursor() as cursor:
        # Whether they may have one has been seen; who they are is still being read.
        cursor.execute("lock table users in access exclusive mode")
        asked = asyncio.create_task(seat.person.post(f"{seat.path}/tokens"))
        await wait_for(lambda: town.query(WAITING) == [(1,)])
        await host.do("kick", user_id=seat.user_id)
    late = Seat(Bearer(town.anyone, (await asked).ok(201)["token"], seat.user_id), seat.session)
    (await late.command("join")).refused(403, "kicked")


async def test_a_removed_guest_is_out(town: Town) -> None:
    host, _ = await party(town, "Anna")
    seat = await guest(town, host)
    await seat.do("join")
    async with seat.stream() as stream:
        await stream.until("snapshot")
        await host.do("kick", user_id=seat.user_id)
        (await seat.command("join")).refused(403, "kicked")
        await stream.bye("kicked")
    await town.passivate(host)
    (await seat.command("join")).refused(403, "kicked")
    (await seat.person.get(f"{seat.path}/events")).refused(403, "kicked")


async def test_so_many_guests_from_one_address(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"guests_per_minute": 2}) as town:
        host, _ = await party(town, "Anna")
        for _ in range(2):
            await guest(town, host)
        reply = await town.anyone.post(f"{host.path}/guests", {"name": "Gus"})
        reply.refused(429, "too_fast")
        assert int(reply.headers["Retry-After"]) > 0


async def test_guests_are_forgotten_a_week_after_their_tokens(town: Town) -> None:
    host, _ = await party(town, "Anna")
    old, new = await guest(town, host), await guest(town, host)
    town.query("update users set created_at = now() - interval '8 days' where user_id = %s", old.user_id)
    town.query("update logins set expires_at = now() - interval '8 days' where user_id = %s", old.user_id)
    users = town.server.services.users
    await users.forget_logins()
    assert await users.forget_guests() == 1
    left = town.query("select user_id::text from users where user_id = any(%s::uuid[])", [old.user_id, new.user_id])
    assert left == [(new.user_id,)]
