"""The descriptions of APIs list the refusals that a route can come to, and no others: its source says which."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from msgspec import structs

from actors.session import commands as c
from actors.session import machine
from actors.session.refusals import OF_COMMANDS
from server.api import openapi
from server.api.routes import Api, CommandRoute, MessageSocketRoute, Row
from server.dialects import tables
from server.http.refusals import refusals_of
from server.settings.sections import Settings
from server.usecases.command_inputs import LOOKUPS
from server.usecases.session_creation import create_session_idempotent
from server.v1.table import API
from tests.support.raised import commands, raised

ALWAYS = {("too_fast", 429), ("unavailable", 503)}
"""Every route may be refused for these."""


def interview_open() -> Settings:
    """Return settings under which the interview dialect has other rows."""
    settings = Settings()
    dialects = structs.replace(settings.dialects, interview=structs.replace(settings.dialects.interview, open=True))
    return structs.replace(settings, dialects=dialects)


APIS: list[Api] = [API, *tables(Settings()), *tables(interview_open())]
ROWS: list[tuple[Api, Row]] = [(api, row) for api in APIS for row in api.rows]


def unwrapped(function: Any) -> Any:
    while isinstance(function, partial):
        function = function.func
    return function


def statements(row: Row) -> Iterator[Any]:
    yield from openapi.functions(row)
    if isinstance(row, MessageSocketRoute):
        for frame in row.frames.values():
            yield from [frame.ask, *([frame.find] if frame.find else [])]


FUNCTIONS: dict[str, Any] = {
    f"{function.__module__}.{function.__qualname__}": function
    for _, row in ROWS
    for function in [unwrapped(one) for one in statements(row)]
}
"""Every function of every row that may refuse."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_refuses_for(name: str) -> None:
    function = FUNCTIONS[name]
    assert set(refusals_of(function).items()) == raised(function) - ALWAYS


def test_creations_and_what_commands_need_say_what_they_refuse_for() -> None:
    functions: list[Any] = [create_session_idempotent, *LOOKUPS.values()]
    for function in functions:
        assert set(refusals_of(function).items()) == raised(function) - ALWAYS


@pytest.mark.parametrize("command", machine.HANDLERS.keys() - {c.Together}, ids=lambda command: command.__name__)
def test_the_core_says_why_each_command_is_refused(command: type[c.Command]) -> None:
    assert {reason.value for reason in OF_COMMANDS[command]} == {
        reason for reason, _ in raised(machine.HANDLERS[command])
    }


@pytest.mark.parametrize(
    ("api", "row"),
    [(api, row) for api, row in ROWS if isinstance(row, CommandRoute)],
    ids=lambda one: one.name if isinstance(one, Api) else f"{one.method} {one.path}",
)
def test_a_row_of_commands_says_which_it_sends(api: Api, row: CommandRoute) -> None:
    sent = commands(row.ask)
    assert sent == set(row.commands) or (not sent and row.commands == (row.body,))


def documented(path: str, method: str = "get") -> set[str]:
    return set(openapi.document(API)["paths"]["/v1" + path][method]["responses"])


def test_a_route_that_refuses_little_documents_little() -> None:
    assert documented("/time") == {"200", "422", "429", "503"}
    assert documented("/sessions") == {"200", "401", "403", "422", "429", "503"}
    assert documented("/auth/refresh", "post") == {
        "200", "400", "401", "408", "413", "415", "422", "429", "503",
    }  # fmt: skip


@pytest.mark.parametrize("api", APIS[:6], ids=lambda api: api.name)
def test_refusals_of_bodies_are_documented_only_where_there_is_one(api: Api) -> None:
    for row in api.rows:
        statuses = {problem.reason for problem in openapi.possible(api, row)}
        if row.method == "GET":
            assert not statuses & {"malformed", "too_large", "unsupported_type", "key_not_taken"}, row.path
        assert ("not_a_teacher" in statuses) == row.teachers, row.path
