"""The private parts of other packages that Homeroom uses. They may change with any release, so each is in a table,
exists in the installed version, and its package has an upper bound in `setup.cfg`."""

import ast
import configparser
import contextlib
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
OWN = ("server", "storage", "actors")
FILES = sorted(path for package in OWN for path in (ROOT / package).rglob("*.py") if path.name != "__main__.py")

USED = {
    "aiohttp.base_protocol.BaseProtocol._loop",
    "aiohttp.base_protocol.BaseProtocol._upgraded",
    "aiohttp.web_protocol.RequestHandler._current_request",
    "aiohttp.web_protocol.RequestHandler._keepalive_timeout",
    "aiohttp.web_protocol.RequestHandler._messages",
    "aiohttp.web_protocol.RequestHandler._next_keepalive_close_time",
    "aiohttp.web_protocol.RequestHandler._waiter",
    "aiohttp.web_request.BaseRequest._payload",
    "aiohttp.web_server.Server._kwargs",
    "aiopg.connection.Connection._close",
    "aiopg.connection.Connection._create_waiter",
    "aiopg.connection.Connection._fileno",
    "aiopg.connection.Connection._loop",
    "aiopg.connection.Connection._notifies_proxy",
    "aiopg.connection.Connection._poll",
    "aiopg.connection.Connection._ready",
    "aiopg.connection.Connection._waiter",
    "aiopg.connection.Connection._weakref",
    "pykka._actor.Actor._actor_loop_setup",
    "pykka._actor.Actor._actor_loop_teardown",
    "pykka._actor.Actor._actor_ref",
    "pykka._actor.Actor._create_actor_inbox",
    "pykka._actor.Actor._create_future",
    "pykka._actor.Actor._handle_failure",
    "pykka._actor.Actor._start_actor_loop",
    "pykka._actor.Actor._stop",
    "pykka._envelope.Envelope",
    "pykka.messages._ActorStop",
}
"""By the class or module that defines them. An access that the code no longer makes leaves the table."""


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def foreign(module: str) -> bool:
    package = module.partition(".")[0]
    return package not in OWN and package not in sys.stdlib_module_names


def names_of_class(node: ast.AST) -> Iterator[str]:
    """Return the names of methods, slots and class attributes, and of the attributes of `self`."""
    for inner in ast.walk(node):
        match inner:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                yield name
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=value):
                yield from (one.value for one in ast.walk(value) if isinstance(one, ast.Constant))  # type: ignore[misc]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name


@cache
def defined_by(owner: type) -> frozenset[str]:
    """Return the private names that a class defines itself."""
    names = set(vars(owner))
    with contextlib.suppress(OSError, TypeError):  # a class written in C has no source
        names |= set(names_of_class(ast.parse(textwrap.dedent(inspect.getsource(owner)))))
    return frozenset(filter(private, names))


def foreign_bases(owner: type) -> list[type]:
    return [base for base in owner.__mro__ if foreign(base.__module__)]


def uses(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    """Return the private parts of other packages that a module uses: those that it imports, those that its classes
    inherit or override, by the class that defines them; of other objects only the name, as `?._name`."""
    own: set[str] = set()
    inherited: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None and foreign(node.module):
            for imported in (f"{node.module}.{alias.name}" for alias in node.names):
                if any(map(private, imported.split("."))):
                    yield imported
        if isinstance(node, ast.ClassDef):
            own |= set(names_of_class(node))
            owner = getattr(module, node.name, None)
            bases = foreign_bases(owner) if isinstance(owner, type) else []
            used = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
            for name in filter(private, used | set(names_of_class(node))):
                definers = [base for base in bases if name in defined_by(base)]
                if definers:
                    inherited.add(name)
                    yield f"{definers[-1].__module__}.{definers[-1].__qualname__}.{name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not itself and node.attr not in own | inherited:
                yield f"?.{node.attr}"


def used_by(file: Path) -> set[str]:
    module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return set(uses(ast.parse(file.read_text()), importlib.import_module(module)))


def test_the_table_is_complete() -> None:
    names = {name.rpartition(".")[2]: name for name in USED}
    used = set().union(*map(used_by, FILES))
    resolved = {names.get(name[2:], name) if name.startswith("?.") else name for name in used}
    assert resolved == USED


@pytest.mark.parametrize("name", sorted(USED))
def test_each_exists(name: str) -> None:
    path, _, attribute = name.rpartition(".")
    try:
        assert hasattr(importlib.import_module(path), attribute)
    except ModuleNotFoundError:
        module, _, owner = path.rpartition(".")
        assert attribute in defined_by(getattr(importlib.import_module(module), owner))


def test_their_packages_have_an_upper_bound() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    bounded = {line.partition(">=")[0] for line in config["options"]["install_requires"].split("\n") if ",<" in line}
    assert {name.partition(".")[0] for name in USED} <= bounded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(request): return request._payload.is_eof()", {"?._payload"}),
        ("from pykka._envelope import Envelope", {"pykka._envelope.Envelope"}),
        ("from pykka.messages import _ActorStop", {"pykka.messages._ActorStop"}),
        ("class One:\n    def _a(self, other: 'One') -> bool: return other._a(self)", set()),
        ("class One(pykka.Actor):\n    def _stop(self): ...", {"pykka._actor.Actor._stop"}),
        ("class One(pykka.Actor):\n    def f(self): return self._actor_ref", {"pykka._actor.Actor._actor_ref"}),
        ("class One(pykka.Actor):\n    def f(self): return self._own", set()),
    ],
)
def test_a_use_is_recognised(text: str, expected: set[str]) -> None:
    module = ModuleType("server.one")
    exec(f"import pykka\n{text}", vars(module))
    assert set(uses(ast.parse(text), module)) == expected
