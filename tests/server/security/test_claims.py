"""Correctly signed tokens whose claims have the wrong type: the caller is refused with 401, and never by a 500."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest

from server.settings.sections import IssuerSettings
from server.settings.types import Secret
from tests.support.client import Client
from tests.support.serving import KEY, Town, serving

ISSUER, SECRET = "https://login.example.org", "the secret of an external issuer, long enough"
WRONG: tuple[Any, ...] = (
    None, True, 0, -1, 7, 1e400, float("nan"), 10**400, "", " ", "text", "\0",
    "\ud800", "a" * 10_000, "\u202e", [], [1], ["a"],
    {}, {"a": 1}, [[[[]]]],
)  # fmt: skip


@pytest.fixture
async def server(dsn: str, data: Path) -> AsyncIterator[Town]:
    issuers = {"external": IssuerSettings(issuer=ISSUER, secret=Secret(SECRET), algorithms=("HS256",))}
    async with serving(dsn, data, auth={"issuers": issuers}) as town:
        yield town


def encoded(claims: dict[str, Any], key: str) -> str:
    # PyJWT refuses to sign some of these claims; its lower layer signs any payload.
    payload = msgspec.json.encode(claims).replace(b"\xed\xa0\x80", b"?")
    return jwt.api_jws.encode(payload, key, algorithm="HS256")


def payloads(good: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"{name}={value!r:.30}", {**good, name: value}) for name in good for value in WRONG]


async def refusals(server: Town, good: dict[str, Any], key: str) -> dict[str, int]:
    """Return the status of each token that got neither in nor a 401."""
    odd: dict[str, int] = {}
    for name, claims in payloads(good):
        try:
            token = encoded(claims, key)
        except (ValueError, OverflowError, UnicodeEncodeError):
            continue
        answer = await Client(server.http, server.url, token).get("/v1/me")
        if answer.status not in (200, 401):
            odd[name] = answer.status
    return odd


async def test_claims_of_an_external_issuer(server: Town) -> None:
    now = int(time.time())
    good = {
        "iss": ISSUER, "aud": "x", "sub": "u-1", "exp": now + 600, "iat": now, "nbf": now, "jti": "j", "name": "Uma",
        "email": "uma@example.org", "email_verified": True, "role": "student",
    }  # fmt: skip
    assert await refusals(server, good, SECRET) == {}


async def test_claims_of_a_token_like_our_own(server: Town) -> None:
    teacher = await server.teacher()
    good = jwt.decode(str(teacher.token), KEY, algorithms=["HS256"], options={"verify_aud": False})
    assert await refusals(server, good, KEY) == {}


async def test_a_clock_that_is_a_little_behind_accepts_our_own_tokens(server: Town) -> None:
    teacher = await server.teacher()
    claims = jwt.decode(str(teacher.token), KEY, algorithms=["HS256"], options={"verify_aud": False})
    ahead = jwt.encode({**claims, "iat": time.time() + 5}, KEY, algorithm="HS256")
    assert (await Client(server.http, server.url, ahead).get("/v1/me")).status == 200
