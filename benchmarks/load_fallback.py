"""The load generator in Python, for machines without a C compiler. Its input and output are those of `load.c`.

It verifies deliveries in the same way. It needs three times the CPU and can become the bottleneck.
"""

import asyncio
import re
import resource
import sys
import time
from collections.abc import Callable
from typing import NoReturn, cast

import msgspec
import uvloop

from benchmarks.load import Counted, Latency

CONNECTING = 64
QUIET_S = 0.3
OPEN_WITHIN_S = 60.0
DRAIN_WITHIN_S = 20.0
DIGITS = 19
STAMPS = re.compile(rb"~(\d{19})")
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def die(reason: str) -> NoReturn:
    """Print the reason and exit."""
    sys.stderr.write(reason + "\n")
    sys.stderr.flush()
    sys.exit(1)


class Stream(asyncio.Protocol):
    """One subscriber: reads the headers, then counts stamps."""

    def __init__(self, run: "Run", room: int, request: bytes) -> None:
        self.run, self.room, self.request = run, room, request
        self.count = self.sum = 0
        self.tail = b""
        self.ready = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self.request)

    def data_received(self, data: bytes) -> None:
        run = self.run
        run.last_input = time.monotonic()
        if not self.ready.done():
            self.tail += data
            if b"\r\n\r\n" in self.tail:
                if self.tail[8:10] != b" 2":
                    run.fail(self.tail)
                self.tail = b""
                self.ready.set_result(None)
            return
        data = self.tail + data
        last = data.rfind(b"~")
        cut = 0 <= len(data) - last <= DIGITS and last >= 0
        data, self.tail = (data[:last], data[last:]) if cut else (data, b"")
        stamps = [int(stamp) for stamp in STAMPS.findall(data)]
        self.count += len(stamps)
        self.sum += sum(stamps)
        run.delivered += len(stamps)
        if run.measuring and stamps:
            now = time.monotonic_ns()
            run.delays.extend([now - stamp for stamp in stamps])

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.run.fail(b"a stream was closed before it opened")
        self.run.lost += 1


