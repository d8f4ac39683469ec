"""Two users, every route: tokens are checked, and a user outside a session gets nothing of it.

The rows come from the table itself: a new row needs an entry in `REQUESTS`.
"""

import json
from typing import Any, get_args

import pytest

from actors.session import commands as c
from server.api.routes import (
    CommandRoute,
    CommandSocketRoute,
    DirectCommandRoute,
    SocketRoute,
    StreamRoute,
    UserStreamRoute,
)
from server.v1.table import API
from tests.server.api.test_live import upload
from tests.support.booking import book
from tests.support.client import Client, Reply, Seat
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = {f"{row.method} {row.path}": row for row in API.rows}
OWN = "own"
"""A row about the caller only: every user reads or changes their own data."""
GUEST = "guest"
"""A row that lets guests in where the session wants them; these sessions do not."""
NOBODY = "01990000-0000-7000-8000-000000000000"
REFUSALS = {"bad_credentials", "bad_refresh_token", "unauthenticated"}

# A valid body, and the status that a user outside the session gets.
REQUESTS: dict[str, tuple[Any, int | str]] = {
    "POST /auth/register": ({"name": "x", "email": "x", "password": "x", "role": "student"}, 422),
    "POST /auth/login": ({"email": "nobody@example.org", "password": "wrong horse"}, 401),
    "POST /auth/refresh": ({"refresh_token": "x"}, 401),
    "POST /auth/logout": (None, OWN),
    "GET /me": (None, OWN),
    "PATCH /me": ({"name": "Mallory"}, OWN),
    "GET /me/events": (None, OWN),
    "POST /me/tickets": (None, OWN),
    "GET /me/devices": (None, OWN),
    "PUT /me/devices/{token}": ({"platform": "web"}, OWN),
    "DELETE /me/devices/{token}": (None, OWN),
    "GET /time": (None, OWN),
    "POST /sessions": ({"title": "Mallory's"}, OWN),
    "GET /sessions": (None, OWN),
    "POST /sessions/join": ({"code": "ZZZZZZ"}, 404),
    "GET /sessions/{ref}": (None, 403),
    "PATCH /sessions/{ref}": ({"title": "Mallory's"}, 403),
    "DELETE /sessions/{ref}": (None, 403),
    "POST /sessions/{ref}/commands": ({"type": "lock"}, 403),
    "GET /sessions/{ref}/state": (None, 403),
    "GET /sessions/{ref}/events": (None, 403),
    "POST /sessions/{ref}/tickets": (None, 403),
    "GET /sessions/{ref}/log": (None, 403),
    "GET /sessions/{ref}/log/summary": (None, 403),
    "GET /sessions/{ref}/log/statistics": (None, 403),
    "GET /sessions/{ref}/code": (None, 403),
    "GET /sessions/{ref}/code/history": (None, 403),
    "GET /sessions/{ref}/socket": (None, 403),
    "GET /sessions/{ref}/playback": (None, 403),
    "GET /sessions/{ref}/permissions": (None, 403),
    "GET /sessions/{ref}/media": (None, 403),
    "GET /sessions/{ref}/media/{user_id}": (None, 403),
    "POST /sessions/{ref}/tokens": (None, 403),
    "POST /sessions/{ref}/guests": ({"name": "Mallory"}, GUEST),
    "GET /sessions/{ref}/attendance": (None, 403),
    "GET /sessions/{ref}/export": (None, 403),
    "GET /sessions/{ref}/chat": (None, 403),
    "GET /sessions/{ref}/questions": (None, 403),
    "GET /sessions/{ref}/recordings": (None, 403),
    "GET /sessions/{ref}/recordings/{recording}": (None, 403),
    "GET /sessions/{ref}/recordings/{recording}/archive": (None, 403),
    "GET /sessions/{ref}/recordings/{recording}/file": (None, 403),
    "GET /sessions/{ref}/replay": (None, 403),
    "POST /bookings": (
        {
            "tutor_id": NOBODY,
            "student_id": NOBODY,
            "starts_at": "2030-01-02T08:00:00Z",
            "ends_at": "2030-01-02T09:00:00Z",
        },
        403,
    ),
    "GET /bookings": (None, OWN),
    "GET /bookings/{booking_id}": (None, 403),
    "POST /bookings/{booking_id}/session": (None, 403),
    "POST /audio": (None, OWN),
    "GET /audio": (None, OWN),
    "GET /audio/{audio_id}": (None, 404),
    "GET /audio/{audio_id}/content": (None, 404),
    "GET /audio/{audio_id}/url": (None, 404),
    "DELETE /audio/{audio_id}": (None, 404),
    "POST /webhooks/daily": ({"type": "meeting.started"}, 403),
    # It is never sent: Mallory has no session to cancel.
    "POST /webhooks": ({"url": "https://8.8.8.8/hooks", "types": ["session_cancelled"]}, OWN),
    "GET /webhooks": (None, OWN),
    "GET /webhooks/{webhook_id}": (None, 404),
    "PATCH /webhooks/{webhook_id}": ({"enabled": False}, 404),
    "DELETE /webhooks/{webhook_id}": (None, 404),
    "POST /webhooks/{webhook_id}/rotate": ({}, 404),
    "POST /webhooks/{webhook_id}/test": (None, 404),
    "GET /webhooks/{webhook_id}/deliveries": (None, 404),
    "POST /webhooks/{webhook_id}/deliveries/{delivery}/replay": (None, 404),
    "POST /webhooks/{webhook_id}/replay": ({"since": "2030-01-01T00:00:00Z"}, 404),
}
SECRET = "XYLOPHONE"
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def test_every_route_row_has_a_request_here() -> None:
    assert REQUESTS.keys() == ROWS.keys()


