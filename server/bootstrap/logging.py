"""The server's own log: one JSON object a line on standard error."""

import logging
import sys

import msgspec

from server.http.access_log import _encode, stamp


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    at: str
    level: str
    logger: str
    event: str
    error: str | None = None


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else None
        line = Line(stamp(record.created), record.levelname.lower(), record.name, record.getMessage(), error)
        return _encode(line).decode()


def set_up(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # aiohttp's own logger prints a malformed request whole, Authorization header included.
    logging.getLogger("aiohttp.server").disabled = True
