"""The duration of a WAV file, from the bytes that it contains. A recorder that writes to a pipe cannot state their
number.
"""

import struct

from server.usecases.audio.budgeted_file import BudgetedFile

EXACT = frozenset({1, 3, 6, 7, 0xFFFE})
"""Formats whose blocks all have the same number of samples: PCM, float, A-law, mu-law, extensible."""
CHUNKS_MOST = 1_000


def duration(file: BudgetedFile) -> float | None:
    """Return the duration of a RIFF file in seconds, or None if it cannot be computed for its format."""
    end, at = file.seek(0, 2), 12
    block, rate = 0, 0
    for _ in range(CHUNKS_MOST):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return None
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"fmt ":
            body = file.read(16)
            if len(body) < 16:
                return None
            kind, _channels, rate, _bytes_per_s, block, _bits = struct.unpack("<HHIIHH", body)
            if kind not in EXACT:
                return None
        elif name == b"data":
            there = end - at - 8
            # A size of 0, or beyond the end of the file: the recorder did not know it.
            played = min(size, there) if size else there
            return played // block / rate if block and rate else None
        at += 8 + size + (size & 1)
    return None
