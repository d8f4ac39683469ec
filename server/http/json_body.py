"""Bodies and queries into Structs. What is wrong is named: the field, what it may be, where it stands.

**Law:** nothing is decoded that is nested too deep to decode safely; no text with a NUL gets in: PostgreSQL has none.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import inspect

from server.http.problems import Problem

# The quantifier is possessive and the closing quote optional: a match never fails once it has begun, and so no byte is
# read twice. With backtracking, one body of 64 KiB took 54 s.
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_PLACE = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_NAMED = re.compile(r"(?:unknown|required) field `([^`]+)`")


class Decoder:
    """Decodes JSON of one type."""

    def __init__(self, type_: Any, *, max_depth: int) -> None:
        self._type = type_
        self._max_depth = max_depth
        self._decoder = msgspec.json.Decoder(type_)

    def __call__(self, raw: bytes) -> Any:
        """Raises: Problem 400 for what is no JSON, 422 for what is not of the type."""
        if raw.count(b"{") + raw.count(b"[") > self._max_depth and depth(raw) > self._max_depth:
            raise Problem(422, "too_deep", f"The body is nested more than {self._max_depth} levels deep.")
        try:
            value = self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise invalid(error, self._type) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, "malformed", f"The body is not JSON: {error}.") from error
        # By way of JSON, for what is still raw in it.
        if b"\\u0000" in raw and (field := next(nuls(msgspec.json.decode(msgspec.json.encode(value))), None)):
            raise Problem(422, "invalid", f"`{field}` has a NUL character in it.", field=field)
        return value


def from_query(query: Mapping[str, str], type_: Any, where: Literal["body", "query"] = "query") -> Any:
    """Decode a query string's parameters, or a form's. Raises: Problem 422."""
    try:
        value = msgspec.convert(dict(query), type_, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error, type_, where) from error
    if field := next(nuls(msgspec.to_builtins(value)), None):
        raise Problem(422, "invalid", f"`{field}` has a NUL character in it.", field=field, location=where)
    return value


def depth(raw: bytes) -> int:
    """Measure how deep JSON is nested, without decoding it."""
    level = deepest = 0
    for byte in _STRING.sub(b"", raw):
        if byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def nuls(value: object, field: str = "") -> Iterator[str]:
    """Name the places of texts with a NUL in them."""
    match value:
        case str():
            if "\0" in value:
                yield field or "body"
        case dict():
            for key, inner in value.items():
                where = f"{field}.{key}" if field else str(key)
                if "\0" in str(key):
                    yield where.replace("\0", "")
                yield from nuls(inner, where)
        case list():
            for index, inner in enumerate(value):
                yield from nuls(inner, f"{field}[{index}]")


def invalid(error: msgspec.ValidationError, type_: Any, where: Literal["body", "query"] = "body") -> Problem:
    """Say what is wrong with a value: where, and what is allowed there."""
    text = str(error)
    field = match[1] if (match := _PLACE.search(text)) else ""
    said = _PLACE.sub("", text)
    if named := _NAMED.search(said):
        field = f"{field}.{named[1]}" if field else named[1]
        unknown = "unknown" in said
        detail = f"There is no field `{field}`." if unknown else f"The field `{field}` is required."
    else:
        detail = f"`{field or 'body'}`: {said[:1].lower()}{said[1:]}."
        if "matching regex '\\\\S'" in said:
            detail = f"`{field}` must not be blank."
        elif "matching regex" in said and (wanted := described_at(type_, field, said)):
            detail = f"`{field}` must be {wanted}."
        elif allowed := allowed_at(type_, field):
            detail = f"`{field}` must be one of {allowed}."
    return Problem(422, "invalid", detail, field=field or None, location=where)


def allowed_at(type_: Any, field: str) -> str:
    """List the values allowed at a field such as `features.chat`, when they can be listed."""
    values: list[str] = []
    for kind in flat(kinds_at(type_, field)):
        if isinstance(kind, inspect.LiteralType):
            values += [f"`{value}`" for value in kind.values]
    return ", ".join(dict.fromkeys(values))


def described_at(type_: Any, field: str, said: str) -> str:
    """Say in words what the pattern is for that `said` quotes: it tells people nothing."""
    for kind in alternatives(kinds_at(type_, field)):
        text = kind.type if isinstance(kind, inspect.Metadata) else kind
        if isinstance(text, inspect.StrType) and repr(text.pattern) in said and isinstance(kind, inspect.Metadata):
            return str((kind.extra_json_schema or {}).get("description", ""))
    return ""


def kinds_at(type_: Any, field: str) -> list[inspect.Type]:
    """Find the types that a value may have at a field such as `features.chat` or `options[0]`."""
    kinds = [kind_of(type_)]
    for step in re.findall(r"[^.\[\]]+", field):
        kinds = [inner for kind in flat(kinds) for inner in inside(kind, step)]
    return kinds


@lru_cache(maxsize=256)
def kind_of(type_: Any) -> inspect.Type:
    """Describe a type; for a union of many Structs that takes milliseconds."""
    return inspect.type_info(type_)


def alternatives(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            yield from alternatives(kind.types)
        else:
            yield kind


def flat(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    for kind in alternatives(kinds):
        if isinstance(kind, inspect.Metadata):
            yield from flat([kind.type])
        else:
            yield kind


def inside(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    if isinstance(kind, inspect.StructType):
        if step == kind.tag_field:
            yield inspect.LiteralType((kind.tag,))
        for field in kind.fields:
            if field.encode_name == step:
                yield field.type
    elif isinstance(kind, inspect.ListType):
        yield kind.item_type
