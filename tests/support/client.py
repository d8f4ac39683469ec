"""A typed client of `/v1`, so that tests read as scripts: users, participants, and streams of frames.

**Law:** a test waits for a frame or an answer, never for time to pass; what does not come fails after `PATIENCE_S`.
"""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import aiohttp

PATIENCE_S = 8.0
PASSWORD = "correct horse"


@dataclass(frozen=True)
class Reply:
    """A complete answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def ok(self, status: int = 200) -> Any:
        """Return the decoded body of a successful answer."""
        assert self.status == status, f"{self.status}, not {status}: {self.body!r}"
        return json.loads(self.body) if self.body else None

    def refused(self, status: int, reason: str | None = None, field: str | None = None) -> Any:
        """Check the form of a refusal; return its problem."""
        assert self.status == status, f"{self.status}, not {status}: {self.body!r}"
        assert self.headers["Content-Type"].startswith("application/problem+json"), self.headers
        problem = self.json
        assert problem.keys() <= {"type", "title", "status", "detail", "reason", "field", "current"}
        assert problem["status"] == status
        assert problem["type"] == "about:blank"
        assert problem["title"]
        assert problem["detail"]
        if reason is not None:
            assert problem["reason"] == reason, problem
        if field is not None:
            assert problem.get("field") == field, problem
        return problem


@dataclass(frozen=True)
class Frame:
    """One SSE frame. `data` is decoded; `id` is None for frames that are not in the log."""

    id: str | None
    event: str
    data: Any
    retry: int | None = None


class StreamOver(AssertionError):
    """The stream ended before the awaited frame arrived."""


class Stream:
    """An open stream."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.heartbeats = 0
        self.cursor: str | None = None
        """The id of the last frame that had one: what EventSource sends when it comes back."""
        self.seen: list[Frame] = []

    async def next(self) -> Frame:
        """Return the next frame. Raises: StreamOver."""
        id_, event, data, retry = None, None, None, None
        async with asyncio.timeout(PATIENCE_S):
            while line := (await self.response.content.readline()).decode():
                assert line.endswith("\n"), f"cut in the middle of {line!r}"
                name, _, value = line.rstrip("\n").partition(":")
                value = value.removeprefix(" ")
                match name:
                    case "id":
                        id_ = self.cursor = value
                    case "event":
                        event = value
                    case "data":
                        data = value
                    case "retry":
                        retry = int(value)
                    case "":
                        if value:
                            self.heartbeats += 1
                        elif event is not None and data is not None:
                            frame = Frame(id_, event, json.loads(data), retry)
                            self.seen.append(frame)
                            return frame
        raise StreamOver(f"after {[frame.event for frame in self.seen]}")

    async def until(self, event: str, where: Callable[[Any], bool] = lambda data: True) -> Frame:
        """Read up to a frame of this event; return it."""
        while True:
            frame = await self.next()
            if frame.event == event and where(frame.data):
                return frame

    async def rest(self) -> list[Frame]:
        """Read until the server ends the stream; return the frames."""
        start = len(self.seen)
        with contextlib.suppress(StreamOver, aiohttp.ClientPayloadError):
            while True:
                await self.next()
        return self.seen[start:]

    async def bye(self, reason: str) -> list[Frame]:
        """Read to the end, which must be a `bye` with this reason; return the frames before it."""
        frames = await self.rest()
        assert frames, "the stream ended without a bye"
        assert frames[-1].event == "bye", [frame.event for frame in frames]
        assert frames[-1].data["reason"] == reason, frames[-1].data
        return frames[:-1]

    async def beat(self) -> None:
        """Wait for a heartbeat."""
        reader = asyncio.ensure_future(self.next())
        before = self.heartbeats
        async with asyncio.timeout(PATIENCE_S):
            while self.heartbeats == before:
                assert not reader.done(), reader.result()
                await asyncio.sleep(0.005)
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader

    def close(self) -> None:
        """Disconnect without notice, as a closed tab does."""
        self.response.close()

    @property
    def events(self) -> list[str]:
        return [frame.event for frame in self.seen]

    @property
    def texts(self) -> list[str]:
        """The texts of the chat messages received as events."""
        return [frame.data["text"] for frame in self.seen if frame.event == "chat_message"]


