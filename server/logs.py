"""Logs: one JSON object a line on standard error, for people with grep and for machines alike."""

import logging
import sys
import time

import msgspec

_encode = msgspec.json.Encoder().encode


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


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request. The path is the route's, so that no code, ticket or token gets in."""

    at: str
    level: str
    event: str
    id: str
    method: str
    route: str
    status: int
    ms: float
    user: str | None = None
    session: str | None = None


def stamp(at: float) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(at))}.{int(at % 1 * 1000):03d}Z"


def set_up(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # aiohttp's own logger prints a malformed request whole, Authorization header included.
    logging.getLogger("aiohttp.server").disabled = True


def write(line: RequestLine) -> None:
    sys.stderr.write(_encode(line).decode() + "\n")
