"""Decodes bodies and queries into Structs. A refusal names the field and says what is allowed there.

**Law:** JSON that is nested too deep is not decoded. No text with a NUL character gets in: PostgreSQL cannot store it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal

import msgspec
from msgspec import inspect

from server.http.problems import Problem

# The quantifier is possessive and the closing quote optional: a match that has begun cannot fail, so no byte is read
# twice. With backtracking, a body of 64 KiB took 54 s.
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+"?', re.DOTALL)
_LOCATION = re.compile(r" - at `(?:key in )?\$\.?([^`]*)`$")
_FIELD_NAME = re.compile(r"(?:unknown|required) field `([^`]+)`")


class Decoder:
    """Decodes JSON into one type, nested at most `max_depth` levels deep."""

    # Any: a type to decode to, or a value of it; the type checker has no word for a type form.
    def __init__(self, type_: Any, *, max_depth: int) -> None:
        self._type = type_
        self._max_depth = max_depth
        self._decoder = msgspec.json.Decoder(type_)

    # Any: a type to decode to, or a value of it; the type checker has no word for a type form.
    def __call__(self, raw: bytes) -> Any:
        """Return the value. Raise Problem 400 if `raw` is not JSON, 422 if it does not fit the type."""
        if raw.count(b"{") + raw.count(b"[") > self._max_depth and depth(raw) > self._max_depth:
            raise Problem(422, "too_deep", f"The body is nested more than {self._max_depth} levels deep.")
        try:
            value = self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            raise invalid(error, self._type) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Problem(400, "malformed", f"The body is not JSON: {error}.") from error
        # Encoded and decoded again, since the value may contain JSON that is still raw.
        if b"\\u0000" in raw and (field := first_nul(msgspec.json.decode(msgspec.json.encode(value)))):
            raise Problem(422, "invalid", f"`{field}` contains a NUL character.", field=field)
        return value


# Any: a type to decode to, or a value of it; the type checker has no word for a type form.
def from_query(query: Mapping[str, str], type_: Any, where: Literal["body", "query"] = "query") -> Any:
    """Decode a query string's parameters or a form's fields. Raise Problem 422 if they do not fit the type."""
    try:
        value = msgspec.convert(dict(query), type_, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error, type_, where) from error
    if field := first_nul(msgspec.to_builtins(value)):
        raise Problem(422, "invalid", f"`{field}` contains a NUL character.", field=field, location=where)
    return value


def depth(raw: bytes) -> int:
    """Return how deep JSON is nested, without decoding it."""
    level = deepest = 0
    for byte in _STRING.sub(b"", raw):
        if byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def first_nul(value: object) -> str | None:
    """Return the location of the first text that contains a NUL character; None if there is none."""
    return next(fields_with_nul(value), None)


def fields_with_nul(value: object, field: str = "") -> Iterator[str]:
    """Yield the locations of texts that contain a NUL character, such as `poll.options[1]`."""
    match value:
        case str():
            if "\0" in value:
                yield field or "body"
        case dict():
            for key, inner in value.items():
                where = f"{field}.{key}" if field else str(key)
                if "\0" in str(key):
                    yield where.replace("\0", "")
                yield from fields_with_nul(inner, where)
        case list():
            for index, inner in enumerate(value):
                yield from fields_with_nul(inner, f"{field}[{index}]")


# Any: a type to decode to, or a value of it; the type checker has no word for a type form.
def invalid(error: msgspec.ValidationError, type_: Any, where: Literal["body", "query"] = "body") -> Problem:
    """Return problem 422 for a value that does not fit: which field is wrong, and what is allowed there."""
    text = str(error)
    field = match[1] if (match := _LOCATION.search(text)) else ""
    fault = _LOCATION.sub("", text)
    if named := _FIELD_NAME.search(fault):
        field = f"{field}.{named[1]}" if field else named[1]
        unknown = "unknown" in fault
        detail = f"There is no field `{field}`." if unknown else f"The field `{field}` is required."
    else:
        detail = f"`{field or 'body'}`: {fault[:1].lower()}{fault[1:]}."
        if "matching regex '\\\\S'" in fault:
            detail = f"`{field}` must not be blank."
        elif "matching regex" in fault and (allowed := pattern_in_words(type_, field, fault)):
            detail = f"`{field}` must be {allowed}."
        elif allowed := allowed_at(type_, field):
            detail = f"`{field}` must be one of {allowed}."
    return Problem(422, "invalid", detail, field=field or None, location=where)


# Any: a type to decode to, or a value of it; the type checker has no word for a type form.
def allowed_at(type_: Any, field: str) -> str:
    """Return the values allowed at a field such as `features.chat`, or an empty string if there is no finite list."""
    values: list[str] = []
    for kind in flat(kinds_at(type_, field)):
        if isinstance(kind, inspect.LiteralType):
            values += [f"`{value}`" for value in kind.values]
    return ", ".join(dict.fromkeys(values))


# Any: a type to decode to, or a value of it; the type checker has no word for a type form.
def pattern_in_words(type_: Any, field: str, fault: str) -> str:
    """Return the description of the pattern that `fault` quotes: people cannot be expected to read patterns."""
    for kind in alternatives(kinds_at(type_, field)):
        text = kind.type if isinstance(kind, inspect.Metadata) else kind
        if isinstance(text, inspect.StrType) and repr(text.pattern) in fault and isinstance(kind, inspect.Metadata):
            return str((kind.extra_json_schema or {}).get("description", ""))
    return ""


# Any: a type to decode to, or a value of it; the type checker has no word for a type form.
def kinds_at(type_: Any, field: str) -> list[inspect.Type]:
    """Return the types that a value may have at a field such as `features.chat` or `options[0]`."""
    kinds = [kind_of(type_)]
    for step in re.findall(r"[^.\[\]]+", field):
        kinds = [inner for kind in flat(kinds) for inner in inside(kind, step)]
    return kinds


@lru_cache(maxsize=256)
# Any: a type to decode to, or a value of it; the type checker has no word for a type form.
def kind_of(type_: Any) -> inspect.Type:
    """Return the description of a type. Cached: for a union of many Structs it takes milliseconds."""
    return inspect.type_info(type_)


def alternatives(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    """Yield the types, with the members of unions in place of the unions."""
    for kind in kinds:
        if isinstance(kind, inspect.UnionType):
            yield from alternatives(kind.types)
        else:
            yield kind


def flat(kinds: Iterable[inspect.Type]) -> Iterator[inspect.Type]:
    """Yield the types without unions and without constraints."""
    for kind in alternatives(kinds):
        if isinstance(kind, inspect.Metadata):
            yield from flat([kind.type])
        else:
            yield kind


def inside(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """Yield the types that a field or an item of a type may have."""
    if isinstance(kind, inspect.StructType):
        if step == kind.tag_field:
            yield inspect.LiteralType((kind.tag,))
        for field in kind.fields:
            if field.encode_name == step:
                yield field.type
    elif isinstance(kind, inspect.ListType):
        yield kind.item_type
