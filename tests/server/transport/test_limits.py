"""Limits: too many, too fast, too slow or too large requests are refused, and other clients are served."""

import asyncio
import contextlib
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from server.api.endpoint import within
from server.transport.connection import ConnectionLimit
from tests.support.booking import hour
from tests.support.client import PATIENCE_S, Seat
from tests.support.serving import Town, read_answer, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")
Drain = Callable[[asyncio.StreamWriter], Awaitable[None]]


def head(seat: Seat, *lines: str) -> bytes:
    fixed = f"POST {seat.path}/commands HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {seat.person.token}\r\n"
    return (fixed + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def problem(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    status, headers, body = answer
    assert headers["content-type"].startswith("application/problem+json"), answer
    return status, json.loads(body)["reason"]


async def burst(seat: Seat, count: int) -> list[Any]:
    return await asyncio.gather(*(seat.command("raise_hand") for _ in range(count)))


async def test_a_user_has_a_rate_of_commands(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"user_commands_per_s": 1, "user_burst": 6}) as town:
        host, anna = await town.classroom("Anna")
        replies = await burst(anna, 10)
        # Joining took one.
        assert sorted(reply.status for reply in replies) == [200] * 5 + [429] * 5
        limited = next(reply for reply in replies if reply.status == 429)
        limited.refused(429, "too_fast")
        assert int(limited.headers["Retry-After"]) >= 1
        # Other users are not affected.
        await host.say("hello")


async def test_a_user_has_a_rate_of_reads(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"user_reads_per_s": 1}) as town:
        host, anna = await town.classroom("Anna")
        replies = [await anna.person.get("/v1/me") for _ in range(15)]
        assert [reply.status for reply in replies][:10] == [200] * 10
        replies[-1].refused(429, "too_fast")
        assert int(replies[-1].headers["Retry-After"]) >= 1
        for path in ("/v1/sessions", f"{anna.path}/state", f"{anna.path}/events", "/v1/me/events"):
            (await anna.person.get(path)).refused(429, "too_fast")
        # Other users still read, and commands have a rate of their own.
        (await host.person.get("/v1/me")).ok()
        await anna.do("raise_hand")
        for path in ("/livez", "/readyz", "/metrics", "/", "/openapi.json"):
            assert {(await anna.person.get(path)).status for _ in range(15)} == {200}, path


async def test_callers_without_a_token_are_counted_by_address(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"address_reads_per_s": 1}) as town:
        host, *_ = await town.classroom()
        path = f"{host.path}/events?ticket=x"
        replies = [await town.anyone.get(path) for _ in range(15)]
        assert [reply.status for reply in replies][:10] == [401] * 10
        replies[-1].refused(429, "too_fast")
        (await town.anyone.get("/v1/me/events?ticket=x")).refused(429, "too_fast")
        (await host.person.get("/v1/me")).ok()


async def test_every_route_that_changes_something_counts(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"user_commands_per_s": 1, "user_burst": 3}) as town:
        tess, anna, ben, cem = await town.teacher(), await town.student(), await town.student(), await town.student()
        booking = {"tutor_id": tess.id, "student_id": anna.id, **hour()}
        for person, method, path, body in (
            (tess, "POST", "/v1/sessions", {"title": "x"}),
            (anna, "POST", "/v1/bookings", booking),
            (ben, "PUT", "/v1/me/devices/token", {"platform": "web"}),
            (cem, "POST", "/v1/me/tickets", None),
        ):
            replies = [await person.call(method, path, body) for _ in range(4)]
            assert [reply.status < 300 for reply in replies] == [True] * 3 + [False], path
            replies[-1].refused(429, "too_fast")
            assert (await person.get("/v1/me")).status == 200, "looking does not"


async def test_a_session_has_a_rate_of_commands_and_still_notices_a_departure(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"session_commands_per_s": 8}) as town:
        host, anna = await town.classroom("Anna")
        async with anna.stream() as stream:
            await stream.until("snapshot")
            replies = await burst(anna, 30)
            assert {reply.status for reply in replies} == {200, 429}
            limited = next(reply for reply in replies if reply.status == 429)
            limited.refused(429, "busy")
            assert limited.headers["Retry-After"]
        # Her only stream closed in the middle of that; the session learns of it once it accepts commands again.
        async with asyncio.timeout(PATIENCE_S):
            while (await host.state())["session"]["counts"]["online"]:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.05)


