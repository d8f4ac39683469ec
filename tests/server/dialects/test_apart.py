"""Five products on one server: what is one's is not to be had through another, nor by anybody else.

Over every row of every table, so that a new one is held to it without a line here.
"""

import re
import uuid
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

import aiohttp
import jwt
import pytest
import pytest_asyncio
from msgspec import structs

from actors.session import commands as c
from server.api.routes import Frame, MessageSocketRoute, Row
from server.v1.table import API
from tests.server.api import test_access as v1
from tests.support.client import Client, Person
from tests.support.dialects.products import JOINS, LIVE, MAKERS, SECRET, Cast, Held, held
from tests.support.dialects.rows import (
    DIALECTS,
    LASTING,
    OF_A_SESSION,
    PRIVATE,
    ROWS,
    SOCKETS,
    STATED,
    body_of,
    names,
    path_of,
    put,
    refused,
    sample,
    send,
)
from tests.support.serving import Town

pytestmark = pytest.mark.asyncio(loop_scope="session")

Hold = dict[str, list[Held]]


SCOPED = [name for name in PRIVATE if not ROWS[name][1].scoped]
"""Those that take a credential for the session that they are about, and for no other; elsewhere an action minds it."""
DOORS = [name for name in PRIVATE if getattr(ROWS[name][1], "has_invitation", False)] + [
    "live POST /sessions/{ref}/token"
]
"""Where whoever finds the session may come in, or into its room."""
LISTS = ["seeds GET /sessions/active"]
"""Where the contract has everybody see all that goes on."""


async def test_every_product_is_here() -> None:
    assert MAKERS.keys() >= DIALECTS.keys()


@pytest.mark.parametrize("name", OF_A_SESSION)
async def test_another_product_s_session_is_not_there(hold: Hold, full: dict[str, Held], name: str) -> None:
    dialect, row = ROWS[name]
    status = 500 if name in STATED else 403 if isinstance(row, MessageSocketRoute) and row.refusals else 404
    for product in hold.keys() - {dialect.name}:
        for ref in hold[product][0].names:
            refused(name, await send(hold[product][0].host, name, ref), status)
        # A guest's token is for one session of theirs; elsewhere that is not there either.
        refused(name, await send(full[product].members[0], name, full[product].id), 403 if row.teachers else status)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def tokens(hold: Hold) -> dict[str, tuple[str, str]]:
    """Tokens for one session alone: of which product it is, its id, and the token."""
    made: dict[str, tuple[str, str]] = {}
    for product, (first, _) in hold.items():
        token = (await first.host.post(f"/v1/sessions/{first.id}/tokens")).ok(201)["token"]
        made[f"{product}'s in v1"] = first.id, token
    # What lets people into a room that is built in is a token for its session.
    made["tutorium's room"] = (
        hold["tutorium"][0].id,
        ((await hold["tutorium"][0].host.post(JOINS["tutorium"].format(hold["tutorium"][0].ref), {})).ok()["token"]),
    )
    made["live's room"] = (
        hold["live"][0].id,
        ((await hold["live"][0].host.post(f"{LIVE}/{hold['live'][0].ref}/token")).ok()["token"]),
    )
    made["lesson's"] = (
        hold["lesson"][0].id,
        ((await hold["lesson"][0].host.post(JOINS["lesson"].format(hold["lesson"][0].ref), {})).ok()["token"]),
    )
    return made


@pytest.mark.parametrize("name", SCOPED)
async def test_a_token_for_one_session_is_for_that_alone(
    town: Town, hold: Hold, tokens: dict[str, tuple[str, str]], name: str
) -> None:
    dialect, row = ROWS[name]
    for session_id, token in tokens.values():
        there = next(made for made in hold[dialect.name] if made.id != session_id)
        # Where a code leads to the session, there is none.
        refused(name, await send(Client(town.http, town.url, token), name, there.ref), 404 if row.code else 403)
        query = {"token": token} if row.query_token else None
        refused(name, await send(town.anyone, name, there.ref, query=query), 403 if query else 401)


@pytest.mark.parametrize("name", SCOPED)
async def test_a_guest_s_token_opens_nothing_elsewhere(hold: Hold, full: dict[str, Held], name: str) -> None:
    dialect, _ = ROWS[name]
    guest = full["interview"].members[0]
    for there in (*hold[dialect.name], *([full[dialect.name]] if dialect.name != "interview" else [])):
        refused(name, await send(guest, name, there.ref), 404 if ROWS[name][1].code else 403)


