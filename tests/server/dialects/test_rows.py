"""Whatever is sent to whichever row of whichever dialect, it is answered in that dialect's own words.

The requests are made of the rows themselves, so that a new one is tested without a line here.
"""

import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import aiohttp
import jwt
import msgspec
import pytest
import pytest_asyncio
from msgspec import inspect

from server.api.routes import CreateRoute, MessageSocketRoute, StreamRoute, UploadRoute
from storage.embedded import server as embedded
from tests.support.booking import hour
from tests.support.client import PATIENCE_S, Client, Person, Reply
from tests.support.dialects.products import Cast, Held, held
from tests.support.dialects.rows import (
    DIALECTS,
    LASTING,
    NOBODY,
    OF_A_SESSION,
    PRIVATE,
    PUBLIC,
    ROWS,
    SOCKETS,
    STATED,
    WITH_A_BODY,
    at,
    body_of,
    names,
    nowhere,
    path_of,
    places,
    put,
    refused,
    sample,
    send,
)
from tests.support.serving import KEY, Town, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")

MALFORMED = {"tutorium": 422, "seeds": 422, "lesson": 400, "live": 400, "interview": 400}


def forged(**changed: Any) -> str:
    now = int(time.time())
    claims = {
        "iss": "homeroom", "aud": "homeroom", "sub": NOBODY, "iat": now, "exp": now + 600, "jti": "1", "login": NOBODY,
        "name": "Mallory", "number": 1, "role": "teacher", **changed,
    }  # fmt: skip
    return jwt.encode(claims, "another key of thirty-two bytes or more", algorithm="HS256")


