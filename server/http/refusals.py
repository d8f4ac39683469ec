"""The refusals of functions, declared next to them, for the descriptions of APIs.

A test compares each declaration with the refusals that the function's source can raise.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from actors.session.access import Ask

F = TypeVar("F", bound=Callable[..., Any])  # Any: functions of every signature are decorated
Refusals = Mapping[str, int]
"""Statuses by reason."""
READING: Mapping[Ask, Refusals] = {
    ask: {"unknown_session": 404, "kicked": 403, "not_joined": 403, **more}
    for ask, more in {
        Ask.CARD: {}, Ask.STATE: {}, Ask.HISTORY: {},
        Ask.MODERATION: {"not_permitted": 403}, Ask.OWNERSHIP: {"not_owner": 403},
    }.items()
}  # fmt: skip
"""The refusals of a caller who may not read a part of a session."""


def refuses(**refusals: int) -> Callable[[F], F]:
    """Return a decorator that declares the refusals of a function: reasons with their statuses."""

    def decorate(function: F) -> F:
        function.__dict__["refusals"] = refusals
        return function

    return decorate


def refusals_of(function: Callable[..., Any] | None) -> Refusals:  # Any: functions of every signature
    """Return the declared refusals of a function, or none if it declares none."""
    while isinstance(function, partial):
        function = function.func
    said: Refusals = getattr(function, "refusals", {})
    return said