async def test_a_mailbox_holds_a_limited_number_of_commands(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"mailbox": 5}) as town:
        host, anna = await town.classroom("Anna")
        with town.frozen(host):
            waiting = [asyncio.create_task(anna.command("send_message", text=f"{n}")) for n in range(8)]
            async with asyncio.timeout(PATIENCE_S):
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result().refused(429, "busy")
        replies = await asyncio.gather(*waiting)
        accepted = [reply for reply in replies if reply.status == 200]
        assert 0 < len(accepted) < 8
        assert len(await host.log(type="chat_message")) == len(accepted)


async def test_the_queue_of_the_log_holds_a_limited_number_of_rows(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"log_queue_rows": 3}) as town:
        host, anna = await town.classroom("Anna")
        with town.frozen(host):
            waiting = []
            for number in range(6):
                waiting.append(asyncio.create_task(anna.command("send_message", text=f"{number}")))
                await asyncio.sleep(0.01)
        replies = await asyncio.gather(*waiting)
        accepted = [reply for reply in replies if reply.status == 200]
        assert 0 < len(accepted) < 6
        assert len(await host.log(type="chat_message")) == len(accepted)
        refused = next(reply for reply in replies if reply.status != 200)
        refused.refused(503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1


async def test_guessing_codes_is_slow_by_every_route(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"join_attempts_per_minute": 4}) as town:
        host, anna = await town.classroom("Anna")
        guesses = ["AAAAA2", "AAAAA3"]
        for guess in guesses:
            (await anna.person.post("/v1/sessions/join", {"code": guess})).refused(404, "unknown_session")
        for path in ("state", "events"):
            (await anna.person.get(f"/v1/sessions/AAAAA4/{path}")).refused(404, "unknown_session")
        for path in ("", "/state", "/events", "/log"):
            limited = await anna.person.get(f"/v1/sessions/AAAAA5{path}")
            limited.refused(429, "too_fast")
            assert int(limited.headers["Retry-After"]) >= 1
        (await anna.person.post("/v1/sessions/join", {"code": "AAAAA6"})).refused(429, "too_fast")
        # Another account from the same address does not help. Valid codes still work.
        ben = (await town.student("Ben")).at(host)
        (await ben.person.post("/v1/sessions/join", {"code": "AAAAA7"})).refused(429, "too_fast")
        await ben.join()


async def test_bodies_have_a_maximum_size(town: Town) -> None:
    host, *_ = await town.classroom()
    body = json.dumps({"type": "send_message", "text": "x" * 65_536}).encode()
    large = await host.person.call("POST", f"{host.path}/commands", raw=body)
    large.refused(413, "too_large")

    async def parts() -> Any:
        for start in range(0, len(body), 8_192):
            yield body[start : start + 8_192]

    (await host.person.call("POST", f"{host.path}/commands", raw=parts())).refused(413, "too_large")
    just = b'{"type":"signal","to":"%b","payload":"' % host.user_id.encode()
    just += b"x" * (65_536 - len(just) - 2) + b'"}'
    assert len(just) == 65_536
    (await host.person.call("POST", f"{host.path}/commands", raw=just)).refused(413, "too_large", "payload")
    announced = await town.exchange(head(host, "Content-Length: 99999999"))
    assert problem(announced) == (413, "too_large")


