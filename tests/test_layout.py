"""The source trees stay small enough to find a file by guessing: few entries per folder, short modules."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parents[1]
TREES = ("server", "actors", "storage")
ENTRIES_IN_SERVER = 18
MODULES_PER_FOLDER = 20
LINES_PER_MODULE = 400
MEDIAN_LINES = 150
LONGER = {"actors/session/commands.py", "actors/session/events.py"}
"""The vocabulary of the session machine: one list of commands and one of events."""


def line_counts(root: Path = ROOT, trees: Sequence[str] = TREES) -> dict[str, int]:
    """Return the number of lines of each module, by path relative to `root`."""
    modules = (path for tree in trees for path in (root / tree).rglob("*.py"))
    return {str(path.relative_to(root)): len(path.read_text("utf-8").splitlines()) for path in modules}


def entries(folder: Path) -> list[str]:
    """Return the packages and modules of a folder, without its `__init__.py`."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or any(path.rglob("*.py")))
    )


def crowded(modules: Mapping[str, int]) -> list[str]:
    """Return the folders with more than `MODULES_PER_FOLDER` modules, `__init__.py` not counted."""
    folders: dict[str, int] = {}
    for module in modules:
        if not module.endswith("/__init__.py"):
            folder = module.rpartition("/")[0]
            folders[folder] = folders.get(folder, 0) + 1
    return [f"{folder}: {count} modules" for folder, count in folders.items() if count > MODULES_PER_FOLDER]


def too_long(modules: Mapping[str, int]) -> list[str]:
    return [f"{module}: {lines} lines" for module, lines in modules.items() if lines > LINES_PER_MODULE]


def test_server_has_few_entries() -> None:
    assert len(entries(ROOT / "server")) <= ENTRIES_IN_SERVER, entries(ROOT / "server")


def test_no_folder_has_too_many_modules() -> None:
    assert crowded(line_counts()) == []


def test_no_module_is_too_long() -> None:
    modules = {module: lines for module, lines in line_counts().items() if module not in LONGER}
    assert too_long(modules) == []


def test_every_exception_is_needed() -> None:
    modules = line_counts()
    assert len(too_long({module: modules[module] for module in LONGER})) == len(LONGER)


def test_half_of_the_modules_are_short() -> None:
    assert median(line_counts().values()) <= MEDIAN_LINES


@pytest.mark.parametrize(("count", "offenders"), [(20, []), (21, ["server/api: 21 modules"])])
def test_a_crowded_folder_is_recognised(count: int, offenders: list[str]) -> None:
    modules = {f"server/api/module_{number}.py": 1 for number in range(count)}
    assert crowded({"server/api/__init__.py": 1, **modules}) == offenders


@pytest.mark.parametrize(("lines", "offenders"), [(400, []), (401, ["storage/pool.py: 401 lines"])])
def test_a_long_module_is_recognised(tmp_path: Path, lines: int, offenders: list[str]) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "pool.py").write_text("pass\n" * lines)
    assert too_long(line_counts(tmp_path, ["storage"])) == offenders


def test_packages_and_modules_are_entries(tmp_path: Path) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "__pycache__").mkdir()
    for name in ("api/sse.py", "__init__.py", "__main__.py", "py.typed"):
        (tmp_path / name).touch()
    assert entries(tmp_path) == ["__main__.py", "api"]
