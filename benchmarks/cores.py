"""Assign processes to cores and read what they used. Linux only: /proc and affinity.

The server runs on the first core and the generator on the last. The database may use both.
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
    """Run processes that are started in this context on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(pid: int) -> list[int]:
    """Return the ids of a process and all its descendants."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for path in _PROC.glob("[0-9]*"):
        with suppress(OSError):  # the process has just ended
            children[int(_stat(int(path.name))[1])].append(int(path.name))
    pids = [pid]
    for parent in pids:
        pids += children[parent]
    return pids


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, with all its threads and the children that have ended."""
    return sum(int(ticks) for ticks in _stat(pid)[11:15]) * _TICK_S


def idle_s(cores: set[int]) -> float:
    """Return for how many seconds since the machine's start these cores have been idle, in total."""
    lines = (line.split() for line in (_PROC / "stat").read_text().splitlines())
    ticks = {words[0]: int(words[4]) + int(words[5]) for words in lines if words[0].startswith("cpu")}
    return sum(ticks[f"cpu{core}"] for core in cores) * _TICK_S


def rss_kib(pid: int) -> int:
    """Return the resident memory of a process in KiB."""
    for line in (_PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third, the state, on (see proc(5))."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
