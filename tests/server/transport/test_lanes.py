"""The fast lane and aiohttp on one connection: every request is answered, in order, whichever of the two takes it."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from server.api.routes import DirectCommandRoute
from server.transport.fast_lane import fast_routes
from server.v1.table import API
from tests.support.client import PATIENCE_S, Seat
from tests.support.serving import Town, read_answer, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

BROWSER = (
    "Origin: http://127.0.0.1:8080", "Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors",
    'Sec-CH-UA: "Chromium";v="150"', "Cookie: theme=dark", "Priority: u=1, i", "DNT: 1",
)  # fmt: skip
PROXY = (
    "X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: school.example",
    "X-Real-IP: 203.0.113.9", "Via: 1.1 proxy", "Forwarded: for=203.0.113.9",
    "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)  # fmt: skip


def post(seat: Seat, text: str, *lines: str) -> bytes:
    body = json.dumps({"type": "send_message", "text": text}).encode()
    return head("POST", f"{seat.path}/commands", seat, f"Content-Length: {len(body)}", *lines) + body


def get(seat: Seat, path: str = "/v1/me", *lines: str) -> bytes:
    return head("GET", path, seat, *lines)


def head(method: str, path: str, seat: Seat, *lines: str) -> bytes:
    fixed = (f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {seat.person.token}")
    return "\r\n".join((*fixed, *lines, "", "")).encode()


def numbered(seat: Seat, kind: str, number: int) -> bytes:
    """Return a request whose answer contains the number: for the fast lane, or for aiohttp, also chunked."""
    body = json.dumps({"type": "send_message", "text": str(number)}).encode()
    return {
        "fast": post(seat, str(number)),
        "odd": post(seat, str(number), "X-Odd: 1"),
        "get": get(seat, f"/v1/sessions?limit={number + 1}"),
        "chunked": head("POST", f"{seat.path}/commands", seat, "Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    }[kind]


class Connection:
    """One connection that sends requests byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self._writer.write(part)
            await self._writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(PATIENCE_S):
            return await read_answer(self._reader)

    async def ask(self, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
        await self.send(*parts)
        return await self.answer()

    def close(self) -> None:
        self._writer.close()


async def connected(town: Town) -> Connection:
    return Connection(*await town.open_socket())


def way(headers: dict[str, str]) -> str:
    """Return who answered: only aiohttp sends a `Server` header."""
    return "aiohttp" if "server" in headers else "fast"


async def test_a_connection_is_fast_again_after_other_requests(town: Town) -> None:
    """Browsers and proxies use each connection for all kinds of requests."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    ways = []
    for number in range(3):
        status, headers, _ = await connection.ask(get(host))
        ways.append((status, way(headers)))
        for text in (f"{number}a", f"{number}b"):
            status, headers, body = await connection.ask(post(host, text))
            ways.append((status, way(headers)))
            assert json.loads(body)["events"][0]["text"] == text
    connection.close()
    assert ways == [(200, "aiohttp"), (200, "fast"), (200, "fast")] * 3


async def test_a_connection_in_use_is_not_idle_whichever_way_its_requests_go(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"keepalive_s": 0.6}) as town:
        host, *_ = await town.classroom()
        connection = await connected(town)
        await connection.ask(get(host))
        ends = asyncio.get_running_loop().time() + 1.3
        while asyncio.get_running_loop().time() < ends:
            status, headers, _ = await connection.ask(post(host, "still here"))
            assert (status, way(headers)) == (200, "fast")
        # Then it is idle, and closed.
        with pytest.raises(asyncio.IncompleteReadError):
            await connection.answer()
        connection.close()


async def test_only_direct_commands_have_a_fast_lane(town: Town) -> None:
    services = town.server.services
    assert [lane.route for lane in fast_routes((API,), services)] == ["/v1/sessions/{ref}/commands"]
    others = tuple(row for row in API.rows if not isinstance(row, DirectCommandRoute))
    assert fast_routes((structs.replace(API, rows=others),), services) == ()


async def test_headers_of_browsers_and_proxies_are_not_unusual(town: Town) -> None:
    host, *_ = await town.classroom()
    connection = await connected(town)
    for lines in (BROWSER, PROXY, BROWSER + PROXY):
        status, headers, _ = await connection.ask(post(host, "hello", *lines))
        assert (status, way(headers)) == (200, "fast"), lines
    _, headers, _ = await connection.ask(post(host, "hello", "X-Odd: 1"))
    assert way(headers) == "aiohttp"
    connection.close()


@pytest.mark.parametrize("lines", [
    ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"),
    ("Connection: upgrade", "Upgrade: websocket"),
])  # fmt: skip
async def test_an_offer_to_upgrade_is_ignored(town: Town, lines: tuple[str, ...]) -> None:
    """Java's HTTP client and `curl --http2` offer it with their first request."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    status, _, body = await connection.ask(post(host, "hello", *lines))
    connection.close()
    assert (status, json.loads(body)["events"][0]["text"]) == (200, "hello")


@pytest.mark.parametrize("origins", [("https://school.example",), ("*",), ()])
async def test_both_ways_send_the_same_cors_headers(dsn: str, data: Path, origins: tuple[str, ...]) -> None:
    async with serving(dsn, data, server={"cors_origins": origins}) as town:
        host, *_ = await town.classroom()
        connection = await connected(town)
        for lines in ((), ("Origin: https://school.example",), ("Origin: https://other.example",), ("Origin: ",)):
            said = []
            for odd in ((), ("X-Odd: 1",)):
                _, headers, _ = await connection.ask(post(host, "hello", *lines, *odd))
                cors = {name for name in headers if name.startswith("access-control-")} | {"vary"}
                said.append((way(headers), {name: headers.get(name) for name in cors}))
            assert [way for way, _ in said] == ["fast", "aiohttp"]
            assert said[0][1] == said[1][1], lines
        connection.close()


@pytest.mark.parametrize("key", [(), ("Idempotency-Key: " + "k" * 65,)])
@pytest.mark.parametrize("body", [b"{", b"{}", b'{"type": "raise_hand"}'])
async def test_both_ways_report_the_same_of_several_errors(town: Town, body: bytes, key: tuple[str, ...]) -> None:
    """A token for another session, and a body or key that is not valid: the steps are taken in the same order."""
    host, *_ = await town.classroom()
    other, *_ = await town.classroom()
    token = (await host.person.post(f"{host.path}/tokens")).ok(201)["token"]
    await other.do("raise_hand")
    lines = (f"POST {other.path}/commands HTTP/1.1", "Host: x", f"Authorization: Bearer {token}")
    connection, said = await connected(town), []
    # After the first request the token is cached.
    for odd in (("X-Odd: 1",), (), ("X-Odd: 1",)):
        head = "\r\n".join((*lines, f"Content-Length: {len(body)}", *key, *odd, "", "")).encode()
        status, headers, answer = await connection.ask(head + body)
        said.append((way(headers), status, json.loads(answer)["reason"]))
    connection.close()
    assert [way for way, *_ in said] == ["aiohttp", "fast", "aiohttp"]
    assert said[1][1:] == said[2][1:]


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(("fast", "odd", "get", "chunked")), min_size=1, max_size=30),
    cuts=st.lists(st.tuples(st.sampled_from((1, 7, 60, 200, 1_000)), st.sampled_from((0, 0, 1, 20))), max_size=60),
)
async def test_answers_come_in_order_however_requests_are_cut(
    town: Town, kinds: list[str], cuts: list[tuple[int, int]]
) -> None:
    """Requests of both ways, pipelined. `cuts`: the size of each part, and the turns of the loop after it."""
    host, *_ = await town.classroom()
    sent = b"".join(numbered(host, kind, number) for number, kind in enumerate(kinds))
    connection = await connected(town)

    async def send() -> None:
        at = 0
        for size, turns in cuts:
            await connection.send(sent[at : at + size])
            at += size
            for _ in range(turns):
                await asyncio.sleep(0)
        await connection.send(sent[at:])

    sending = asyncio.create_task(send())
    for number, kind in enumerate(kinds):
        status, _, body = await connection.answer()
        assert status == 200, body
        if kind == "get":
            assert "items" in json.loads(body)
        else:
            assert json.loads(body)["events"][0]["text"] == str(number)
    await sending
    connection.close()


