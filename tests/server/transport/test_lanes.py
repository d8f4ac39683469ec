"""The fast lane and aiohttp on one connection: each request has its answer, in order, whichever way it went."""

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
    """Return a request of which the answer shows the number: by one way, by the other, or by the other in chunks."""
    body = json.dumps({"type": "send_message", "text": str(number)}).encode()
    return {
        "fast": post(seat, str(number)),
        "odd": post(seat, str(number), "X-Odd: 1"),
        "get": get(seat, f"/v1/sessions?limit={number + 1}"),
        "chunked": head("POST", f"{seat.path}/commands", seat, "Transfer-Encoding: chunked")
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body),
    }[kind]


class Connection:
    """One connection, on which requests are sent as they are."""

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
    """Say which way an answer came: only the fast lane names no server."""
    return "aiohttp" if "server" in headers else "fast"


async def test_a_connection_that_has_done_something_else_is_fast_again(town: Town) -> None:
    """As a browser's, or a proxy's, which ask for this and that on each."""
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
        # And then it is.
        with pytest.raises(asyncio.IncompleteReadError):
            await connection.answer()
        connection.close()


async def test_only_a_row_of_commands_as_they_are_sent_has_a_fast_lane(town: Town) -> None:
    services = town.server.services
    assert [lane.route for lane in fast_routes((API,), services)] == ["/v1/sessions/{ref}/commands"]
    others = tuple(row for row in API.rows if not isinstance(row, DirectCommandRoute))
    assert fast_routes((structs.replace(API, rows=others),), services) == ()


async def test_what_browsers_and_proxies_add_is_nothing_unusual(town: Town) -> None:
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
async def test_who_offers_another_protocol_is_answered_in_this_one(town: Town, lines: tuple[str, ...]) -> None:
    """As Java's HTTP client and `curl --http2` do with their first request."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    status, _, body = await connection.ask(post(host, "hello", *lines))
    connection.close()
    assert (status, json.loads(body)["events"][0]["text"]) == (200, "hello")


@pytest.mark.parametrize("origins", [("https://school.example",), ("*",), ()])
async def test_pages_from_elsewhere_are_told_the_same_either_way(
    dsn: str, data: Path, origins: tuple[str, ...]
) -> None:
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
async def test_of_several_mistakes_the_same_one_is_told_either_way(
    town: Town, body: bytes, key: tuple[str, ...]
) -> None:
    """A token for another session, with what cannot be read: the steps are taken in the same order."""
    host, *_ = await town.classroom()
    other, *_ = await town.classroom()
    token = (await host.person.post(f"{host.path}/tokens")).ok(201)["token"]
    await other.do("raise_hand")
    lines = (f"POST {other.path}/commands HTTP/1.1", "Host: x", f"Authorization: Bearer {token}")
    connection, said = await connected(town), []
    # The first shows the token.
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
    """Requests of both ways, pipelined. `cuts`: the size of each piece, and the turns of the loop after it."""
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
async def test_a_body_is_never_taken_for_a_command(town: Town, length: str) -> None:
    """A command within a body, where a connection that aiohttp has would be looked at again if it were a request."""
    host, *_ = await town.classroom()
    inner = post(host, "smuggled")
    framed = inner if "{" in length else b"%x\r\n%b\r\n" % (len(inner), inner) + b"0\r\n\r\n"
    outer = head("POST", "/v1/sessions", host, length.format(len(inner)))
    connection = await connected(town)
    await connection.ask(get(host))
    # The head alone first: its answer has to wait for the body.
    status, headers, _ = await connection.ask(outer, framed)
    assert (status, way(headers)) == (400, "aiohttp")
    assert (await connection.ask(get(host)))[0] == 200
    connection.close()
    assert await host.log(type="chat_message") == []


async def test_half_a_request_is_never_gone_on_with_as_another(town: Town) -> None:
    """What comes after half a head, that came with something whole, is the rest of it, whatever it looks like."""
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
        # In pieces of their own, so that the second comes while the first is being worked on.
        await connection.send(get(host, "/v1/sessions"))
        for _ in range(5):
            await asyncio.sleep(0)
        await connection.send(refused)
        assert [(await connection.answer())[0] for _ in range(2)] == [200, 422]
    connection.close()


async def test_a_body_may_come_after_its_head(town: Town) -> None:
    """As many clients send it, on a connection that has done something else as on a new one."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    for _ in range(2):
        request = post(host, "in two pieces")
        middle = request.index(b"\r\n\r\n") + 4
        await connection.send(request[:middle])
        for _ in range(5):
            await asyncio.sleep(0)
        status, headers, _ = await connection.ask(request[middle:])
        assert (status, way(headers)) == (200, "fast")
        await connection.ask(get(host))
    connection.close()


@pytest.mark.parametrize("before", ["nothing", "something else"])
async def test_a_body_that_is_late_has_an_answer_all_the_same(dsn: str, data: Path, before: str) -> None:
    async with serving(dsn, data, limits={"header_timeout_s": 0.4, "body_timeout_s": 0.5}) as town:
        host, *_ = await town.classroom()
        connection = await connected(town)
        if before == "something else":
            await connection.ask(get(host))
        status, headers, _ = await connection.ask(post(host, "late")[:-5])
        assert (status, way(headers)) == (408, "aiohttp")
        connection.close()


async def test_who_reads_slowly_gets_every_answer(town: Town) -> None:
    """More than is held for a reader: the server stops reading, and goes on when its answers have been read."""
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
async def test_the_last_request_of_a_connection_is_answered_whatever_comes_after_it(
    town: Town, kind: str, after: bytes
) -> None:
    """In one piece: what follows `Connection: close` is not looked at."""
    host, *_ = await town.classroom()
    last = "Connection: close"
    sent, status = {
        "command": (post(host, "goodbye", last), 200),
        "get": (get(host, "/v1/me", last), 200),
        "chunked": (head("POST", f"{host.path}/commands", host, last, "Transfer-Encoding: chunked") + CHUNKED, 422),
    }[kind]
    connection = await connected(town)
    # With one before it that was answered, and one that was not.
    await connection.ask(get(host))
    assert (await connection.ask(get(host) + sent + after))[0] == 200
    answered, headers, _ = await connection.answer()
    assert (answered, headers["connection"]) == (status, "close")
    with pytest.raises(asyncio.IncompleteReadError, match="0 bytes read"):
        await connection.answer()
    connection.close()
    assert len(await host.log(type="chat_message")) == (kind == "command")


async def test_what_is_no_request_costs_only_itself(town: Town) -> None:
    """What came before it, in the same piece, has its answer."""
    host, *_ = await town.classroom()
    connection = await connected(town)
    assert (await connection.ask(get(host) + post(host, "odd", "X-Odd: 1") + b"HELLO\r\n\r\n"))[0] == 200
    assert [(await connection.answer())[0] for _ in range(2)] == [200, 400]
    connection.close()