def unsigned() -> str:
    claims = jwt.decode(forged(), options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none")


FORGED = {
    "none": None,
    "nonsense": "x.y.z",
    "another key": forged(),
    "unsigned": unsigned(),
    "another audience": jwt.encode(
        jwt.decode(forged(aud="elsewhere"), options={"verify_signature": False}), KEY, algorithm="HS256"
    ),
    "a claim short": jwt.encode({"sub": NOBODY, "exp": int(time.time()) + 600}, KEY, algorithm="HS256"),
}


@pytest.fixture
def teacher(cast: Cast) -> Person:
    return cast.host


@pytest.mark.parametrize("name", PRIVATE)
async def test_without_a_credential_it_is_401(town: Town, name: str) -> None:
    dialect, _ = ROWS[name]
    for token in FORGED.values():
        refused(name, await send(Client(town.http, town.url, token), name, nowhere(dialect)), 401)


@pytest.mark.parametrize("name", PUBLIC)
async def test_a_bad_credential_is_none_where_none_is_needed(town: Town, name: str) -> None:
    dialect, row = ROWS[name]
    ref = nowhere(dialect)
    status = (await send(town.anyone, name, ref)).status
    for token in FORGED.values():
        reply = await send(Client(town.http, town.url, token), name, ref)
        # Some make something, which is there the second time.
        assert reply.status in ({401} if isinstance(row, MessageSocketRoute) and token else {status, 400, 409, 422}), (
            reply
        )


@pytest.mark.parametrize("name", SOCKETS)
async def test_a_socket_without_a_credential_is_closed_or_refused(town: Town, name: str) -> None:
    dialect, row = SOCKETS[name]
    url = town.url + path_of(dialect, row, nowhere(dialect))
    for token in filter(None, FORGED.values()):
        if 401 in row.refusals:
            async with town.http.ws_connect(url, params={"token": token}) as socket:
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
                assert socket.close_code == row.refusals[401]
        else:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await town.http.ws_connect(url, params={"token": token})
            assert caught.value.status == 401


@pytest.mark.parametrize("name", OF_A_SESSION)
async def test_a_session_that_is_not_there_is_404(teacher: Person, name: str) -> None:
    dialect, row = ROWS[name]
    # A socket is closed with the code that "no access" has.
    status = 500 if name in STATED else 403 if isinstance(row, MessageSocketRoute) and row.refusals else 404
    for ref in (nowhere(dialect), NOBODY, "0", "x", "%00", "a%2Fb", "%F0%9F%98%80", "x" * 300):
        reply = await send(teacher, name, ref)
        said = refused(name, reply, status)
        assert said == STATED.get(name, said)


@pytest.mark.parametrize("name", WITH_A_BODY)
async def test_fields_that_are_unknown_are_ignored(teacher: Person, name: str) -> None:
    dialect, row = ROWS[name]
    assert not [kind for kind in structs_of(inspect.type_info(row.body)) if kind.forbid_unknown_fields]
    body, ref = body_of(row), nowhere(dialect)
    reply = await send(teacher, name, ref, {"zzz": {"zzz": [1]}, **body}, query={"zzz": "1"})
    assert "zzz" not in reply.body.decode()
    if "{ref}" in row.path:
        refused(name, reply, 500 if name in STATED else 404)


@pytest.mark.parametrize("name", SOCKETS)
async def test_fields_that_are_unknown_are_ignored_on_sockets_too(name: str) -> None:
    for frame in SOCKETS[name][1].frames.values():
        assert not [kind for kind in structs_of(inspect.type_info(frame.body)) if kind.forbid_unknown_fields]


def structs_of(kind: inspect.Type) -> list[inspect.StructType]:
    """List the Structs that are in a type, however deep."""
    match kind:
        case inspect.StructType():
            return [kind, *(inner for field in kind.fields for inner in structs_of(field.type))]
        case inspect.UnionType():
            return [inner for each in kind.types for inner in structs_of(each)]
        case inspect.ListType() | inspect.VarTupleType():
            return structs_of(kind.item_type)
        case inspect.DictType():
            return structs_of(kind.value_type)
        case inspect.Metadata():
            return structs_of(kind.type)
    return []


@pytest.mark.parametrize("name", ROWS)
async def test_a_slash_at_the_end_makes_no_difference(town: Town, teacher: Person, name: str) -> None:
    dialect, _ = ROWS[name]
    ref = nowhere(dialect)
    for client in (town.anyone, *([teacher] if name in LASTING else [])):
        one, other = [await send(client, name, ref, raw=b"{", slash=slash) for slash in (False, True)]
        assert (one.status, re.sub(rb"\d{13}", b"", one.body)) == (other.status, re.sub(rb"\d{13}", b"", other.body))
        assert one.status != 405


@pytest.mark.parametrize("name", WITH_A_BODY)
async def test_a_body_that_is_none_is_refused(town: Town, teacher: Person, name: str) -> None:
    dialect, _ = ROWS[name]
    ref, status = nowhere(dialect), MALFORMED[dialect.name]
    for raw in (
        b"{",
        b"\xff\xfe",
        b"nonsense",
        b'"text"',
        b"[]",
        b"null",
        b'{"a": }',
        b"[" * 5_000,
        deep(40),
        deep(200),
    ):
        refused(name, await send(teacher, name, ref, raw=raw), status)
    large = b'{"x": "' + b"x" * 70_000 + b'"}'
    refused(name, await send(teacher, name, ref, raw=large), 413)


def deep(levels: int) -> bytes:
    return b'{"zzz": ' * levels + b"1" + b"}" * levels


@pytest.mark.parametrize("name", WITH_A_BODY)
async def test_no_text_has_a_nul(teacher: Person, name: str) -> None:
    dialect, row = ROWS[name]
    body = body_of(row)
    for place in places(body):
        for bad in ("\0", "\ud800"):
            if not isinstance(at(body, place), str):
                continue
            reply = await send(teacher, name, nowhere(dialect), put(body, place, at(body, place) + bad))
            refused(name, reply, MALFORMED[dialect.name])


Lively = Callable[[str], Awaitable[Held]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def lively(town: Town, cast: Cast) -> Lively:
    """Gives a session of a product that is live, with people in it; what is over is replaced."""
    kept: dict[str, Held] = {}

    async def give(product: str) -> Held:
        made = kept.get(product)
        if made is None or (await made.host.get(f"/v1/sessions/{made.id}")).json.get("status") != "live":
            made = kept[product] = await held(town, product, cast, joined=True)
        return made

    return give


ODD: tuple[Any, ...] = (
    None, 5, -1, 1 << 31, 1 << 80, 1.5, 1e300, True, "", " ", "x" * 10_000, "\N{GRINNING FACE}" * 300, [], {}, [[]],
    "2030-13-45T99:99:99Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
)  # fmt: skip
ODD_TEXTS = (
    "\0", "", " ", "-1", "0", "1.5", "nan", "inf", "1e999", "true", "x" * 2_000, "99999999999999999999999",
    "\N{GRINNING FACE}",
)  # fmt: skip
ODD_PATHS = (
    "0",
    "-1",
    "x",
    "%00",
    "%F0%9F%98%80",
    "99999999999999999999999",
    "2147483648",
    "a%2Fb",
    "%ED%A0%80",
    "%FF",
)


def in_order(name: str, reply: Reply) -> None:
    """See that an answer is one, or a refusal as its dialect has them."""
    if reply.status >= 400:
        refused(name, reply)
        assert reply.status < 500, f"{name}: {reply.body!r}"


@pytest.mark.parametrize("name", WITH_A_BODY)
async def test_whatever_a_body_says_it_is_no_fault_of_ours(lively: Lively, name: str) -> None:
    dialect, row = ROWS[name]
    made, body = await lively(dialect.name), body_of(row)
    for place in places(body):
        for odd in ODD:
            in_order(name, await send(made.host, name, made.ref, put(body, place, odd)))


@pytest.mark.parametrize("name", [name for name, (_, row) in ROWS.items() if row.query is not None])
async def test_whatever_a_query_says_it_is_no_fault_of_ours(lively: Lively, name: str) -> None:
    dialect, row = ROWS[name]
    made = await lively(dialect.name)
    for field in msgspec.structs.fields(row.query):
        for odd in ODD_TEXTS:
            in_order(name, await send(made.host, name, made.ref, query={field.encode_name: odd}))


NO_LENGTHS = ("", " ", "x", "-1", "1.5", " 5", "5\n", "null", "5,6", "1000000000", "9" * 30)
PAGED = [
    (name, field.encode_name)
    for name, (_, row) in ROWS.items()
    if row.query is not None
    for field in msgspec.structs.fields(row.query)
    if field.encode_name in ("limit", "skip", "before")
]


@pytest.mark.parametrize(("name", "field"), PAGED)
async def test_what_is_no_place_and_no_length_of_a_list_is_refused_by_its_name(
    lively: Lively, name: str, field: str
) -> None:
    dialect, _ = ROWS[name]
    made = await lively(dialect.name)
    for odd in (*NO_LENGTHS, *(() if field == "skip" else ("0",))):
        if field == "before" and odd == "1000000000":
            continue
        reply = await send(made.host, name, made.ref, query={field: odd})
        assert f"`{field}`" in refused(name, reply, MALFORMED[dialect.name])


@pytest.mark.parametrize("name", [name for name, (_, row) in ROWS.items() if names(row) - {"ref"}])
async def test_whatever_a_path_names_it_is_no_fault_of_ours(lively: Lively, name: str) -> None:
    dialect, row = ROWS[name]
    made = await lively(dialect.name)
    for odd in ODD_PATHS:
        things = dict.fromkeys(names(row) - {"ref"}, odd)
        in_order(name, await send(made.host, name, made.ref, things=things))


@pytest.mark.parametrize("name", [name for name, (_, row) in ROWS.items() if isinstance(row, UploadRoute)])
async def test_a_form_that_is_none_is_refused(teacher: Person, name: str) -> None:
    dialect, _ = ROWS[name]
    for raw in (b"", b"{}", b"--b\r\n", b"\xff" * 1_000):
        refused(name, await send(teacher, name, nowhere(dialect), raw=raw))


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=lambda dialect: dialect.name)
async def test_what_is_not_there_is_said_in_the_same_words(teacher: Person, dialect: Any) -> None:
    name = next(name for name, (owner, _) in ROWS.items() if owner is dialect)
    for path in ("/nowhere", "/api/nowhere/at/all", "/%00"):
        refused(name, await teacher.get(dialect.prefix + path), 404)
    for method in ("PUT", "DELETE", "PATCH", "POST", "GET"):
        row = ROWS[name][1]
        if method not in {each.method for each in dialect.rows if each.path == row.path}:
            reply = await teacher.call(method, path_of(dialect, row, "x"))
            refused(name, reply, 405)
            assert reply.headers["Allow"]


# Forms, sockets, headers


FORMS = [name for name in WITH_A_BODY if ROWS[name][0].forms or ROWS[name][1].forms]
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("name", FORMS)
async def test_whatever_a_form_says_it_is_no_fault_of_ours(lively: Lively, name: str) -> None:
    dialect, row = ROWS[name]
    made, body = await lively(dialect.name), {key: str(value) for key, value in body_of(row).items()}
    path = path_of(dialect, row, made.ref)
    for key in body:
        for odd in ODD_TEXTS:
            sent = body | {key: odd}
            in_order(name, await made.host.call(row.method, path, raw=urlencode(sent).encode(), headers=URLENCODED))
            in_order(name, await made.host.call(row.method, path, params=sent))
    for raw in (b"%", b"a=%ff", b"&" * 1_000, b"a=b&" * 100, b"=", b"\xff\xfe", b"user_id=%00"):
        in_order(name, await made.host.call(row.method, path, raw=raw, headers=URLENCODED))
        multipart = {"Content-Type": "multipart/form-data; boundary=b"}
        in_order(name, await made.host.call(row.method, path, raw=raw, headers=multipart))


@pytest.mark.parametrize("name", SOCKETS)
async def test_whatever_a_socket_hears_it_is_no_fault_of_ours(town: Town, lively: Lively, name: str) -> None:
    dialect, row = SOCKETS[name]
    made = await lively(dialect.name)
    messages = ["", "{", "[]", "null", "5", '"x"', "{}", '{"type": 5}', '{"type": "x", "data": 5}', "[" * 5_000]
    for kind, frame in row.frames.items():
        body = {} if frame.body == dict[str, Any] else sample(frame.body)
        messages.append(f'{{"type": "{kind}", "data": {deep(40).decode()}}}')
        if kind not in ENDING:
            messages.append(json.dumps({"type": kind}))
            messages += [
                json.dumps({"type": kind, "data": put(body, place, odd)}) for place in places(body) for odd in ODD
            ]
    url, token = town.url + path_of(dialect, row, made.ref), made.host.token or ""
    async with town.http.ws_connect(url, params={"token": token}) as socket:
        for message in messages:
            await socket.send_str(message)
        await socket.send_json({"type": LAST})
        heard: list[str] = []
        while not heard or LAST not in heard[-1]:
            heard.append(await socket.receive_str(timeout=PATIENCE_S))
    assert len(heard) > len(row.frames)
    assert not [said for said in heard if "went wrong here" in said]


ENDING = {"terminate", "user_leave"}
LAST = "the last of all"


@pytest.mark.parametrize("name", [name for name in OF_A_SESSION if name not in SOCKETS])
async def test_whatever_a_header_says_it_is_no_fault_of_ours(lively: Lively, name: str) -> None:
    dialect, row = ROWS[name]
    made = await lively(dialect.name)
    for headers, status in (
        ({"Last-Event-ID": "x"}, None), ({"Last-Event-ID": "1-99999999999999999999"}, None),
        ({"Idempotency-Key": "x" * 65}, None), ({"Idempotency-Key": ""}, None),
        ({"Content-Encoding": "gzip"}, None), ({"Content-Type": "text/plain; charset=nonsense"}, None),
        ({"Range": "bytes=9-1"}, None), ({"Authorization": "Basic eDp5"}, 401), ({"Authorization": "Bearer"}, 401),
        ({"Authorization": f"bearer {made.host.token}"}, None), ({"Authorization": "\xff"}, 401),
    ):  # fmt: skip
        raw = None if row.body is None else json.dumps(body_of(row)).encode()
        async with made.town.http.request(
            row.method, made.town.url + path_of(dialect, row, made.ref), data=raw, headers=made.host.headers | headers
        ) as answer:
            endless = answer.status == 200 and isinstance(row, StreamRoute)
            reply = Reply(answer.status, answer.headers, b"" if endless else await answer.read())
        in_order(name, reply)
        assert row.public or status in (None, reply.status), f"{headers}: {reply.status}"


CREATING = [name for name, (_, row) in ROWS.items() if isinstance(row, CreateRoute)]


@pytest.mark.parametrize("name", CREATING)
async def test_a_session_is_made_once_under_a_key(town: Town, name: str) -> None:
    dialect, row = ROWS[name]
    tess = await town.teacher()
    body, key = itself(body_of(row), tess.id), {"Idempotency-Key": "k-1"}
    for _ in range(2):
        reply = await tess.call(row.method, dialect.prefix + row.path, body, headers=key)
        assert reply.status == row.status, reply.body
    assert town.query("select count(*) from sessions where owner_id = %s", tess.id) == [(1,)]
    if row.public:
        nobody, body = Client(town.http, town.url), itself(body_of(row), str(uuid4()))
        reply = await nobody.call(row.method, dialect.prefix + row.path, body, headers=key)
        assert 400 <= reply.status < 500
        assert b"takes a token" in reply.body


@pytest.mark.parametrize("name", [name for name, (_, row) in ROWS.items() if row.method != "GET" and not row.keyed])
async def test_a_key_that_a_row_does_not_take_is_refused(teacher: Person, name: str) -> None:
    dialect, row = ROWS[name]
    path = path_of(dialect, row, nowhere(dialect))
    reply = await teacher.call(row.method, path, {}, headers={"Idempotency-Key": "k-1"})
    assert "takes no Idempotency-Key" in refused(name, reply, MALFORMED[dialect.name], 422)


async def test_a_lesson_is_booked_once_under_a_key(town: Town) -> None:
    tess, anna = await town.teacher(), await town.student()
    body = {"tutor_id": tess.id, "student_id": anna.id, **hour()}
    path, key = "/lesson/api/v1/bookings/", {"Idempotency-Key": "k-1"}
    first, again = [(await tess.post(path, body, **key)).ok(201) for _ in range(2)]
    assert first["id"] == again["id"]
    refused("lesson POST /api/v1/bookings/", await tess.post(path, {**body, "title": "x"}, **key), 400)


async def test_who_is_too_fast_is_told_so_in_the_dialect_s_words(dsn: str, data: Path) -> None:
    limits = {"user_burst": 40, "user_commands_per_s": 1}
    async with serving(dsn, data, limits=limits) as town:
        cast = Cast(await town.teacher(), await town.student("Anna"), await town.student("Ben"))
        made = {product: await held(town, product, cast) for product in DIALECTS}
        session = (await cast.host.post("/v1/sessions", {"title": "x"})).ok(201)
        for name, (dialect, row) in ROWS.items():
            if row.method == "GET" or name not in LASTING or "/auth/" in row.path:
                continue
            body = None if row.body is None else itself(body_of(row), cast.host.id)
            for _ in range(2):  # once it may be just the moment at which one is allowed again
                while (await cast.host.patch(f"/v1/sessions/{session['id']}", {})).status != 429:
                    pass
                reply = await send(cast.host, name, made[dialect.name].ref, body)
                if reply.status == 429:
                    break
            refused(name, reply, 429)
            assert ("Retry-After" in reply.headers) == (reply.status == 429)


async def test_who_reads_too_fast_is_told_so_in_the_dialect_s_words(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"user_reads_per_s": 1}) as town:
        cast = Cast(await town.teacher(), await town.student("Anna"), await town.student("Ben"))
        made = {product: await held(town, product, cast) for product in DIALECTS}
        for name, (dialect, row) in ROWS.items():
            if row.method != "GET":
                continue
            for _ in range(2):  # once it may be just the moment at which one is allowed again
                while (await cast.host.get("/v1/me")).status != 429:
                    pass
                reply = await send(cast.host, name, made[dialect.name].ref)
                if reply.status == 429:
                    break
            refused(name, reply, 429)
            # A socket that is opened to be closed with a code has no headers.
            assert not reply.headers or int(reply.headers["Retry-After"]) >= 1


