"""Named statements from `sql/queries/*.sql`: each starts at a line `-- name: <name>`."""

import re
from pathlib import Path

FORGET_ROWS = 5_000
"""The most rows that one statement deletes when it drops old data, so that no such statement runs out of time."""
DIRECTORY = Path(__file__).parent / "sql" / "queries"
_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def load(topic: str) -> dict[str, str]:
    """Return the statements of one file, by name."""
    parts = _NAME.split((DIRECTORY / f"{topic}.sql").read_text("utf-8"))
    return {name: sql.strip() for name, sql in zip(parts[1::2], parts[2::2], strict=True)}
