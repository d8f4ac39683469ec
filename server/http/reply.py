"""The answer to a request, independent of how it is sent."""

from collections.abc import Mapping

from msgspec import Struct


class Reply(Struct, frozen=True):
    """An answer with an encoded body, or without one (None)."""

    status: int
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"