async def full_class(town: Town) -> tuple[Seat, Seat, dict[str, str]]:
    """Create a class with content for every row; return the host, a student, and the ids for the paths."""
    host, anna = await town.classroom("Anna", title=SECRET)
    await host.say(SECRET)
    await host.do("start_recording")
    await host.do("stop_recording")
    await host.do("edit_code", base_version=0, text=SECRET)
    await anna.do("ask_question", text=SECRET)
    booking = await book(host.person, anna.person, title=SECRET)
    url = f"https://8.8.8.8/{SECRET}"
    hook = (await host.person.post("/v1/webhooks", {"url": url, "types": ["session_cancelled"]})).ok(201)
    return host, anna, {
        "audio_id": await upload(host.person), "user_id": anna.user_id, "recording": "1", "token": "a-device",
        "booking_id": booking["id"], "webhook_id": hook["id"], "delivery": f"evt_{host.id.replace('-', '')}_1",
    }  # fmt: skip


async def send(client: Client, name: str, ref: str, things: dict[str, str]) -> Reply:
    row = ROWS[name]
    headers = UPGRADE if isinstance(row, SocketRoute) else {}
    path = API.prefix + row.path.format(ref=ref, **things)
    if isinstance(row, UserStreamRoute) and client.token != "x.y.z" and client.token is not None:
        async with client.stream(path) as stream:
            return Reply(200, stream.response.headers, json.dumps((await stream.next()).data).encode())
    return await client.call(row.method, path, REQUESTS[name][0], headers=headers)


@pytest.mark.parametrize("name", ROWS)
async def test_without_a_token_only_public_rows_answer(town: Town, name: str) -> None:
    host, _, things = await full_class(town)
    for token in (None, "x.y.z"):
        client = Client(town.http, town.url, token)
        reply = await send(client, name, host.id, things)
        if ROWS[name].public:
            # Some are refused for their body; those with a signature instead of a token, because they have neither.
            assert reply.status in (200, 401, 403, 409, 422)
            assert reply.status != 401 or reply.json["reason"] in REFUSALS
        else:
            reply.refused(401)
            assert reply.headers["WWW-Authenticate"] == "Bearer"
        assert SECRET.encode() not in reply.body


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("role", ["teacher", "student"])
async def test_a_user_outside_the_session_gets_nothing(town: Town, name: str, role: str) -> None:
    host, anna, things = await full_class(town)
    cursor = (await host.state())["cursor"]
    stranger = await town.person(role, "Mallory")
    for ref in (host.id, host.session["name"], str(host.session["number"]), host.code):
        reply = await send(stranger, name, ref, things)
        assert SECRET.encode() not in reply.body
        assert host.user_id.encode() not in reply.body
        expected = REQUESTS[name][1]
        if expected == OWN:
            assert reply.status in (200, 201, 204, 401, 403, 415)
        elif expected == GUEST:
            assert reply.status in (403, 404, 409)
        elif name == "POST /sessions/{ref}/commands" and ref == host.code:
            assert reply.status == 403
        else:
            reply.refused(int(expected))
    assert (await host.state())["cursor"] == cursor, "the stranger has left no trace"
    assert (await host.state())["session"]["title"] == SECRET
    assert (await anna.person.get("/v1/me")).ok()["name"] == "Anna"


