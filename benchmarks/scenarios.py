"""The scenarios: the load, which is the same for each server, and the figures that are computed from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, Self

from benchmarks import restore
from benchmarks.cores import SERVER_CORES, idle_s
from benchmarks.load import Counted, Load, plan
from benchmarks.servers import Homeroom, Server

STREAMING = ("homeroom", "fastapi", "aiohttp-sse", "nchan")
Figures = dict[str, float]
DISTURBED = 0.1
SATURATED = 0.9


@dataclass(frozen=True)
class Size:
    """Durations and counts. Short runs give less accurate rates, and small counts less accurate memory figures."""

    warm_up_s: float
    seconds: float
    idle_subscribers: int
    idle_sessions: int
    growth: Sequence[int]


FULL = Size(1.0, 5.0, 5_000, 10_000, (1, 10, 100, 1_000, 10_000))
QUICK = Size(0.5, 2.0, 1_000, 1_000, (1, 10, 100, 1_000))


class Used(NamedTuple):
    """CPU seconds up to a moment, and the seconds in which the server's core was idle."""

    server: float
    database: float
    idle: float

    @classmethod
    def by(cls, server: Server) -> Self:
        return cls(server.cpu_s(), server.database_cpu_s(), idle_s(SERVER_CORES))


@dataclass(frozen=True)
class Measured:
    """One run of the generator, with the CPU that the server and its database used in the measured seconds."""

    counted: Counted
    used: Used

    def doubts(self) -> list[str]:
        """Return the reasons why the figures may be wrong."""
        doubts = []
        # A lower bound: the database may have used the other core.
        others = 1 - sum(self.used) / self.counted.seconds
        if others > DISTURBED:
            doubts.append(f"other processes used {others:.0%} of the server's core")
        if self.counted.load_cpu_s > SATURATED * self.counted.seconds:
            doubts.append("the generator was the bottleneck")
        return doubts

    def per(self, count: int) -> Figures:
        """Return the CPU in µs per item of `count`, and the use of the server's core in per cent."""
        return {
            "cpu_us": self.used.server * 1e6 / max(count, 1),
            "database_us": self.used.database * 1e6 / max(count, 1),
            "core_busy": 100 * self.used.server / self.counted.seconds,
            "core_idle": 100 * self.used.idle / self.counted.seconds / len(SERVER_CORES),
        }


@dataclass
class Bench:
    """Runs one scenario, and collects problems and doubts about its figures."""

    generator: Sequence[str]
    size: Size
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def load(
        self, server: Server, *, rooms: int = 1, subscribers: int = 0, publishers: int, per_s: float | None = None
    ) -> Measured:
        """Run the generator in a closed loop, or with `per_s` posts a second of all publishers together."""
        layout = plan(server.rooms(rooms), subscribers=subscribers, publishers=publishers)
        used: list[Used] = []
        size = self.size
        with Load(
            self.generator, server.port, layout, warm_up_s=size.warm_up_s, seconds=size.seconds, per_s=per_s
        ) as load:
            counted = load.run(lambda: used.append(Used.by(server)))
        self.problems += counted.problems()
        start, end = used
        measured = Measured(counted, Used(*(after - before for before, after in zip(start, end, strict=True))))
        self.doubts += measured.doubts()
        return measured


@dataclass(frozen=True)
class Column:
    """A figure. If `better` is set, servers are compared by it."""

    key: str
    title: str
    better: Literal["more", "less"] | None = None


@dataclass(frozen=True)
class Scenario:
    """A scenario: its load, its columns, and the servers that can run it."""

    title: str
    columns: Sequence[Column]
    run: Callable[[Bench, Server], Figures]
    servers: Sequence[str] = STREAMING


CPU = (
    Column("cpu_us", "CPU µs each", "less"),
    Column("database_us", "database µs"),
    Column("core_busy", "core busy %"),
    Column("core_idle", "idle %"),
)


def fan_out(bench: Bench, server: Server) -> Figures:
    """Run scenario A."""
    measured = bench.load(server, subscribers=1_000, publishers=8)
    counted = measured.counted
    return {
        "deliveries_per_s": counted.delivered / counted.seconds,
        "delivery_p99_ms": counted.delivery_ms.p99,
        **measured.per(counted.delivered),
    }


def many_rooms(bench: Bench, server: Server) -> Figures:
    """Run scenario B."""
    measured = bench.load(server, rooms=100, subscribers=10, publishers=16)
    counted = measured.counted
    return {
        "events_per_s": counted.acked / counted.seconds,
        "delivery_p99_ms": counted.delivery_ms.p99,
        **measured.per(counted.acked),
    }


