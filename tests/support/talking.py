"""A client of the socket: sends commands, awaits their answers by id, and keeps every frame."""

import asyncio
import base64
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
from pycrdt import Doc, Text

from tests.support.client import PATIENCE_S, Frame, Seat


class Closed(AssertionError):
    """The socket closed before the awaited message arrived."""


class Talk:
    """An open socket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.seen: list[Frame] = []
        self.answers: dict[Any, Any] = {}
        self.order: list[Any] = []
        """Ids, in the order in which they were answered."""
        self.cursor: str | None = None
        self._ids = itertools.count(1)

    async def next(self) -> Any:
        """Read and file the next message; return it. Raise Closed at the end."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise Closed(f"{message.type.name} {self.ws.close_code} after {[frame.event for frame in self.seen]}")
        said = message.json()
        if said["event"] in ("answer", "refused"):
            self.answers[said["re"]] = said
            self.order.append(said["re"])
        else:
            frame = Frame(said["id"], said["event"], said["data"])
            self.cursor = frame.id or self.cursor
            self.seen.append(frame)
        return said

    async def until(self, event: str, where: Callable[[Any], bool] = lambda data: True) -> Frame:
        """Read up to a frame of this event; return it."""
        while True:
            said = await self.next()
            if said["event"] == event and where(said["data"]):
                return self.seen[-1]

    async def send(self, type: str, **fields: Any) -> Any:
        """Send a command; return its id."""
        id_ = fields.pop("id", None) or next(self._ids)
        await self.ws.send_json({"id": id_, "type": type, **fields})
        return id_

    async def answer(self, id_: Any) -> Any:
        """Wait for the answer to a command."""
        while id_ not in self.answers:
            await self.next()
        return self.answers.pop(id_)

    async def ask(self, type: str, **fields: Any) -> Any:
        return await self.answer(await self.send(type, **fields))

    async def do(self, type: str, **fields: Any) -> Any:
        """Send a command that must be committed; return its first event."""
        answer = await self.ask(type, **fields)
        assert answer["event"] == "answer", answer
        return answer["data"]

    async def refused(self, status: int, reason: str, **sent: Any) -> Any:
        """Send a message that must be refused; return the problem."""
        answer = await self.ask(**sent)
        assert (answer["event"], answer["status"], answer["data"]["reason"]) == ("refused", status, reason), answer
        assert answer["data"]["status"] == status
        return answer["data"]

    async def rest(self) -> list[Frame]:
        """Read until the server closes; return the frames."""
        start = len(self.seen)
        with contextlib.suppress(Closed):
            while True:
                await self.next()
        return self.seen[start:]

    async def bye(self, reason: str, code: int) -> list[Frame]:
        """Read to the end, which must be a `bye` with this reason and this code; return the frames before it."""
        frames = await self.rest()
        assert frames, f"closed with {self.ws.close_code} without a bye"
        assert (frames[-1].event, frames[-1].data["reason"]) == ("bye", reason), frames[-1]
        assert self.ws.close_code == code
        return frames[:-1]

    @property
    def texts(self) -> list[str]:
        return [frame.data["text"] for frame in self.seen if frame.event == "chat_message"]


@contextlib.asynccontextmanager
async def talk(seat: Seat, *, headers: dict[str, str] | None = None, **params: str) -> AsyncIterator[Talk]:
    """Open a socket, which must succeed."""
    sent = dict(headers or {})
    if "ticket" not in params:
        sent["Authorization"] = f"Bearer {seat.person.token}"
    async with asyncio.timeout(PATIENCE_S):
        ws = await seat.person.http.ws_connect(
            f"{seat.person.url}{seat.path}/socket", headers=sent, params=params, max_msg_size=0
        )
    async with ws:
        yield Talk(ws)


class Editor:
    """A Yjs client on a socket; docs/code-merging.md has the same in JavaScript."""

    def __init__(self, talk: Talk) -> None:
        self.talk = talk
        self.doc: Doc[Text] = Doc()
        self.text = self.doc.get("code", type=Text)
        self.known = b"\0"
        """The state that the session is known to have."""
        self._heard = 0

    @classmethod
    async def attached(cls, talk: Talk, seat: Seat) -> "Editor":
        editor = cls(talk)
        await talk.until("snapshot")
        document = (await seat.person.get(f"{seat.path}/code")).ok()
        if not document["updates"]:
            await talk.do("merge_code", update="AAA=")
            document = (await seat.person.get(f"{seat.path}/code")).ok()
        for update in document["updates"]:
            editor.doc.apply_update(base64.b64decode(update))
        editor.known = editor.doc.get_state()
        return editor

    def write(self, at: int, insert: str, delete: int = 0) -> None:
        text = str(self.text)
        start, stop = len(text[:at].encode()), len(text[: at + delete].encode())
        with self.doc.transaction():
            del self.text[start:stop]
            self.text.insert(start, insert)

    async def send(self) -> None:
        """Send the updates that the session lacks, and wait for the answer."""
        await self.talk.do("merge_code", update=base64.b64encode(self.doc.get_update(self.known)).decode())
        self.known = self.doc.get_state()

    def reconnect(self, talk: Talk) -> None:
        """Continue on a new socket."""
        self.talk, self._heard = talk, 0

    def hear(self) -> None:
        """Apply the received updates."""
        for frame in self.talk.seen[self._heard :]:
            if frame.event == "code_merged":
                self.doc.apply_update(base64.b64decode(frame.data["update"]))
        self._heard = len(self.talk.seen)

    async def until(self, version: int) -> str:
        """Read until the code has this version; return the text."""
        while not any(f.event == "code_merged" and f.data["version"] >= version for f in self.talk.seen):
            await self.talk.next()
        self.hear()
        return str(self.text)