@pytest.mark.parametrize("name", [name for name, row in v1.ROWS.items() if not row.public])
async def test_a_guest_s_token_opens_nothing_in_v1_but_their_session(
    town: Town, hold: Hold, full: dict[str, Held], name: str
) -> None:
    row = v1.ROWS[name]
    things = dict.fromkeys(
        ("audio_id", "user_id", "recording", "token", "booking_id", "webhook_id", "delivery"), str(uuid.uuid4())
    )
    for there in (*hold["interview"], *(made for product, made in full.items() if product != "interview")):
        for ref in there.names:
            guest, path = full["interview"].members[0], API.prefix + row.path.format(ref=ref, **things)
            reply = await guest.call(row.method, path, v1.REQUESTS[name][0])
            # Their scope lets them ask for pieces that they might hear in their session.
            assert reply.status in (403, 404, 426)
            reply.refused(reply.status)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def strangers(town: Town) -> dict[str, Person]:
    return {role: await town.person(role, "Mallory") for role in ("teacher", "student")}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def members(full: dict[str, Held]) -> dict[str, "Place"]:
    """Somebody who is in the session of each product."""
    return {
        product: next(place for place in Logged(made).places.values() if place.user_id != made.host.id)
        for product, made in full.items()
    }


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("name", [name for name in PRIVATE if name in LASTING and name not in DOORS + LISTS])
async def test_a_user_outside_the_session_gets_nothing(
    full: dict[str, Held], members: dict[str, "Place"], strangers: dict[str, Person], name: str, role: str
) -> None:
    dialect, row = ROWS[name]
    made, stranger = full[dialect.name], strangers[role]
    before = (await made.state())["cursor"]
    for who in members[dialect.name].names:
        reply = await send(stranger, name, made.ref, things=dict.fromkeys(names(row) - {"ref"}, str(who)))
        assert SECRET.encode() not in reply.body
        if "{ref}" in row.path:
            # 404: nobody in there is called that.
            refused(name, reply, 403, 404)
        else:
            assert made.id.encode() not in reply.body
    assert (await made.state())["cursor"] == before, "the stranger has left no trace"


# Nobody acts as somebody else

NAMES_SOMEBODY = re.compile(
    r"(?:(?:target_)?(?:user|participant|student|teacher|tutor|creator|actor|owner|sender|member|instructor|person)"
    r"_?(?:id)?|from|by|who|to|me)$",
    re.IGNORECASE,
)


