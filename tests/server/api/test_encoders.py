"""Encoders get a `VisibleEvent`, never a row of the log, and decide nothing about who may see what."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENCODERS = [*ROOT.glob("server/v1/*.py"), *ROOT.glob("server/dialects/*/*.py"), ROOT / "server/api/dialect_frames.py"]
FORBIDDEN = {"Recorded", "Published", "visible_event", "audience", "anonymous", "RULES"}
"""Names of the core by which a module would read rows of the log, or apply the rules itself."""
CORE = ("actors.session.events", "actors.session.visibility", "actors.session.event_rules", "actors.session.audience")


def uses(source: str) -> set[str]:
    """Return the forbidden names that a module imports from the core, or has as attributes of its `events`."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module in CORE:
                used |= {name.name for name in names}
            case ast.Attribute(value=ast.Name("e"), attr=name):
                used.add(name)
    return used & FORBIDDEN


@pytest.mark.parametrize("path", ENCODERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_encoder_gets_only_what_its_viewers_may_have(path: Path) -> None:
    assert uses(path.read_text()) == set()


def test_rows_in_an_encoder_are_noticed() -> None:
    assert uses("from actors.session import events as e\ndef row(recorded: e.Recorded) -> None: ...") == {"Recorded"}
    assert uses("from actors.session.event_rules import anonymous") == {"anonymous"}


def test_only_visible_event_makes_one() -> None:
    made = [
        str(path.relative_to(ROOT))
        for package in ("actors", "server", "storage")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "VisibleEvent"
    ]
    assert made == ["actors/session/visibility.py"]
