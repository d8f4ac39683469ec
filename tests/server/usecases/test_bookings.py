"""Bookings: who makes and reads them, and the one session that each has however many ask for it at once."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.support.booking import ago, book, hour
from tests.support.client import Person, Reply, Seat
from tests.support.serving import Town, serving, wait_for

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOBODY = "01990000-0000-7000-8000-000000000000"
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
DAY = {"starts_at": "2030-01-02T08:00:00Z", "ends_at": "2030-01-02T09:00:00.250+00:00"}


async def pair(town: Town) -> tuple[Person, Person]:
    return await town.teacher("Tess"), await town.student("Anna")


async def test_a_booking_is_made_by_its_tutor_and_read_by_both(town: Town) -> None:
    tess, anna = await pair(town)
    body = {"tutor_id": tess.id, "student_id": anna.id, "title": "Fractions", **DAY}
    reply = await tess.post("/v1/bookings", body)
    booking = reply.ok(201)
    assert reply.headers["Location"] == f"/v1/bookings/{booking['id']}"
    assert booking == {
        "id": booking["id"],
        "tutor": {"id": tess.id, "name": "Tess"},
        "student": {"id": anna.id, "name": "Anna"},
        "title": "Fractions",
        "starts_at": "2030-01-02T08:00:00.000Z",
        "ends_at": "2030-01-02T09:00:00.250Z",
        "created_by": tess.id,
        "created_at": booking["created_at"],
        "session": None,
    }
    for person in (tess, anna):
        assert (await person.get(f"/v1/bookings/{booking['id']}")).ok() == booking
        assert (await person.get("/v1/bookings")).ok() == {"items": [booking], "next": None}


async def test_a_student_books_with_a_tutor(town: Town) -> None:
    tess, anna = await pair(town)
    booking = (await anna.post("/v1/bookings", {"tutor_id": tess.id, "student_id": anna.id, **DAY})).ok(201)
    assert (booking["created_by"], booking["title"]) == (anna.id, "Lesson")


@pytest.mark.parametrize(
    ("fields", "status", "field"),
    [
        ({"tutor_id": NOBODY}, 404, "tutor_id"),
        ({"tutor_id": "BEN"}, 422, "tutor_id"),
        ({"tutor_id": "ANNA"}, 422, "student_id"),
        ({"tutor_id": "me"}, 422, "tutor_id"),
        ({"student_id": "BEN"}, 403, None),
        ({"ends_at": DAY["starts_at"]}, 422, "ends_at"),
        ({"ends_at": "2030-01-03T08:00:00.001Z"}, 422, "ends_at"),
        ({"starts_at": "2030-01-02T08:00:00"}, 422, "starts_at"),
        ({"starts_at": "today"}, 422, "starts_at"),
        ({"starts_at": "0001-01-01T00:00:00+23:59"}, 422, "starts_at"),
        ({"starts_at": "9999-12-31T23:00:00-23:59", "ends_at": "9999-12-31T23:30:00-23:59"}, 422, "starts_at"),
        ({"title": " "}, 422, "title"),
        ({"title": "x" * 501}, 422, "title"),
        ({"price": 3}, 422, "price"),
    ],
)
async def test_what_is_wrong_with_a_booking_is_named(
    town: Town, fields: dict[str, Any], status: int, field: str | None
) -> None:
    tess, anna = await pair(town)
    ids = {"ANNA": anna.id, "BEN": (await town.student("Ben")).id}
    body = {"tutor_id": tess.id, "student_id": anna.id, **DAY, **{k: ids.get(v, v) for k, v in fields.items()}}
    (await anna.post("/v1/bookings", body)).refused(status, field=field)
    assert (await anna.get("/v1/bookings")).ok()["items"] == []


async def test_a_tutor_does_not_teach_a_teacher(town: Town) -> None:
    tess, other = await town.teacher("Tess"), await town.teacher("Tom")
    body = {"tutor_id": tess.id, "student_id": other.id, **DAY}
    problem = (await tess.post("/v1/bookings", body)).refused(422, "invalid", "student_id")
    assert problem["detail"] == "`student_id` must be a student's; Tom is a teacher."


@pytest.mark.parametrize("ref", [NOBODY, "1", "nothing", "%00"])
async def test_there_is_no_such_booking(town: Town, ref: str) -> None:
    anna = await town.student("Anna")
    (await anna.get(f"/v1/bookings/{ref}")).refused(404, "unknown_booking", "booking_id")
    (await anna.post(f"/v1/bookings/{ref}/session")).refused(404, "unknown_booking")


async def test_others_get_nothing_of_a_booking(town: Town) -> None:
    tess, anna = await pair(town)
    booking = await book(tess, anna)
    for other in (await town.teacher("Tom"), await town.student("Ben")):
        (await other.get(f"/v1/bookings/{booking['id']}")).refused(403, "not_permitted")
        (await other.post(f"/v1/bookings/{booking['id']}/session")).refused(403, "not_permitted")
        assert (await other.get("/v1/bookings")).ok()["items"] == []
    assert (await tess.get(f"/v1/bookings/{booking['id']}")).ok()["session"] is None


async def test_a_list_is_in_order_of_time_and_comes_in_pages(town: Town) -> None:
    tess, anna = await pair(town)
    ben = await town.student("Ben")
    days = {}
    for day, student in ((4, anna), (2, anna), (3, ben), (2, anna)):
        times = {"starts_at": f"2030-01-0{day}T08:00:00Z", "ends_at": f"2030-01-0{day}T09:00:00Z"}
        days[(await book(tess, student, **times))["id"]] = day
    whole = [one["id"] for one in (await tess.get("/v1/bookings")).ok()["items"]]
    assert [days[one] for one in whole] == [2, 2, 3, 4]
    paged, cursor = [], None
    while True:
        page = (await tess.get("/v1/bookings", limit="1", **({} if cursor is None else {"cursor": cursor}))).ok()
        paged += [one["id"] for one in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert paged == whole

    async def within(person: Person, **query: str) -> list[int]:
        return [days[one["id"]] for one in (await person.get("/v1/bookings", **query)).ok()["items"]]

    assert await within(anna) == [2, 2, 4]
    assert await within(tess, since="2030-01-02T09:00:00Z") == [3, 4]
    assert await within(tess, since="2030-01-02T08:59:59Z", until="2030-01-03T08:00:00Z") == [2, 2]
    # Somebody else's booking is no place in one's own list.
    (await ben.get("/v1/bookings", cursor=whole[0])).refused(422, "invalid", "cursor")
    (await tess.get("/v1/bookings", cursor="next")).refused(422, "invalid", "cursor")
    (await tess.get("/v1/bookings", until="tomorrow")).refused(422, "invalid", "until")


# Its session


async def test_the_session_is_the_tutor_s_and_the_student_is_invited(town: Town) -> None:
    tess, anna = await pair(town)
    booking = await book(tess, anna, title="Fractions", starts_at=ago(-600), ends_at=ago(-660))
    session = (await anna.post(f"/v1/bookings/{booking['id']}/session")).ok()
    assert (session["kind"], session["title"], session["status"]) == ("lesson", "Fractions", "scheduled")
    assert (session["starts_at"], session["ends_at"]) == (booking["starts_at"], booking["ends_at"])
    assert session["owner"] == {"id": tess.id, "name": "Tess"}
    assert (session["auto_start"], session["early"]) == (True, 900)
    assert (await tess.post(f"/v1/bookings/{booking['id']}/session")).ok()["id"] == session["id"]
    shown = (await anna.get(f"/v1/bookings/{booking['id']}")).ok()["session"]
    assert shown == {"id": session["id"], "status": "scheduled", "can_join": False}
    host = Seat(tess, session)
    await host.do("join")
    await anna.at(host).do("join")
    people = (await host.state())["participants"]
    assert {place["name"]: (place["role"], place["status"]) for place in people} == {
        "Tess": ("host", "joined"), "Anna": ("member", "joined"),
    }  # fmt: skip
    (await (await town.student("Ben")).at(host).command("join")).refused(403, "not_invited")


async def test_when_one_can_join(town: Town) -> None:
    tess, anna = await pair(town)
    for minutes_ago, status, expected in (
        (-16, "scheduled", False), (-14, "live", True), (30, "live", True), (61, "live", False),
    ):  # fmt: skip
        booking = await book(tess, anna, **hour(minutes_ago))
        session = (await anna.post(f"/v1/bookings/{booking['id']}/session")).ok()
        shown = (await anna.get(f"/v1/bookings/{booking['id']}")).ok()["session"]
        assert shown == {"id": session["id"], "status": status, "can_join": expected}, minutes_ago
    booking = await book(tess, anna)
    host = Seat(tess, (await tess.post(f"/v1/bookings/{booking['id']}/session")).ok())
    await host.do("end")
    shown = (await anna.get(f"/v1/bookings/{booking['id']}")).ok()["session"]
    assert shown == {"id": host.id, "status": "ended", "can_join": False}


async def test_a_session_that_was_deleted_is_not_made_again(town: Town) -> None:
    tess, anna = await pair(town)
    booking = await book(tess, anna)
    session = (await tess.post(f"/v1/bookings/{booking['id']}/session")).ok()
    (await tess.delete(f"/v1/sessions/{session['id']}")).ok(204)
    (await anna.post(f"/v1/bookings/{booking['id']}/session")).refused(410, "deleted")
    shown = (await anna.get(f"/v1/bookings/{booking['id']}")).ok()["session"]
    assert shown == {"id": session["id"], "status": "ended", "can_join": False}


async def test_fifty_calls_through_two_servers_make_one_session(dsn: str, data: Path, tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        one = await stack.enter_async_context(serving(dsn, data))
        two = await stack.enter_async_context(serving(dsn, tmp_path / "two"))
        tess, anna = await pair(one)
        booking = await book(tess, anna)

        async def ask(number: int) -> Reply:
            town, person = (one, two)[number % 2], (tess, anna)[number // 2 % 2]
            path = f"{town.url}/v1/bookings/{booking['id']}/session"
            async with town.http.post(path, headers=person.headers) as answer:
                return Reply(answer.status, answer.headers, await answer.read())

        with one.locked("bookings", "booking_id", booking["id"]):
            calls = [asyncio.create_task(ask(number)) for number in range(50)]
            # All the connections of both servers: nobody has found a session there already.
            await wait_for(lambda: one.query(WAITING)[0][0] >= 16)
        made = [reply.ok()["id"] for reply in await asyncio.gather(*calls)]
        assert len(set(made)) == 1
        assert one.query("select session_id::text from sessions") == [(made[0],)]
        for table in ("session_head", "session_log", "participants", "notification"):
            assert one.query(f"select distinct session_id::text from {table}") == [(made[0],)], table
        assert one.query("select user_id::text from notification") == [(anna.id,)]
        assert one.query("select type from session_log order by seq") == [
            ("session_created",), ("session_started",), ("participant_invited",),
        ]  # fmt: skip


async def test_the_same_key_and_body_again_make_no_second_booking(town: Town) -> None:
    tess, anna = await pair(town)
    body, key = {"tutor_id": tess.id, "student_id": anna.id, **DAY}, {"Idempotency-Key": "k-1"}
    replies = await asyncio.gather(*(tess.post("/v1/bookings", body, **key) for _ in range(20)))
    assert len({reply.body for reply in replies}) == 1, [reply.status for reply in replies]
    first = replies[0].ok(201)
    (await tess.post(f"/v1/bookings/{first['id']}/session")).ok()
    assert (await tess.post("/v1/bookings", body, **key)).ok(201) == first
    (await tess.post("/v1/bookings", {**body, "title": "x"}, **key)).refused(422, "key_reused")
    # One user's key is for one thing.
    (await tess.post("/v1/sessions", {"title": "x"}, **key)).refused(422, "key_reused")
    assert len((await tess.get("/v1/bookings")).ok()["items"]) == 1