async def test_encoded_bodies_are_refused(town: Town) -> None:
    host, *_ = await town.classroom()
    body = b'{"type":"lock"}'
    for encoding, encoded in (
        ("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("x-unknown", body), ("br", body),
        ("identity\r\nContent-Encoding: gzip", body), ("identity, gzip", gzip.compress(body)),
        ("identity\r\nContent-Encoding: gzip", gzip.compress(body)), ("zstd", body), ("", body),
    ):  # fmt: skip
        lines = f"Content-Encoding: {encoding}", f"Content-Length: {len(encoded)}"
        assert problem(await town.exchange(head(host, *lines) + encoded)) == (415, "unsupported_encoding"), encoding
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    packed = await town.exchange(head(host, "Transfer-Encoding: gzip, chunked") + chunked)
    assert problem(packed) == (415, "unsupported_encoding")
    for encoding in ("identity", "Identity"):
        plain = head(host, f"Content-Encoding: {encoding}", f"Content-Length: {len(body)}") + body
        assert (await town.exchange(plain))[0] == 200


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/audio"])
async def test_a_body_that_continues_as_something_else_is_refused_at_once(town: Town, path: str) -> None:
    host, *_ = await town.classroom()
    lines = "Transfer-Encoding: chunked", "Content-Type: multipart/form-data; boundary=b"
    sent = head(host, *lines).replace(f"{host.path}/commands".encode(), path.encode())
    reader, writer = await town.open_socket()
    writer.write(sent + b"5\r\n--b\r\n\r\n")
    for _ in range(20):
        await asyncio.sleep(0)
    writer.write(b"no chunk\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert problem(await read_answer(reader)) == (400, "malformed")
        assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", ["/v1/me", "/nowhere", "/seeds/nowhere", "/livez"])
async def test_an_unknown_expectation_is_refused(town: Town, path: str) -> None:
    host, *_ = await town.classroom()
    sent = head(host, "Expect: miracles").replace(f"POST {host.path}/commands".encode(), f"GET {path}".encode())
    answer = await town.exchange(sent)
    assert problem(answer) == (417, "expectation_failed")
    assert answer[1]["x-content-type-options"] == "nosniff"
    assert answer[1]["x-request-id"]
    body = b'{"type":"raise_hand"}'
    reader, writer = await town.open_socket()
    writer.write(head(host, f"Content-Length: {len(body)}", "Expect: 100-continue"))
    async with asyncio.timeout(PATIENCE_S):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await read_answer(reader))[0] == 200
    writer.close()


async def test_a_body_has_to_arrive_in_time(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"body_timeout_s": 0.3, "header_timeout_s": 0.4}) as town:
        host, *_ = await town.classroom()
        slow = await town.exchange(head(host, "Content-Length: 15") + b'{"type":')
        assert problem(slow) == (408, "too_slow")
        # The same for a request that is not for the fast lane.
        slow = await town.exchange(head(host, "Content-Length: 15", "X-Other: 1") + b'{"type":')
        assert problem(slow) == (408, "too_slow")
        slow = await town.exchange(head(host, "Transfer-Encoding: chunked") + b"8\r\n{")
        assert problem(slow) == (408, "too_slow")
        await host.say("others are served")


