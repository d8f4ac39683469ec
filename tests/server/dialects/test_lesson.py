"""The `lesson` contract: each of its routes as it is printed there, and its socket."""

import re
from typing import Any, get_args

import pytest

from actors.session.errors import Reason
from actors.session.events import DurableEvent
from server.dialects.lesson.bodies import PERMISSIONS, Permissions
from server.dialects.lesson.table import table
from server.settings.sections import Settings
from tests.support.booking import ago, book, hour
from tests.support.client import Client, Person
from tests.support.dialects.classroom import NOBODY, Classroom, opened
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

TYPES = (
    "layout_change", "tool_select", "export_board", "manual_save", "reconnect_attempt", "error", "board_clear",
    "snapshot_restore",
)  # fmt: skip
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
STUDENT = {
    "can_draw": True, "can_erase": True, "can_kick": False, "can_terminate": False, "can_speak": True,
    "can_show_video": True, "can_share_screen": True, "can_chat": True,
}  # fmt: skip
SESSIONS = "/lesson/api/v1/classroom/sessions"
YES = "`video_enabled`: expected `bool`, got `str`."
SILENT = {"video_enabled": False, "audio_enabled": False, "screen_sharing": False}


async def test_permissions_are_named_once() -> None:
    assert tuple(PERMISSIONS) == Permissions.__struct_fields__


async def test_every_event_is_told_or_silent_and_every_reason_has_a_status(town: Town) -> None:
    dialect = table(Settings())
    assert not dialect.events.keys() & dialect.silent
    assert dialect.events.keys() | dialect.silent == set(get_args(DurableEvent))
    assert dialect.errors.keys() == set(Reason)


# Coming in


async def test_a_token_for_the_session_alone(town: Town) -> None:
    room = await opened(town)
    answer = (await room.anna.post(f"{room.path}/jwt/")).ok()
    assert answer.keys() == {"token", "expires_at", "permissions", "session"}
    assert MOMENT.fullmatch(answer["expires_at"])
    assert answer["permissions"] == STUDENT
    assert answer["session"] == {
        "id": room.id,
        "title": "Fractions",
        "status": "live",
        "tutor_id": room.tess.id,
        "tutor_name": "Tess",
        "starts_at": room.booking["starts_at"][:19] + "Z",
        "ends_at": room.booking["ends_at"][:19] + "Z",
        "started_at": answer["session"]["started_at"],
        "ended_at": None,
        "created_at": answer["session"]["created_at"],
    }
    assert MOMENT.fullmatch(answer["session"]["started_at"])
    scoped = Client(town.http, town.url, answer["token"])
    assert (await scoped.get(f"{room.path}/permissions/")).ok()["role"] == "student"
    other = await opened(town)
    reply = await scoped.get(f"{other.path}/permissions/")
    assert (reply.status, reply.json.keys()) == (403, {"detail"})
    assert (await scoped.get(f"/lesson/api/v1/bookings/{room.booking['id']}/")).status == 403
    people = town.query("select name, status from participants where session_id = %s order by number", room.id)
    assert people == [("Anna", "joined")]
    (await room.anna.post(f"{room.path}/jwt/")).ok()
    assert room.types() == ["session_created", "session_started", "participant_invited", "participant_joined"]


async def test_one_s_role_and_permissions(town: Town) -> None:
    room = await opened(town)
    tutor = (await room.tess.get(f"{room.path}/permissions/")).ok()
    assert tutor == {"role": "tutor", "permissions": dict.fromkeys(STUDENT, True)}
    assert (await room.anna.get(f"{room.path}/permissions/")).ok() == {"role": "student", "permissions": STUDENT}


async def test_slashes_both_ways(town: Town) -> None:
    room = await opened(town)
    for slash in ("", "/"):
        (await room.anna.post(f"{room.path}/jwt{slash}")).ok()
        (await room.anna.get(f"{room.path}/permissions{slash}")).ok()
        (await room.anna.get(f"{room.path}/events/stats{slash}")).ok()
        (await room.anna.get(f"/lesson/api/v1/bookings/{room.booking['id']}{slash}")).ok()
        async with room.talk(room.anna, slash=slash) as talk:
            await talk.until("session_state")


