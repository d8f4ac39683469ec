"""The server's own log: one JSON object a line on standard error."""

import logging
import sys

import msgspec

from actors.session.ids import Millis
from server.http.request_id import CURRENT
from server.http.timestamps import rfc3339


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. `id` is that of the request for which it was written; `error` is a traceback."""

    at: str
    level: str
    logger: str
    event: str
    id: str | None = None
    error: str | None = None


class JsonLines(logging.Formatter):
    """Formats records as JSON. It runs where a record is logged, and so knows the request that is being worked for."""

    def format(self, record: logging.LogRecord) -> str:
        line = LogLine(
            at=rfc3339(Millis(int(record.created * 1000))),
            level=record.levelname.lower(),
            logger=record.name,
            event=record.getMessage(),
            id=CURRENT.get(),
            error=self.formatException(record.exc_info) if record.exc_info else None,
        )
        return msgspec.json.encode(line).decode()


def set_up(level: str) -> None:
    """Send the log of everything at `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # aiohttp's own logger prints a malformed request whole, Authorization header included.
    logging.getLogger("aiohttp.server").disabled = True
