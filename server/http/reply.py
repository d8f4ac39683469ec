"""An answer, before it becomes HTTP."""

from collections.abc import Mapping

from msgspec import Struct


class Reply(Struct, frozen=True):
    """An answer: a body already encoded, or None for none."""

    status: int
    body: bytes | None = None
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"
