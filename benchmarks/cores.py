"""Who runs on which core, and what it used there. Linux only: /proc and affinity.

The server has a core of its own; the generator has the other one, and the database may use both.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORES = {CORES[0]}
LOAD_CORES = {CORES[-1]}
DATABASE_CORES = {"server": SERVER_CORES, "load": LOAD_CORES, "both": SERVER_CORES | LOAD_CORES}

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """Processes started in here run on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """List a process and all below it."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for path in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            children[int(_stat(int(path.name))[1])].append(int(path.name))
    found = [pid]
    for parent in found:
        found += children[parent]
    return found


def cpu_s(pid: int) -> float:
    """Say how much CPU a process has used, all its threads together, and the children that it has outlived."""
    return sum(int(ticks) for ticks in _stat(pid)[11:15]) * _TICK_S


def idle_s(cores: set[int]) -> float:
    """Say for how long, since the machine started, nobody has used these cores."""
    lines = (line.split() for line in (_PROC / "stat").read_text().splitlines())
    ticks = {words[0]: int(words[4]) + int(words[5]) for words in lines if words[0].startswith("cpu")}
    return sum(ticks[f"cpu{core}"] for core in cores) * _TICK_S


def rss_kib(pid: int) -> int:
    """Say how much memory of a process is resident."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _stat(pid: int) -> list[str]:
    """Read a process's figures, from its state (the third in proc(5)) on."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
