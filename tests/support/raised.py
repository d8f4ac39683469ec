"""The refusals that a function can raise, read from its source and that of the project's functions which it mentions.

It follows names, module attributes, `parts.part.method` and `self.method`. It cannot follow computed reasons:
`COMPUTED` lists them.
"""

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, get_type_hints

from actors.session import commands as c
from actors.session import machine
from actors.session.access import Ask
from actors.session.errors import Reason, Rejected
from server.api.services import Services
from server.http import problems
from server.http.problems import Problem
from server.http.refusals import READING
from server.usecases.command_inputs import load_inputs
from server.usecases.session_access import read_state, require_membership

PARTS = get_type_hints(Services)
Refusal = tuple[str, int]
"""A reason and its status."""
COMPUTED: dict[str, set[Refusal]] = {
    "server.usecases.session_tokens.new_guest": {("ended", 410), ("cancelled", 410)},
    "server.usecases.room_access.met": {("waiting", 403), ("kicked", 403)},
    "actors.session.aspects.lifecycle.closed_rejection": {("ended", 410), ("cancelled", 410)},
}
"""Refusals whose reason is computed in the source."""
OPAQUE: set[Any] = {
    machine.decide,
    machine.apply,
    load_inputs,
    problems.problem_of,
    read_state,
    require_membership,
}
"""Functions that are not followed. The refusals of the first three depend on the command, and those of
`require_membership` on the access that is asked for: tables list both. `problem_of` and `read_state` only pass on the
refusals of others."""


def commands(function: Callable[..., Any]) -> frozenset[type[c.Command]]:
    """Return the types of all commands that a function can create."""
    found: set[type[c.Command]] = set()
    for one, names, _ in reachable(function):
        for node in ast.walk(tree_of(one)):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=module), attr=name)) if names.get(module) is c:
                    made = getattr(c, name)
                    if isinstance(made, type) and issubclass(made, c.Command) and made is not c.Together:
                        found.add(made)
    return frozenset(found)


def raised(function: Callable[..., Any]) -> frozenset[Refusal]:
    """Return all refusals that a function can raise."""
    found: set[Refusal] = set()
    for one, names, _ in reachable(function):
        found |= COMPUTED.get(f"{one.__module__}.{one.__qualname__}", set())
        for node in ast.walk(tree_of(one)):
            if isinstance(node, ast.Call):
                found |= set(refusals(node, names))
    return frozenset(found)


Reached = tuple[types.FunctionType, dict[str, Any], Any]
"""A function, the values of its names, and the class that it is a method of."""


def reachable(function: Any) -> Iterator[Reached]:
    """Yield a function, the project's functions that it mentions, those that they mention, and so on."""
    waiting, visited = [function], set()
    while waiting:
        one = waiting.pop()
        while isinstance(one, partial):
            waiting += [*one.args, *one.keywords.values()]
            one = one.func
        one = inspect.unwrap(getattr(one, "__func__", one)) if callable(one) else None
        if not isinstance(one, types.FunctionType) or one in visited or one in OPAQUE:
            continue
        if not one.__module__.startswith(("server.", "actors.session", "tests.")):
            continue
        visited.add(one)
        names = {**one.__globals__, **inspect.getclosurevars(one).nonlocals}
        owner = owner_of(one)
        yield one, names, owner
        for node in ast.walk(tree_of(one)):
            if isinstance(node, ast.Name | ast.Attribute):
                waiting += targets(node, names, owner)


def tree_of(function: types.FunctionType) -> ast.AST:
    """Return the syntax tree of a function. The source of a lambda is the statement that contains it."""
    source = textwrap.dedent(inspect.getsource(function))
    try:
        tree = ast.parse(source)
    except SyntaxError:
        # A lambda among the arguments of a call: find the longest expression that can be parsed.
        start = source.index("lambda")
        for end in range(len(source), start, -1):
            try:
                return ast.parse(source[start:end], mode="eval")
            except SyntaxError:
                continue
        raise
    if function.__name__ == "<lambda>":
        lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
        names = function.__code__.co_varnames[: function.__code__.co_argcount]
        return next((one for one in lambdas if tuple(arg.arg for arg in one.args.args) == names), tree)
    return tree


def owner_of(function: types.FunctionType) -> Any:
    """Return the class of a method, or None for a function of a module."""
    module = inspect.getmodule(function)
    name, _, rest = function.__qualname__.partition(".")
    owner = getattr(module, name, None)
    return owner if rest and isinstance(owner, type) else None


def refusals(call: ast.Call, names: dict[str, Any]) -> Iterator[Refusal]:
    """Yield the refusals that a call creates."""
    made = names.get(call.func.id) if isinstance(call.func, ast.Name) else None
    if made is require_membership and isinstance(call.args[1], ast.Attribute):
        yield from READING[Ask[call.args[1].attr]].items()
    if made is Problem and isinstance(call.args[1], ast.Constant) and isinstance(call.args[0], ast.Constant):
        yield str(call.args[1].value), int(str(call.args[0].value))
    elif made is problems.unauthenticated:
        reason = call.args[1] if len(call.args) > 1 else ast.Constant("unauthenticated")
        if isinstance(reason, ast.Constant):
            yield str(reason.value), 401
    elif made is Rejected and isinstance(call.args[0], ast.Attribute):
        reason_ = Reason[call.args[0].attr]
        yield reason_.value, problems.STATUS[reason_]


def targets(node: ast.Name | ast.Attribute, names: dict[str, Any], owner: Any) -> Iterator[Any]:
    """Yield the functions that a name refers to."""
    match node:
        case ast.Name(id=name):
            target = names.get(name)
            yield target
            if isinstance(target, Mapping):
                # A table of functions.
                yield from [value for value in target.values() if callable(value)]
        case ast.Attribute(value=ast.Attribute(value=ast.Name(id="parts" | "services"), attr=part), attr=method):
            yield getattr(PARTS.get(part), method, None)
        case ast.Attribute(value=ast.Name(id="self"), attr=method):
            yield getattr(owner, method, None)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if isinstance(names.get(module), types.ModuleType):
            yield getattr(names[module], name, None)
