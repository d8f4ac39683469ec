"""A file with a budget of bytes and of time, which limits the cost of measuring content."""

import time
from typing import BinaryIO

READ_MOST = 16 << 20
"""The most bytes that are read to measure one file: enough for a cover picture in its tags."""
TIME_MOST_S = 10.0


class BudgetExceeded(Exception):
    """Raised by a read beyond the budget. The content's duration then stays unknown."""


class BudgetedFile:
    """A file that can be read until its budget of bytes or of time is spent. `error` keeps the last OSError of a
    read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = READ_MOST
        self._until = time.monotonic() + TIME_MOST_S
        self.spent = False
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, or all remaining bytes for a negative size. Raise BudgetExceeded, OSError."""
        if size < 0:
            at = self._file.tell()
            size = self._file.seek(0, 2) - at
            self._file.seek(at)
        # An empty read costs one byte, so that no content can cause endless reads.
        self._left -= max(size, 1)
        if self._left < 0 or time.monotonic() > self._until:
            self.spent = True
            raise BudgetExceeded
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move the position and return it. This costs nothing."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()
