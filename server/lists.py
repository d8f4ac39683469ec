"""What lists have in common: a place to go on from. Each is good for the list that gave it."""

from typing import Annotated

from msgspec import Meta

from storage.sessions import UUID

_WORDS = "a `next` that this list has given"

Cursor = Annotated[str, Meta(pattern=r"^[0-9]{1,9}$(?!\n)", description=_WORDS)]
"""Of a list whose order is an `integer`'s."""
LongCursor = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description=_WORDS)]
"""Of a list whose order is a `bigint`'s."""
IdCursor = Annotated[str, Meta(pattern=f"^{UUID.pattern}$(?!\\n)", description=_WORDS)]
"""Of a list whose order is that of ids."""
