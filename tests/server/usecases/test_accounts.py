"""Accounts: who gets in, with what, and that being out is at once."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from server.http.uuids import new_id
from tests.support.client import PASSWORD, Client, Person
from tests.support.serving import KEY, Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")


def registration(**changed: Any) -> dict[str, Any]:
    body = {"name": "Tess", "email": f"{new_id()}@example.org", "password": PASSWORD, "role": "teacher", **changed}
    return {name: value for name, value in body.items() if value is not None}


async def test_register_gives_the_account_and_its_tokens(town: Town) -> None:
    body = registration(email="Tess.Upper@Example.ORG")
    reply = await town.anyone.post("/v1/auth/register", body)
    made = reply.ok(201)
    assert made["user"].keys() == {"id", "number", "name", "email", "phone", "role"}
    assert made["user"]["email"] == "tess.upper@example.org"
    assert made["user"]["role"] == "teacher"
    assert made["expires_in"] == 1800
    assert reply.headers["Cache-Control"] == "no-store"
    me = await Client(town.http, town.url, made["access_token"]).get("/v1/me")
    assert me.ok() == made["user"]
    assert PASSWORD.encode() not in reply.body


async def test_register_by_phone_however_it_is_written(town: Town) -> None:
    made = (await town.anyone.post("/v1/auth/register", registration(email=None, phone="+49 (30) 1234-567"))).ok(201)
    assert made["user"]["phone"] == "+49301234567"
    again = await town.anyone.post("/v1/auth/login", {"phone": "+4930 1234567", "password": PASSWORD})
    assert again.ok()["user"] == made["user"]


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"email": None}, "email"),
        ({"password": "short"}, "password"),
        ({"password": None}, "password"),
        ({"role": "admin"}, "role"),
        ({"role": None}, "role"),
        ({"name": "   "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\0b"}, "name"),
        ({"email": "nobody"}, "email"),
        ({"email": "trailing@example.org\n"}, "email"),
        ({"phone": "-----"}, "phone"),
        ({"phone": "+49 30 12345\n"}, "phone"),
        ({"phone": 12345}, "phone"),
        ({"is_admin": True}, "is_admin"),
    ],
)
async def test_register_names_the_field_that_is_wrong(town: Town, changed: dict[str, Any], field: str) -> None:
    (await town.anyone.post("/v1/auth/register", registration(**changed))).refused(422, "invalid", field)


async def test_an_email_and_a_phone_belong_to_one_account(town: Town) -> None:
    body = registration(phone="+1 555 010 9999")
    (await town.anyone.post("/v1/auth/register", body)).ok(201)
    same_email = registration(email=body["email"].upper())
    (await town.anyone.post("/v1/auth/register", same_email)).refused(409, "taken", "email")
    same_phone = registration(phone="+15550109999")
    (await town.anyone.post("/v1/auth/register", same_phone)).refused(409, "taken", "phone")


async def test_login_does_not_tell_an_unknown_user_from_a_wrong_password(town: Town) -> None:
    tess = await town.teacher()
    login = "/v1/auth/login"
    wrong = await town.anyone.post(login, {"email": tess.email, "password": "wrong horse"})
    unknown = await town.anyone.post(login, {"email": "nobody@example.org", "password": "wrong horse"})
    assert wrong.refused(401, "bad_credentials") == unknown.refused(401, "bad_credentials")
    assert wrong.headers["WWW-Authenticate"] == "Bearer"
    assert tess.email is not None
    (await town.anyone.post(login, {"email": tess.email.upper(), "password": PASSWORD})).ok()
    both = {"email": tess.email, "phone": "+491234567", "password": PASSWORD}
    (await town.anyone.post(login, both)).refused(422, "invalid", "email")
    (await town.anyone.post(login, {"password": PASSWORD})).refused(422, "invalid", "email")


async def test_refresh_rotates_and_a_reused_token_ends_the_whole_login(town: Town) -> None:
    host, *_ = await town.classroom()
    tess = host.person
    first = (await town.anyone.post("/v1/auth/refresh", {"refresh_token": tess.refresh_token})).ok()
    assert first["refresh_token"] != tess.refresh_token
    assert first["user"] == tess.user
    renewed = Client(town.http, town.url, first["access_token"])
    (await renewed.get("/v1/me")).ok()
    async with host.stream() as stream:
        await stream.until("snapshot")
        # A thief, or the one stolen from: somebody has a copy. Nobody keeps the login, and its streams end.
        reused = await town.anyone.post("/v1/auth/refresh", {"refresh_token": tess.refresh_token})
        reused.refused(401, "bad_refresh_token")
        await stream.bye("expired")
    (await renewed.get("/v1/me")).refused(401, "revoked")
    (await tess.get("/v1/me")).refused(401, "revoked")
    newest = await town.anyone.post("/v1/auth/refresh", {"refresh_token": first["refresh_token"]})
    newest.refused(401, "bad_refresh_token")


@pytest.mark.parametrize("token", ["", "x", ".", "a.b", f"{'0' * 8}-0000-0000-0000-{'0' * 12}.secret", "0" * 200])
async def test_refresh_refuses_what_it_never_gave(town: Town, token: str) -> None:
    (await town.anyone.post("/v1/auth/refresh", {"refresh_token": token})).refused(401, "bad_refresh_token")


async def test_logout_ends_tokens_tickets_and_streams_of_this_login_at_once(town: Town) -> None:
    host, *_ = await town.classroom()
    tess = host.person
    laptop = await tess.log_in_again()
    ticket = (await tess.post(f"{host.path}/tickets")).ok(201)["ticket"]
    async with host.stream() as here, laptop.at(host).stream() as there:
        await here.until("snapshot")
        await there.until("snapshot")
        (await tess.post("/v1/auth/logout")).ok(204)
        await here.bye("expired")
        assert here.seen[-1].data["retry"] == 0
        (await tess.get("/v1/me")).refused(401, "revoked")
        (await host.command("raise_hand")).refused(401, "revoked")
        (await town.anyone.get(f"{host.path}/events", ticket=ticket)).refused(401)
        (await town.anyone.post("/v1/auth/refresh", {"refresh_token": tess.refresh_token})).refused(401)
        # The other device is another login.
        await laptop.at(host).say("still here")
        await there.until("chat_message")


async def test_patch_me_changes_what_is_sent(town: Town) -> None:
    tess = await town.teacher()
    changed = (await tess.patch("/v1/me", {"name": "Tess Two"})).ok()
    assert changed == {**tess.user, "name": "Tess Two"}
    assert (await tess.get("/v1/me")).ok() == changed
    email = f"{new_id()}@example.org"
    (await tess.patch("/v1/me", {"email": email})).refused(403, "bad_credentials", "current_password")
    (await tess.patch("/v1/me", {"email": email, "current_password": PASSWORD})).ok()
    (await town.anyone.post("/v1/auth/login", {"email": email, "password": PASSWORD})).ok()
    (await town.anyone.post("/v1/auth/login", {"email": tess.email, "password": PASSWORD})).refused(401)
    other = await town.teacher()
    taken = {"email": other.email, "current_password": PASSWORD}
    (await tess.patch("/v1/me", taken)).refused(409, "taken", "email")
    (await tess.patch("/v1/me", {"role": "student"})).refused(422, "invalid", "role")
    (await tess.patch("/v1/me", {"password": "short", "current_password": PASSWORD})).refused(
        422, "invalid", "password"
    )


async def test_a_new_password_logs_everyone_else_out(town: Town) -> None:
    host, *_ = await town.classroom()
    tess = host.person
    thief = await tess.log_in_again()
    async with thief.at(host).stream() as theirs, host.stream() as hers:
        await theirs.until("snapshot")
        await hers.until("snapshot")
        change = {"password": "battery staple", "current_password": "wrong horse"}
        (await tess.patch("/v1/me", change)).refused(403, "bad_credentials")
        (await tess.patch("/v1/me", {**change, "current_password": PASSWORD})).ok()
        await theirs.bye("expired")
        (await thief.get("/v1/me")).refused(401, "revoked")
        (await town.anyone.post("/v1/auth/refresh", {"refresh_token": thief.refresh_token})).refused(401)
        await host.say("still here")
        await hers.until("chat_message")
    (await town.anyone.post("/v1/auth/login", {"email": tess.email, "password": PASSWORD})).refused(401)
    (await town.anyone.post("/v1/auth/login", {"email": tess.email, "password": "battery staple"})).ok()


async def test_a_login_s_name_alone_ends_nobody_s_login(town: Town) -> None:
    tess = await town.teacher()
    login = tess.refresh_token.partition(".")[0]
    (await town.anyone.post("/v1/auth/refresh", {"refresh_token": f"{login}.made-up"})).refused(401)
    (await tess.get("/v1/me")).ok()
    (await town.anyone.post("/v1/auth/refresh", {"refresh_token": tess.refresh_token})).ok()


async def test_logging_in_is_throttled_by_account_and_by_address(dsn: str, data: Path) -> None:
    proxied: dict[str, Any] = {
        "auth": {"login_attempts_per_minute": 3, "address_attempts_per_minute": 3, "signing_key": settings_key()}
    }
    async with serving(dsn, data, **proxied, server={"trusted_proxies": ("127.0.0.1",)}) as town:

        async def guess(address: str, email: str) -> Any:
            body = {"email": email, "password": "wrong horse"}
            return await town.anyone.post("/v1/auth/login", body, **{"X-Forwarded-For": address})

        for _ in range(3):
            (await guess("203.0.113.1", "tess@example.org")).refused(401)
        limited = await guess("203.0.113.2", "tess@example.org")
        limited.refused(429, "too_fast")
        assert 1 <= int(limited.headers["Retry-After"]) <= 60
        (await guess("203.0.113.1", "anna@example.org")).refused(429, "too_fast")
        # Neither the account nor the address of somebody else is any slower for it.
        (await guess("203.0.113.3", "anna@example.org")).refused(401)


def settings_key() -> Any:
    from server.settings.types import Secret

    return Secret(KEY)


def forged(tess: Person, *, key: str = KEY, algorithm: str = "HS256", drop: str = "", **changed: Any) -> str:
    claims = jwt.decode(str(tess.token), options={"verify_signature": False}) | {"jti": new_id()} | changed
    claims.pop(drop, None)
    return jwt.encode(claims, key, algorithm=algorithm)


def unsigned(tess: Person) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = jwt.decode(str(tess.token), options={"verify_signature": False})
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


async def test_a_token_must_be_ours_whole_and_in_time(town: Town) -> None:
    tess = await town.teacher()
    head, payload, signature = str(tess.token).split(".")
    now = int(time.time())
    tokens = {
        "another key": forged(tess, key="another key of thirty-two bytes or more"),
        "another algorithm": forged(tess, key=KEY * 2, algorithm="HS512"),
        "no algorithm": unsigned(tess),
        "no signature": f"{head}.{payload}.",
        "another signature": f"{head}.{payload}.{signature[::-1]}",
        "expired": forged(tess, iat=now - 20, exp=now - 10),
        "not yet": forged(tess, iat=now + 600, exp=now + 900),
        "another issuer": forged(tess, iss="mallory"),
        "another audience": forged(tess, aud="mallory"),
        "no text": "\u00fc",
        "nothing": "a.b.c",
        **{f"no {claim}": forged(tess, drop=claim) for claim in ("iss", "aud", "sub", "exp", "iat", "jti")},
        **{f"no {claim}": forged(tess, drop=claim) for claim in ("login", "name", "role", "number")},
    }
    for what, token in tokens.items():
        reply = await Client(town.http, town.url, token).get("/v1/me")
        problem = reply.refused(401)
        assert reply.headers["WWW-Authenticate"] == "Bearer", what
        assert problem["reason"] == ("expired" if what == "expired" else "unauthenticated"), what
    (await Client(town.http, town.url, forged(tess)).get("/v1/me")).ok()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dGVzczpwdw==", "Token x", "Bearer x y"])
async def test_a_credential_is_a_bearer_token(town: Town, header: str) -> None:
    reply = await town.anyone.call("GET", "/v1/me", headers={"Authorization": header})
    reply.refused(401, "unauthenticated")


async def test_bytes_that_are_no_text_are_no_token(town: Town) -> None:
    for path in (b"GET /v1/me", b"POST /v1/sessions/1/commands"):
        status, headers, _ = await town.exchange(
            path + b" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nContent-Length: 0\r\n\r\n"
        )
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"


async def test_a_logout_outlives_the_server(dsn: str, data: Path) -> None:
    async with serving(dsn, data) as town:
        tess = await town.teacher()
        (await tess.post("/v1/auth/logout")).ok(204)
    async with serving(dsn, data) as town:
        (await Client(town.http, town.url, tess.token).get("/v1/me")).refused(401, "revoked")


async def test_registration_can_be_off(dsn: str, data: Path) -> None:
    async with serving(dsn, data, auth={"registration": False}) as town:
        (await town.anyone.post("/v1/auth/register", registration())).refused(403, "registration_off")


WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"


@pytest.mark.parametrize("what", ["logout", "password"])
async def test_a_login_is_over_though_who_ended_it_is_gone(town: Town, what: str) -> None:
    tess = await town.teacher()
    other = await tess.log_in_again()
    over = tess if what == "logout" else other
    login = jwt.decode(over.token or "", options={"verify_signature": False})["login"]
    line, body = {
        "logout": ("POST /v1/auth/logout", b""),
        "password": ("PATCH /v1/me", json.dumps({"password": "another horse", "current_password": PASSWORD}).encode()),
    }[what]
    _, writer = await town.open_socket()
    with town.locked("logins", "login_id", login):
        head = (
            f"{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {tess.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await wait_for(lambda: town.query(WAITING) == [(1,)])
        writer.close()
        # By the time of a later answer the server has seen that.
        assert (await tess.get("/v1/me")).status == 200
    await wait_for(lambda: town.server.services.tokens.is_revoked(login))
    assert (await over.get("/v1/me")).status == 401
