"""A public class name belongs to one class: a reader who meets it knows which one is meant.

Dialects are exempt: each describes another product's API, and those products share words.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREES = ("server", "actors", "storage")
DIALECTS = ROOT / "server" / "dialects"


def public_classes(text: str) -> Iterator[tuple[str, int]]:
    """Return the name and the line of each public class of a module, nested ones included."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name, node.lineno


def repeated(modules: Mapping[str, str]) -> list[str]:
    """Return each class name that is defined more than once, with the path and the line of every definition."""
    definitions: dict[str, list[str]] = {}
    for path, text in modules.items():
        for name, line in public_classes(text):
            definitions.setdefault(name, []).append(f"{path}:{line}")
    return [f"{name}: {', '.join(lines)}" for name, lines in sorted(definitions.items()) if len(lines) > 1]


def test_no_class_name_is_used_twice() -> None:
    paths = (path for tree in TREES for path in sorted((ROOT / tree).rglob("*.py")) if DIALECTS not in path.parents)
    assert repeated({str(path.relative_to(ROOT)): path.read_text("utf-8") for path in paths}) == []


@pytest.mark.parametrize(
    ("first", "second", "offenders"),
    [
        ("class Seat: ...", "class Stream: ...", []),
        ("class Seat: ...", "\nclass Seat: ...", ["Seat: a.py:1, b.py:2"]),
        ("class Seat: ...", "def make():\n    class Seat: ...", ["Seat: a.py:1, b.py:2"]),
        ("class _Seat: ...", "class _Seat: ...", []),
        ("class Seat: ...", "from a import Seat", []),
    ],
)
def test_a_repeated_name_is_recognised(first: str, second: str, offenders: list[str]) -> None:
    assert repeated({"a.py": first, "b.py": second}) == offenders