async def test_while_the_database_is_away_it_is_said_in_the_dialect_s_words(data: Path, scratch: str | None) -> None:
    directory = Path(tempfile.mkdtemp(prefix="homeroom-away-", dir=scratch))
    postgres = await asyncio.to_thread(embedded.start, directory, settings={"fsync": "off"})
    away: dict[str, set[str]] = {product: set() for product in DIALECTS}
    try:
        async with serving(postgres.dsn, data, database={"connect_timeout_s": 0.5}) as town:
            cast = Cast(await town.teacher(), await town.student("Anna"), await town.student("Ben"))
            made = {product: await held(town, product, cast) for product in DIALECTS}
            await asyncio.to_thread(postgres.stop)

            async def ask(name: str) -> None:
                dialect, row = ROWS[name]
                body = None if row.body is None else itself(body_of(row), cast.host.id)
                reply = await send(cast.host, name, made[dialect.name].ref, body)
                if reply.status >= 500:
                    refused(name, reply, 503)
                    assert int(reply.headers["Retry-After"]) >= 1, name
                    away[dialect.name].add(name)

            # All at once, as each waits for the database.
            await asyncio.gather(*(ask(name) for name in ROWS if name in LASTING))
    finally:
        await asyncio.to_thread(postgres.stop)
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    # The others need no database for this: a health check, and bodies that are refused for what they say.
    assert sum(map(len, away.values())) >= len(LASTING) - 5, sorted(set(LASTING).difference(*away.values()))


def itself(body: Any, user_id: str) -> Any:
    """Give a body that says nothing untrue of who sends it."""
    for place in places(body):
        if at(body, place) == NOBODY:
            body = put(body, place, user_id)
    return body