def latency(bench: Bench, server: Server) -> Figures:
    """Run scenario C."""
    measured = bench.load(server, subscribers=1_000, publishers=8, per_s=20)
    counted = measured.counted
    return {
        "delivery_p50_ms": counted.delivery_ms.p50,
        "delivery_p99_ms": counted.delivery_ms.p99,
        **measured.per(counted.delivered),
    }


def idle_subscribers(bench: Bench, server: Server) -> Figures:
    """Run scenario D."""
    count = bench.size.idle_subscribers
    # The first hundred make the server load code and fill pools, which is no cost of a subscriber.
    (room,) = server.rooms(1)
    first, rest = (plan([room], subscribers=subscribers, publishers=0) for subscribers in (100, count))
    with Load(bench.generator, server.port, first, warm_up_s=0, seconds=0):
        before = server.rss_kib()
        with Load(bench.generator, server.port, rest, warm_up_s=0, seconds=0):
            return {"kib": (server.rss_kib() - before) / count}


def posts(bench: Bench, server: Server) -> Figures:
    """Run scenario E."""
    measured = bench.load(server, publishers=64)
    counted = measured.counted
    per_s = counted.acked / counted.seconds
    half = bench.load(server, publishers=64, per_s=per_s / 2).counted
    return {
        "posts_per_s": per_s,
        "post_p99_ms": counted.post_ms.p99,
        "half_load_p99_ms": half.post_ms.p99,
        **measured.per(counted.acked),
    }


def idle_sessions(bench: Bench, server: Server) -> Figures:
    """Run scenario S."""
    assert isinstance(server, Homeroom)
    count = bench.size.idle_sessions
    server.idle_sessions(100)
    before = server.rss_kib()
    server.idle_sessions(count)
    return {"kib": (server.rss_kib() - before) / count}


def restoring(bench: Bench, server: Server) -> Figures:
    """Run scenario R."""
    assert isinstance(server, Homeroom)
    return restore.measure(server)


def growth(bench: Bench, server: Server) -> Figures:
    """Run scenario G: the CPU of a delivery by the number of subscribers in one room, and of rooms with one each."""
    figures = {}
    bench.size = replace(bench.size, seconds=min(bench.size.seconds, 2.0))
    for count in bench.size.growth:
        measured = bench.load(server, subscribers=count, publishers=8)
        figures[f"subscribers_{count}"] = measured.per(measured.counted.delivered)["cpu_us"]
    for count in bench.size.growth:
        measured = bench.load(server, rooms=count, subscribers=1, publishers=16)
        figures[f"rooms_{count}"] = measured.per(measured.counted.delivered)["cpu_us"]
    return figures


SCENARIOS: Mapping[str, Scenario] = {
    "A": Scenario(
        "one session, 1,000 subscribers, 8 publishers in a closed loop",
        (Column("deliveries_per_s", "deliveries/s", "more"), Column("delivery_p99_ms", "p99 ms"), *CPU),
        fan_out,
    ),
    "B": Scenario(
        "100 sessions of 10 subscribers, 16 publishers in a closed loop",
        (Column("events_per_s", "events/s", "more"), Column("delivery_p99_ms", "p99 ms"), *CPU),
        many_rooms,
    ),
    "C": Scenario(
        "one session, 1,000 subscribers, 20 events/s",
        (Column("delivery_p50_ms", "p50 ms", "less"), Column("delivery_p99_ms", "p99 ms", "less"), *CPU),
        latency,
    ),
    "D": Scenario("idle subscribers", (Column("kib", "KiB each", "less"),), idle_subscribers),
    "E": Scenario(
        "posts on 64 connections, no subscribers",
        (
            Column("posts_per_s", "posts/s", "more"),
            Column("post_p99_ms", "p99 ms"),
            Column("half_load_p99_ms", "p99 ms at half load", "less"),
            *CPU,
        ),
        posts,
        (*STREAMING, "fastapi-sql"),
    ),
    "S": Scenario("idle live sessions", (Column("kib", "KiB each"),), idle_sessions, ("homeroom",)),
    "R": Scenario(
        f"restore of a session with {restore.EVENTS:,} events, to the first command answered",
        (
            Column("snapshot_ms", "ms from snapshot"),
            Column("log_ms", "from log alone"),
            Column("warm_ms", "when in memory"),
            Column("snapshot_kib", "snapshot KiB"),
            Column("encode_ms", "encode ms"),
            Column("decode_ms", "decode ms"),
            Column("tail_ms", "tail ms"),
        ),
        restoring,
        ("homeroom",),
    ),
    "G": Scenario(
        "growth: CPU µs of a delivery, by subscribers in one room, and by rooms of one subscriber",
        tuple(Column(f"{of}_{count}", f"{count:,} {of}") for of in ("subscribers", "rooms") for count in FULL.growth),
        growth,
        ("homeroom",),
    ),
}