async def test_a_head_has_to_arrive_in_time(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"header_timeout_s": 0.4}) as town:
        for sent in (b"", b"GET /liv", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow"):
            reader, writer = await town.open_socket()
            writer.write(sent)
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
            writer.close()
        # So does the next one, on a connection that has had an answer.
        reader, writer = await town.open_socket()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            assert (await read_answer(reader))[0] == 200
            writer.write(b"GET /liv")
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("drip", [b"", b"x"])
async def test_a_head_that_aiohttp_has_has_to_arrive_in_time(dsn: str, data: Path, drip: bytes) -> None:
    """It began in the same part as a complete request, so that the gate handed both over."""
    async with serving(dsn, data, limits={"header_timeout_s": 0.4, "keepalive_s": 0.6}) as town:
        reader, writer = await town.open_socket()
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\nGET /livez HTTP/1.1\r\nX-Slow: ")

        async def send() -> None:
            while drip:
                writer.write(drip)
                await asyncio.sleep(0.1)

        sending = asyncio.create_task(send())
        async with asyncio.timeout(PATIENCE_S):
            assert (await read_answer(reader))[0] == 200
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        sending.cancel()
        writer.close()


async def test_heads_have_a_maximum_size(town: Town) -> None:
    for lines in (
        "X-Large: " + "x" * 20_000,
        "\r\n".join(f"X-{number}: {'y' * 500}" for number in range(100)),
    ):
        answer = await town.exchange(f"GET /livez HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n".encode())
        assert answer[0] in (400, 431), answer
    long_path = await town.exchange(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert long_path[0] in (400, 414, 431), long_path
    endless_reader, endless = await town.open_socket()
    endless.write(b"GET /livez HTTP/1.1\r\n" + b"X-Endless: " + b"x" * 100_000)
    async with asyncio.timeout(PATIENCE_S):
        status, *_ = await read_answer(endless_reader)
    assert status in (400, 431)
    endless.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer a\x00b\r\n\r\n",
    ],
)
async def test_bytes_that_are_not_a_request_are_refused(
    town: Town, sent: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    status, headers, body = await town.exchange(sent)
    assert 400 <= status < 500
    assert b"Traceback" not in body
    assert headers["content-type"].startswith("application/problem+json"), body
    assert headers["server"] == "Homeroom"
    assert headers["x-request-id"]
    assert "Bearer" not in capfd.readouterr().err


async def test_two_requests_are_never_read_as_one_nor_one_as_two(town: Town) -> None:
    """Request smuggling: the fast lane and aiohttp agree on where a body ends."""
    host, *_ = await town.classroom()
    body = b'{"type":"send_message","text":"one"}'
    inner = head(host, "Content-Length: 15") + b'{"type":"lock"}'
    reader, writer = await town.open_socket()
    writer.write(
        head(host, f"Content-Length: {len(body)}") + body + inner + head(host, "Content-Length: 0", "X-Odd: 1")
    )
    async with asyncio.timeout(PATIENCE_S):
        statuses = [(await read_answer(reader))[0] for _ in range(3)]
    assert statuses == [200, 200, 400]
    writer.close()
    both = await town.exchange(head(host, f"Content-Length: {len(body)}", "Transfer-Encoding: chunked") + b"0\r\n\r\n")
    assert both[0] == 400
    assert len(await host.log(type="chat_message")) == 1


async def test_pipelined_commands_are_answered_in_order(town: Town) -> None:
    host, *_ = await town.classroom()
    reader, writer = await town.open_socket()
    bodies = [json.dumps({"type": "send_message", "text": f"{number}"}).encode() for number in range(20)]
    sent = b"".join(
        head(host, f"Content-Length: {len(body)}", *(["X-Odd: 1"] if number == 11 else [])) + body
        for number, body in enumerate(bodies)
    )
    for start in range(0, len(sent), 1_000):
        writer.write(sent[start : start + 1_000])
        await writer.drain()
    async with asyncio.timeout(PATIENCE_S):
        answers = [json.loads((await read_answer(reader))[2]) for _ in bodies]
    assert [answer["events"][0]["text"] for answer in answers] == [f"{number}" for number in range(20)]
    writer.close()


READ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"


async def flooded(town: Town, host: Seat, before: str, drain: Drain) -> int:
    """Send commands (or reads, as `before` says) without reading any answer. Return how many bytes, at most 64 MB.

    `drain` waits until there is room for more, and raises if there will be none."""
    reader, writer = await town.open_socket(receive_buffer=4_096)
    if before == "something else":
        writer.write(READ)
        assert (await read_answer(reader))[0] == 200
    body = b'{"type":"dance"}'
    one = READ if before == "reads" else head(host, f"Content-Length: {len(body)}") + body
    many = one * 200
    sent = 0
    try:
        with contextlib.suppress(TimeoutError, ConnectionError):
            while sent < 64_000_000:
                writer.write(many)
                sent += len(many)
                await drain(writer)
    finally:
        writer.transport.abort()
    return sent


@pytest.mark.parametrize("before", ["nothing", "something else", "reads"])
async def test_a_client_that_does_not_read_is_not_read_from(town: Town, before: str) -> None:
    host, *_ = await town.classroom()

    async def soon(writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(1):
            await writer.drain()

    sent = await flooded(town, host, before, soon)
    # The kernel buffers a few megabytes for both sides; the server itself has stopped reading.
    assert sent < 32_000_000
    await host.say("others are served")


async def test_a_client_that_sends_thousands_of_commands_delays_nobody(town: Town) -> None:
    host, *_ = await town.classroom()
    reader, writer = await town.open_socket()
    body = b'{"type":"dance"}'
    one = head(host, f"Content-Length: {len(body)}") + body
    count, answers = 4_000, 0

    async def read() -> None:
        nonlocal answers
        while answers < count:
            assert (await read_answer(reader))[0] == 422
            answers += 1

    async with asyncio.timeout(PATIENCE_S):
        writer.write(one * count)
        reading = asyncio.create_task(read())
        await wait_for(lambda: answers > 0)
        (await town.anyone.get("/livez")).ok()
        meanwhile = answers
        await reading
    writer.close()
    assert meanwhile < count / 8, "each turn of the loop answers a few of them, and the other request took few turns"


@pytest.mark.parametrize("before", ["nothing", "something else", "reads"])
async def test_a_client_that_never_reads_is_disconnected(dsn: str, data: Path, before: str) -> None:
    async with serving(dsn, data, limits={"header_timeout_s": 0.4, "keepalive_s": 0.5}) as town:
        host, *_ = await town.classroom()
        async with asyncio.timeout(PATIENCE_S):
            assert await flooded(town, host, before, asyncio.StreamWriter.drain) < 32_000_000


async def test_a_stream_that_has_ended_does_not_wait_for_a_client_that_does_not_read(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"keepalive_s": 0.3}, streams={"send_buffer_bytes": 4_096}) as town:
        host, anna = await town.classroom("Anna")
        _, writer = await town.open_socket(receive_buffer=4_096)
        lines = f"GET {anna.path}/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {anna.person.token}\r\n\r\n"
        writer.write(lines.encode())
        await wait_for(lambda: len(town.server.services.hub) == 1)
        cast(asyncio.Transport, writer.transport).pause_reading()
        for _ in range(20):
            await host.say("x" * 2_000)
        await host.do("kick", user_id=anna.user_id)

        def gone() -> bool:
            writer.write(b" ")  # a client that does not read notices only when it writes
            return writer.transport.is_closing()

        await wait_for(gone)


async def test_commands_are_not_read_far_ahead_of_their_answers(town: Town) -> None:
    host, *_ = await town.classroom()
    reader, writer = await town.open_socket()
    body = b'{"type":"raise_hand"}'
    one = head(host, f"Content-Length: {len(body)}") + body
    sent = 0

    async def send() -> None:
        nonlocal sent
        while True:
            writer.write(one * 200)
            sent += 200 * len(one)
            await writer.drain()

    sending = asyncio.create_task(send())
    count = 1_000
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(count):
            assert (await read_answer(reader))[0] == 200
    sending.cancel()
    writer.transport.abort()
    # The kernel buffers a few megabytes for both sides.
    assert sent - count * len(one) < 16_000_000


async def test_an_address_has_a_limited_number_of_connections(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"connections_per_ip": 3}) as town:
        open_ = [await town.open_socket() for _ in range(3)]
        answer = await town.exchange(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert problem(answer) == (429, "too_many_connections")
        assert int(answer[1]["retry-after"]) >= 1
        for _, writer in open_:
            writer.close()
        async with asyncio.timeout(PATIENCE_S):
            while (await town.exchange(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))[0] != 200:  # noqa: ASYNC110 - it has no event
                await asyncio.sleep(0.01)


async def test_a_trusted_proxy_has_as_many_connections_as_it_needs(dsn: str, data: Path) -> None:
    server = {"trusted_proxies": ("127.0.0.0/8",)}
    async with serving(dsn, data, limits={"connections_per_ip": 2}, server=server) as town:
        open_ = [await town.open_socket() for _ in range(6)]
        assert (await town.exchange(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 200
        for _, writer in open_:
            writer.close()


async def test_forwarded_for_counts_only_from_a_trusted_proxy(dsn: str, data: Path) -> None:
    async with serving(dsn, data, auth={"address_attempts_per_minute": 2}) as town:
        statuses = []
        for number in range(3):
            body = {"email": f"nobody-{number}@example.org", "password": "x" * 8}
            spoofed = {"X-Forwarded-For": f"203.0.113.{number}"}
            statuses.append((await town.anyone.post("/v1/auth/login", body, **spoofed)).status)
        assert statuses == [401, 401, 429]


async def test_the_last_address_is_the_proxy_s(dsn: str, data: Path) -> None:
    """Addresses from the client precede the one that the proxy appends, on the same line or on a line of its own."""
    server = {"trusted_proxies": ("127.0.0.1",)}
    async with serving(dsn, data, auth={"address_attempts_per_minute": 2}, server=server) as town:
        statuses = []
        for number, spoofed in enumerate(
            ("198.51.100.1, 203.0.113.9", "198.51.100.2\r\nX-Forwarded-For: 203.0.113.9") * 2
        ):
            body = json.dumps({"email": f"nobody-{number}@example.org", "password": "x" * 8}).encode()
            lines = f"Host: x\r\nX-Forwarded-For: {spoofed}\r\nContent-Length: {len(body)}\r\n\r\n"
            statuses.append((await town.exchange(f"POST /v1/auth/login HTTP/1.1\r\n{lines}".encode() + body))[0])
        assert statuses == [401, 401, 429, 429]


async def test_a_user_has_a_limited_number_of_streams(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"streams_per_user": 2}) as town:
        host, anna = await town.classroom("Anna")
        async with anna.stream() as one, anna.stream() as two:
            await one.until("snapshot")
            await two.until("snapshot")
            refused = await anna.person.get(f"{anna.path}/events")
            refused.refused(429, "too_many_streams")
            assert int(refused.headers["Retry-After"]) >= 1
            async with host.stream() as hers:
                await hers.until("snapshot")
        await wait_for(lambda: len(town.server.services.hub) == 0)
        async with anna.stream() as again:
            await again.until("snapshot")


async def test_connections_of_an_ipv6_network_count_together() -> None:
    limit = ConnectionLimit(2, within(["2001:db8:9::/48"]))
    assert [limit.enter(f"2001:db8:1:2::{number}") for number in range(3)] == [True, True, False]
    assert limit.enter("2001:db8:1:3::1")
    limit.leave("2001:db8:1:2::7")
    assert limit.enter("2001:db8:1:2::8")
    assert all(limit.enter("2001:db8:9::1") for _ in range(5)), "a trusted proxy has no limit"
