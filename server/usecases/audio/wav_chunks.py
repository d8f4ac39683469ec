"""How long a WAV file plays, by the bytes that it has: a recorder that writes to a pipe cannot name their number."""

import struct

from server.usecases.audio.budgeted_file import BudgetedFile

EXACT = frozenset({1, 3, 6, 7, 0xFFFE})
"""Formats of which every block has the same number of samples: PCM, float, A-law, mu-law, extensible."""
CHUNKS_MOST = 1_000


def duration(file: BudgetedFile) -> float | None:
    """Return the seconds that a RIFF file plays, or None if its format does not tell."""
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
            # 0, or more than there is: the recorder did not know.
            played = min(size, there) if size else there
            return played // block / rate if block and rate else None
        at += 8 + size + (size & 1)
    return None
