"""The duration of a fragmented MP4, from its samples. Its header says 0, and each fragment states how long its samples
are.
"""

from collections.abc import Iterator

from server.usecases.audio.budgeted_file import BudgetedFile

CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf"})
READ = frozenset({b"tkhd", b"mdhd", b"hdlr", b"stts", b"trex", b"tfhd", b"trun"})
BOXES_MOST = 200_000
SAMPLES_MOST = 10_000_000


def duration(file: BudgetedFile) -> float | None:
    """Return the duration of the first sound track in seconds, by its samples in all fragments, or None if it has no
    samples or too many."""
    track = scale = sound = None
    defaults: dict[int, int] = {}
    current, each, total, samples = 0, 0, 0, 0
    for name, body in boxes(file):
        if name == b"tkhd":
            track = integer(body, 20 if body[:1] == b"\1" else 12)
        elif name == b"mdhd":
            scale = integer(body, 20 if body[:1] == b"\1" else 12)
        elif name == b"hdlr" and body[8:12] == b"soun" and sound is None and track and scale:
            sound = track, scale
        elif name == b"stts" and sound is not None and track == sound[0]:
            # The samples before the first fragment. A row has a number of samples and the duration of each.
            rows = body[8 : 8 + 8 * integer(body, 4)]
            total += sum(integer(rows, row) * integer(rows, row + 4) for row in range(0, len(rows), 8))
        elif name == b"trex":
            defaults[integer(body, 4)] = integer(body, 12)
        elif name == b"tfhd":
            flags, current = integer(body, 0) & 0xFFFFFF, integer(body, 4)
            at = 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2)
            each = integer(body, at) if flags & 8 else defaults.get(current, 0)
        elif name == b"trun" and sound is not None and current == sound[0]:
            flags, count = integer(body, 0) & 0xFFFFFF, integer(body, 4)
            samples += count
            if samples > SAMPLES_MOST:
                return None
            total += durations(body, flags, count) if flags & 0x100 else each * count
    return total / sound[1] if sound is not None and total else None


def durations(body: bytes, flags: int, count: int) -> int:
    """Return the sum of the durations in a `trun`. It has a row of 1 to 4 numbers for each sample."""
    row = 4 * sum(bool(flags & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    start = 8 + 4 * bool(flags & 1) + 4 * bool(flags & 4)
    rows = body[start : start + row * count]
    return sum(int.from_bytes(rows[at : at + 4]) for at in range(0, len(rows), row))


def integer(body: bytes, at: int) -> int:
    """Return the 32-bit number at an offset."""
    return int.from_bytes(body[at : at + 4])


def boxes(file: BudgetedFile) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name and the body of each box that `duration` reads, in order, including those inside containers."""
    end, at = file.seek(0, 2), 0
    for _ in range(BOXES_MOST):
        if at + 8 > end:
            return
        file.seek(at)
        head = file.read(8)
        size, name, header = integer(head, 0), head[4:], 8
        if size == 1:
            size, header = int.from_bytes(file.read(8)), 16
        elif size == 0:
            size = end - at
        if name in CONTAINERS:
            at += header
            continue
        if size < header:
            return
        if name in READ:
            yield name, file.read(min(size - header, end - at - header))
        at += size
