"""A fake of Firebase Cloud Messaging, HTTP v1, over real HTTP, with its token endpoint.

It accepts and refuses requests as Google does. A test chooses the answers for a device; the default is 200.
"""

import asyncio
import contextlib
import json
import re
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pytest_aiohttp import AiohttpServer

from tests.support.client import PATIENCE_S

PROJECT = "homeroom-test"
EMAIL = f"pusher@{PROJECT}.iam.example.org"
KEY_ID = "0123456789abcdef"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


class Answer(NamedTuple):
    """An answer instead of accepting the message. `after`: the message is accepted, and no answer follows."""

    status: int
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed
    after: bool = False


def error(status: int, name: str, message: str, *details: dict[str, Any], **headers: str) -> Answer:
    shown = {"error": {"code": status, "message": message, "status": name, "details": list(details)}}
    return Answer(status, shown, {key.replace("_", "-"): value for key, value in headers.items()})


def code(name: str) -> dict[str, Any]:
    return {"@type": FCM_ERROR, "errorCode": name}


def violation(field: str, description: str) -> dict[str, Any]:
    return {"@type": BAD_REQUEST, "fieldViolations": [{"field": field, "description": description}]}


# The answers in FCM's words.
UNREGISTERED = error(404, "NOT_FOUND", "Requested entity was not found.", code("UNREGISTERED"))
NO_PROJECT = error(404, "NOT_FOUND", "Requested entity was not found.")
MALFORMED_TOKEN = error(
    400, "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token", code("INVALID_ARGUMENT")
)
NAMED_TOKEN = error(
    400, "INVALID_ARGUMENT", "Request contains an invalid argument.", code("INVALID_ARGUMENT"),
    violation("message.token", "Invalid registration token"),
)  # fmt: skip
BAD_MESSAGE = error(
    400, "INVALID_ARGUMENT", "Invalid value at 'message.data[0].value' (TYPE_STRING), 12",
    violation("message.data[0].value", "Invalid value at 'message.data[0].value' (TYPE_STRING), 12"),
)  # fmt: skip
TOO_BIG = error(400, "INVALID_ARGUMENT", "Request contains an invalid argument.")
OTHER_SENDER = error(403, "PERMISSION_DENIED", "SenderId mismatch", code("SENDER_ID_MISMATCH"))
NO_PERMISSION = error(403, "PERMISSION_DENIED", "Firebase Cloud Messaging API has not been used in project before.")
APNS_KEY = error(401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service", code("THIRD_PARTY_AUTH_ERROR"))
QUOTA = error(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric.", code("QUOTA_EXCEEDED"))
INTERNAL = error(500, "INTERNAL", "Internal error encountered.", code("INTERNAL"))
UNAVAILABLE = error(503, "UNAVAILABLE", "The service is currently unavailable.", code("UNAVAILABLE"))
BAD_GATEWAY = Answer(502, "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>")
LOST = Answer(0, after=True)
HANGS = Answer(-1)
SILENT = Answer(-2, after=True)


@cache
def private_key(number: int = 0) -> rsa.RSAPrivateKey:
    """Return a key, generated once for the whole run because that takes a tenth of a second."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


class Fcm:
    """The fake. `sent`: the accepted messages, in order; `tries`: requests by device."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.tries: defaultdict[str, int] = defaultdict(int)
        self.exchanges = 0
        self.expires_in: Any = 3_599
        self.url = ""
        self._answers: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._grants: deque[Answer] = deque()
        self._good: set[str] = set()
        self._changed = asyncio.Event()
        self._held: asyncio.Event | None = None

    # For tests

    def answers(self, token: str, *answers: Answer) -> None:
        """Set the answers to the next requests for a device."""
        self._answers[token].extend(answers)

    def grants(self, *answers: Answer) -> None:
        """Set the answers to the next exchanges."""
        self._grants.extend(answers)

    def take_back(self) -> None:
        """Revoke all access tokens."""
        self._good.clear()

    @contextlib.contextmanager
    def holding_exchanges(self) -> Any:
        """Answer no exchange while the block runs."""
        self._held = asyncio.Event()
        try:
            yield
        finally:
            self._held.set()
            self._held = None

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def reached(self, count: int) -> list[dict[str, Any]]:
        """Wait until this many messages were accepted; return all."""
        await self.until(lambda: len(self.sent) >= count)
        return self.sent

    def to(self, token: str) -> list[dict[str, Any]]:
        return [message for message in self.sent if message["token"] == token]

    def key_file(self, path: Path, **changed: object) -> Path:
        """Write a key file in the format of Google's console."""
        pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        account = {
            "type": "service_account", "project_id": PROJECT, "private_key_id": KEY_ID, "private_key": pem,
            "client_email": EMAIL, "client_id": "100", "auth_uri": "https://accounts.example.org/o/oauth2/auth",
            "token_uri": f"{self.url}/token", "universe_domain": "example.org",
        }  # fmt: skip
        path.write_text(json.dumps({k: v for k, v in (account | changed).items() if v is not None}))
        return path

    # The server

    async def exchange(self, request: web.Request) -> web.Response:
        self.exchanges += 1
        self._changed.set()
        if self._held is not None:
            await self._held.wait()
        if self._grants:
            return await self._said(self._grants.popleft())
        form = await request.post()
        if form.get("grant_type") != GRANT:
            return web.json_response({"error": "unsupported_grant_type"}, status=400)
        try:
            assertion = str(form["assertion"])
            claims = jwt.decode(
                assertion,
                private_key().public_key(),
                algorithms=["RS256"],
                audience=f"{self.url}/token",
                issuer=EMAIL,
                options={"require": ["iss", "aud", "iat", "exp", "scope"]},
            )
            header = jwt.get_unverified_header(assertion)
        except jwt.PyJWTError as wrong:
            shown = {"error": "invalid_grant", "error_description": f"Invalid JWT Signature. ({wrong})"}
            return web.json_response(shown, status=400)
        if claims["scope"] != SCOPE or header.get("kid") != KEY_ID or claims["exp"] - claims["iat"] > 3_600:
            return web.json_response({"error": "invalid_scope", "error_description": str(claims)}, status=400)
        assert claims["iat"] <= time.time() + 1
        access = f"ya29.{self.exchanges}"
        self._good.add(access)
        shown = {"access_token": access, "expires_in": self.expires_in, "token_type": "Bearer"}
        return web.json_response(shown)

    async def send(self, request: web.Request) -> web.Response:
        scheme, _, access = request.headers.get("Authorization", "").partition(" ")
        body = json.loads(await request.read())
        if request.match_info["project"] != PROJECT:
            return await self._said(NO_PROJECT)
        token = body["message"]["token"]
        self.tries[token] += 1
        self._changed.set()
        if scheme != "Bearer" or access not in self._good:
            return web.json_response({"error": {"code": 401, "status": "UNAUTHENTICATED"}}, status=401)
        wrong = fault(request, body)
        if wrong is not None:
            return await self._said(error(400, "INVALID_ARGUMENT", wrong, violation("message", wrong)))
        answer = self._answers[token].popleft() if self._answers[token] else None
        if answer is not None and not answer.after:
            return await self._said(answer)
        self.sent.append(body["message"])
        self._changed.set()
        if answer is SILENT:
            await asyncio.get_running_loop().create_future()
        if answer is LOST:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"name": f"projects/{PROJECT}/messages/{len(self.sent)}"})

    async def _said(self, answer: Answer) -> web.Response:
        if answer is HANGS:
            await asyncio.get_running_loop().create_future()
        body = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        kind = "text/html" if isinstance(answer.body, str) else "application/json"
        return web.Response(status=answer.status, text=body, content_type=kind, headers=answer.headers)


