"""One script through every API: a session is made, it begins, its host and another come in, the other goes, it ends.

The logs are the same. What differs, and why, is in the tables below; whatever is not in them has to be equal.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.booking import book, hour
from tests.support.client import PATIENCE_S, Person
from tests.support.dialects.interviews import Guest, created
from tests.support.dialects.products import LESSON, LIVE, SEEDS, TUTORIUM
from tests.support.dialects.rows import DIALECTS
from tests.support.serving import Town, serving

TITLE = "Waves"
PERSONAL = {
    "name", "code", "number", "title", "owner_name", "owner_number", "room", "dialect",
    "user_id", "user_number", "alias", "colour", "last_seen", "permissions",
}  # fmt: skip
"""Details that are this session's and its people's: ids, names, times, where it was made, and what follows from its
kind (`permissions`)."""
CHOSEN: Mapping[str, set[str]] = {
    "tutorium": {"kind", "capacity"},
    "seeds": {"kind", "capacity"},
    "lesson": {"kind", "capacity", "starts_at", "ends_at", "auto_start", "early_ms", "expires_at"},
    "live": {"kind", "course_id", "starts_at"},
    "interview": {"kind", "features", "expires_at"},
}
"""Details of `session_created` that a product's contract says of each of its sessions: who may come, when, how many."""
ADDED: Mapping[str, tuple[str, ...]] = {
    # The teacher is a participant from the start, `invited`.
    "tutorium": ("participant_invited",),
    # Those who may come in are the tutor and the student of the booking.
    "lesson": ("participant_invited",),
    # It is over by itself, or when it is deleted.
    "interview": ("session_deleted",),
}
"""Rows that a product has besides."""

GUEST = {"guest": True}

Row = tuple[str, str | None, dict[str, Any]]


class Play(NamedTuple):
    """How a session is played through an API; gives what names it in `/v1`. `quits`: the other closes what they watch
    by, which is the only way out; `speaks`: they write and raise a hand, and are muted."""

    play: Callable[[Town, Person, Person], Awaitable[str]]
    quits: bool = False
    speaks: bool = False


async def tutorium(town: Town, host: Person, other: Person) -> str:
    made = (await host.post(f"{TUTORIUM}/sessions", {"title": TITLE, "enable_recording": True})).ok(201)
    path = f"{TUTORIUM}/sessions/{made['id']}"
    (await host.patch(path, {"status": "active"})).ok()
    for person in (host, other):
        (await person.post(f"{path}/join", {})).ok()
    (await other.post(f"{path}/leave", {})).ok()
    (await host.patch(path, {"status": "ended"})).ok()
    return str(made["id"])


async def live(town: Town, host: Person, other: Person) -> str:
    body = {"courseId": "waves", "startsAt": "2030-05-01T10:00:00.000Z", "recordingEnabled": True}
    made = (await host.post(LIVE, body)).ok(201)
    path = f"{LIVE}/{made['roomName']}"
    for person in (host, other):
        (await person.post(f"{path}/join")).ok()
    (await other.post(f"{path}/leave")).ok()
    (await host.delete(path)).ok()
    return str(made["roomName"])


async def interview(town: Town, host: Person, other: Person) -> str:
    ivy, carl = await created(town), Guest(town, "Carl")
    await carl.join(ivy.ref)
    (await carl.delete(f"{ivy.path}/participants/{carl.id}")).ok(204)
    (await ivy.delete(ivy.path)).ok(204)
    return ivy.ref


async def lesson(town: Town, host: Person, other: Person) -> str:
    booking = await book(host, other, title=TITLE, **hour(minutes_ago=-60))
    made = (await host.post(f"{LESSON}/bookings/{booking['id']}/classroom/")).ok()
    path = f"{LESSON}/classroom/sessions/{made['session_id']}"
    for person in (host, other):
        token = (await person.post(f"{path}/jwt/")).ok()["token"]
    url = f"{town.url}/lesson/ws/classroom/{made['session_id']}/"
    async with town.http.ws_connect(url, params={"token": token}) as socket:
        await socket.receive()
    await left(town, made["session_id"])
    (await host.post(f"{path}/terminate/")).ok()
    return str(made["session_id"])