@pytest.mark.parametrize("command", [t.__struct_config__.tag for t in get_args(c.WireCommand)])
async def test_every_command_of_a_user_outside_the_session_is_refused(town: Town, command: str) -> None:
    host, anna = await town.classroom("Anna")
    said = await anna.say("hello")
    stranger = (await town.teacher("Mallory")).at(host)
    needed: dict[str, dict[str, Any]] = {
        "invite": {"user_id": stranger.user_id},
        "admit": {"user_id": stranger.user_id},
        "deny": {"user_id": anna.user_id},
        "kick": {"user_id": anna.user_id},
        "set_role": {"user_id": stranger.user_id, "role": "host"},
        "set_permissions": {"user_id": stranger.user_id, "grant": ["moderate"]},
        "request_unmute": {"user_id": anna.user_id},
        "send_message": {"text": "hi"},
        "delete_message": {"message_id": said["message_id"]},
        "react": {"message_id": said["message_id"], "emoji": "x"},
        "log_event": {"event_type": "error"},
        "signal": {"to": anna.user_id, "payload": 1},
        "cursor": {"position": {}},
        "send_voice": {"audio_id": host.id},
        "select_audio": {"audio_id": host.id},
        "seek": {"position": 0},
        "set_speed": {"speed": 1},
        "ask_question": {"text": "Why?"},
        "approve_question": {"question_id": 1},
        "upvote_question": {"question_id": 1},
        "answer_question": {"question_id": 1},
        "dismiss_question": {"question_id": 1},
        "open_poll": {"question": "Which?", "options": ["a", "b"]},
        "vote": {"poll_id": 1, "options": [0]},
        "close_poll": {"poll_id": 1},
        "edit_code": {"base_version": 0, "text": "x"},
        "set_language": {"language": "python"},
        "restore_code": {"version": 0},
        "merge_code": {"update": "AAA="},
        "draw": {"points": [0, 0]},
        "erase": {"stroke_ids": [1]},
    }
    cursor = (await host.state())["cursor"]
    (await stranger.command(command, **needed.get(command, {}))).refused(403)
    assert (await host.state())["cursor"] == cursor


MODERATION = {
    "start": {}, "end": {}, "cancel": {}, "update": {"title": "x"}, "lock": {}, "unlock": {}, "lower_all": {},
    "call_next": {}, "mute_all": {},
    "invite": {"user_id": "BEN"}, "admit": {"user_id": "BEN"}, "deny": {"user_id": "BEN"}, "kick": {"user_id": "BEN"},
    "mute": {"user_id": "BEN"}, "unmute": {"user_id": "BEN"}, "request_unmute": {"user_id": "BEN"},
    "lower_hand": {"user_id": "BEN"},
    "set_role": {"user_id": "BEN", "role": "observer"}, "set_permissions": {"user_id": "BEN", "revoke": ["chat"]},
}  # fmt: skip


@pytest.mark.parametrize("command", MODERATION)
async def test_members_cannot_moderate_each_other(town: Town, command: str) -> None:
    host, anna, ben = await town.classroom("Anna", "Ben")
    await ben.do("raise_hand")
    body = json.loads(json.dumps(MODERATION[command]).replace("BEN", ben.user_id))
    cursor = (await host.state())["cursor"]
    (await anna.command(command, **body)).refused(403, "not_permitted")
    assert (await host.state())["cursor"] == cursor


async def test_a_command_acts_for_its_caller_only(town: Town) -> None:
    _, anna, ben = await town.classroom("Anna", "Ben")
    for field in ("actor", "actor_id", "user", "by", "from"):
        body = {"type": "send_message", "text": "I am Ben", field: ben.user_id}
        (await anna.person.post(f"{anna.path}/commands", body)).refused(422, "invalid", field)
    said = await anna.say("I am Ben")
    assert said["actor"] == anna.user_id


async def test_the_owner_cannot_be_removed_or_demoted(town: Town) -> None:
    host, anna = await town.classroom("Anna")
    await host.do("set_role", user_id=anna.user_id, role="host")
    for command in ("kick", "mute", "set_permissions"):
        (await anna.command(command, user_id=host.user_id)).refused(403)
    (await anna.command("set_role", user_id=host.user_id, role="member")).refused(409, "last_host")
    (await anna.person.delete(anna.path)).refused(403, "not_permitted")


async def test_no_command_or_stream_row_is_public() -> None:
    """Other tests here rely on it: every command and stream row needs a token."""
    assert [type(row) for row in API.rows if isinstance(row, StreamRoute)] == [
        UserStreamRoute,
        StreamRoute,
        CommandSocketRoute,
    ]
    assert all(not row.public for row in API.rows if isinstance(row, CommandRoute | DirectCommandRoute | StreamRoute))


INVITED = {
    "GET /sessions/{ref}": 200,
    "GET /sessions/{ref}/attendance": 200,
}
"""What a user who was only invited may read of a session that is over: its card, and of attendance their own lines."""


@pytest.mark.parametrize("name", [name for name in REQUESTS if name.startswith("GET /sessions/{ref}")])
async def test_an_invited_user_who_never_joined_reads_only_the_card_of_an_ended_session(town: Town, name: str) -> None:
    host, _, things = await full_class(town)
    ivy = await town.student("Ivy")
    await host.do("invite", user_id=ivy.id)
    await host.do("end")
    answer = await send(ivy, name, host.id, things)
    assert answer.status == INVITED.get(name, 403)
    assert SECRET.encode() not in answer.body or name in INVITED, "the title is on the card"
