"""Two users and more, every row of the `interview` dialect: strangers, and tokens of elsewhere."""

from typing import Any

import pytest

from server.dialects.interview import table as interview
from server.http.uuids import new_id
from server.settings.sections import Settings
from tests.support.client import Client
from tests.support.dialects.interviews import Guest, created, pair, refused
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "XYLOPHONE"
ROWS = {f"{row.method} {row.path}": row for row in interview.table(Settings()).rows}

# A body with which the row works for whoever may. None: it takes none.
READING: dict[str, Any] = {
    "GET /api/v1/sessions/{ref}": None,
    "GET /api/v1/sessions/{ref}/participants": None,
    "GET /api/v1/sessions/{ref}/code/snapshots": None,
    "GET /api/v1/health": None,
    "GET /ws/sessions/{ref}": None,
}
COMING: dict[str, Any] = {
    "POST /api/v1/sessions": {"creator": {"id": new_id(), "name": "x"}},
    "POST /api/v1/sessions/{ref}/join": {"user": {"id": new_id(), "name": "x"}},
}
CHANGING: dict[str, Any] = {
    "PATCH /api/v1/sessions/{ref}": {"code": "x"},
    "PUT /api/v1/sessions/{ref}/code": {"code": "x", "language": "html"},
    "PATCH /api/v1/sessions/{ref}/participants/{participant_id}": {"is_online": False},
    "DELETE /api/v1/sessions/{ref}/participants/{participant_id}": None,
    "DELETE /api/v1/sessions/{ref}": None,
}


async def send(client: Client, name: str, ref: str, participant_id: str, body: Any) -> Any:
    method, path = name.split(" ")
    return await client.call(
        method, "/interview" + path.format(ref=ref, participant_id=participant_id), body
    )  # fmt: skip


async def test_every_row_is_one_of_these() -> None:
    assert READING.keys() | COMING.keys() | CHANGING.keys() == ROWS.keys()
    assert all(ROWS[name].public for name in READING | COMING)
    assert not any(ROWS[name].public for name in CHANGING)


@pytest.mark.parametrize("name", CHANGING)
async def test_changing_needs_a_token_of_this_session(town: Town, name: str) -> None:
    ivy, carl = await pair(town, code=SECRET)
    elsewhere, account = await created(town), await town.teacher()
    seat = await account.create(kind="interview")
    scoped = Client(town.http, town.url, (await account.post(f"{seat.path}/tokens")).ok(201)["token"])
    before = await ivy.session()
    for whom in (ivy.id, carl.id, new_id()):
        for client, status, code in (
            (town.anyone, 401, "UNAUTHORIZED"),
            (Client(town.http, town.url, "x.y.z"), 401, "UNAUTHORIZED"),
            (elsewhere, 403, "FORBIDDEN"),
            (scoped, 403, "FORBIDDEN"),
        ):
            refused(await send(client, name, ivy.ref, whom, CHANGING[name]), status, code)
    for client in (account, await town.student()):
        refused(await send(client, name, ivy.ref, carl.id, CHANGING[name]), 403, "FORBIDDEN")
    for ref in (elsewhere.ref, seat.session["name"]):
        status = 403 if ref == elsewhere.ref else 404
        assert (await send(carl, name, ref, carl.id, CHANGING[name])).status == status
    assert await ivy.session() == before


@pytest.mark.parametrize("name", list(CHANGING)[2:])
async def test_a_candidate_has_no_say_over_others(town: Town, name: str) -> None:
    ivy, carl = await pair(town)
    cleo = Guest(town, "Cleo")
    await cleo.join(ivy.ref)
    before = await ivy.session()
    for whom in (ivy.id, cleo.id):
        refused(await send(carl, name, ivy.ref, whom, CHANGING[name]), 403, "FORBIDDEN")
    assert await ivy.session() == before


@pytest.mark.parametrize("name", [*READING, *COMING])
async def test_a_token_of_elsewhere_neither_helps_nor_hinders(town: Town, name: str) -> None:
    ivy, other = await created(town), await created(town)
    if name.startswith("GET /ws"):
        refused(await ivy.upgrade(token=other.token), 403, "FORBIDDEN")
        return
    for client in (town.anyone, other, Client(town.http, town.url, "x.y.z")):
        body = (READING | COMING)[name]
        body = body and {key: value | {"id": new_id()} for key, value in body.items()}
        assert (await send(client, name, ivy.ref, "", body)).status in (200, 201)
