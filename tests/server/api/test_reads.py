"""What each user may read of a session is what its route row declares: membership × status × route, from the tables."""

import pytest

from actors.session.access import Ask, Membership, may
from actors.session.state import Presence, Role, Status
from server.api import mounting
from server.api.routes import ActionRoute, Api, DownloadRoute, Row
from server.dialects import tables
from server.settings.sections import Settings
from server.v1.table import API
from tests.server.api.test_access import full_class, send
from tests.support.client import Person, Seat
from tests.support.serving import Town

Who = tuple[Presence | None, Role | None, bool]
"""Status and role in the roster, and whether the user has ever been in the session."""
PEOPLE: dict[str, Who] = {
    "host": ("joined", "host", True), "cohost": ("joined", "cohost", True), "member": ("joined", "member", True),
    "observer": ("joined", "observer", True), "left": ("left", "member", True), "kicked": ("kicked", "member", True),
    "invited": ("invited", "member", False), "waiting": ("waiting", "member", False), "stranger": (None, None, False),
}  # fmt: skip
READS = {f"{row.method} {row.path}": row for row in API.rows if row.names_session and isinstance(row.reads, Ask)}
NOT_FROM_THE_LOBBY = {"GET /sessions/{ref}/code"}
"""A user in the lobby may read only their own part of the state, and that has no code."""


async def casting(town: Town, host: Seat, status: Status) -> dict[str, Person]:
    """Return a user of each kind, in a session that is `live` or `ended`."""
    people = {name: await town.student(name.title()) for name in PEOPLE}
    for name, (presence, role, _) in PEOPLE.items():
        seat = people[name].at(host)
        if presence == "invited":
            await host.do("invite", user_id=seat.user_id)
        elif presence == "waiting":
            await host.do("update", features={"lobby": True})
            await seat.join()
        elif presence is not None:
            await seat.join()
            if role != "member":
                await host.do("set_role", user_id=seat.user_id, role=role)
            if presence == "left":
                await seat.do("leave")
            elif presence == "kicked":
                await host.do("kick", user_id=seat.user_id)
    if status == "ended":
        await host.do("end")
    return people


def membership(name: str, status: Status) -> Membership:
    presence, role, ever_joined = PEOPLE[name]
    if status == "ended" and presence in ("joined", "waiting"):
        presence = "left"
    return Membership(False, presence, role, ever_joined, status)


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.parametrize("status", ["live", "ended"])
async def test_each_user_reads_what_the_rows_declare(town: Town, status: Status) -> None:
    host, _, things = await full_class(town)
    people = await casting(town, host, status)
    for name, row in READS.items():
        assert isinstance(row.reads, Ask)
        assert (await send(host.person, name, host.id, things)).status != 403, name
        for who, person in people.items():
            member = membership(who, status)
            allowed = may(row.reads, member) and not (member.status == "waiting" and name in NOT_FROM_THE_LOBBY)
            reply = await send(person, name, host.id, things)
            assert (reply.status != 403) == allowed, f"{name}: {who} got {reply.status}"


@pytest.mark.parametrize("api", [API, *tables(Settings())], ids=lambda api: api.name)
def test_every_row_that_names_a_session_says_what_it_reads(api: Api) -> None:
    mounting.check_reads(api)


def test_a_row_that_does_not_say_what_it_reads_stops_the_start() -> None:
    async def act(services: object, call: object) -> None:
        raise AssertionError

    silent: tuple[Row, ...] = (
        ActionRoute(path="/sessions/{ref}/silent", summary="Say nothing", act=act),
        ActionRoute(path="/silent", summary="Say nothing", act=act, code=lambda body: ""),
        DownloadRoute(path="/sessions/{ref}/all", summary="Say nothing", act=act, content_type="text/plain"),  # type: ignore[arg-type]
    )
    for row in silent:
        with pytest.raises(TypeError, match="does not say what it reads"):
            mounting.check_reads(Api(name="silent", title="Silent", prefix="/silent", rows=(row,)))
