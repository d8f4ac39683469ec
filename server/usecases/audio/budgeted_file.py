"""A file that can be read only so much of, and only for so long: what measuring content may cost."""

import time
from typing import BinaryIO

READ_MOST = 16 << 20
"""Bytes read to measure one file: enough for a cover in its tags."""
TIME_MOST_S = 10.0


class BudgetExceeded(Exception):
    """Measuring took more than it may; the content is as long as it likes."""


class BudgetedFile:
    """A file that can be read only so much of, and only for so long."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = READ_MOST
        self._until = time.monotonic() + TIME_MOST_S
        self.spent = False
        self.error: OSError | None = None

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            at = self._file.tell()
            size = self._file.seek(0, 2) - at
            self._file.seek(at)
        # A read of nothing costs something too: no content makes this go on for ever.
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
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
