"""Control the load generator: write its plan, start it, and read its result."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import msgspec
from msgspec import Struct

from benchmarks.cores import LOAD_CORES, pinned

HERE = Path(__file__).parent
STAMP = "~" + "0" * 19
"""The generator replaces this by the time at which the message was due. It counts deliveries by the `~`."""
TEXT = STAMP + " The derivative of a product is not the product of the derivatives; see page 42."


class LoadError(Exception):
    """The generator failed. The message is its own, usually the server's answer."""


class Room(Struct, frozen=True):
    """The HTTP requests of the clients of one room. Streams and publishers use them in turn."""

    subscribe: list[bytes]
    publish: list[bytes]


class Latency(Struct, frozen=True):
    """Percentiles in milliseconds."""

    p50: float
    p99: float
    max: float


class Counted(Struct, frozen=True):
    """The generator's result: for the measured seconds, and from `drain_s` on for the whole run."""

    seconds: float
    acked: int
    delivered: int
    load_cpu_s: float
    post_ms: Latency
    delivery_ms: Latency
    drain_s: float
    """The seconds from the last post to the last delivery."""
    streams: int
    streams_wrong: int
    """The number of streams that did not receive exactly the acknowledged messages."""
    streams_lost: int
    missing: int
    unanswered: int

    def problems(self) -> list[str]:
        """Return texts about messages that were lost, repeated or refused, and streams that were closed."""
        problems = []
        if self.streams_wrong or self.missing:
            problems.append(f"{self.streams_wrong} of {self.streams} streams wrong, {self.missing} deliveries missing")
        if self.streams_lost:
            problems.append(f"{self.streams_lost} streams cut off")
        if self.unanswered:
            problems.append(f"{self.unanswered} posts unanswered")
        return problems


def plan(rooms: Sequence[Room], *, subscribers: int, publishers: int) -> bytes:
    """Return the generator's input: `subscribers` streams for each room, and the rooms distributed over `publishers`.

    With more publishers than rooms, several post to one room.
    """
    lines = []
    for number, room in enumerate(rooms):
        requests = islice(cycle(room.subscribe), subscribers)
        lines += [b"S %d %d\n%b\n" % (number, len(request), request) for request in requests]
    for index in range(max(publishers, len(rooms)) if publishers else 0):
        number, publisher = index % len(rooms), index % publishers
        posts = rooms[number].publish
        request = posts[publisher % len(posts)]
        lines.append(b"P %d %d %d\n%b\n" % (number, len(request), publisher, request))
    return b"".join(lines) + b".\n"


def build(directory: Path, *, python: bool = False) -> list[str]:
    """Compile the generator into a directory and return its command; without a compiler, that of the Python version."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if python or compiler is None:
        return [sys.executable, "-m", "benchmarks.load_fallback"]
    program = directory / "load"
    subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "load.c")], check=True)
    return [str(program)]


class Load:
    """A running generator. On entry its streams are open; `run` posts, and can be called once."""

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        plan: bytes,
        *,
        warm_up_s: float,
        seconds: float,
        per_s: float | None = None,
    ) -> None:
        interval_ns = round(1e9 / per_s) if per_s else 0
        self._command = [*command, str(port), str(warm_up_s), str(seconds), str(interval_ns)]
        self._plan = plan

    def __enter__(self) -> Self:
        with pinned(LOAD_CORES):
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        self._tell(self._plan)
        self._expect(b"ready\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        self._process.communicate()

    def run(self, watch: Callable[[], None]) -> Counted:
        """Post according to the plan. Call `watch` at the beginning and at the end of the measured seconds.

        Raise LoadError if the generator fails."""
        self._tell(b"go\n")
        for word in (b"start\n", b"stop\n"):
            self._expect(word)
            watch()
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise LoadError(self._why())
        return msgspec.json.decode(line, type=Counted)

    def _tell(self, words: bytes) -> None:
        pipe = _pipe(self._process.stdin)
        try:
            pipe.write(words)
            pipe.flush()
        except BrokenPipeError as error:
            raise LoadError(self._why()) from error

    def _expect(self, word: bytes) -> None:
        if _pipe(self._process.stdout).readline() != word:
            raise LoadError(self._why())

    def _why(self) -> str:
        return _pipe(self._process.stderr).read().decode(errors="replace").strip()[-2000:]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
