"""What others' servers answer, read within bounds: those of providers, and those that webhooks go to."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import aiohttp

BODY_BYTES = 65_536


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """Read an answer's body, or its beginning: more than that is no answer that anybody waits for."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > BODY_BYTES:
            response.close()
            break
    return bytes(body[:BODY_BYTES])


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`, which is seconds or a date; None: there is none that makes sense."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None
