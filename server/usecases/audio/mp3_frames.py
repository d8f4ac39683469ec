"""The duration of an MP3, from its frames. Headers that state a length may be absent, or belong to another file."""

from server.usecases.audio.budgeted_file import BudgetedFile

BIT_RATES = {
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""kbit/s of layer III by the header's index minus 1. Key 1 is MPEG 1; key 2 is MPEG 2 and 2.5."""
SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Hz by the header's version (3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5) and index."""
GAP_BYTES = 64 << 10
"""The most junk between two frames. Decoders skip it."""
GAPS_MOST = 16
TRAILERS = (b"TAG", b"APET", b"LYRI")
"""The first bytes of tags that may follow the last frame."""


class Mp3Frame:
    """The header of one frame of layer III: `size` in bytes, number of `samples`, `rate` in samples per second, and the
    length of the `side_info` in bytes."""

    __slots__ = ("rate", "samples", "side_info", "size")

    def __init__(self, size: int, samples: int, rate: int, side_info: int) -> None:
        self.size, self.samples, self.rate, self.side_info = size, samples, rate, side_info


def frame(head: bytes) -> Mp3Frame | None:
    """Return the frame whose header these four bytes are, or None if they are no header of layer III."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, bit_rate, sample_rate = head[1] >> 3 & 3, head[1] >> 1 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer != 1 or bit_rate in (0, 15) or sample_rate == 3:
        return None
    first = version == 3
    kbits, rate = BIT_RATES[1 if first else 2][bit_rate - 1], SAMPLE_RATES[version][sample_rate]
    samples = 1_152 if first else 576
    mono = head[3] >> 6 == 3
    side_info = (17 if mono else 32) if first else (9 if mono else 17)
    return Mp3Frame(samples * kbits * 125 // rate + (head[2] >> 1 & 1), samples, rate, side_info)


def is_table(content: bytes, side_info: int) -> bool:
    """Return whether a first frame contains a table of the file's contents (Xing, Info, VBRI) in place of sound."""
    return content[4 + side_info :][:4] in (b"Xing", b"Info") or content[36:40] == b"VBRI"


def duration(file: BudgetedFile) -> float | None:
    """Return the duration in seconds, or None if a file contains more than a little junk between its frames or after
    them.

    The cost is linear in the length of the file: a few bytes of each frame are read, in order."""
    end = file.seek(0, 2)
    at, seconds, gaps = 0, 0.0, 0
    first = True
    while at < end:
        file.seek(at)
        head = file.read(4)
        this = frame(head)
        if this is None:
            if head.startswith(TRAILERS):
                return seconds
            if head.startswith(b"ID3"):
                # A file may be several files in a row, each with a tag.
                at, first = after_tag(file, at), True
                continue
            gaps += 1
            following = None if gaps > GAPS_MOST else next_frame(file, at, end)
            if following is None:
                return seconds if end - at <= GAP_BYTES else None
            at = following
            continue
        table = first and is_table(head + file.read(this.side_info + 32), this.side_info)
        if not table and at + this.size <= end:
            seconds += this.samples / this.rate
        first, at = False, at + this.size
    return seconds


def after_tag(file: BudgetedFile, at: int) -> int:
    """Return the offset after the ID3 tag that begins at `at`."""
    file.seek(at)
    head = file.read(10).ljust(10, b"\0")
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
    return at + 10 + size + (10 if head[5] & 0x10 else 0)


def next_frame(file: BudgetedFile, at: int, end: int) -> int | None:
    """Return the offset of the next frame, or None if none begins within `GAP_BYTES`. Another frame or the end of the
    file must follow it."""
    file.seek(at)
    gap = file.read(min(GAP_BYTES, end - at))
    found = gap.find(b"\xff", 1)
    while found != -1:
        this = frame(gap[found : found + 4])
        if this is not None:
            file.seek(at + found + this.size)
            if at + found + this.size == end or frame(file.read(4)) is not None:
                return at + found
        found = gap.find(b"\xff", found + 1)
    return None
