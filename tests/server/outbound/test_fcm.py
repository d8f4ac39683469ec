"""The FCM client: its requests, and the result of each answer."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from server.http.client_responses import MAX_WAIT_S, retry_after_s
from server.outbound.push.fcm import Fcm, result_of
from server.outbound.push.messages import DeviceGone, PushLater, PushMessage, PushRefused, PushResult, PushSent
from server.outbound.push.oauth import AccessTokens, read_account
from tests.support import fcm as fake

DEVICE = "cJug2GoHzEfcshCE_OLL24:APA91bHa8-Viell9xjbeV96V4Njhufk9V7KcOA940Gp7FY1Dxsxmo8AJ7"
HELLO = PushMessage(
    title="Session Invitation",
    body="Ms Öl invited you to join 'Physics'",
    data={"type": "session_invitation", "session_id": "8"},
    tag="0199-5",
    ttl_s=60,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Line:
    """A client, the server that it talks to, and its clock."""

    def __init__(self, server: fake.Fcm, tokens: AccessTokens, client: Fcm, clock: Clock) -> None:
        self.server = server
        self.tokens = tokens
        self.client = client
        self.clock = clock

    async def send(self, token: str = DEVICE) -> PushResult:
        return await self.client.send(token, HELLO)


@contextlib.asynccontextmanager
async def connected(server: fake.Fcm, path: Path, *, timeout_s: float = 5.0, **account: object) -> AsyncIterator[Line]:
    clock = Clock()
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        read = read_account(server.key_file(path / "key.json", **account))
        tokens = AccessTokens(read, http, clock=clock)
        yield Line(server, tokens, Fcm(http, tokens, url=server.url, project_id=read.project_id), clock)


@pytest.fixture
async def line(fcm: fake.Fcm, tmp_path: Path) -> AsyncIterator[Line]:
    async with connected(fcm, tmp_path) as line:
        yield line


async def test_a_message_has_the_form_that_fcm_documents(line: Line) -> None:
    assert await line.send() == PushSent()
    (message,) = line.server.sent
    assert message.pop("apns")["headers"]["apns-collapse-id"] == HELLO.tag
    assert message == {
        "token": DEVICE,
        "notification": {"title": HELLO.title, "body": HELLO.body},
        "data": HELLO.data,
        "android": {"priority": "high", "ttl": "60s", "notification": {"tag": HELLO.tag}},
    }


# Access tokens


async def test_an_access_token_is_used_until_shortly_before_it_expires(line: Line) -> None:
    line.server.expires_in = 3_599
    with line.server.holding_exchanges():
        sending = [asyncio.create_task(line.send(f"device-{number}")) for number in range(10)]
        await line.server.until(lambda: line.server.exchanges == 1)
    assert await asyncio.gather(*sending) == [PushSent()] * 10
    line.clock.now += 3_298
    assert await line.send() == PushSent()
    assert line.server.exchanges == 1
    line.clock.now += 2
    assert await line.send() == PushSent()
    assert line.server.exchanges == 2


async def test_an_access_token_with_a_short_life_is_used_for_half_of_it(line: Line) -> None:
    line.server.expires_in = 10
    for seconds, exchanges in ((0, 1), (4, 1), (2, 2)):
        line.clock.now += seconds
        await line.send()
        assert line.server.exchanges == exchanges


async def test_a_refused_access_token_is_replaced_once(line: Line) -> None:
    await line.send()
    line.server.take_back()
    receptions = await asyncio.gather(*(line.send(f"device-{number}") for number in range(5)))
    assert receptions == [PushSent()] * 5
    assert line.server.exchanges == 2, "one for all whom the old one failed"
    line.server.answers(DEVICE, fake.APNS_KEY, fake.APNS_KEY, fake.APNS_KEY)
    reception = await line.send()
    assert isinstance(reception, PushLater)
    assert (reception.status, reception.why.partition(":")[0]) == (401, "THIRD_PARTY_AUTH_ERROR")
    assert (line.server.exchanges, line.server.tries[DEVICE]) == (3, 3)


async def test_without_an_access_token_sending_waits_and_exchanges_are_spaced_out(line: Line) -> None:
    line.server.grants(fake.Answer(503, {}, {"Retry-After": "30"}))
    assert await line.send() == PushLater("no access token: 503 : ", 503, 30.0)
    line.server.grants(fake.Answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}))
    assert isinstance(await line.send(), PushLater)
    assert line.server.exchanges == 1, "it has just failed"
    line.clock.now += 2
    assert await line.send() == PushLater("no access token: 400 invalid_grant: Invalid JWT Signature.", 400)
    line.clock.now += 2
    line.server.grants(fake.Answer(200, {"token": "x"}))
    assert isinstance(await line.send(), PushLater)
    line.clock.now += 2
    assert await line.send() == PushSent()


async def test_the_key_of_another_account_gets_no_access_token(tmp_path: Path, fcm: fake.Fcm) -> None:
    other = fake.private_key(1).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with connected(fcm, tmp_path, private_key=other) as line:
        reception = await line.send()
        assert isinstance(reception, PushLater)
        assert "Invalid JWT Signature" in reception.why
        assert line.server.sent == []


# Answers


@pytest.mark.parametrize(
    ("answer", "reception"),
    [
        (fake.UNREGISTERED, DeviceGone()),
        (fake.MALFORMED_TOKEN, DeviceGone()),
        (fake.NAMED_TOKEN, DeviceGone()),
        (fake.BAD_MESSAGE, PushRefused),
        (fake.TOO_BIG, PushRefused),
        (fake.OTHER_SENDER, PushRefused),
        (fake.NO_PERMISSION, PushLater),
        (fake.NO_PROJECT, PushLater),
        (fake.QUOTA, PushLater(f"QUOTA_EXCEEDED: {fake.QUOTA.body['error']['message']}", 429, 60.0)),
        (fake.QUOTA._replace(headers={"Retry-After": "7"}), 7.0),
        (fake.UNAVAILABLE._replace(headers={"Retry-After": "7"}), 7.0),
        (fake.UNAVAILABLE, PushLater("UNAVAILABLE: The service is currently unavailable.", 503)),
        (fake.INTERNAL, PushLater("INTERNAL: Internal error encountered.", 500)),
        (fake.BAD_GATEWAY, PushLater("status 502", 502)),
        (fake.Answer(302, "", {"Location": "http://127.0.0.1:1/"}), PushLater("status 302", 302)),
        (fake.Answer(500, "x" * 1_000_000), PushLater("status 500", 500)),
        (fake.LOST, PushLater("ServerDisconnectedError")),
    ],
)
async def test_each_answer_of_fcm_has_one_result(
    line: Line, answer: fake.Answer, reception: PushResult | type | float
) -> None:
    line.server.answers(DEVICE, answer)
    found = await line.send()
    if isinstance(reception, float):
        assert isinstance(found, PushLater)
        assert found.retry_after_s == reception
    elif isinstance(reception, type):
        assert type(found) is reception
        assert isinstance(found, PushLater | PushRefused)
        assert found.status == answer.status
        assert found.why
    else:
        assert found == reception
    assert line.server.tries[DEVICE] == 1, "trying again is the outbox's to do"
    assert await line.send() == PushSent(), "the connection is in order afterwards"


async def test_an_fcm_that_does_not_answer_in_time_is_tried_later(tmp_path: Path, fcm: fake.Fcm) -> None:
    async with connected(fcm, tmp_path, timeout_s=0.1) as line:
        line.server.answers(DEVICE, fake.HANGS)
        assert await line.send() == PushLater("TimeoutError")
        with line.server.holding_exchanges():
            line.clock.now += 4_000
            assert await line.send() == PushLater("no access token: TimeoutError")


async def test_an_unreachable_fcm_is_tried_later(line: Line) -> None:
    await line.send()
    async with aiohttp.ClientSession() as http:
        nobody = Fcm(http, line.tokens, url="http://127.0.0.1:1", project_id="x")
        assert await nobody.send(DEVICE, HELLO) == PushLater("ClientConnectorError")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"error": 1}', b'{"error": {"details": [1]}}', b"\xff"])
async def test_a_malformed_answer_unregisters_no_device(body: bytes) -> None:
    for status in (400, 404):
        assert not isinstance(result_of(status, body, None), DeviceGone | PushSent)


def test_retry_after_is_seconds_or_a_date() -> None:
    soon = datetime(2999, 1, 1, tzinfo=UTC)
    assert retry_after_s({"Retry-After": "120"}) == 120.0
    assert retry_after_s({"Retry-After": format_datetime(soon, usegmt=True)}) == MAX_WAIT_S
    assert retry_after_s({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    for nothing in ({}, {"Retry-After": ""}, {"Retry-After": "soon"}, {"Retry-After": "-1"}):
        assert retry_after_s(nothing) is None


# Key files


async def test_an_invalid_key_file_is_refused_and_not_quoted(line: Line, tmp_path: Path) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    other = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    good = line.server.key_file(tmp_path / "good.json")
    assert read_account(good).project_id == fake.PROJECT
    for changed, said in (
        ({"type": "authorized_user"}, "type"),
        ({"client_email": None}, "client_email"),
        ({"private_key": "SECRET"}, "private_key"),
        ({"private_key": other}, "private_key"),
        ({"private_key": 1}, "private_key"),
        ({"token_uri": "http://example.org/token"}, "token_uri"),
        ({"project_id": "../x"}, "project_id"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            read_account(line.server.key_file(tmp_path / "bad.json", **changed))
        assert "SECRET" not in str(caught.value)
        assert "BEGIN" not in str(caught.value)
    for text, said in (
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "not a key file of a service account"),
        (json.dumps({}), "not a key file of a service account"),
    ):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            read_account(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="cannot be read"):
        read_account(tmp_path / "nothing.json")
