"""Work on bytes from outside takes linear time: no regular expression and no parser is worse.

Each gets texts that make backtracking and restarting expensive, twice: one eight times as long as the other. Linear
work takes about eight times as long then, quadratic work sixty-four times.
"""

import contextlib
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import msgspec
import pytest
from msgspec import inspect

import actors
import server
import storage
from server.http.client_responses import retry_after_s
from server.http.json_body import Decoder, depth, from_query
from server.http.key_case import snake
from server.http.problems import Problem
from server.http.ranges import window
from server.usecases.accounts import Phone

BODY_BYTES = 64 << 10
"""The largest body of a command, and larger than any header or query."""
SHORT, LONG = BODY_BYTES // 8, BODY_BYTES
TOLERANCE = 24
"""How many times as long eight times the bytes may take: 8, and what a busy machine adds."""
NOTICEABLE_S = 0.005
"""Shorter work cannot be measured, and delays no other request."""
FRAGMENTS = ["a", "A", "0", "-", ".", "@", "#", "(", " ", "_", '"', "\\", "`", "$", "/", ":", "=", ",", "[", "{", '\\"',
             "a-", "0.", "a.", "a@", "0,", " - at `$", "W/\"", "\n", "\u00e4", "-- name: a"]  # fmt: skip
PREFIXES = ["", "a", '"', "a@", "+", "bytes=", "1.", "https://", "/"]
SUFFIXES = ["", "!", "\n", "\x00", "\\", " "]


def modules() -> Iterator[object]:
    for package in (server, actors, storage):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def compiled_patterns() -> dict[str, re.Pattern[str] | re.Pattern[bytes]]:
    """Return every compiled pattern of a module, by its text."""
    values = [value for module in modules() for value in vars(module).values()]
    return {str(value.pattern): value for value in values if isinstance(value, re.Pattern)}


def field_patterns() -> dict[str, object]:
    """Return a type for every pattern that a field of a Struct has, by its text."""
    found: dict[str, object] = {}

    def visit(info: object) -> None:
        match info:
            case inspect.StrType(pattern=str(pattern)):
                meta = msgspec.Meta(pattern=pattern, max_length=info.max_length)
                found[f"{pattern} {info.max_length}"] = Annotated[str, meta]
            case inspect.Type() | inspect.Field():
                for name in info.__struct_fields__:
                    visit(getattr(info, name))
            case list() | tuple():
                for one in info:
                    visit(one)

    for module in modules():
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct:
                try:
                    visit(inspect.type_info(value))
                except (NameError, TypeError):
                    continue  # generic, or with types for checkers only: no body is decoded into it
    return found


COMPILED = compiled_patterns()
FIELDS = field_patterns()


def cpu_s(work: Callable[[str], object], text: str) -> float:
    """Return the CPU time that some work takes, in seconds."""
    started = time.process_time()
    work(text)
    return time.process_time() - started


def texts(size: int) -> Iterator[str]:
    for fragment in FRAGMENTS:
        middle = fragment * (size // len(fragment))
        for prefix in PREFIXES:
            for suffix in SUFFIXES:
                yield prefix + middle + suffix


def assert_linear(work: Callable[[str], object]) -> None:
    """Fail if a text of `LONG` takes out of proportion longer than one of `SHORT`."""
    for short, long in zip(texts(SHORT), texts(LONG), strict=True):
        # Quadratic work takes milliseconds for a short text already. Only then is the long one tried.
        if cpu_s(work, short) < NOTICEABLE_S:
            continue
        brief = min(cpu_s(work, short) for _ in range(3))
        full = cpu_s(work, long)
        assert full <= max(brief * TOLERANCE, NOTICEABLE_S * TOLERANCE), (
            f"{long[:20]!r}…{long[-5:]!r}: {brief:.3f} s for {SHORT} characters, {full:.3f} s for {LONG}"
        )


def refused(work: Callable[[], object]) -> None:
    """Run work that may refuse its input."""
    with contextlib.suppress(Problem, msgspec.ValidationError):
        work()


@pytest.mark.parametrize("pattern", sorted(COMPILED))
def test_every_compiled_pattern_takes_linear_time(pattern: str) -> None:
    compiled = COMPILED[pattern]
    if isinstance(compiled.pattern, bytes):
        assert_linear(lambda text: list(compiled.finditer(text.encode())))
    else:
        assert_linear(lambda text: list(compiled.finditer(text)))


@pytest.mark.parametrize("field", sorted(FIELDS))
def test_every_pattern_of_a_field_takes_linear_time(field: str) -> None:
    kind = FIELDS[field]
    assert_linear(lambda text: refused(lambda: msgspec.convert(text, kind)))


class Anything(msgspec.Struct, forbid_unknown_fields=True):
    text: str = ""


PARSERS: dict[str, Callable[[str], object]] = {
    "depth of a body": lambda text: depth(text.encode()),
    "depth of a body in a string": lambda text: depth(b'"' + text.encode()),
    "a body": lambda text: Decoder(Anything, max_depth=32)(b"[" * 33 + text.encode()),
    "a body with an unknown field": lambda text: Decoder(Anything, max_depth=32)(msgspec.json.encode({text: 1})),
    "a body with NUL": lambda text: Decoder(Anything, max_depth=32)(msgspec.json.encode({"text": text + "\0"})),
    "a body in camelCase": lambda text: snake(msgspec.json.encode({text: text}), 32),
    "a query": lambda text: from_query({text: text}, Anything),
    "ranges": lambda text: window({"Range": text, "If-Match": text, "If-None-Match": text}, 1, '"e"'),
    "Retry-After": lambda text: retry_after_s({"Retry-After": text}),
    "a phone number": lambda text: msgspec.convert(text, Phone),
}


@pytest.mark.parametrize("name", PARSERS)
def test_every_parser_takes_linear_time(name: str) -> None:
    assert_linear(lambda text: refused(lambda: PARSERS[name](text)))


def test_a_deeply_nested_body_with_an_endless_string_is_refused_within_a_second() -> None:
    """33 brackets and then a string without an end took 54 s once."""
    raw = b"[" * 33 + b'"' + b'\\"' * 32_700
    assert cpu_s(lambda text: refused(lambda: Decoder(Anything, max_depth=32)(raw)), "") < 1.0
