"""Every row of every dialect with a valid request, generated from the tables, so that new rows are included."""

import asyncio
import json
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct, structs

from server.api.dialect import Dialect
from server.api.routes import HookRoute, MessageSocketRoute, Row, StreamRoute, UploadRoute
from server.dialects import tables
from server.settings.sections import Settings
from tests.support.client import PATIENCE_S, Client, Reply

NOBODY = "01990000-0000-7000-8000-000000000000"
DIALECTS = {dialect.name: dialect for dialect in tables(Settings())}
ROWS: dict[str, tuple[Dialect, Row]] = {
    f"{dialect.name} {row.method} {row.path}": (dialect, row)
    for dialect in DIALECTS.values()
    for row in dialect.rows
    if not isinstance(row, HookRoute)
}
SOCKETS = {name: (dialect, row) for name, (dialect, row) in ROWS.items() if isinstance(row, MessageSocketRoute)}
PRIVATE = [name for name, (_, row) in ROWS.items() if not row.public]
PUBLIC = [name for name in ROWS if name not in PRIVATE]
OF_A_SESSION = [name for name, (_, row) in ROWS.items() if "{ref}" in row.path]
WITH_A_BODY = [name for name, (_, row) in ROWS.items() if row.body is not None]
CANDIDATES: tuple[Any, ...] = (
    "correct horse",
    NOBODY,
    "2030-05-01T10:00:00Z",
    "tess@example.org",
    "+4915112345678",
    1,
    1.0,
    True,
    {},
    [],
)
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x.mp3"\r\n\r\nno sound\r\n--b--\r\n'
LASTING = [name for name, (_, row) in ROWS.items() if not row.path.endswith("/logout")]
"""Rows after which one's token is still good."""
STATED = {
    "live GET /sessions/{ref}": "Session not found",
    "live POST /sessions/{ref}/token": "Failed to get session token",
}
"""Where the contract says 500 for a session that is not there, and with which words."""
UPGRADE = {
    "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


def sample(type_: Any, name: str = "") -> Any:
    """Return a valid value of a type; of a Struct, with all fields."""
    if isinstance(type_, type) and issubclass(type_, Struct):
        return {field.encode_name: sample(field.type, field.name) for field in structs.fields(type_)}
    candidates = [*literals(type_), *CANDIDATES]
    if name.endswith("id"):
        candidates.insert(0, NOBODY)
    if name.startswith("end"):
        candidates.insert(0, "2030-05-01T11:00:00Z")
    for candidate in candidates:
        try:
            msgspec.convert(candidate, type_)
        except msgspec.ValidationError:
            continue
        return candidate
    raise AssertionError(f"no candidate is a {type_}, as {name} has to be")


def literals(type_: Any) -> Iterator[Any]:
    for inner in typing.get_args(type_):
        if typing.get_origin(type_) is typing.Literal:
            yield inner
        else:
            yield from literals(inner)


def places(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the paths of all values in a body."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield (*place, key)
        yield from places(inner, (*place, key))


def names(row: Row) -> set[str]:
    """Return the parameters of a row's path."""
    return set(re.findall(r"{(\w+)}", row.path))


def put(value: Any, place: tuple[str, ...], new: Any) -> Any:
    """Return a copy of a body with another value at a path."""
    if not place:
        return new
    return {**value, place[0]: put(value.get(place[0], {}), place[1:], new)}


def at(value: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def body_of(row: Row) -> Any:
    return None if row.body is None else sample(row.body)


def nowhere(dialect: Dialect) -> str:
    """Return a valid reference to no session of a dialect."""
    if dialect.reference:
        return "deadbeef"
    return {"number": "99999999", "id": NOBODY, "name": "no-such-session"}[dialect.named]


def path_of(dialect: Dialect, row: Row, ref: str, things: Mapping[str, str] | None = None) -> str:
    """Fill in a path: the session, and the other ids from `things` or unknown ones."""
    given = {"ref": ref, **(things or {})}
    return dialect.prefix + re.sub(r"{(\w+)}", lambda match: given.get(match[1], NOBODY), row.path)


async def send(
    client: Client,
    name: str,
    ref: str,
    body: Any = None,
    *,
    raw: bytes | None = None,
    things: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    slash: bool = False,
) -> Reply:
    """Call a row, by default with a valid body. Only the status of a stream is read.

    A socket that the server closes with a code at once counts as a refusal with the status of that code."""
    dialect, row = ROWS[name]
    path = path_of(dialect, row, ref, things)
    if slash:
        path = path[:-1] if path.endswith("/") else path + "/"
    headers = dict(client.headers)
    if isinstance(row, MessageSocketRoute):
        headers |= UPGRADE
    if raw is None and isinstance(row, UploadRoute):
        raw, headers["Content-Type"] = FILE, "multipart/form-data; boundary=b"
    elif raw is not None or row.body is not None:
        headers["Content-Type"] = "application/json"
        raw = raw if raw is not None else json.dumps(body_of(row) if body is None else body).encode()
    async with (
        asyncio.timeout(PATIENCE_S),
        client.http.request(row.method, client.url + path, data=raw, params=query, headers=headers) as answer,
    ):
        if answer.status != 101:
            endless = answer.status == 200 and isinstance(row, StreamRoute)
            return Reply(answer.status, answer.headers, b"" if endless else await answer.read())
    assert isinstance(row, MessageSocketRoute)
    return await knocked(client, row, path, query)


async def knocked(client: Client, row: MessageSocketRoute, path: str, query: Mapping[str, str] | None) -> Reply:
    """Open a socket; return the status of its close code, or 101."""
    # Several statuses may have one code: take the first.
    statuses = {code: status for status, code in reversed(list(row.refusals.items()))}
    async with (
        asyncio.timeout(PATIENCE_S),
        client.http.ws_connect(client.url + path, params=query, headers=client.headers) as socket,
    ):
        first = await socket.receive() if row.refusals else None
        closed = first is not None and first.type is aiohttp.WSMsgType.CLOSE
        return Reply(statuses[socket.close_code or 0] if closed else 101, {}, b"")


def refused(name: str, reply: Reply, *statuses: int) -> str:
    """Check that an answer is a refusal in its dialect's shape with one of these statuses, if any; return its text."""
    dialect, row = ROWS[name]
    assert 400 <= reply.status < 600, f"{name}: {reply.status}: {reply.body!r}"
    assert not statuses or reply.status in statuses, f"{name}: {reply.status}: {reply.body!r}"
    if isinstance(row, MessageSocketRoute) and not reply.headers:
        return str(reply.status)
    assert reply.headers["Content-Type"].startswith("application/json"), reply.headers
    assert (reply.headers.get("WWW-Authenticate") == "Bearer") == (reply.status == 401), f"{name}: {reply.headers}"
    return SHAPES[dialect.name](reply.status, reply.json)


def fastapi(status: int, said: Any) -> str:
    assert said.keys() == {"detail"}, said
    if status != 422:
        return text(said["detail"])
    for one in said["detail"]:
        assert one.keys() == {"loc", "msg", "type"}
        assert one["loc"][0] in ("body", "query", "path")
    return text(said["detail"][0]["msg"])


def detail(status: int, said: Any) -> str:
    assert said.keys() == {"detail"}, said
    return text(said["detail"])


def both(status: int, said: Any) -> str:
    if isinstance(said, str):  # the contract's form for an unknown session
        return said
    assert said.keys() == {"error", "message"}, said
    return text(said["message"]) and text(said["error"])


def envelope(status: int, said: Any) -> str:
    assert said.keys() == {"success", "error", "code", "detail"}, said
    assert said["success"] is False
    assert said["detail"] == {"success": False, "error": said["error"]}
    assert re.fullmatch("[A-Z_]+", said["code"])
    return text(said["error"])


def text(value: Any) -> str:
    assert isinstance(value, str)
    assert value
    return value


SHAPES = {"tutorium": fastapi, "seeds": fastapi, "lesson": detail, "live": both, "interview": envelope}
