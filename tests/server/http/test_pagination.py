"""Pagination: invalid cursors and limits and unknown parameters are refused by name."""

from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import inspect

from server.api.routes import ActionRoute, DownloadRoute, Row
from server.v1.table import API
from tests.support.booking import book
from tests.support.client import Seat
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

READS = {row.path: row for row in API.rows if row.method == "GET" and isinstance(row, ActionRoute | DownloadRoute)}
NOBODY = "01990000-0000-7000-8000-000000000000"
NONE = ("", " ", "x", "-1", "1.5", "0x1", " 5", "5\n", "٣", "9" * 30, "null", "true", "5,6")
"""What is neither a number nor a name."""
ODD: dict[str, tuple[str, ...]] = {
    "limit": (*NONE, "0", "1001", "1000000"),
    "cursor": (*NONE, "3-4", "x" * 2_000),
    "before": (*NONE, "0"),
}


def bounded() -> list[tuple[str, str]]:
    return [
        (path, field.encode_name)
        for path, row in READS.items()
        if row.query is not None
        for field in msgspec.structs.fields(row.query)
        if field.encode_name in ODD
    ]


def path_of(row: Row, host: Seat) -> str:
    return "/v1" + row.path.replace("{ref}", host.id).replace("{", "").replace("}", "")


@pytest.mark.parametrize(("path", "name"), bounded())
async def test_an_invalid_cursor_or_limit_is_refused_by_its_name(host: Seat, path: str, name: str) -> None:
    for odd in ODD[name]:
        reply = await host.person.get(path_of(READS[path], host), **{name: odd})
        reply.refused(422, "invalid", name)


@pytest.mark.parametrize("path", READS)
async def test_an_unknown_parameter_is_refused(host: Seat, path: str) -> None:
    for unknown in ("limits", "Limit", "page"):
        (await host.person.get(path_of(READS[path], host), **{unknown: "1"})).refused(422, "invalid", unknown)


@pytest.mark.parametrize("path", [path for path, name in bounded() if name == "limit"])
async def test_limits_from_1_to_the_maximum_are_accepted(host: Seat, path: str) -> None:
    if path.count("{") > path.count("{ref}"):
        return
    (most,) = (
        inspect.type_info(field.type).le  # type: ignore[attr-defined]
        for field in msgspec.structs.fields(READS[path].query)
        if field.encode_name == "limit"
    )
    for limit in (1, most):
        (await host.person.get(path_of(READS[path], host), limit=str(limit))).ok()
    (await host.person.get(path_of(READS[path], host), limit=str(most + 1))).refused(422, "invalid", "limit")


async def test_a_cursor_of_another_list_is_refused(town: Town, host: Seat) -> None:
    tess, anna = await town.teacher(), await town.student()
    foreign = await book(tess, anna)
    for path, cursor in (
        ("/v1/sessions", foreign["id"]),
        (f"{host.path}/log", foreign["id"]),
        ("/v1/audio", foreign["id"]),
        ("/v1/bookings", "1"),
        ("/v1/bookings", host.id),
        ("/v1/bookings", NOBODY),
        ("/v1/bookings", foreign["id"]),
    ):
        (await host.person.get(path, cursor=cursor)).refused(422, "invalid", "cursor")
    assert (await tess.get("/v1/bookings", cursor=foreign["id"])).ok() == {"items": [], "next": None}


@pytest_asyncio.fixture(name="host", scope="module", loop_scope="session")
async def a_host(town: Town) -> Any:
    host, *_ = await town.classroom("Anna")
    return host