def fault(request: web.Request, body: Any) -> str | None:
    """Return the reason for which FCM would refuse a request, or None."""
    if request.content_type != "application/json":
        return "not JSON"
    if body.keys() != {"message"} or not body["message"].keys() <= {"token", "notification", "data", "android", "apns"}:
        return f"unknown name in {body}"
    message = body["message"]
    if len(json.dumps(message, ensure_ascii=False).encode()) > 4_096:
        return "message too big"
    if not all(isinstance(value, str) for value in message["data"].values()):
        return "data is not of strings"
    if any(re.match(r"from$|gcm|google", key) for key in message["data"]):
        return "a key that FCM keeps for itself"
    if message["notification"].keys() != {"title", "body"}:
        return "notification"
    if not re.fullmatch(r"\d+s", message["android"]["ttl"]) or message["android"]["priority"] not in ("normal", "high"):
        return "android"
    headers = message["apns"]["headers"]
    if not all(isinstance(value, str) for value in headers.values()) or len(headers["apns-collapse-id"]) > 64:
        return "apns"
    return None


async def serve(aiohttp_server: AiohttpServer) -> Fcm:
    """Start a fake FCM on a port of its own; pytest-aiohttp's fixture stops it after the test."""
    fcm = Fcm()
    app = web.Application()
    app.router.add_post("/token", fcm.exchange)
    app.router.add_post("/v1/projects/{project}/messages:send", fcm.send)
    server = await aiohttp_server(app)
    fcm.url = str(server.make_url("")).rstrip("/")
    return fcm
