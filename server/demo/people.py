"""Users with an account, as clients of the public API."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

TRIES = 5
LONGEST_WAIT_S = 10.0
SILENCE_S = 60.0
"""A stream without any bytes for so long, heartbeats included, is dead."""


class Refused(Exception):
    """The server refused a request."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(f"{detail} ({status} {reason})")
        self.status = status
        self.reason = reason


class StreamFrame(Struct, frozen=True):
    """One frame of a stream."""

    event: str
    # Any: JSON of any shape.
    body: dict[str, Any]
    cursor: str | None


async def read_frames(content: aiohttp.StreamReader) -> AsyncIterator[StreamFrame]:
    """Yield the frames of a stream, without comments."""
    event, data, cursor = "message", "", None
    async for raw in content:
        name, _, value = raw.decode().rstrip("\n").partition(": ")
        match name:
            case "event":
                event = value
            case "data":
                data = value
            case "id":
                cursor = value
            case "" if not value:
                if data:
                    yield StreamFrame(event, msgspec.json.decode(data), cursor)
                event, data, cursor = "message", "", None


class DemoUser:
    """One user. `user_id` is set by `register`."""

    def __init__(self, http: aiohttp.ClientSession, url: str, name: str, role: str) -> None:
        self._http = http
        self._url = url
        self._headers: dict[str, str] = {}
        self._role = role
        self._credentials = {
            "email": f"demo-{secrets.token_hex(8)}@example.org",
            "password": secrets.token_urlsafe(16),
        }
        self.name = name
        self.user_id = ""

    async def register(self) -> None:
        """Create a new account, independent of earlier runs. Raise Refused, aiohttp.ClientError."""
        account = {"name": self.name, **self._credentials, "role": self._role}
        self._logged_in(await self._send("POST", "/v1/auth/register", account))

    async def _log_in(self) -> None:
        self._logged_in(await self._send("POST", "/v1/auth/login", self._credentials))

    def _logged_in(self, login: dict[str, Any]) -> None:
        self._headers = {"Authorization": f"Bearer {login['access_token']}"}
        self.user_id = login["user"]["id"]

    # Any: JSON of any shape.
    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Call the API. Log in again if the token has expired, and repeat the call if the server asks to wait.

        All attempts use one Idempotency-Key. Raise Refused, aiohttp.ClientError.
        """
        key = secrets.token_hex(8)
        for _ in range(TRIES):
            try:
                return await self._send(method, path, body, key)
            except Refused as refused:
                if refused.status == 401:
                    await self._log_in()
                elif refused.status not in (429, 503):
                    raise
        return await self._send(method, path, body, key)

    # Registering and logging in need no token, and would be refused with an expired one: no key, no token.
    async def _send(self, method: str, path: str, body: object, key: str | None = None) -> Any:
        headers = {} if key is None else {**self._headers, "Idempotency-Key": key}
        async with self._http.request(method, self._url + path, json=body, headers=headers) as response:
            raw = await response.read()
            if response.ok:
                return msgspec.json.decode(raw) if raw else None
            problem = msgspec.json.decode(raw)
            if response.status in (429, 503):
                await asyncio.sleep(min(float(response.headers.get("Retry-After", 1)), LONGEST_WAIT_S))
            raise Refused(response.status, problem["reason"], problem["detail"])

    # Any: JSON of any shape.
    async def command(self, ref: str, command: dict[str, Any]) -> list[dict[str, Any]]:
        """Send a command to a session and return its events. Raise Refused, aiohttp.ClientError."""
        answer = await self.call("POST", f"/v1/sessions/{ref}/commands", command)
        events: list[dict[str, Any]] = answer["events"]
        return events

    async def watch(self, ref: str, on_frame: Callable[[StreamFrame], None]) -> None:
        """Follow a session's stream, and resume it when it is interrupted, until the server ends it for good."""
        cursor, failures = None, 0
        while failures < TRIES:
            headers = self._headers if cursor is None else {**self._headers, "Last-Event-ID": cursor}
            timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
            wait_s = 1.0
            failures += 1
            try:
                async with self._http.get(
                    f"{self._url}/v1/sessions/{ref}/events", headers=headers, timeout=timeout
                ) as response:
                    if response.status == 401:
                        await self._log_in()
                        continue
                    if not response.ok:
                        return
                    async for frame in read_frames(response.content):
                        failures, cursor = 0, frame.cursor or cursor
                        on_frame(frame)
                        if frame.event == "bye":
                            if frame.body["retry"] is None:
                                return
                            wait_s = max(frame.body["retry"] / 1000, 0.1)
            except (aiohttp.ClientError, TimeoutError, Refused):
                pass
            await asyncio.sleep(wait_s)