class Client:
    """A client with a URL and perhaps a token."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str | None = None) -> None:
        self.http = http
        self.url = url
        self.token = token

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"Authorization": f"Bearer {self.token}"}

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        raw: Any = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        sent = dict(headers or {})
        if self.token is not None:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if body is not None:
            raw = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        async with (
            asyncio.timeout(PATIENCE_S),
            self.http.request(
                method, self.url + path, data=raw, params=params, headers=sent, allow_redirects=False
            ) as response,
        ):
            return Reply(response.status, response.headers, await response.read())

    async def get(self, path: str, **params: str) -> Reply:
        return await self.call("GET", path, params=params)

    async def post(self, path: str, body: object = None, **headers: str) -> Reply:
        return await self.call("POST", path, body, headers=headers)

    async def patch(self, path: str, body: object) -> Reply:
        return await self.call("PATCH", path, body)

    async def delete(self, path: str) -> Reply:
        return await self.call("DELETE", path)

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, *, last_event_id: str | None = None, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stream]:
        """Open a stream, which must succeed."""
        headers = {"Accept": "text/event-stream"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token}"
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = aiohttp.ClientTimeout(total=None)
        async with asyncio.timeout(PATIENCE_S):
            response = await self.http.get(self.url + path, headers=headers, params=params, timeout=timeout)
        try:
            assert response.status == 200, f"{response.status}: {await response.read()!r}"
            assert response.content_type == "text/event-stream"
            yield Stream(response)
        finally:
            response.close()


class Person(Client):
    """A logged-in user."""

    def __init__(self, http: aiohttp.ClientSession, url: str, login: Any, name: str) -> None:
        super().__init__(http, url, login["access_token"])
        self.refresh_token: str = login["refresh_token"]
        self.user: dict[str, Any] = login["user"]
        self.id: str = login["user"]["id"]
        self.email: str | None = login["user"]["email"]
        self.name = name

    @classmethod
    async def register(cls, http: aiohttp.ClientSession, url: str, name: str, email: str, role: str) -> Self:
        body = {"name": name, "email": email, "password": PASSWORD, "role": role}
        return cls(http, url, (await Client(http, url).post("/v1/auth/register", body)).ok(201), name)

    async def log_in_again(self) -> "Person":
        """Log in again, as from another device."""
        body = {"email": self.email, "password": PASSWORD}
        return Person(
            self.http, self.url, (await Client(self.http, self.url).post("/v1/auth/login", body)).ok(), self.name
        )

    async def create(self, **fields: Any) -> "Seat":
        """Create a session; return its owner as a participant."""
        made = (await self.post("/v1/sessions", {"title": "Physics 101", **fields})).ok(201)
        return Seat(self, made)

    def at(self, seat: "Seat") -> "Seat":
        """Return this user in another participant's session; nothing is sent."""
        return Seat(self, seat.session)


class Seat:
    """A user and a session, which most requests concern."""

    def __init__(self, person: Person, session: Any) -> None:
        self.person = person
        self.session = session
        self.id: str = session["id"]
        self.code: str = session["code"]
        self.path = f"/v1/sessions/{self.id}"

    @property
    def user_id(self) -> str:
        return self.person.id

    async def command(self, type: str, *, idempotency_key: str | None = None, **fields: Any) -> Reply:
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        return await self.person.post(f"{self.path}/commands", {"type": type, **fields}, **headers)

    async def do(self, type: str, **fields: Any) -> Any:
        """Send a command that must be committed; return its answer."""
        return (await self.command(type, **fields)).ok()

    async def insist(self, type: str, *, idempotency_key: str | None = None, **fields: Any) -> Any:
        """Send a command repeatedly under one key while the answer is 503."""
        key = idempotency_key or secrets.token_hex(8)
        async with asyncio.timeout(PATIENCE_S):
            while (reply := await self.command(type, idempotency_key=key, **fields)).status == 503:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.02)
        return reply.ok()

    async def say(self, text: str, **fields: Any) -> Any:
        """Send a message; return its event."""
        return (await self.do("send_message", text=text, **fields))["events"][0]

    async def join(self) -> Any:
        return (await self.person.post("/v1/sessions/join", {"code": self.code})).ok()

    async def state(self) -> Any:
        return (await self.person.get(f"{self.path}/state")).ok()

    async def log(self, **params: str) -> list[Any]:
        """Read the whole log, page by page."""
        items: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await self.person.get(f"{self.path}/log", **params, **cursor)).ok()
            items += page["items"]
            if page["next"] is None:
                return items
            cursor = {"cursor": page["next"]}

    def stream(
        self, *, last_event_id: str | None = None, **params: str
    ) -> contextlib.AbstractAsyncContextManager[Stream]:
        return self.person.stream(f"{self.path}/events", last_event_id=last_event_id, params=params)
