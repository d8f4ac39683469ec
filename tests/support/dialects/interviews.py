"""An interview and its participants, as clients of the `interview` dialect."""

import asyncio
import contextlib
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from tests.support.client import PATIENCE_S, Client, Reply
from tests.support.serving import Town

BASE = "/interview/api/v1"
SESSION = {"id", "created_at", "updated_at", "expires_at", "code", "language", "participants", "creator_id"}
UPGRADE = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
PARTICIPANT = {"id", "name", "role", "color", "joined_at", "is_online"}


class Talk:
    """An open socket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def next(self) -> Any:
        """Return the next frame, or None if the server has closed the socket."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        frame = message.json()
        assert frame.keys() == {"type", "data"}
        return frame

    async def frame(self, kind: str) -> Any:
        """Return the data of the next frame, which must be of this type, without its timestamp."""
        frame = await self.next()
        assert frame is not None, f"the socket closed with {self.ws.close_code} before a frame {kind}"
        assert frame["type"] == kind, frame
        assert isinstance(frame["data"].pop("timestamp"), int)
        return frame["data"]

    async def refused(self, code: str) -> str:
        """Read a refusal; return its reason."""
        frame = await self.next()
        assert (frame["type"], frame["data"]["code"]) == ("error", code), frame
        assert frame["data"] == body(frame["data"]["error"], code)
        return str(frame["data"]["error"])

    async def closed(self) -> int | None:
        """Wait until the server closes the socket, without another frame; return the close code."""
        assert await self.next() is None
        return self.ws.close_code

    async def send(self, kind: str, **data: Any) -> None:
        await self.ws.send_json({"type": kind, "data": data})


class Guest(Client):
    """A participant of an interview. Their client chose `id`."""

    def __init__(self, town: Town, name: str, id_: str | None = None) -> None:
        super().__init__(town.http, town.url)
        self.name = name
        self.id = id_ or str(uuid.uuid4())
        self.ref = ""

    @property
    def user(self) -> dict[str, str]:
        return {"id": self.id, "name": self.name, "color": "#12ab9f"}

    @property
    def path(self) -> str:
        return f"{BASE}/sessions/{self.ref}"

    async def join(self, ref: str) -> Any:
        """Join a session, and keep the token for it."""
        self.ref = ref
        answer = data((await self.post(f"{self.path}/join", {"user": self.user})).ok())
        self.token = answer.pop("token", None)
        return answer

    async def session(self) -> Any:
        return data((await self.get(self.path)).ok())

    async def place(self, id_: str | None = None) -> Any:
        """Return a participant's entry in the list, by default this participant's."""
        people = (await self.get(f"{self.path}/participants")).ok()["participants"]
        return next((one for one in people if one["id"] == (id_ or self.id)), None)

    async def upgrade(self, *, token: str | None = "own") -> Reply:
        """Request the socket over plain HTTP, which gives access to the body of a refusal."""
        sent = self.token if token == "own" else token
        async with self.http.get(
            f"{self.url}/interview/ws/sessions/{self.ref}",
            params={} if sent is None else {"token": sent},
            headers=UPGRADE,
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    @contextlib.asynccontextmanager
    async def talk(self, *, token: str | None = "own", **params: str) -> AsyncIterator[Talk]:
        """Open the socket, by default with this participant's token."""
        sent = self.token if token == "own" else token
        async with self.http.ws_connect(
            f"{self.url}/interview/ws/sessions/{self.ref}", params=params | ({} if sent is None else {"token": sent})
        ) as ws:
            yield Talk(ws)


async def created(town: Town, **fields: Any) -> Guest:
    """Create an interview; return its creator."""
    ivy = Guest(town, "Ivy")
    answer = data((await ivy.post(f"{BASE}/sessions", {"creator": ivy.user, **fields})).ok(201))
    ivy.ref, ivy.token = answer["id"], answer["token"]
    return ivy


async def pair(town: Town, **fields: Any) -> tuple[Guest, Guest]:
    """Create an interview that a candidate has joined."""
    ivy, carl = await created(town, **fields), Guest(town, "Carl")
    await carl.join(ivy.ref)
    return ivy, carl


def data(answer: Any) -> Any:
    """Return the data of a successful answer."""
    assert answer.keys() == {"success", "data"}
    assert answer["success"] is True
    return answer["data"]


def body(text: str, code: str) -> Mapping[str, Any]:
    return {"success": False, "error": text, "code": code, "detail": {"success": False, "error": text}}


def refused(reply: Reply, status: int, code: str, text: str | None = None) -> str:
    """Check that an answer is a refusal in the contract's form; return its text."""
    assert reply.status == status, f"{reply.status}, not {status}: {reply.body!r}"
    said = reply.json["error"]
    assert isinstance(said, str)
    assert said
    assert reply.json == body(said, code)
    assert text is None or said == text
    assert (reply.headers.get("WWW-Authenticate") == "Bearer") == (status == 401)
    return said


HEX = re.compile(r"(?=.*[a-f])[0-9a-f]{8}")
