"""Teachers and students as clients of the `seeds` dialect, with phone numbers, numeric ids and forms."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.support import audio_files
from tests.support.client import Client, Reply, Stream
from tests.support.serving import Town

BASE = "/seeds"
PASSWORD = "secret"
_phones = itertools.count(9_000_000_000)
WAV = audio_files.wav(60)
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def phone() -> str:
    """Return an unused phone number."""
    return str(next(_phones))


def detail(reply: Reply, status: int) -> Any:
    """Check the form of a refusal; return its text."""
    assert reply.status == status, f"{reply.status}, not {status}: {reply.body!r}"
    assert reply.json.keys() == {"detail"}
    return reply.json["detail"]


def invalid(reply: Reply) -> tuple[list[str], str]:
    """Return the location and the type of each error in a body or a query."""
    [wrong] = detail(reply, 422)
    assert wrong.keys() == {"loc", "msg", "type"}
    assert wrong["msg"]
    return wrong["loc"], wrong["type"]


class Pupil(Client):
    """A teacher or student with an account here."""

    def __init__(self, town: Town, account: Any, login: Any) -> None:
        super().__init__(town.http, town.url, login["access_token"])
        self.town = town
        self.id: int = account["user_id"]
        self.name: str = account["name"]
        self.phone: str = account["phone_number"]

    async def send(self, path: str, **fields: str) -> Reply:
        """Post a form."""
        form = aiohttp.FormData(fields)
        return await self.call("POST", BASE + path, raw=form, headers=FORM)

    async def upload(self, path: str = "/audio/upload", content: bytes = WAV, **fields: str) -> Reply:
        form = aiohttp.FormData(fields, quote_fields=False)
        form.add_field("file", content, filename="lesson.wav", content_type="audio/wav")
        return await self.call("POST", BASE + path, raw=form)

    async def piece(self, title: str = "A song", **fields: str) -> Any:
        return (await self.upload("/audio/upload", WAV, title=title, **fields)).ok()

    @contextlib.asynccontextmanager
    async def watch(self, number: int, **more: Any) -> AsyncIterator[Stream]:
        async with self.stream(f"{BASE}/sse/sessions/{number}", **more) as stream:
            yield stream


class Lesson:
    """A session, its teacher and one student in it."""

    def __init__(self, town: Town, tess: Pupil, anna: Pupil, made: Any) -> None:
        self.town = town
        self.tess = tess
        self.anna = anna
        self.made = made
        self.number: int = made["session_id"]
        self.path = f"{BASE}/sessions/{self.number}"

    async def join(self, person: Pupil) -> int:
        """Join; return the participant's number."""
        joined: int = (await person.post(f"{self.path}/join")).ok()["participant_id"]
        return joined

    async def act(self, person: Client, type: str, **fields: Any) -> Reply:
        return await person.post(f"{self.path}/action", {"type": type, **fields})

    def rows(self) -> list[tuple[str, int | None, Any]]:
        """Read type, actor and details of the session's rows as an operator does, oldest first."""
        found = self.town.query("select * from logs where session_id = %s", self.number)
        return [(kind, user, details) for _, _, user, kind, details, _ in sorted(found)]

    def types(self) -> list[str]:
        return [kind for kind, _, _ in self.rows()]


async def pupil(town: Town, role: str = "student", name: str = "Anna") -> Pupil:
    number = phone()
    body = {"name": name, "phone_number": number, "password": PASSWORD, "role": role}
    account = (await town.anyone.post(f"{BASE}/auth/register", body)).ok()
    login = (await town.anyone.post(f"{BASE}/auth/login", {"phone_number": number, "password": PASSWORD})).ok()
    return Pupil(town, account, login)


async def lesson(town: Town, *, joined: bool = True, title: str = "Fractions") -> Lesson:
    """Start a session; with `joined`, a student has joined it."""
    tess, anna = await pupil(town, "teacher", "Tess"), await pupil(town)
    made = (await tess.post(f"{BASE}/sessions", {"title": title})).ok()
    room = Lesson(town, tess, anna, made)
    if joined:
        await room.join(anna)
    return room
