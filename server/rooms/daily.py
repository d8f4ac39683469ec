"""Daily.co's REST API, as far as sessions need it.

**Law:** what may pass (429, 5xx, no answer) is tried again, a few times within a bound; what Daily refuses is not.
The key is in a header, and in no log or error.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct

from actors.session.ids import Millis, UserId
from actors.session.state import RecordingStatus
from server.http.client_responses import body_of, retry_after_s
from server.rooms.providers import Link, NewRoom, Pass, RoomFailed, Taped

T = TypeVar("T")
PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
SAID_CHARACTERS = 200
STATUSES: Mapping[str, RecordingStatus] = {"finished": "completed", "canceled": "failed"}


class Made(Struct, frozen=True):
    url: str


class Granted(Struct, frozen=True):
    token: str


class AccessLink(Struct, frozen=True):
    """`expires` in unix seconds."""

    download_link: str
    expires: float


class Recorded(Struct, frozen=True):
    """`start_ts` in unix seconds, `duration` in seconds."""

    id: str
    start_ts: float
    status: str
    duration: float | None = None
    s3key: str | None = None


class RecordedList(Struct, frozen=True):
    data: list[Recorded]


class Refusal(Struct, frozen=True):
    error: str = ""
    info: str = ""


class Daily:
    """`tries` in all per call, `pause_s` before the second, twice that before the third; all within `patience_s`."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        url: str,
        key: str,
        timeout_s: float,
        tries: int,
        pause_s: float,
        patience_s: float,
    ) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._timeout_s = timeout_s
        self._tries = tries
        self._pause_s = pause_s
        self._patience_s = patience_s

    async def make(self, wanted: NewRoom) -> str:
        properties: dict[str, Any] = {
            "max_participants": wanted.capacity,
            "enable_screenshare": True,
            "enable_chat": wanted.chat,
            "start_video_off": True,
            "start_audio_off": False,
            "exp": wanted.expires_at,
            "eject_at_room_exp": True,
        }
        if wanted.recording:
            properties["enable_recording"] = "cloud"
        body = {"name": wanted.name, "privacy": "private", "properties": properties}
        try:
            made = await self._call("POST", "/rooms", body)
        except RoomFailed as failed:
            if failed.certain or failed.status != 400:
                raise
            # The answer to an earlier attempt was lost: there may be one of this name because that one has made it.
            made = await self._call("GET", f"/rooms/{wanted.name}")
        return decoded(made, Made).url

    async def delete(self, name: str) -> None:
        await self._call("DELETE", f"/rooms/{name}", gone=True)

    async def token(self, wanted: Pass) -> str:
        properties = {
            "room_name": wanted.room.name,
            "user_name": wanted.who.name,
            "user_id": wanted.who.user_id,
            "is_owner": wanted.is_owner,
            "enable_screenshare": wanted.is_owner,
            "exp": wanted.expires_at,
            "eject_at_token_exp": True,
        }
        return decoded(await self._call("POST", "/meeting-tokens", {"properties": properties}), Granted).token

    async def eject(self, name: str, user_id: UserId, *, ban: bool) -> None:
        await self._call("POST", f"/rooms/{name}/eject", {"user_ids": [user_id], "ban": ban})

    async def start_recording(self, name: str) -> None:
        await self._call("POST", f"/rooms/{name}/recordings/start", {})

    async def stop_recording(self, name: str) -> None:
        await self._call("POST", f"/rooms/{name}/recordings/stop", {})

    async def recordings(self, name: str) -> list[Taped]:
        found = decoded(await self._call("GET", f"/recordings?room_name={quote(name)}"), RecordedList)
        return [
            Taped(
                recording_id=one.id,
                # What it says besides these is on its way to one of them.
                status=STATUSES.get(one.status, "processing"),
                started_at=Millis(round(one.start_ts * 1000)),
                duration_ms=None if one.duration is None else round(one.duration * 1000),
                s3_key=one.s3key,
            )
            for one in found.data
        ]

    async def link(self, recording_id: str) -> Link:
        found = decoded(await self._call("GET", f"/recordings/{recording_id}/access-link"), AccessLink)
        if not found.download_link.startswith(("https://", "http://")):
            # Where the domain does not allow it, Daily says so in the link's place.
            raise RoomFailed(f"Daily gave no link ({found.download_link[:SAID_CHARACTERS]})")
        return Link(found.download_link, Millis(round(found.expires * 1000)))

    async def _call(self, method: str, path: str, body: object = None, *, gone: bool = False) -> bytes:
        """Ask until an answer counts; give its body. `gone`: 404 is what was wanted. Raises: RoomFailed."""
        encoded = None if body is None else msgspec.json.encode(body)
        certain = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_s
        for attempt in range(1, self._tries + 1):
            wait_s: float | None = None
            try:
                async with self._http.request(
                    method, self._url + path, data=encoded, headers=self._headers,
                    timeout=aiohttp.ClientTimeout(total=min(self._timeout_s, deadline - loop.time())),
                    allow_redirects=False,
                ) as response:  # fmt: skip
                    answer = await body_of(response)
                    if response.status in (200, 201, 204) or (gone and response.status == 404):
                        return answer
                    why, wait_s = said(response.status, answer), retry_after_s(response.headers)
                    certain = certain and response.status < 500
                    if response.status not in PASSING:
                        raise RoomFailed(why, certain=certain, status=response.status)
            except TimeoutError:
                why, certain = "Daily did not answer in time", False
            except aiohttp.ClientConnectorError:
                why = "Daily cannot be reached"
            except aiohttp.ClientError as error:
                why, certain = f"Daily cannot be reached ({type(error).__name__})", False
            pause_s = self._wait_s(attempt, wait_s)
            # Never earlier than Daily wants it: if that is too late for whoever waits, not at all.
            if attempt == self._tries or loop.time() + pause_s >= deadline:
                break
            await asyncio.sleep(pause_s)
        raise RoomFailed(why, certain=certain)

    def _wait_s(self, attempt: int, asked_s: float | None) -> float:
        longest_s = self._pause_s * 2.0 ** (attempt - 1)
        return max(asked_s or 0.0, longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads load


def said(status: int, answer: bytes) -> str:
    """Say what a refusal says."""
    try:
        refusal = msgspec.json.decode(answer, type=Refusal)
    except msgspec.MsgspecError:
        refusal = Refusal()
    text = ": ".join(part for part in (refusal.error, refusal.info) if part)[:SAID_CHARACTERS]
    return f"Daily answered {status}" + (f" ({text})" if text else "")


def decoded(answer: bytes, type_: type[T]) -> T:
    """Raises: RoomFailed for an answer that is none."""
    try:
        return msgspec.json.decode(answer, type=type_)
    except msgspec.MsgspecError as error:
        raise RoomFailed("Daily's answer could not be read") from error
