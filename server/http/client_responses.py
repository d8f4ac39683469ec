"""Reads responses of other servers (providers, receivers of webhooks) within bounds: none of them is trusted."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import aiohttp

BODY_BYTES = 65_536
"""More than any response that is of use."""
MAX_WAIT_S = 86_400.0
"""The longest wait that another server can ask for, in seconds."""


async def body_of(response: aiohttp.ClientResponse) -> bytes:
    """Return the first `BODY_BYTES` of a response's body. Close the connection of a longer one."""
    body = bytearray()
    async for part in response.content.iter_any():
        body += part
        if len(body) > BODY_BYTES:
            response.close()
            break
    return bytes(body[:BODY_BYTES])


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return how long `Retry-After` (seconds, or a date) asks to wait, at most `MAX_WAIT_S`; None if invalid."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_WAIT_S)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time.time()), MAX_WAIT_S)
    except (ValueError, OverflowError):
        return None
