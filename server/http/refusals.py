"""What a function may refuse a request for, said next to it: for the descriptions of APIs.

A test compares what is said here with what the source of each function can raise.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from actors.session.access import Ask

F = TypeVar("F", bound=Callable[..., Any])  # Any: it says this of functions of every signature
Refusals = Mapping[str, int]
"""Statuses by reason."""
READING: Mapping[Ask, Refusals] = {
    ask: {"unknown_session": 404, "kicked": 403, "not_joined": 403, **more}
    for ask, more in {
        Ask.CARD: {}, Ask.STATE: {}, Ask.HISTORY: {},
        Ask.MODERATION: {"not_permitted": 403}, Ask.OWNERSHIP: {"not_owner": 403},
    }.items()
}  # fmt: skip
"""What a caller who may not read something of a session is refused for."""


def refuses(**refusals: int) -> Callable[[F], F]:
    """Return a decorator that says what a function refuses for: reasons with their statuses."""

    def decorate(function: F) -> F:
        function.__dict__["refusals"] = refusals
        return function

    return decorate


def refusals_of(function: Callable[..., Any] | None) -> Refusals:  # Any: as above
    """Return what a function says that it refuses for; nothing for one that says nothing."""
    while isinstance(function, partial):
        function = function.func
    said: Refusals = getattr(function, "refusals", {})
    return said