# Media


async def test_media_states(town: Town) -> None:
    room = await opened(town, joined=True)
    sent = {"video_enabled": True, "audio_enabled": False, "screen_sharing": True}
    assert (await room.anna.post(f"{room.path}/media-state/", sent)).ok() == {"success": True}
    everyone = (await room.tess.get(f"{room.path}/media-state/")).ok()
    tess, anna = {"user_id": room.tess.id, **SILENT}, {"user_id": room.anna.id, **sent}
    assert len(everyone) == 2
    assert tess in everyone
    assert anna in everyone
    assert (await room.tess.get(f"{room.path}/media-state/", user_id=room.anna.id)).ok() == anna
    room.refused(await room.tess.get(f"{room.path}/media-state/", user_id=NOBODY), 404)


async def test_one_screen_at_a_time_and_the_tutor_takes_it_over(town: Town) -> None:
    room = await opened(town, joined=True)
    share = {**SILENT, "screen_sharing": True}
    (await room.tess.post(f"{room.path}/media-state/", share)).ok()
    room.refused(await room.anna.post(f"{room.path}/media-state/", share), 409, "Tess is sharing their screen.")
    (await room.tess.post(f"{room.path}/media-state/", SILENT)).ok()
    (await room.anna.post(f"{room.path}/media-state/", share)).ok()
    async with room.talk(room.anna) as talk:
        state = (await talk.until("session_state"))["data"]
        assert state["screen_sharer"] == room.anna.id
        (await room.tess.post(f"{room.path}/media-state/", share)).ok()
        assert (await talk.until("media_state_update"))["data"] == {"user_id": room.anna.id, **SILENT}
        assert (await talk.until("media_state_update"))["data"] == {"user_id": room.tess.id, **share}


async def test_sending_audio_lifts_a_soft_mute_and_a_hard_one_stays(town: Town) -> None:
    room = await opened(town, joined=True)
    loud = {**SILENT, "audio_enabled": True}
    (await room.anna.post(f"{room.path}/media-state/", loud)).ok()
    async with room.talk(room.anna) as talk:
        await talk.until("session_state")
        (await room.tess.post(f"/v1/sessions/{room.id}/commands", {"type": "mute", "user_id": room.anna.id})).ok()
        assert (await talk.until("media_state_update"))["data"] == {"user_id": room.anna.id, **SILENT}
        (await room.anna.post(f"{room.path}/media-state/", loud)).ok()
        assert (await talk.until("media_state_update"))["data"] == {"user_id": room.anna.id, **loud}
    (await room.tess.patch(f"{room.path}/permissions/{room.anna.id}/", {"can_speak": False})).ok()
    room.refused(await room.anna.post(f"{room.path}/media-state/", loud), 403)


# Events


@pytest.mark.parametrize("kind", TYPES)
async def test_an_event_is_logged(town: Town, kind: str) -> None:
    room = await opened(town, joined=True)
    body = {"event_type": kind, "data": {"n": 1}, "extra": True}
    assert (await room.anna.post(f"{room.path}/event/", body)).ok() == {"success": True}
    [event] = (await room.tess.get(f"{room.path}/events/")).ok()
    assert event == {
        "id": event["id"], "event_type": kind, "user_id": room.anna.id, "data": {"n": 1},
        "created_at": event["created_at"],
    }  # fmt: skip
    assert MOMENT.fullmatch(event["created_at"])
    assert room.types()[-1] == "event_logged"


