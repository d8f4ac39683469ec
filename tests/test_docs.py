"""The documentation agrees with the tree: every path, name and link in it exists, and its lines are short.

A name in backquotes that looks like a path of this repository or like `module.function` is checked. Settings
(`section.key`) and names of other systems are not names of modules and are left alone.
"""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from server.settings.sections import Settings

ROOT = Path(__file__).parents[1]
PACKAGES = ("actors", "server", "storage")
WIDTH = 120


@cache
def tracked() -> tuple[str, ...]:
    """Return every file of the repository, relative to its root."""
    if not (ROOT / ".git").exists():
        pytest.skip("no Git repository: the list of files is unknown")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(listed.stdout.splitlines())


FILES = {"cfg", "css", "gz", "js", "json", "key", "lock", "log", "md", "py", "sql", "toml", "yaml"}
"""Endings of files, which are no names of functions."""
PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OF_THE_CODE = [page for page in PAGES if page.startswith(("docs/adr/", "docs/ARCH", "docs/gloss", "CONTRIBUTING"))]
"""Pages about the code. On the others, `board.cleared` is a field of an answer and `outbox.kind` a column."""


def text_lines(page: str) -> Iterator[tuple[int, str]]:
    """Return the lines of a page that are not code, with their numbers."""
    code = False
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            code = not code
        elif not code:
            yield number, line


def quoted(page: str) -> Iterator[tuple[int, str]]:
    """Return everything in backquotes on a page, with its line."""
    for number, line in text_lines(page):
        for name in re.findall(r"`([^`]+)`", line):
            yield number, name


# The tree in the README


def printed_tree() -> set[str]:
    """Return the paths in the README's layout. Two spaces of indentation are one level."""
    block = (ROOT / "README.md").read_text().split("## Layout\n")[1].split("```")[1]
    paths, parents = set(), [""]
    for line in block.strip("\n").splitlines():
        indented, name = len(line) - len(line.lstrip()), line.split()[0]
        parents[indented // 2 + 1 :] = [parents[indented // 2] + name]
        paths.add(parents[-1])
        assert len(line.split()) > 1, f"{name} has no description"
    return paths


def test_the_readme_prints_the_directories_of_two_levels_and_the_files_at_the_root() -> None:
    actual = set()
    for file in tracked():
        *folders, name = file.split("/")
        actual |= {"/".join(folders[:depth]) + "/" for depth in (1, 2) if depth <= len(folders)}
        if not folders:
            actual.add(name)
    assert printed_tree() == {path for path in actual if not path.startswith(".")}


# Paths, names and links


def code_paths(page: str) -> Iterator[tuple[int, str]]:
    """Return the names on a page that look like a path of this repository."""
    tops = "actors|benchmarks|docs|server|storage|tests"
    for number, name in quoted(page):
        if re.fullmatch(rf"(?:{tops})/[\w./-]*", name) or re.fullmatch(r"\w+\.(?:py|md)", name):
            yield number, name


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page: str) -> None:
    files = tracked()
    folders = {str(parent) for file in files for parent in Path(file).parents}
    known = {*files, *folders, *(Path(file).name for file in files)}
    missing = [f"{page}:{number}: {name}" for number, name in code_paths(page) if name.rstrip("/") not in known]
    assert not missing


@cache
def definitions() -> dict[str, set[str]]:
    """Return what each module and each class defines, by its short name; modules also by their full name."""
    found: dict[str, set[str]] = {}

    def names(body: list[ast.stmt]) -> set[str]:
        inside: set[str] = set()
        for node in body:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    inside.add(node.name)
                    targets = (one for one in ast.walk(node) if isinstance(one, ast.Attribute))
                    inside |= {
                        one.attr for one in targets if isinstance(one.value, ast.Name) and one.value.id == "self"
                    }
                case ast.ClassDef():
                    inside.add(node.name)
                    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
                    found.setdefault(node.name, set()).update(
                        names(node.body), *(found.get(base, ()) for base in bases)
                    )
                case ast.Assign():
                    inside |= {
                        one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)
                    }
                case ast.AnnAssign(target=ast.Name(id=name)):
                    inside.add(name)
                case ast.If():
                    inside |= names(node.body) | names(node.orelse)
                case ast.Import() | ast.ImportFrom():
                    inside |= {alias.asname or alias.name for alias in node.names}
        return inside

    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            full = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            full = full.removesuffix(".__init__")
            inside = names(ast.parse(path.read_text()).body)
            for name in (full, full.rpartition(".")[2]):
                found.setdefault(name, set()).update(inside)
            parent, _, last = full.rpartition(".")
            found.setdefault(parent, set()).add(last)
            found.setdefault(parent.rpartition(".")[2], set()).add(last)
    return found


def is_setting(name: str) -> bool:
    value: object = Settings()
    for part in name.split("."):
        if not hasattr(value, part):
            return False
        value = getattr(value, part)
    return True


def unknown_names(page: str) -> Iterator[str]:
    """Return the names like `module.function` or `Class.method` whose first part exists and whose last does not."""
    known = definitions()
    for number, name in quoted(page):
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(\(.*\))?", name) or is_setting(name):
            continue
        owner, _, last = name.partition("(")[0].rpartition(".")
        if last in FILES or (page not in OF_THE_CODE and owner.split(".")[0] not in PACKAGES):
            continue
        full = owner if owner in known else owner.rpartition(".")[2]
        if (owner.split(".")[0] in PACKAGES and full not in known) or (full in known and last not in known[full]):
            yield f"{page}:{number}: {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_function_and_method_exists(page: str) -> None:
    assert not list(unknown_names(page))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/ARCHITECTURE.md"])
def test_every_class_exists(page: str) -> None:
    known = definitions()
    names = {name for _, name in quoted(page) if re.fullmatch(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+", name)}
    assert not names - known.keys() - set().union(*known.values())


def links(page: str) -> list[str]:
    text = "\n".join(line for _, line in text_lines(page))
    return [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_has_a_target(page: str) -> None:
    missing = [link for link in links(page) if not ((ROOT / page).parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_lines_are_at_most_120_characters_long(page: str) -> None:
    """Rows of tables cannot be wrapped."""
    long = [number for number, line in text_lines(page) if len(line) > WIDTH and not line.startswith("|")]
    assert not long


# The glossary

GLOSSARY = "docs/glossary.md"


def terms() -> dict[str, list[str]]:
    """Return the names of the code for each term."""
    rows = [line.strip("|").split("|") for _, line in text_lines(GLOSSARY) if line.startswith("| ")]
    rows = [row for row in rows if row[0].strip() not in ("term", "---")]
    return {row[0].strip(): re.findall(r"`([^`]+)`", row[2]) for row in rows}


def test_the_glossary_defines_each_term_once() -> None:
    lines = [
        line for _, line in text_lines(GLOSSARY) if line.startswith("| ") and not line.startswith(("| term", "| --"))
    ]
    assert len(lines) == len(terms()) >= 30


@pytest.mark.parametrize("term", terms())
def test_the_code_of_each_term_exists(term: str) -> None:
    names = terms()[term]
    assert names
    known = definitions()
    everything = set().union(*known.values())
    for name in names:
        owner, _, last = name.rpartition(".")
        assert name in known or (last in known.get(owner, ()) if owner else last in everything), name
