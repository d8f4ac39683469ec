"""What lists have in common: pages, and a place to go on from. Each is good for the list that gave it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from storage.sessions import UUID

T = TypeVar("T")
PAGE = 100
"""Items at most, of most lists."""
_WORDS = "a `next` that this list has given"

PageCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$(?!\n)", description=_WORDS)]
"""Of a list whose order is an `integer`'s."""
LongCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description=_WORDS)]
"""Of a list whose order is a `bigint`'s."""
IdCursor = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description=_WORDS)]
"""Of a list whose order is that of ids."""


class Listed(Struct, frozen=True):
    """A page, and where the next one starts (None: this was the last)."""

    items: list[Any]
    next: str | None


def listed(found: Sequence[T], limit: int, place: Callable[[T], object]) -> Listed:
    """Make a page of what was asked for with one more than the limit: if that came, there is more."""
    return Listed(list(found[:limit]), str(place(found[limit - 1])) if len(found) > limit else None)