async def test_events_are_listed_counted_and_looked_through_for_errors(town: Town) -> None:
    room = await opened(town, joined=True)
    for person, kind in (
        (room.anna, "error"), (room.tess, "error"), (room.anna, "tool_select"), (room.anna, "error"),
    ):  # fmt: skip
        (await person.post(f"{room.path}/event/", {"event_type": kind, "data": {"by": person.name}})).ok()

    async def read(person: Person, what: str, **query: str) -> list[tuple[str, str]]:
        events = (await person.get(f"{room.path}/events/{what}", **query)).ok()
        return [(event["event_type"], event["data"]["by"]) for event in events]

    assert await read(room.tess, "") == [
        ("error", "Anna"),
        ("tool_select", "Anna"),
        ("error", "Tess"),
        ("error", "Anna"),
    ]
    assert await read(room.tess, "", limit="2") == [("error", "Anna"), ("tool_select", "Anna")]
    assert await read(room.tess, "", event_type="tool_select") == [("tool_select", "Anna")]
    assert await read(room.tess, "errors/") == [("error", "Anna"), ("error", "Tess"), ("error", "Anna")]
    assert await read(room.tess, "errors/", limit="1") == [("error", "Anna")]
    assert (await room.tess.get(f"{room.path}/events/stats/")).ok() == {"error": 3, "tool_select": 1}
    # A student reads what is theirs.
    assert await read(room.anna, "errors/") == [("error", "Anna"), ("error", "Anna")]
    assert (await room.anna.get(f"{room.path}/events/stats/")).ok() == {"error": 2, "tool_select": 1}
    for query in ({"limit": "0"}, {"limit": "many"}, {"event_type": "party"}):
        room.refused(await room.tess.get(f"{room.path}/events/", **query), 400)


# Kicking, ending, permissions


async def test_the_tutor_removes_the_student_who_does_not_come_back(town: Town) -> None:
    room = await opened(town, joined=True)
    room.refused(await room.anna.post(f"{room.path}/kick/", {"user_id": room.tess.id}), 403)
    room.refused(await room.tess.post(f"{room.path}/kick/", {"user_id": NOBODY}), 404)
    token = (await room.anna.post(f"{room.path}/jwt/")).ok()["token"]
    assert (await room.tess.post(f"{room.path}/kick/", {"user_id": room.anna.id})).ok() == {"success": True}
    for reply in (
        await room.anna.post(f"{room.path}/jwt/"),
        await room.anna.get(f"{room.path}/permissions/"),
        await Client(town.http, town.url, token).post(f"{room.path}/media-state/", SILENT),
    ):
        room.refused(reply, 403)


async def test_the_tutor_ends_the_session(town: Town) -> None:
    room = await opened(town, joined=True)
    room.refused(await room.anna.post(f"{room.path}/terminate/"), 403)
    assert (await room.tess.post(f"{room.path}/terminate/")).ok() == {"success": True}
    room.refused(await room.anna.post(f"{room.path}/jwt/"), 410, "The session has ended.")
    room.refused(await room.anna.post(f"{room.path}/event/", {"event_type": "error", "data": {}}), 410)
    assert (await room.classroom(room.anna))["status"] == "ended"
    early = await opened(town, times=hour(-600))
    assert (await early.tess.post(f"{early.path}/terminate/")).ok() == {"success": True}
    assert await early.classroom(early.tess) == {
        "session_id": early.id, "status": "cancelled", "can_join": False, "join_url": f"/classroom/{early.id}",
    }  # fmt: skip


async def test_permissions_change_are_told_and_later_tokens_carry_them(town: Town) -> None:
    room = await opened(town, joined=True)
    path = f"{room.path}/permissions/{room.anna.id}/"
    (await room.anna.post(f"{room.path}/media-state/", {**SILENT, "screen_sharing": True})).ok()
    changed = {**STUDENT, "can_draw": False, "can_share_screen": False, "can_kick": True}
    expected = {"user_id": room.anna.id, "role": "student", "permissions": changed}
    async with room.talk(room.anna) as talk:
        assert (await talk.until("session_state"))["data"]["permissions"] == STUDENT
        body = {"can_draw": False, "can_share_screen": False, "can_kick": True}
        assert (await room.tess.patch(path, body)).ok() == expected
        assert (await talk.until("permissions_changed"))["data"] == expected
        assert (await talk.until("media_state_update"))["data"] == {"user_id": room.anna.id, **SILENT}
    assert (await room.anna.post(f"{room.path}/jwt/")).ok()["permissions"] == changed
    back = {"permissions": {"can_draw": True, "can_share_screen": True, "can_kick": False}}
    assert (await room.tess.patch(path, back)).ok()["permissions"] == STUDENT
    room.refused(await room.anna.patch(path, {"can_kick": True}), 403)
    room.refused(await room.tess.patch(path, {"can_fly": True}), 400)
    room.refused(await room.tess.patch(path, {"can_draw": "yes"}), 400)
    room.refused(await room.tess.patch(f"{room.path}/permissions/{room.tess.id}/", {"can_draw": False}), 400)
    room.refused(await room.tess.patch(f"{room.path}/permissions/{NOBODY}/", {"can_draw": False}), 404)