async def seeds(town: Town, host: Person, other: Person) -> str:
    made = (await host.post(f"{SEEDS}/sessions", {"title": TITLE})).ok()
    path = f"{SEEDS}/sessions/{made['session_id']}"
    for person in (host, other):
        place = (await person.post(f"{path}/join")).ok()
    (await other.post(f"{path}/chat", {"message": "Hello"})).ok()
    (await other.post(f"{path}/action", {"type": "raise_hand"})).ok()
    (await host.post(f"{path}/participants/{place['participant_id']}/mute?mute=true")).ok()
    async with other.stream(f"{SEEDS}/sse/sessions/{made['session_id']}") as stream:
        await stream.next()
    await left(town, str(made["session_id"]))
    (await host.delete(path)).ok()
    return str(made["session_id"])


PLAYS: Mapping[str, Play] = {
    "tutorium": Play(tutorium),
    "seeds": Play(seeds, quits=True, speaks=True),
    "lesson": Play(lesson, quits=True),
    "live": Play(live),
    "interview": Play(interview),
}


async def played(town: Town, host: Person, other: Person, way: Play) -> str:
    """Play it in `/v1`, in the way that a product has."""
    seat = await host.create(title=TITLE)
    there = other.at(seat)
    await seat.do("start")
    await seat.join()
    await there.join()
    if way.speaks:
        await there.say("Hello")
        await there.do("raise_hand")
        await seat.do("mute", user_id=other.id)
    if way.quits:
        async with there.stream() as stream:
            await stream.next()
        await left(town, seat.id)
    else:
        await there.do("leave")
    await seat.do("end")
    return seat.id


async def left(town: Town, ref: str) -> None:
    """Wait until somebody's grace time is over."""
    async with asyncio.timeout(PATIENCE_S):
        while not [row for row in rows(town, ref) if row[0] == "participant_left"]:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


def rows(town: Town, ref: str) -> list[Row]:
    """Read a log: types, who acted by their role, and details that are nobody's in particular."""
    found = town.query(
        "select type, actor_id::text, event from session_log join sessions using (session_id)"
        " where %s in (session_id::text, number::text, name) order by seq",
        ref,
    )
    roles = {event["user_id"]: event["role"] for kind, _, event in found if kind == "participant_joined"}
    roles |= {actor: "host" for kind, actor, _ in found if kind == "session_created"}
    return [
        (kind, actor and roles[actor], {key: value for key, value in event.items() if key not in PERSONAL})
        for kind, actor, event in found
    ]


@pytest.fixture
async def quick(dsn: str, data: Path) -> AsyncIterator[Town]:
    """A server that does not wait long for those who have gone."""
    async with serving(dsn, data, sessions={"grace_s": 0.05}) as town:
        yield town


def test_every_dialect_is_played() -> None:
    assert PLAYS.keys() >= DIALECTS.keys()


@pytest.mark.parametrize("product", DIALECTS)
async def test_the_log_is_the_same(quick: Town, product: str) -> None:
    host, other = await quick.teacher(), await quick.student()
    way = PLAYS[product]
    wanted = rows(quick, await played(quick, host, other, way))
    found = rows(quick, await way.play(quick, host, other))
    assert {kind for kind, _, _ in found} >= set(ADDED.get(product, ()))
    found = [row for row in found if row[0] not in ADDED.get(product, ())]
    for log in (wanted, found):
        log[0] = (*log[0][:2], {key: value for key, value in log[0][2].items() if key not in CHOSEN[product]})
    if product == "interview":
        # Nobody there has an account.
        wanted = [(kind, who, said | GUEST if kind == "participant_joined" else said) for kind, who, said in wanted]
    assert [row[:2] for row in found] == [row[:2] for row in wanted]
    assert found == wanted


async def test_the_reference_is_what_it_is_meant_to_be(quick: Town) -> None:
    host, other = await quick.teacher(), await quick.student()
    log = rows(quick, await played(quick, host, other, Play(tutorium, quits=True, speaks=True)))
    assert [(kind, actor) for kind, actor, _ in log] == [
        ("session_created", "host"),
        ("session_started", "host"),
        ("participant_joined", "host"),
        ("participant_joined", "member"),
        ("chat_message", "member"),
        ("hand_raised", "member"),
        ("participant_muted", "host"),
        ("participant_online", "member"),
        ("participant_offline", "member"),
        ("participant_left", None),
        ("session_ended", "host"),
    ]
