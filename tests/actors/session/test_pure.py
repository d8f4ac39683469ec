"""The session machine imports the standard library's pure parts and msgspec, and asks nobody for the time."""

import ast
from pathlib import Path

import pytest

import actors.session

ALLOWED = {"collections", "datetime", "enum", "functools", "itertools", "math", "operator", "re", "types", "typing"}
EFFECTS = {"open", "print", "input", "exec", "eval", "id", "hash"}
CLOCKS = {"now", "utcnow", "today", "fromtimestamp"}
MODULES = sorted(Path(actors.session.__path__[0]).rglob("*.py"))


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_nothing_impure(path: Path) -> None:
    for name in imported(ast.parse(path.read_text())):
        top = name.split(".", 1)[0]
        assert top in ALLOWED | {"msgspec"} or name == "actors.session" or name.startswith("actors.session."), name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_asks_for_no_time_and_does_nothing_outside(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global), path
        if isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute):
                assert called.attr not in CLOCKS, f"{path}:{node.lineno}"
            elif isinstance(called, ast.Name):
                assert called.id not in EFFECTS, f"{path}:{node.lineno}"