@pytest.mark.parametrize("length", ["Content-Length: {}", "Transfer-Encoding: chunked"])
async def test_a_body_is_never_read_as_a_command(town: Town, length: str) -> None:
    """A body that contains a command arrives where a connection of aiohttp's could become fast again."""
    host, *_ = await town.classroom()
    inner = post(host, "smuggled")
    framed = inner if "{" in length else b"%x\r\n%b\r\n" % (len(inner), inner) + b"0\r\n\r\n"
    outer = head("POST", "/v1/sessions", host, length.format(len(inner)))
    connection = await connected(town)
    await connection.ask(get(host))
    # The head alone goes first: its answer has to wait for the body.
    status, headers, _ = await connection.ask(outer, framed)
    assert (status, way(headers)) == (400, "aiohttp")
    assert (await connection.ask(get(host)))[0] == 200
    connection.close()
    assert await host.log(type="chat_message") == []


async def test_half_a_head_is_never_continued_as_another_request(town: Town) -> None:
    """When half a head has arrived after a complete request, the next bytes belong to that head."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    half = b"GET /v1/me HTTP/1.1\r\nX-Text: "
    await connection.ask(get(host) + half)
    status, headers, _ = await connection.ask(post(host, "smuggled"))
    assert (status, way(headers)) == (200, "aiohttp")
    assert (await connection.ask(get(host)))[0] == 200
    connection.close()
    assert await host.log(type="chat_message") == []


async def test_a_quick_answer_waits_for_a_slow_one_before_it(town: Town) -> None:
    host, *_ = await town.classroom()
    connection = await connected(town)
    body = b'{"type":"dance"}'
    refused = head("POST", f"{host.path}/commands", host, f"Content-Length: {len(body)}") + body
    for _ in range(10):
        # Separately, so that the second arrives while the first is being answered.
        await connection.send(get(host, "/v1/sessions"))
        for _ in range(5):
            await asyncio.sleep(0)
        await connection.send(refused)
        assert [(await connection.answer())[0] for _ in range(2)] == [200, 422]
    connection.close()


async def test_a_body_may_come_after_its_head(town: Town) -> None:
    """Many clients send it so, on new connections and on used ones."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    for _ in range(2):
        request = post(host, "in two parts")
        middle = request.index(b"\r\n\r\n") + 4
        await connection.send(request[:middle])
        for _ in range(5):
            await asyncio.sleep(0)
        status, headers, _ = await connection.ask(request[middle:])
        assert (status, way(headers)) == (200, "fast")
        await connection.ask(get(host))
    connection.close()


