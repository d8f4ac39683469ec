"""What of some content a request is to get: RFC 9110's conditions and single byte ranges. Pure."""

import re
from collections.abc import Mapping

from msgspec import Struct

_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


class Window(Struct, frozen=True):
    """An answer: a status, and the bytes from `start` up to, not with, `end` that go with it."""

    status: int
    start: int = 0
    end: int = 0


def window(headers: Mapping[str, str], size: int, etag: str) -> Window:
    """Say what a GET or HEAD with these headers gets of content that never changes. `etag` is strong, in its quotes."""
    if (match := headers.get("If-Match")) is not None and not named(match, etag, weakly=False):
        return Window(412)
    if (none := headers.get("If-None-Match")) is not None and named(none, etag, weakly=True):
        return Window(304)
    whole = Window(200, 0, size)
    wanted = _RANGE.fullmatch(headers.get("Range", ""))
    # Several ranges, or other units, may be passed over; so must a range of what has changed since.
    if wanted is None or headers.get("If-Range", etag) != etag:
        return whole
    first, last = wanted[1], wanted[2]
    if not first and not last:
        return whole
    if first:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return whole
    else:
        start, end = max(0, size - int(last)), size
    return Window(206, start, end) if start < end else Window(416)


def named(header: str, etag: str, *, weakly: bool) -> bool:
    """Say whether `If-Match` or `If-None-Match` names an entity tag."""
    if header.strip() == "*":
        return True
    return any(tag[1] == etag and (weakly or not tag[0].startswith("W/")) for tag in _TAG.finditer(header))
