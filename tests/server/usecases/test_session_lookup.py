"""What is remembered of how sessions are found, and that a deleted one is not."""

import pytest

from actors.session.ids import SessionId
from server.http.problems import Problem
from server.usecases.session_lookup import SessionLookup
from tests.support.client import Seat
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")


def names(seat: Seat) -> list[str]:
    return [seat.id, str(seat.session["number"]), seat.session["code"]]


async def test_the_latest_are_remembered_and_a_deleted_one_by_none_of_its_names(town: Town) -> None:
    teacher = await town.teacher()
    first, second = await teacher.create(), await teacher.create()
    refs = SessionLookup(town.server.services.sessions, kept=5)
    for ref in [*names(first), *names(second), first.session["code"]]:
        await refs.resolve(ref)
    known = [ref for ref in (*names(first), *names(second)) if refs.known(ref)]
    assert known == [*names(first)[1:], *names(second)], "one had to go"
    refs.forget(SessionId(first.id))
    assert [ref for ref in (*names(first), *names(second)) if refs.known(ref)] == names(second)
    # Room again for five, whatever has come and gone.
    assert await refs.within("classroom", None, "number", str(first.session["number"])) == first.id
    for ref in (*names(first), *names(second), second.session["name"]):
        await refs.resolve(ref)
    assert [bool(refs.known(ref)) for ref in names(first)] == [False, False, True]
    refs.forget(SessionId(second.id))
    refs.forget(SessionId(second.id))
    with pytest.raises(Problem):
        await refs.resolve("nothing-of-this-name")


async def test_what_a_dialect_has_found_is_not_a_name_in_itself(town: Town) -> None:
    teacher = await town.teacher()
    seat = await teacher.create()
    refs = SessionLookup(town.server.services.sessions)
    code = seat.session["code"]
    assert await refs.within("classroom", None, "code", code) == seat.id
    for name in (f"classroom None code {code}", f"('classroom', None, 'code', '{code}')"):
        with pytest.raises(Problem):
            await refs.resolve(name)
        assert refs.known(name) is None
