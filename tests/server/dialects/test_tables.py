"""What holds for every dialect: tables that are total, in modules that wait for nothing."""

import ast
import inspect
import sys
from pathlib import Path
from typing import get_args

import pytest

import server.dialects
from actors.session.errors import Reason
from actors.session.events import DurableEvent
from server.api.dialect import Dialect
from server.dialects import tables
from server.settings.sections import Settings

DIALECTS = tables(Settings())
MODULES = sorted(path for path in Path(server.dialects.__path__[0]).rglob("*.py"))
WAITS = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await, ast.Try, ast.TryStar, ast.While, ast.Global)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_reason_has_words_and_every_event_a_frame_or_none(dialect: Dialect) -> None:
    assert dialect.errors.keys() == set(Reason)
    assert all(400 <= status < 600 for status, _ in (*dialect.errors.values(), *dialect.problems.values()))
    assert not dialect.events.keys() & dialect.silent
    assert dialect.events.keys() | dialect.silent == set(get_args(DurableEvent))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_words_name_nothing_but_what_a_path_has(dialect: Dialect) -> None:
    for row in dialect.rows:
        for status, text in (*dialect.errors.values(), *dialect.problems.values(), *row.errors.values()):
            assert 400 <= status < 600
            assert text.format(ref="x", detail="y") is not None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_dialect_waits_for_nothing(path: Path) -> None:
    waits = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, WAITS)]
    assert not waits, [f"{path.name}:{node.lineno}" for node in waits]


def test_views_are_not_coroutines() -> None:
    for name, module in sys.modules.items():
        if name.startswith("server.dialects."):
            assert not [each for each in vars(module).values() if inspect.iscoroutinefunction(each)]
