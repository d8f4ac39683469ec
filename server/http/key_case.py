"""Keys in camelCase, for clients who ask for them with `?case=camel`: in answers, and in bodies."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from server.http.json_body import depth
from server.http.problems import Problem


def wanted(query: Mapping[str, str]) -> bool:
    """Say whether a request asks for camelCase. Raises: Problem 422."""
    case = query.get("case", "snake")
    if case not in ("snake", "camel"):
        raise Problem(422, "invalid", "`case` must be one of `snake`, `camel`.", field="case", location="query")
    return case == "camel"


def camel(value: Any) -> Any:
    """Give plain values with all keys in camelCase."""
    return renamed(value, lambda key: re.sub(r"_([a-z0-9])", lambda letter: letter[1].upper(), key))


def snake(raw: bytes, max_depth: int) -> bytes:
    """Give JSON with all keys in snake_case; as it came, where it is none or too deep: that is for others to refuse."""
    if depth(raw) > max_depth:
        return raw
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return raw
    return msgspec.json.encode(renamed(value, lambda key: re.sub(r"(?<=[a-z0-9])[A-Z]", r"_\g<0>", key).lower()))


def renamed(value: Any, rename: Callable[[str], str]) -> Any:
    match value:
        case dict():
            return {rename(str(key)): renamed(inner, rename) for key, inner in value.items()}
        case list():
            return [renamed(inner, rename) for inner in value]
        case _:
            return value