class Publisher(asyncio.Protocol):
    """One client that posts and waits for the whole answer."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.requests: list[tuple[int, bytes, bytes]] = []
        self.next = 0
        self.due = 0
        self.answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)

    def post(self, due: int) -> None:
        self.due = due
        _, head, rest = self.requests[self.next]
        self.transport.write(b"%b~%019d%b" % (head, due, rest))

    def data_received(self, data: bytes) -> None:
        self.answer += data
        head, end, body = self.answer.partition(b"\r\n\r\n")
        if not end:
            return
        length = LENGTH.search(head)
        if head[8:10] != b" 2" or length is None:
            self.run.fail(self.answer)
        if len(body) < int(length[1]):
            return
        self.answer = b""
        room = self.requests[self.next][0]
        self.next = (self.next + 1) % len(self.requests)
        self.run.answered(self, room)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.run.over:
            self.run.fail(b"the server closed the connection of a publisher")


class Run:
    """The state of a run: idle publishers, and counts of acknowledged and delivered messages."""

    def __init__(self, port: int, warm_up_s: float, seconds: float, interval_ns: int) -> None:
        self.port, self.warm_up_s, self.seconds, self.interval_ns = port, warm_up_s, seconds, interval_ns
        self.streams: list[Stream] = []
        self.publishers: dict[int, Publisher] = {}
        self.idle: list[Publisher] = []
        self.acked: dict[int, tuple[int, int]] = {}
        self.listeners: dict[int, int] = {}
        self.acks = self.delivered = self.expected = self.lost = self.due = 0
        self.last_input = 0.0
        self.publishing = self.measuring = self.over = self.waiting = False
        self.posts: list[int] = []
        self.delays: list[int] = []
        self.failed = asyncio.get_running_loop().create_future()

    def fail(self, answer: bytes) -> NoReturn:
        if not self.failed.done():
            self.failed.set_result(f"the server answered:\n{answer.decode(errors='replace')}")
        raise ConnectionAbortedError

    def read_plan(self) -> None:
        plan = sys.stdin.buffer
        while (line := plan.readline().split()) and line[0] != b".":
            room, request = int(line[1]), plan.read(int(line[2]))
            plan.read(1)
            if line[0] == b"S":
                self.streams.append(Stream(self, room, request))
                self.listeners[room] = self.listeners.get(room, 0) + 1
            else:
                head, _, rest = request.partition(b"~")
                publisher = self.publishers.setdefault(int(line[3]), Publisher(self))
                publisher.requests.append((room, head, rest[DIGITS:]))

    async def connect(self, protocol: asyncio.Protocol) -> None:
        await asyncio.get_running_loop().create_connection(lambda: protocol, "127.0.0.1", self.port)

    async def open_streams(self) -> None:
        turns = asyncio.Semaphore(CONNECTING)

        async def open_one(stream: Stream) -> None:
            async with turns:
                await self.connect(stream)
                await stream.ready

        async with asyncio.timeout(OPEN_WITHIN_S):
            await asyncio.gather(*map(open_one, self.streams))
            self.last_input = time.monotonic()
            while time.monotonic() < self.last_input + QUIET_S:  # noqa: ASYNC110 - waits for nothing to happen
                await asyncio.sleep(QUIET_S / 10)
        for stream in self.streams:
            stream.count = stream.sum = 0
            stream.tail = b""
        self.delivered = 0

    def answered(self, publisher: Publisher, room: int) -> None:
        count, total = self.acked.get(room, (0, 0))
        self.acked[room] = (count + 1, total + publisher.due)
        self.acks += 1
        self.expected += self.listeners.get(room, 0)
        if self.measuring:
            self.posts.append(time.monotonic_ns() - publisher.due)
        self.idle.append(publisher)
        self.post_what_is_due()

    def post_what_is_due(self) -> None:
        while self.publishing and self.idle:
            now = time.monotonic_ns()
            if self.interval_ns and self.due > now:
                if not self.waiting:
                    self.waiting = True
                    asyncio.get_running_loop().call_later((self.due - now) / 1e9, self.wake)
                return
            self.idle.pop().post(self.due if self.interval_ns else now)
            self.due += self.interval_ns

    def wake(self) -> None:
        self.waiting = False
        self.post_what_is_due()

    async def measure(self) -> Counted:
        for publisher in self.publishers.values():
            await self.connect(publisher)
            self.idle.append(publisher)
        self.publishing, self.due = True, time.monotonic_ns()
        self.post_what_is_due()
        await asyncio.sleep(self.warm_up_s)

        say("start")
        self.measuring = True
        start, cpu, acks, delivered = time.monotonic(), cpu_s(), self.acks, self.delivered
        await asyncio.sleep(self.seconds)
        say("stop")
        self.measuring = self.publishing = False
        stop, cpu, acks, delivered = time.monotonic(), cpu_s() - cpu, self.acks - acks, self.delivered - delivered

        until = stop + DRAIN_WITHIN_S
        while len(self.idle) < len(self.publishers) or self.delivered < self.expected:
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.002)
        self.over = True
        return Counted(
            seconds=stop - start,
            acked=acks,
            delivered=delivered,
            load_cpu_s=cpu,
            post_ms=latency(self.posts),
            delivery_ms=latency(self.delays),
            drain_s=time.monotonic() - stop,
            streams=len(self.streams),
            streams_wrong=sum((s.count, s.sum) != self.acked.get(s.room, (0, 0)) for s in self.streams),
            streams_lost=self.lost,
            missing=self.expected - self.delivered,
            unanswered=len(self.publishers) - len(self.idle),
        )

    async def guarded(self, work: Callable[[], "asyncio.Future[None] | asyncio.Task[None]"]) -> None:
        """Await `work`, or exit if the server refuses a request meanwhile."""
        task = work()
        await asyncio.wait({task, self.failed}, return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            die(self.failed.result())
        await task


def latency(values: list[int]) -> Latency:
    """Return the percentiles of values in nanoseconds."""
    ordered = sorted(values) or [0]
    return Latency(*(ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1e6 for share in (0.5, 0.99, 1)))


def cpu_s() -> float:
    """Return the CPU seconds that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(words: str) -> None:
    """Print a line to the controlling process."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


async def main() -> None:
    """Read the plan, open the streams, and measure after `go`."""
    port, warm_up_s, seconds, interval_ns = sys.argv[1:]
    run = Run(int(port), float(warm_up_s), float(seconds), int(interval_ns))
    run.read_plan()

    async def go() -> None:
        say(msgspec.json.encode(await run.measure()).decode())

    await run.guarded(lambda: asyncio.ensure_future(run.open_streams()))
    say("ready")
    if sys.stdin.buffer.readline() == b"go\n":
        await run.guarded(lambda: asyncio.ensure_future(go()))


if __name__ == "__main__":
    uvloop.run(main())