async def test_who_may_kick_and_terminate_does(town: Town) -> None:
    room = await opened(town, joined=True)
    (await room.tess.patch(f"{room.path}/permissions/{room.anna.id}/", {"can_kick": True, "can_terminate": True})).ok()
    room.refused(await room.anna.post(f"{room.path}/kick/", {"user_id": room.tess.id}), 403)
    (await room.anna.post(f"{room.path}/terminate/")).ok()


# Bookings


async def test_a_booking_and_its_classroom(town: Town) -> None:
    tess, anna = await town.teacher("Tess"), await town.student("Anna")
    body = {
        "tutor_id": tess.id, "student_id": anna.id, "starts_at": "2024-12-12T16:00:00Z",
        "ends_at": "2024-12-12T17:00:00Z", "title": "Fractions", "colour": "blue",
    }  # fmt: skip
    booking = (await tess.post("/lesson/api/v1/bookings/", body)).ok(201)
    path = f"/lesson/api/v1/bookings/{booking['id']}"
    assert booking == {
        "id": booking["id"], "tutor_id": tess.id, "tutor_name": "Tess", "student_id": anna.id, "student_name": "Anna",
        "title": "Fractions", "starts_at": "2024-12-12T16:00:00Z", "ends_at": "2024-12-12T17:00:00Z",
        "created_at": booking["created_at"], "classroom": None,
    }  # fmt: skip
    assert MOMENT.fullmatch(booking["created_at"])
    assert (await anna.get(f"{path}/")).ok() == booking
    classroom = (await anna.post(f"{path}/classroom/")).ok()
    session_id = classroom["session_id"]
    assert classroom == {
        "session_id": session_id, "status": "live", "can_join": False, "join_url": f"/classroom/{session_id}",
    }  # fmt: skip
    assert (await tess.post(f"{path}/classroom/")).ok() == classroom
    assert (await tess.get(f"{path}/")).ok() == {**booking, "classroom": classroom}


@pytest.mark.parametrize(
    ("fields", "status", "text"),
    [
        ({"tutor_id": NOBODY}, 400, f"There is no user '{NOBODY}'."),
        ({"tutor_id": 3}, 400, "`tutor_id`: expected `str`, got `int`."),
        ({"starts_at": "2030-01-02"}, 400, None),
        ({"ends_at": ago(100_000)}, 400, "`ends_at` must be after `starts_at`."),
        ({"student_id": NOBODY}, 403, "A booking is made by its tutor or its student."),
    ],
)
async def test_what_is_wrong_with_a_booking(town: Town, fields: dict[str, Any], status: int, text: str | None) -> None:
    tess, anna = await town.teacher("Tess"), await town.student("Anna")
    body = {"tutor_id": tess.id, "student_id": anna.id, **hour(), **fields}
    Classroom.refused(await anna.post("/lesson/api/v1/bookings/", body), status, text)


async def test_a_classroom_opens_a_quarter_of_an_hour_before(town: Town) -> None:
    for minutes_ago, can_join in ((-16, False), (-14, True), (59, True), (61, False)):
        room = await opened(town, times=hour(minutes_ago))
        for person in (room.tess, room.anna):
            assert (await room.classroom(person))["can_join"] == can_join, minutes_ago


