"""The duration of a WebM file, a format that mutagen does not know."""

import struct
from collections.abc import Iterator

from server.usecases.audio.budgeted_file import BudgetedFile

SEGMENT, INFO, CLUSTER, GROUP = 0x18538067, 0x1549A966, 0x1F43B675, 0xA0
SCALE, DURATION, TIMESTAMP, BLOCK, SIMPLE_BLOCK = 0x2AD7B1, 0x4489, 0xE7, 0xA1, 0xA3
CONTAINERS = frozenset({SEGMENT, INFO, CLUSTER, GROUP})
UNKNOWN_SIZE = -1


def duration(file: BudgetedFile) -> float:
    """Return the duration in seconds. Recorders that stream write none: then it is the time of the last block."""
    scale, cluster, last = 1_000_000, 0, 0
    for kind, size in elements(file):
        if kind == SCALE:
            scale = int.from_bytes(file.read(min(size, 8)))
        elif kind == DURATION:
            length: float = struct.unpack({4: ">f", 8: ">d"}[size], file.read(size))[0]
            return length * scale / 1e9
        elif kind == TIMESTAMP:
            cluster = int.from_bytes(file.read(min(size, 8)))
        elif kind in (BLOCK, SIMPLE_BLOCK):
            # One byte is the track's number, up to 127. Two are the time relative to the cluster.
            last = max(last, cluster + int.from_bytes(file.read(3)[1:], signed=True))
    return last * scale / 1e9


def elements(file: BudgetedFile) -> Iterator[tuple[int, int]]:
    """Yield the kind and the size of each element, in order, including those inside containers. The caller may read any
    part of an element before it asks for the next."""
    while (kind := number(file, keep_marker=True)) is not None:
        size = number(file)
        if kind in CONTAINERS:
            continue
        if size is None or size == UNKNOWN_SIZE:
            return
        start = file.tell()
        yield kind, size
        file.seek(start + size)


def number(file: BudgetedFile, *, keep_marker: bool = False) -> int | None:
    """Return the next EBML number of variable length, or None at the end. With `keep_marker`, its length marker is
    included, as in the ids of elements."""
    head = file.read(1)
    if not head or not head[0]:
        return None
    length = 9 - head[0].bit_length()
    rest = file.read(length - 1) if length > 1 else b""
    value = int.from_bytes(head + rest)
    if keep_marker:
        return value
    value &= (1 << 7 * length) - 1
    return UNKNOWN_SIZE if value == (1 << 7 * length) - 1 else value
