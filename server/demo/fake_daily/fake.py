"""What the fake Daily knows, does and tells.

**Law:** it takes and answers what Daily documents, to the letter: a body with anything else in it is refused.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import time
import uuid
from collections import deque
from typing import Any

import aiohttp
import jwt
import msgspec
from aiohttp import web

from server.demo.fake_daily.shapes import (
    Asked,
    Eject,
    Fault,
    Guest,
    NewRoom,
    NewToken,
    NewWebhook,
    Nothing,
    Place,
    Recording,
    Trouble,
    decoded,
    person,
)
from server.demo.fake_daily.signing import SECRET, envelope, signed

logger = logging.getLogger(__name__)

KEY = "fake-daily-key"
TOKEN_KEY = "what the fake Daily signs its meeting tokens with"  # noqa: S105 - nobody's secret
LINK_S = 3_600
ASKED_KEPT = 1_000
TELL_TIMEOUT_S = 10.0


class FakeDaily:
    """Everything that Daily knows. `url` is where its API is, once it is served."""

    def __init__(self, *, key: str = KEY, secret: str = SECRET, token_key: str = TOKEN_KEY) -> None:
        self.key = key
        self.secret = secret
        self.url = ""
        self.rooms: dict[str, Place] = {}
        self.recordings: dict[str, Recording] = {}
        self.ejected: list[tuple[str, str, bool]] = []
        """Room, user and ban of everybody whom somebody wanted out, there or not."""
        self.hooks: dict[str, str] = {}
        """Where events are sent, and what they are signed with."""
        self.asked: deque[Asked] = deque(maxlen=ASKED_KEPT)
        self.troubles: list[Trouble] = []
        self._token_key = token_key
        self._telling: set[asyncio.Task[None]] = set()

    # As Daily

    async def make_room(self, request: web.Request, raw: bytes) -> Any:
        new = decoded(raw, NewRoom)
        if new.name in self.rooms:
            raise Fault(400, "invalid-request-error", f"a room named {new.name} already exists")
        now = time.time()
        answer = {
            "id": str(uuid.uuid4()), "name": new.name, "api_created": True, "privacy": new.privacy,
            "url": f"{self.url.removesuffix('/v1')}/meet/{new.name}",
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now)),
            "config": msgspec.to_builtins(new.properties),
        }  # fmt: skip
        self.rooms[new.name] = Place(answer)
        return answer

    async def find_room(self, request: web.Request, raw: bytes) -> Any:
        return self._room(request).answer

    async def delete_room(self, request: web.Request, raw: bytes) -> Any:
        name = request.match_info["name"]
        for user_id in list(self._room(request).guests):
            self._out(name, user_id)
        del self.rooms[name]
        for one in self.recordings.values():
            if one.room_name == name and one.status == "in-progress":
                self._finish(one)
        return {"deleted": True, "name": name}

    async def make_token(self, request: web.Request, raw: bytes) -> Any:
        wanted = decoded(raw, NewToken).properties
        if len(wanted.user_id) > 36:
            raise Fault(400, "invalid-request-error", "user_id is longer than 36 characters")
        claims = {
            "r": wanted.room_name, "u": wanted.user_name, "ud": wanted.user_id, "o": wanted.is_owner,
            "ss": wanted.enable_screenshare, "exp": wanted.exp, "iat": int(time.time()),
        }  # fmt: skip
        return {"token": jwt.encode(claims, self._token_key, algorithm="HS256")}

    async def eject(self, request: web.Request, raw: bytes) -> Any:
        wanted, name = decoded(raw, Eject), request.match_info["name"]
        if len(wanted.user_ids) > 100:
            raise Fault(400, "invalid-request-error", "more than 100 user_ids")
        place = self._room(request)
        out = [place.guests[user_id].session_id for user_id in wanted.user_ids if user_id in place.guests]
        for user_id in wanted.user_ids:
            self.ejected.append((name, user_id, wanted.ban))
            if wanted.ban:
                place.banned.add(user_id)
            self._out(name, user_id)
        return {"ejectedIds": out}

    async def start_recording(self, request: web.Request, raw: bytes) -> Any:
        decoded(raw or b"{}", Nothing)
        name = request.match_info["name"]
        if self._room(request).answer["config"].get("enable_recording") != "cloud":
            raise Fault(400, "invalid-request-error", "recording is not enabled for this room")
        if self.running(name) is not None:
            raise Fault(400, "invalid-request-error", "has an active stream")
        made = Recording(str(uuid.uuid4()), name, int(time.time()))
        self.recordings[made.id] = made
        told = {"action": "start-cloud-recording", "recording_id": made.id, "room_name": name}
        self._tell("recording.started", {**told, "start_ts": made.start_ts})
        return {"recordingId": made.id}

    async def stop_recording(self, request: web.Request, raw: bytes) -> Any:
        decoded(raw or b"{}", Nothing)
        self._room(request)
        one = self.running(request.match_info["name"])
        if one is None:
            raise Fault(400, "invalid-request-error", "no recording is active")
        self._finish(one)
        return {"status": "OK"}

    async def list_recordings(self, request: web.Request, raw: bytes) -> Any:
        name = request.query.get("room_name")
        data = [one for one in self.recordings.values() if name in (None, one.room_name)]
        return {"total_count": len(data), "data": [msgspec.to_builtins(one) for one in reversed(data)]}

    async def find_recording(self, request: web.Request, raw: bytes) -> Any:
        return msgspec.to_builtins(self._recording(request))

    async def access_link(self, request: web.Request, raw: bytes) -> Any:
        one = self._recording(request)
        if one.status != "finished":
            raise Fault(400, "invalid-request-error", "the recording is not finished")
        expires = int(time.time()) + LINK_S
        signature = self._signature(one.id, expires)
        link = f"{self.url.removesuffix('/v1')}/files/{one.id}?expires={expires}&signature={signature}"
        return {"download_link": link, "expires": expires}

    async def make_webhook(self, request: web.Request, raw: bytes) -> Any:
        wanted = decoded(raw, NewWebhook)
        secret = wanted.hmac or self.secret
        status = await self.send(wanted.url, secret, b'{"test":"test"}')
        if status != 200:
            raise Fault(400, "invalid-request-error", f"the webhook answered {status}, not 200")
        self.hooks[wanted.url] = secret
        return {"uuid": str(uuid.uuid4()), "url": wanted.url, "hmac": secret, "state": "ACTIVE", "failedCount": 0}

    # As the people in it

    def enter(self, name: str, token: str) -> Guest:
        """Come into a room with a token. Raises: Fault."""
        try:
            claims = jwt.decode(token, self._token_key, algorithms=["HS256"])
        except jwt.PyJWTError as error:
            raise Fault(403, "invalid-token") from error
        user_id, place = claims["ud"], self.rooms.get(name)
        if claims["r"] != name:
            raise Fault(403, "invalid-token")
        if place is None:
            raise Fault(404, "not-found", f"room {name} not found")
        if user_id in place.banned:
            raise Fault(403, "banned")
        if user_id in place.guests:
            return place.guests[user_id]
        if len(place.guests) >= place.answer["config"]["max_participants"]:
            raise Fault(403, "meeting-full")
        guest = place.guests[user_id] = Guest(str(uuid.uuid4()), time.time(), claims)
        self._tell("participant.joined", person(name, guest))
        return guest

    def leave(self, token: str) -> None:
        """Go again."""
        with contextlib.suppress(jwt.PyJWTError):
            claims = jwt.decode(token, self._token_key, algorithms=["HS256"])
            self._out(claims["r"], claims["ud"])

    def _out(self, name: str, user_id: str) -> None:
        place = self.rooms.get(name)
        if place is not None and (guest := place.guests.pop(user_id, None)):
            duration = time.time() - guest.joined_at
            self._tell("participant.left", {**person(name, guest), "duration": duration})

    def running(self, name: str) -> Recording | None:
        """Find the recording that runs in a room."""
        going = (one for one in self.recordings.values() if one.room_name == name and one.status == "in-progress")
        return next(going, None)

    def _finish(self, one: Recording) -> None:
        one.status, one.duration = "finished", max(1, int(time.time()) - one.start_ts)
        one.s3key = f"fake/{one.room_name}/{one.start_ts}"
        told = {"recording_id": one.id, "room_name": one.room_name, "start_ts": one.start_ts, "status": one.status}
        more = {"max_participants": 1, "duration": one.duration, "s3_key": one.s3key}
        self._tell("recording.ready-to-download", {**told, **more})

    # Webhooks

    def _tell(self, type: str, payload: dict[str, Any]) -> None:
        task = asyncio.create_task(self._told(type, payload))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _told(self, type: str, payload: dict[str, Any]) -> None:
        for status in await self.tell(type, payload):
            logger.info("%s: answered %s", type, status)

    async def tell(self, type: str, payload: dict[str, Any], *, event_id: str | None = None) -> list[int]:
        """Send an event to everybody who wants to hear; give what they answered, 0 for nothing."""
        body = envelope(type, payload, event_id=event_id)
        return [await self.send(url, secret, body) for url, secret in list(self.hooks.items())]

    async def send(self, url: str, secret: str, body: bytes, *, stamp: str | None = None) -> int:
        """Post a body, signed; give the status, 0 for no answer. `stamp`: the time that it says, now in seconds."""
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TELL_TIMEOUT_S)) as http,
                http.post(url, data=body, headers=signed(secret, body, stamp)) as response,
            ):
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def silent(self) -> None:
        """Wait until everything that has happened has been told."""
        while self._telling:
            await asyncio.wait(self._telling)

    async def close(self) -> None:
        for task in list(self._telling):
            task.cancel()
        await asyncio.gather(*self._telling, return_exceptions=True)

    # What they share

    def _room(self, request: web.Request) -> Place:
        name = request.match_info["name"]
        if name not in self.rooms:
            raise Fault(404, "not-found", f"room {name} not found")
        return self.rooms[name]

    def _recording(self, request: web.Request) -> Recording:
        if (one := self.recordings.get(request.match_info["id"])) is None:
            raise Fault(404, "not-found", "recording not found")
        return one

    def _signature(self, recording_id: str, expires: int) -> str:
        return hmac.new(self._token_key.encode(), f"{recording_id} {expires}".encode(), hashlib.sha256).hexdigest()

    def verified(self, recording_id: str, expires: str, signature: str) -> bool:
        """Say whether an access link is as it was made, and still good."""
        if not expires.isdecimal() or int(expires) < time.time():
            return False
        return hmac.compare_digest(self._signature(recording_id, int(expires)), signature)

    def trouble(self, line: str) -> Trouble | None:
        """Take the trouble that a request is in for."""
        for index, one in enumerate(self.troubles):
            if line.startswith(one.line):
                left = msgspec.structs.replace(one, times=one.times - 1)
                self.troubles[index : index + 1] = [left] if left.times else []
                return one
        return None