@pytest.mark.parametrize("before", ["nothing", "something else"])
async def test_a_late_body_is_refused_with_an_answer(dsn: str, data: Path, before: str) -> None:
    async with serving(dsn, data, limits={"header_timeout_s": 0.4, "body_timeout_s": 0.5}) as town:
        host, *_ = await town.classroom()
        connection = await connected(town)
        if before == "something else":
            await connection.ask(get(host))
        status, headers, _ = await connection.ask(post(host, "late")[:-5])
        assert (status, way(headers)) == (408, "aiohttp")
        connection.close()


async def test_a_slow_reader_gets_every_answer(town: Town) -> None:
    """The server stops reading when too many answers wait, and goes on when they have been read."""
    host, *_ = await town.classroom()
    connection = Connection(*await town.open_socket(receive_buffer=4_096))
    await connection.ask(get(host))
    body = b'{"type":"dance"}'
    one = head("POST", f"{host.path}/commands", host, f"Content-Length: {len(body)}") + body
    count = 8_000
    sending = asyncio.create_task(connection.send(*[one * 200] * (count // 200), get(host)))
    for _ in range(count):
        assert (await connection.answer())[0] == 422
    assert (await connection.answer())[0] == 200
    await sending
    connection.close()


CHUNKED = b"2\r\n{}\r\n0;last\r\n\r\n"


@pytest.mark.parametrize("after", [b"", b"HELLO\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize("kind", ["command", "get", "chunked"])
async def test_the_last_request_of_a_connection_is_answered_whatever_follows(
    town: Town, kind: str, after: bytes
) -> None:
    """Bytes that arrive together with `Connection: close` and follow it are ignored."""
    host, *_ = await town.classroom()
    last = "Connection: close"
    sent, status = {
        "command": (post(host, "goodbye", last), 200),
        "get": (get(host, "/v1/me", last), 200),
        "chunked": (head("POST", f"{host.path}/commands", host, last, "Transfer-Encoding: chunked") + CHUNKED, 422),
    }[kind]
    connection = await connected(town)
    # Before it: one request that has been answered, and one that has not.
    await connection.ask(get(host))
    assert (await connection.ask(get(host) + sent + after))[0] == 200
    answered, headers, _ = await connection.answer()
    assert (answered, headers["connection"]) == (status, "close")
    with pytest.raises(asyncio.IncompleteReadError, match="0 bytes read"):
        await connection.answer()
    connection.close()
    assert len(await host.log(type="chat_message")) == (kind == "command")


async def test_bytes_that_are_not_a_request_affect_no_request_before_them(town: Town) -> None:
    """Requests that arrive together with them are answered."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    assert (await connection.ask(get(host) + post(host, "odd", "X-Odd: 1") + b"HELLO\r\n\r\n"))[0] == 200
    assert [(await connection.answer())[0] for _ in range(2)] == [200, 400]
    connection.close()


async def test_a_request_without_a_host_is_not_for_the_fast_lane(town: Town) -> None:
    host, *_ = await town.classroom()
    connection = await connected(town)
    request = post(host, "hello")
    status, headers, _ = await connection.ask(request)
    assert (status, way(headers)) == (200, "fast")
    status, headers, body = await connection.ask(request.replace(b"Host: x\r\n", b""))
    assert (status, way(headers)) == (400, "aiohttp"), body
    connection.close()
