"""The provider Daily.co, by its REST API.

**Law:** transient failures (429, 5xx, no response) are retried a few times within a time limit; refusals are not. The
API key is sent in a header and appears in no log or error.
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
from server.rooms.providers import DownloadLink, NewRoom, ProviderRecording, RoomFailed, RoomTokenRequest

T = TypeVar("T")
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
ERROR_LENGTH = 200
STATUSES: Mapping[str, RecordingStatus] = {"finished": "completed", "canceled": "failed"}


class CreatedRoom(Struct, frozen=True):
    """Daily's description of a room."""

    url: str


class MeetingToken(Struct, frozen=True):
    """Daily's answer with a token."""

    token: str


class AccessLink(Struct, frozen=True):
    """Daily's answer with a download link. `expires` is in Unix seconds."""

    download_link: str
    expires: float


class DailyRecording(Struct, frozen=True):
    """Daily's description of a recording. `start_ts` is in Unix seconds, `duration` in seconds."""

    id: str
    start_ts: float
    status: str
    duration: float | None = None
    s3key: str | None = None


class DailyRecordings(Struct, frozen=True):
    """A page of recordings."""

    data: list[DailyRecording]


class DailyError(Struct, frozen=True):
    """The body of a refusal."""

    error: str = ""
    info: str = ""


class Daily:
    """The provider `daily`.

    A call makes at most `tries` attempts of `timeout_s`, with a pause of `pause_s` before the second and twice as long
    before each further one, all within `patience_s`."""

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

    async def create_room(self, room: NewRoom) -> str:
        """Create a private room and return its URL."""
        properties: dict[str, Any] = {
            "max_participants": room.capacity,
            "enable_screenshare": True,
            "enable_chat": room.chat,
            "start_video_off": True,
            "start_audio_off": False,
            "exp": room.expires_at,
            "eject_at_room_exp": True,
        }
        if room.recording:
            properties["enable_recording"] = "cloud"
        body = {"name": room.name, "privacy": "private", "properties": properties}
        try:
            answer = await self._call("POST", "/rooms", body)
        except RoomFailed as failed:
            if failed.certain or failed.status != 400:
                raise
            # Daily refuses a name that exists: an earlier attempt may have created the room and lost its response.
            answer = await self._call("GET", f"/rooms/{room.name}")
        return decode_answer(answer, CreatedRoom).url

    async def delete(self, name: str) -> None:
        """Delete a room."""
        await self._call("DELETE", f"/rooms/{name}", gone=True)

    async def create_token(self, request: RoomTokenRequest) -> str:
        """Return a meeting token for a caller."""
        properties = {
            "room_name": request.room.name,
            "user_name": request.who.name,
            "user_id": request.who.user_id,
            "is_owner": request.is_owner,
            "enable_screenshare": request.is_owner,
            "exp": request.expires_at,
            "eject_at_token_exp": True,
        }
        return decode_answer(
            await self._call("POST", "/meeting-tokens", {"properties": properties}), MeetingToken
        ).token

    async def eject(self, name: str, user_id: UserId, *, ban: bool) -> None:
        """Remove a participant from a room; `ban`: do not let them in again."""
        await self._call("POST", f"/rooms/{name}/eject", {"user_ids": [user_id], "ban": ban})

    async def start_recording(self, name: str) -> None:
        """Start a cloud recording."""
        await self._call("POST", f"/rooms/{name}/recordings/start", {})

    async def stop_recording(self, name: str) -> None:
        """Stop the recording."""
        await self._call("POST", f"/rooms/{name}/recordings/stop", {})

    async def recordings(self, name: str) -> list[ProviderRecording]:
        """Return a room's latest recordings."""
        page = decode_answer(await self._call("GET", f"/recordings?room_name={quote(name)}"), DailyRecordings)
        return [
            ProviderRecording(
                recording_id=recording.id,
                # Daily's other statuses all lead to one of these.
                status=STATUSES.get(recording.status, "processing"),
                started_at=Millis(round(recording.start_ts * 1000)),
                duration_ms=None if recording.duration is None else round(recording.duration * 1000),
                s3_key=recording.s3key,
            )
            for recording in page.data
        ]

    async def link(self, recording_id: str) -> DownloadLink:
        """Return a download link for a recording."""
        access = decode_answer(await self._call("GET", f"/recordings/{recording_id}/access-link"), AccessLink)
        if not access.download_link.startswith(("https://", "http://")):
            # If the domain does not allow downloads, Daily returns the reason in place of the link.
            raise RoomFailed(f"Daily gave no link ({access.download_link[:ERROR_LENGTH]})")
        return DownloadLink(access.download_link, Millis(round(access.expires * 1000)))

    async def _call(self, method: str, path: str, body: object = None, *, gone: bool = False) -> bytes:
        """Return the body of a successful response, after retries. `gone`: 404 is one too. Raise RoomFailed."""
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
                    why, wait_s = error_text(response.status, answer), retry_after_s(response.headers)
                    certain = certain and response.status < 500
                    if response.status not in TRANSIENT:
                        raise RoomFailed(why, certain=certain, status=response.status)
            except TimeoutError:
                why, certain = "Daily did not answer in time", False
            except aiohttp.ClientConnectorError:
                why = "Daily cannot be reached"
            except aiohttp.ClientError as error:
                why, certain = f"Daily cannot be reached ({type(error).__name__})", False
            pause_s = self._wait_s(attempt, wait_s)
            # Never earlier than Daily asks for. If that is later than the caller can wait, give up.
            if attempt == self._tries or loop.time() + pause_s >= deadline:
                break
            await asyncio.sleep(pause_s)
        raise RoomFailed(why, certain=certain)

    def _wait_s(self, attempt: int, asked_s: float | None) -> float:
        longest_s = self._pause_s * 2.0 ** (attempt - 1)
        return max(asked_s or 0.0, longest_s * random.uniform(0.5, 1.0))  # noqa: S311 - only spreads load


def error_text(status: int, answer: bytes) -> str:
    """Return a sentence about a response that is not successful, with Daily's own words."""
    try:
        refusal = msgspec.json.decode(answer, type=DailyError)
    except msgspec.MsgspecError:
        refusal = DailyError()
    text = ": ".join(part for part in (refusal.error, refusal.info) if part)[:ERROR_LENGTH]
    return f"Daily answered {status}" + (f" ({text})" if text else "")


def decode_answer(answer: bytes, type_: type[T]) -> T:
    """Decode the body of a response. Raise RoomFailed if it is not of this type."""
    try:
        return msgspec.json.decode(answer, type=type_)
    except msgspec.MsgspecError as error:
        raise RoomFailed("Daily's answer could not be read") from error
