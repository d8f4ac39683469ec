"""Tokens of external issuers, signed with real keys and verified with the keys that a real server publishes."""

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from pytest_aiohttp import AiohttpServer

from server.security.jwks import keys_from_jwks
from server.settings.sections import BadSetting, IssuerSettings
from server.settings.types import Secret
from tests.support.client import Client, Stream
from tests.support.serving import KEY, Town, serving

ISSUER = "https://login.example.org"
SECRET = "the secret of an outside issuer, long enough"
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def signed(key: Any = SECRET, algorithm: str = "HS256", kid: str | None = None, **claims: Any) -> str:
    """Return a token of the external issuer; a claim that is None is omitted."""
    body = {
        "iss": ISSUER, "sub": "u-1", "exp": time.time() + 600, "iat": int(time.time()), "name": "Uma",
        "email": "uma@example.org", "role": "student", **claims,
    }  # fmt: skip
    headers = {} if kid is None else {"kid": kid}
    return jwt.encode({k: v for k, v in body.items() if v is not None}, key, algorithm=algorithm, headers=headers)


def jwk(key: Any, kid: str) -> dict[str, Any]:
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig"}


def pem(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


class Publisher:
    """A server that publishes keys."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.asked = 0
        self.url = ""

    async def publish(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({"keys": self.keys}, status=self.status)


@pytest.fixture
async def publisher(aiohttp_server: AiohttpServer) -> Publisher:
    publisher = Publisher()
    app = web.Application()
    app.router.add_get("/jwks.json", publisher.publish)
    publisher.url = str((await aiohttp_server(app)).make_url("/jwks.json"))
    return publisher


def accepting(**issuer: Any) -> dict[str, Any]:
    return {"issuers": {"outside": IssuerSettings(**{"issuer": ISSUER, **issuer})}}


SYMMETRIC = accepting(secret=Secret(SECRET), algorithms=("HS256",))


@pytest.fixture
async def town(dsn: str, data: Path) -> AsyncIterator[Town]:
    async with serving(dsn, data, auth=SYMMETRIC) as town:
        yield town


def bearer(town: Town, token: str) -> Client:
    return Client(town.http, town.url, token)


async def test_a_user_of_an_external_issuer_gets_an_account(town: Town) -> None:
    uma = (await bearer(town, signed()).get("/v1/me")).ok()
    assert (uma["name"], uma["role"], uma["email"]) == ("Uma", "student", "uma@example.org")
    again = (await bearer(town, signed(name="Uma B.", role="teacher")).get("/v1/me")).ok()
    assert (again["id"], again["name"], again["role"]) == (uma["id"], "Uma B.", "teacher")
    other = (await bearer(town, signed(sub="u-2", email=None)).get("/v1/me")).ok()
    assert other["id"] != uma["id"]
    assert town.query("select issuer, subject from users order by subject") == [(ISSUER, "u-1"), (ISSUER, "u-2")]


async def test_external_users_may_use_every_dialect(town: Town) -> None:
    teacher, student = bearer(town, signed(sub="t", role="teacher", email=None)), bearer(town, signed())
    session = (await teacher.post("/tutorium/api/v1/sessions", {"title": "Algebra"})).ok(201)
    code = {"room_code": session["room_code"]}
    assert (await student.post("/tutorium/api/v1/sessions/join-by-code", code)).status == 200
    async with student.stream(f"/v1/sessions/{session['id']}/events") as stream:
        assert (await stream.next()).event == "snapshot"
    text = {"type": "send_message", "text": "Hi"}
    (await teacher.post(f"/v1/sessions/{session['id']}/commands", {"type": "join"})).ok()
    (await student.post(f"/v1/sessions/{session['id']}/commands", text)).ok()
    (await student.post(f"/v1/sessions/{session['id']}/commands", text)).ok()


@pytest.mark.parametrize(
    ("changed", "detail"),
    [
        ({"iss": "https://elsewhere.example"}, "this issuer"),
        ({"exp": time.time() - 100}, "expired"),
        ({"exp": None}, "`exp`"),
        ({"sub": None}, "`sub`"),
        ({"sub": ""}, "`sub`"),
        ({"sub": "x" * 300}, "`sub`"),
        ({"sub": ["u-1"]}, "`sub`"),
        ({"nbf": time.time() + 86_400}, "not valid yet"),
        ({"key": "another secret, that is long enough as well"}, "not signed"),
    ],
    ids=lambda value: str(value)[:24],
)
async def test_a_refused_token_gets_its_reason(town: Town, changed: dict[str, Any], detail: str) -> None:
    problem = (await bearer(town, signed(**changed)).get("/v1/me")).refused(401)
    assert detail in problem["detail"]
    assert town.query("select count(*) from users") == [(0,)]


async def test_an_external_issuer_cannot_issue_tokens_of_homeroom(town: Town) -> None:
    tess = await town.teacher()
    her_id = (await tess.get("/v1/me")).ok()["id"]
    claims = jwt.decode(tess.token or "", KEY, algorithms=["HS256"], audience="homeroom")
    for forged in ({}, {"iss": ISSUER}):
        (await bearer(town, jwt.encode({**claims, **forged}, "x" * 40, algorithm="HS256")).get("/v1/me")).refused(401)
    # Signed by the issuer, with a user id of Homeroom as its subject: another account all the same.
    stranger = (await bearer(town, signed(sub=her_id, session="x", login=claims["login"])).get("/v1/me")).ok()
    assert stranger["id"] != her_id
    (await bearer(town, signed(iss="homeroom", aud="homeroom")).get("/v1/me")).refused(401)


async def test_an_email_in_a_token_never_opens_an_existing_account(town: Town) -> None:
    tess = await town.teacher()
    mine = (await tess.get("/v1/me")).ok()
    thief = (await bearer(town, signed(email=mine["email"])).get("/v1/me")).ok()
    assert (thief["id"] != mine["id"], thief["email"]) == (True, None)
    assert (await tess.get("/v1/me")).ok() == mine


async def test_concurrent_first_requests_create_one_account(town: Town) -> None:
    tokens = [signed(jti=str(n)) for n in range(20)]
    replies = await asyncio.gather(*(bearer(town, token).get("/v1/me") for token in tokens))
    assert len({reply.ok()["id"] for reply in replies}) == 1
    assert town.query("select count(*) from users") == [(1,)]


async def test_logging_out_revokes_an_external_token_also_after_a_restart(dsn: str, data: Path) -> None:
    token, other = signed(jti="1"), signed(jti="2")
    async with serving(dsn, data, auth=SYMMETRIC) as town:
        host = await (await town.teacher()).create()
        await host.do("start")
        me = (await bearer(town, token).get("/v1/me")).ok()["id"]
        await host.do("invite", user_id=me)
        (await bearer(town, token).post(f"{host.path}/commands", {"type": "join"})).ok()
        async with bearer(town, token).stream(f"{host.path}/events") as stream:
            await opened(stream)
            assert (await bearer(town, token).post("/v1/auth/logout")).status == 204
            await stream.bye("expired")
        (await bearer(town, token).get("/v1/me")).refused(401, "revoked")
        (await bearer(town, other).get("/v1/me")).ok()
    async with serving(dsn, data, auth=SYMMETRIC) as town:
        (await bearer(town, token).get("/v1/me")).refused(401, "revoked")
        (await bearer(town, other).get("/v1/me")).ok()


async def opened(stream: Stream) -> None:
    assert (await stream.next()).event == "snapshot"


# Public keys


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256")], ids=["RS256", "ES256"])
async def test_public_keys_are_read_from_files(dsn: str, data: Path, tmp_path: Path, key: Any, algorithm: str) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(pem(key))
    async with serving(dsn, data, auth=accepting(public_key_file=str(path), algorithms=(algorithm,))) as town:
        (await bearer(town, signed(key, algorithm)).get("/v1/me")).ok()
        # The public key is no secret: a token signed with it as a secret is refused.
        head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
        assert head
        with pytest.raises(jwt.InvalidKeyError):
            jwt.encode({"iss": ISSUER}, pem(key), algorithm="HS256")
        (await bearer(town, signed(SECRET)).get("/v1/me")).refused(401)
        (await bearer(town, f"{head}.{signed().split('.')[1]}.").get("/v1/me")).refused(401)


@pytest.mark.parametrize(
    "odd", [{"key_ops": None}, {"key_ops": 7}, {"alg": ["RS256"]}, {"alg": {}}, {"use": []}, {"kid": 7}, {"kty": []}]
)
def test_an_invalid_published_key_is_skipped_and_the_others_are_used(odd: dict[str, Any]) -> None:
    published = {"keys": [{**jwk(RSA, "odd"), **odd}, jwk(OTHER_RSA, "good")]}
    assert [key.name for key in keys_from_jwks(msgspec.json.encode(published))] == ["good"]


async def test_changed_published_keys_are_fetched_again(dsn: str, data: Path, publisher: Publisher) -> None:
    publisher.keys = [jwk(RSA, "one")]
    chosen = accepting(jwks_url=publisher.url, algorithms=("RS256", "ES256"), jwks_cooldown_s=0.01)
    async with serving(dsn, data, auth=chosen) as town:
        old = signed(RSA, "RS256", "one")
        await asyncio.gather(*((bearer(town, old).get("/v1/me")) for _ in range(10)))
        assert publisher.asked == 1
        (await bearer(town, signed(OTHER_RSA, "RS256", "one")).get("/v1/me")).refused(401)
        publisher.keys = [jwk(EC, "two")]
        new = bearer(town, signed(EC, "ES256", "two"))
        async with asyncio.timeout(8):
            # Keys are fetched again after a pause; only a request shows when.
            while (await new.get("/v1/me")).status != 200:
                assert publisher.asked == 1
        # Tokens that the old key verified are verified again, and refused.
        (await bearer(town, old).get("/v1/me")).refused(401)


async def test_the_last_fetched_keys_are_used_while_the_issuer_is_unreachable(
    dsn: str, data: Path, publisher: Publisher
) -> None:
    publisher.status = 500
    chosen = accepting(jwks_url=publisher.url, jwks_cooldown_s=0.01)
    async with serving(dsn, data, auth=chosen) as town:
        reply = await bearer(town, signed(RSA, "RS256", "one")).get("/v1/me")
        reply.refused(503, "unavailable")
        assert int(reply.headers["Retry-After"]) >= 1
        publisher.status, publisher.keys = 200, [jwk(RSA, "one")]
        asked = publisher.asked
        async with asyncio.timeout(8):
            # Keys are fetched again after a pause; only a request shows when.
            while (await bearer(town, signed(RSA, "RS256", "one", jti="1")).get("/v1/me")).status != 200:
                assert publisher.asked <= asked + 1
        publisher.status = 500
        (await bearer(town, signed(RSA, "RS256", "one", jti="2")).get("/v1/me")).ok()


async def test_unknown_key_ids_cause_one_fetch_per_cooldown(dsn: str, data: Path, publisher: Publisher) -> None:
    publisher.keys = [jwk(RSA, "one")]
    chosen = accepting(jwks_url=publisher.url, jwks_cooldown_s=60.0)
    async with serving(dsn, data, auth=chosen) as town:
        for number in range(20):
            (await bearer(town, signed(RSA, "RS256", f"k{number}")).get("/v1/me")).refused(401)
        assert publisher.asked == 1


async def test_a_key_file_without_a_key_stops_the_start(dsn: str, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "no.pem"
    path.write_text("no key")
    with pytest.raises(BadSetting, match=r"auth\.issuers\.outside\.public_key_file = .*no key can be read"):
        async with serving(dsn, data, auth=accepting(public_key_file=str(path))):
            pass
