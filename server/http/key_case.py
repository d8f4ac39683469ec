"""Converts the keys of JSON to camelCase and back, for clients that ask for it with `?case=camel`."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from server.http.json_body import depth
from server.http.problems import Problem


def wanted(query: Mapping[str, str]) -> bool:
    """Return whether a request asks for camelCase. Raise Problem 422 for an unknown case."""
    case = query.get("case", "snake")
    if case not in ("snake", "camel"):
        raise Problem(422, "invalid", "`case` must be one of `snake`, `camel`.", field="case", location="query")
    return case == "camel"


# Any: JSON of any shape.
def camel(value: Any) -> Any:
    """Return plain values with all keys in camelCase."""
    return renamed(value, lambda key: re.sub(r"_([a-z0-9])", lambda letter: letter[1].upper(), key))


def snake(raw: bytes, max_depth: int) -> bytes:
    """Return JSON with all keys in snake_case. Leave invalid or too deep JSON as it is: decoding refuses it."""
    if depth(raw) > max_depth:
        return raw
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw
    return msgspec.json.encode(renamed(value, lambda key: re.sub(r"(?<=[a-z0-9])[A-Z]", r"_\g<0>", key).lower()))


# Any: JSON of any shape.
def renamed(value: Any, rename: Callable[[str], str]) -> Any:
    """Return plain values with all keys renamed, at every depth."""
    match value:
        case dict():
            return {rename(str(key)): renamed(inner, rename) for key, inner in value.items()}
        case list():
            return [renamed(inner, rename) for inner in value]
        case _:
            return value