# Refusals


async def test_refusals_are_a_detail_and_no_more(town: Town) -> None:
    room = await opened(town, joined=True)
    path = f"{room.path}/media-state/"
    for reply, status, text in (
        (await town.anyone.post(f"{room.path}/jwt/"), 401, "Send `Authorization: Bearer <access token>`."),
        (await Client(town.http, town.url, "x").get(f"{room.path}/permissions/"), 401, None),
        (await room.anna.post(f"{SESSIONS}/{NOBODY}/jwt/"), 404, f"There is no session {NOBODY}."),
        (await room.anna.post(f"{SESSIONS}/7/jwt/"), 404, None),
        (await room.anna.get("/lesson/api/v1/classroom/"), 404, None),
        (await room.anna.get(f"/lesson/api/v1/bookings/{NOBODY}/"), 404, None),
        (await room.anna.call("DELETE", f"{room.path}/jwt/"), 405, "Use POST."),
        (await room.anna.call("POST", path, raw=b"{"), 400, None),
        (await room.anna.post(path, {**SILENT, "video_enabled": "yes"}), 400, YES),
        (await room.anna.post(path, {"video_enabled": True}), 400, "The field `audio_enabled` is required."),
        (await room.anna.post(path, []), 400, None),
        (
            await room.anna.post(f"{room.path}/event/", {"event_type": "party", "data": {}}), 400,
            f"`event_type` must be one of {', '.join(f'`{kind}`' for kind in sorted(TYPES))}.",
        ),
        (await room.anna.post(f"{room.path}/event/", {"event_type": "error", "data": {"x": "x" * 5_000}}), 413, None),
        (await room.anna.post(f"{room.path}/event/", {"event_type": "error", "data": 1}), 400, None),
        (await room.tess.post(f"{room.path}/kick/", {}), 400, "The field `user_id` is required."),
    ):  # fmt: skip
        room.refused(reply, status, text)
    reply = await town.anyone.post(f"{room.path}/jwt/")
    assert reply.headers["WWW-Authenticate"] == "Bearer"


async def test_a_session_of_another_kind_is_not_here(town: Town) -> None:
    host = await (await town.teacher()).create()
    Classroom.refused(await host.person.get(f"{SESSIONS}/{host.id}/permissions/"), 404)


@pytest.mark.parametrize("role", ["teacher", "student"])
async def test_strangers_get_nothing(town: Town, role: str) -> None:
    room = await opened(town, joined=True)
    (await room.anna.post(f"{room.path}/event/", {"event_type": "error", "data": {"secret": "XYLOPHONE"}})).ok()
    mallory = await town.person(role, "Mallory")
    before = room.types()
    for method, path, body in (
        ("POST", "/jwt/", None), ("GET", "/permissions/", None), ("GET", "/media-state/", None),
        ("POST", "/media-state/", SILENT), ("POST", "/event/", {"event_type": "error", "data": {}}),
        ("GET", "/events/", None), ("GET", "/events/stats/", None), ("GET", "/events/errors/", None),
        ("POST", "/kick/", {"user_id": room.anna.id}), ("POST", "/terminate/", None),
        ("PATCH", f"/permissions/{room.anna.id}/", {"can_draw": False}),
    ):  # fmt: skip
        reply = await mallory.call(method, room.path + path, body)
        room.refused(reply, 403)
        assert b"XYLOPHONE" not in reply.body
    for method, path in (("GET", "/"), ("POST", "/classroom/")):
        room.refused(await mallory.call(method, f"/lesson/api/v1/bookings/{room.booking['id']}{path}"), 403)
    assert room.types() == before


async def test_the_same_session_is_seen_through_v1(town: Town) -> None:
    room = await opened(town, joined=True)
    assert (await room.tess.get(f"/v1/sessions/{room.id}")).ok()["kind"] == "lesson"
    booked = await book(room.tess, room.anna)
    assert (await room.anna.get(f"/lesson/api/v1/bookings/{booked['id']}/")).ok()["title"] == "Lesson"
