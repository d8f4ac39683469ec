"""A lesson's room, its tutor and its student, as clients of the `lesson` dialect."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from tests.support.booking import book
from tests.support.client import PATIENCE_S, Person, Reply
from tests.support.serving import Town

NOBODY = "01990000-0000-7000-8000-000000000000"


class Talk:
    """An open socket."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self.seen: list[Any] = []

    async def next(self) -> Any:
        """Return the next frame; None: the server has closed."""
        async with asyncio.timeout(PATIENCE_S):
            message = await self.ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        frame = message.json()
        assert frame.keys() == {"type", "data"}
        self.seen.append(frame)
        return frame

    async def until(self, kind: str) -> Any:
        """Read up to a frame of this type; return it."""
        while (frame := await self.next()) is not None:
            if frame["type"] == kind:
                return frame
        raise AssertionError(f"closed with {self.ws.close_code} after {[frame['type'] for frame in self.seen]}")

    async def closed(self) -> int | None:
        """Read to the end; return the code."""
        while await self.next() is not None:
            pass
        return self.ws.close_code

    async def send(self, kind: str, data: Any = None) -> None:
        await self.ws.send_json({"type": kind, "data": {} if data is None else data})


class Classroom:
    """A booking with its session."""

    def __init__(self, town: Town, tess: Person, anna: Person, booking: Any, session_id: str) -> None:
        self.town = town
        self.tess = tess
        self.anna = anna
        self.booking = booking
        self.id = session_id
        self.path = f"/lesson/api/v1/classroom/sessions/{session_id}"

    @staticmethod
    def refused(reply: Reply, status: int, text: str | None = None) -> None:
        """Check that an answer is a refusal in the dialect's form."""
        assert reply.status == status, f"{reply.status}, not {status}: {reply.body!r}"
        assert reply.json.keys() == {"detail"}
        assert isinstance(reply.json["detail"], str)
        assert reply.json["detail"]
        assert text is None or reply.json["detail"] == text

    async def classroom(self, person: Person) -> Any:
        return (await person.get(f"/lesson/api/v1/bookings/{self.booking['id']}/")).ok()["classroom"]

    def types(self) -> list[str]:
        """Return the types of the log's rows, without presence."""
        rows = self.town.query("select type from session_log where session_id = %s order by seq", self.id)
        return [kind for (kind,) in rows if kind not in ("participant_online", "participant_offline")]

    async def token(self, person: Person) -> str:
        token: str = (await person.post(f"{self.path}/jwt/")).ok()["token"]
        return token

    @contextlib.asynccontextmanager
    async def talk(self, person: Person, *, token: str | None = None, slash: str = "/") -> AsyncIterator[Talk]:
        """Open the socket as the contract says, with the session's token."""
        async with self.connected(await self.token(person) if token is None else token, slash) as talk:
            yield talk

    @contextlib.asynccontextmanager
    async def connected(self, token: str, slash: str = "/") -> AsyncIterator[Talk]:
        url = f"{self.town.url}/lesson/ws/classroom/{self.id}{slash}"
        async with self.town.http.ws_connect(url, params={"token": token}) as ws:
            yield Talk(ws)


async def opened(town: Town, *, joined: bool = False, times: Mapping[str, str] | None = None) -> Classroom:
    """Book a lesson, by default one that begins now, and open its classroom; with `joined`, both have joined."""
    tess, anna = await town.teacher("Tess"), await town.student("Anna")
    booking = await book(tess, anna, title="Fractions", **(times or {}))
    made = (await tess.post(f"/lesson/api/v1/bookings/{booking['id']}/classroom/")).ok()
    room = Classroom(town, tess, anna, booking, made["session_id"])
    if joined:
        for person in (tess, anna):
            await room.token(person)
    return room
