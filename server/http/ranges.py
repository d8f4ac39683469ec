"""Conditional requests and single byte ranges (RFC 9110, sections 13 and 14). Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


class Window(Struct, frozen=True):
    """The status to answer with, and the bytes to send: from `start` up to and excluding `end`."""

    status: int
    start: int = 0
    end: int = 0


def window(headers: Mapping[str, str], size: int, etag: str) -> Window:
    """Return which part of immutable content a GET or HEAD with these headers gets. `etag` is strong and quoted."""
    if (match := headers.get("If-Match")) is not None and not lists_tag(match, etag, weak=False):
        return Window(412)
    if (none := headers.get("If-None-Match")) is not None and lists_tag(none, etag, weak=True):
        return Window(304)
    whole = Window(200, 0, size)
    requested = _RANGE.fullmatch(headers.get("Range", ""))
    # A server may ignore several ranges and other units; it must ignore a range if the content has changed since.
    if requested is None or headers.get("If-Range", etag) != etag:
        return whole
    first, last = requested[1], requested[2]
    if not first and not last:
        return whole
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole
    else:
        start, end = max(0, size - int(last)), size
    return Window(206, start, end) if start < end else Window(416)


def lists_tag(header: str, etag: str, *, weak: bool) -> bool:
    """Return whether `If-Match` or `If-None-Match` lists an entity tag; `weak`: by weak comparison."""
    if header.strip() == "*":
        return True
    return any(tag[1] == etag and (weak or not tag[0].startswith("W/")) for tag in _TAG.finditer(header))
