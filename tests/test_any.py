"""`Any` turns the type checker off, so every public signature of the server that has it says why.

A comment on the line, or on the one above, gives the reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

SERVER = Path(__file__).parents[1] / "server"


def annotations(tree: ast.Module | ast.ClassDef) -> Iterator[ast.expr]:
    """Yield the annotations of public functions, methods and fields."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not private(name):
                every = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                named = [*every, node.args.vararg, node.args.kwarg]
                yield from (each.annotation for each in named if each is not None and each.annotation is not None)
                if node.returns is not None:
                    yield node.returns
            case ast.ClassDef(name=name) if not private(name):
                yield from annotations(node)
            case ast.AnnAssign(target=ast.Name(id=name)) if not private(name):
                yield node.annotation
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript()) if not private(name):
                yield node.value


def private(name: str) -> bool:
    """Return whether a name is private; `__init__` and its like are not."""
    return name.startswith("_") and not name.startswith("__")


def lines_with_any(source: str) -> list[int]:
    """Return the lines of public signatures on which `Any` has no comment, nor the line above one."""
    lines = source.splitlines()
    found = {
        node.lineno
        for annotation in annotations(ast.parse(source))
        for node in ast.walk(annotation)
        if isinstance(node, ast.Name) and node.id == "Any"
    }
    return sorted(
        number for number in found if "#" not in lines[number - 1] and not lines[number - 2].lstrip().startswith("#")
    )


def test_any_in_a_public_signature_has_a_reason() -> None:
    unexplained = [
        f"{path.relative_to(SERVER)}:{line}"
        for path in SERVER.rglob("*.py")
        for line in lines_with_any(path.read_text())
    ]
    assert unexplained == []


def test_the_rule_finds_what_it_is_for() -> None:
    assert lines_with_any("def f(a: Any) -> int: ...") == [1]
    assert lines_with_any("class A:\n    b: dict[str, Any] = {}\n") == [2]
    assert lines_with_any("View = Callable[[Any], Any]") == [1]
    assert lines_with_any("# Any: JSON.\ndef f(a: Any) -> int: ...") == []
    assert lines_with_any("def f(a: Any) -> int: ...  # Any: JSON.") == []
    assert lines_with_any("def _f(a: Any) -> int: ...") == []
