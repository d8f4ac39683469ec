"""Pages of lists. A page's cursor is valid only for the list that returned it."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct

from storage.sessions import UUID

T = TypeVar("T")
PAGE = 100
"""The most items in a page of most lists."""
_DESCRIPTION = "a `next` that this list returned"

PageCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$(?!\n)", description=_DESCRIPTION)]
"""The cursor of a list that is ordered by an `integer`."""
LongCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description=_DESCRIPTION)]
"""The cursor of a list that is ordered by a `bigint`."""
IdCursor = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description=_DESCRIPTION)]
"""The cursor of a list that is ordered by ids."""


class Listed(Struct, frozen=True):
    """A page. `next` is the cursor of the next page, None on the last one."""

    # Any: each list has its own type of items.
    items: list[Any]
    next: str | None


def listed(items: Sequence[T], limit: int, cursor: Callable[[T], object]) -> Listed:
    """Return a page of at most `limit` items. Query for one item more than that: it shows that there is a next page."""
    return Listed(list(items[:limit]), str(cursor(items[limit - 1])) if len(items) > limit else None)
