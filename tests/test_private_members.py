"""Tests use the public members of what they test, so that a change inside a class breaks no test of its behaviour."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py"))
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
"""Public members of named tuples, underlined only to keep them apart from fields."""


def private_members(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Return each access `x._y` where x is neither the object itself nor its parent class."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr in NAMED_TUPLE:
            continue
        if node.attr.startswith("__") and node.attr.endswith("__"):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id in ("self", "cls"):
            continue
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super":
            continue
        yield node


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("actor._state", 1),
        ("town.server._actors[1]", 1),
        ("self.actor._state", 1),
        ("self._state", 0),
        ("super()._append(batch)", 0),
        ("answer._replace(status=1)", 0),
        ("type(one).__name__", 0),
    ],
)
def test_an_access_from_outside_is_recognised(text: str, count: int) -> None:
    assert len(list(private_members(ast.parse(text)))) == count


@pytest.mark.parametrize("file", FILES)
def test_no_test_reads_private_members(file: str) -> None:
    tree = ast.parse((TESTS / file).read_text())
    accesses = [f"{file}:{node.lineno}: {ast.unparse(node)}" for node in private_members(tree)]
    assert not accesses