def naming(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Name the places in a body that say who somebody is."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if isinstance(inner, dict):
            yield from naming(inner, (*place, key))
            if NAMES_SOMEBODY.match(key) and "id" in inner:
                yield (*place, key, "id")
        elif NAMES_SOMEBODY.match(key):
            yield (*place, key)


EXTRA = ("user_id", "userId", "participant_id", "actor_id", "sender_id", "from", "by", "me")
"""Names that a client may try, known to the row or not."""


async def test_what_names_somebody_is_found() -> None:
    found = {place for _, row in ROWS.values() if row.body is not None for place in naming(body_of(row))}
    assert found >= {("user_id",), ("tutor_id",), ("student_id",), ("creator", "id"), ("user", "id")}


class Place(NamedTuple):
    """What somebody in a session is called: account, its number, the number in the session, a client's own id."""

    user_id: str
    user_number: str | None
    number: str
    alias: str | None

    @property
    def names(self) -> list[str | int]:
        """List them, as texts and as numbers."""
        texts = [name for name in self if name is not None]
        return [*texts, *(int(name) for name in texts if name.isdigit())]


class Logged:
    """A session's log, and who is in it."""

    def __init__(self, made: Held) -> None:
        self.rows = made.town.query(
            "select seq, actor_id::text, type, event from session_log where session_id = %s order by seq", made.id
        )
        events = [event for _, _, kind, event in self.rows if kind in ("participant_joined", "participant_invited")]
        self.places = {
            event["user_id"]: Place(
                event["user_id"], str(event["user_number"]), str(event["number"]), event.get("alias")
            )
            for event in events
        }

    def of(self, user_ids: Set[str]) -> list[Any]:
        return [row for row in self.rows if row[1] in user_ids]


def holders(body: bytes) -> set[str]:
    """Name whose the tokens in an answer are."""
    return {
        jwt.decode(found, options={"verify_signature": False}).get("sub", "")
        for found in re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", body.decode(errors="replace"))
    }


def pretending(row: Row, who: str | int) -> Iterator[dict[str, Any]]:
    """Make requests that a row takes and that are from somebody, as far as a body, a query and a path can say."""
    body = None if row.body is None else dict.fromkeys(EXTRA, who) | body_of(row)
    for place in naming(body):
        body = put(body, place, who)
    query = dict.fromkeys(EXTRA, str(who))
    if row.query is not None:
        query |= {field.encode_name: str(sample(field.type)) for field in structs.fields(row.query)}
        query |= {key: str(who) for key in query if NAMES_SOMEBODY.match(key)}
    things = {key: str(who) for key in names(row) if NAMES_SOMEBODY.match(key)}
    yield {"body": body, "things": things}
    yield {"body": body, "things": things, "query": query}


@pytest.mark.parametrize("known", [True, False], ids=["a participant", "nobody in particular"])
@pytest.mark.parametrize("product", DIALECTS)
async def test_nobody_acts_as_somebody_else(town: Town, cast: Cast, product: str, known: bool) -> None:
    made = await held(town, product, cast, joined=True)
    before, ben = Logged(made), made.members[1] if known else town.anyone
    [own] = holders((ben.token or "").encode()) or {""}
    others = before.places.keys() - {own}
    state = await made.state()
    cursor = state["cursor"]
    for name in (name for name in LASTING if name.startswith(f"{product} ") and name not in SOCKETS):
        for who in (who for other in others for who in before.places[other].names):
            for request in pretending(ROWS[name][1], who):
                reply = await send(ben, name, made.ref, **request)
                assert reply.status < 500 or name in STATED, reply
                assert not holders(reply.body) & others, f"{name} gave somebody else's token"
        if known:
            await made.enter(ben)  # a row may have been the way out
        after = await made.state()
        if after["cursor"] != cursor:
            cursor = after["cursor"]
            assert Logged(made).of(others) == before.of(others), f"{name} let somebody else act"
    stand, stood = [{one["user_id"]: one for one in each["participants"]} for each in (after, state)]
    assert {other: stand[other] for other in others} == {other: stood[other] for other in others}


@pytest.mark.parametrize("name", SOCKETS)
async def test_nobody_speaks_as_somebody_else(town: Town, cast: Cast, name: str) -> None:
    dialect, row = SOCKETS[name]
    made = await held(town, dialect.name, cast, joined=True)
    before, ben = Logged(made), made.members[1]
    [own] = holders((ben.token or "").encode())
    others = before.places.keys() - {own}
    seen = []
    unknown = {"wave": Frame(dict[str, Any], lambda call: c.Typing())}  # of no type that is known
    for kind, frame in ({**row.frames, **unknown}).items():
        await made.enter(ben)  # a message may have been the way out
        url = town.url + path_of(dialect, row, made.ref)
        async with town.http.ws_connect(url, params={"token": ben.token or ""}) as ws:
            for who in (who for other in others for who in before.places[other].names):
                body = dict.fromkeys(EXTRA, who) | ({} if frame.body == dict[str, Any] else sample(frame.body))
                for place in naming(body):
                    body = put(body, place, who)
                await ws.send_json({"type": kind, "data": body})
            await ws.send_json({"type": "", "data": {}})
            while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT and "`type`" not in message.data:
                seen.append(message.json())
    assert seen
    assert Logged(made).of(others) == before.of(others)
    for frame in seen:
        if frame["type"] not in ("error", "session_state"):
            speaker = frame["data"].get("userId", frame["data"].get("user_id"))
            assert speaker not in {name for other in others for name in before.places[other].names}, frame


NAMED = [name for name in LASTING if ROWS[name][0].user_field and name not in SOCKETS]


@pytest.mark.parametrize("name", NAMED)
async def test_who_says_who_they_are_beside_a_token_has_to_be_right(hold: Hold, cast: Cast, name: str) -> None:
    dialect, _ = ROWS[name]
    made, field = hold[dialect.name][0], dialect.user_field or ""
    for wrong in (str(cast.anna.user["number"]), "99999999", "x", "", "1.0", f"{cast.host.user['number']} "):
        reply = await send(cast.host, name, made.ref, query={field: wrong})
        assert field in refused(name, reply, 403)
    reply = await send(cast.anna, name, made.ref, query={field: str(cast.anna.user["number"])})
    assert field not in reply.body.decode() or reply.status < 400
