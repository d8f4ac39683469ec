"""The `interview` contract, route by route."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from actors.session import commands as c
from actors.session.ids import VISIBLE_TEXT
from server.http.uuids import new_id
from server.security.principal import Principal
from server.settings.sections import InterviewSettings
from server.usecases.session_creation import CreationOptions, create_session_from, hex_name
from tests.support.dialects.interviews import BASE, HEX, PARTICIPANT, SESSION, Guest, created, data, pair, refused
from tests.support.serving import Town, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


# Making one


async def test_a_session_is_made_with_its_creator_in_it(town: Town) -> None:
    ivy = Guest(town, "Ivy")
    before = time.time() * 1000 - 1
    answer = data((await ivy.post(f"{BASE}/sessions", {"creator": ivy.user, "extra": 1})).ok(201))
    assert answer.keys() == SESSION | {"token"}
    assert HEX.fullmatch(answer["id"])
    assert (answer["code"], answer["language"], answer["creator_id"]) == ("", "javascript", ivy.id)
    for at in (answer["created_at"], answer["updated_at"], answer["participants"][0]["joined_at"]):
        assert isinstance(at, int)
        assert before <= at <= time.time() * 1000
    assert answer["expires_at"] == answer["created_at"] + 86_400_000
    assert answer["participants"] == [
        {
            "id": ivy.id, "name": "Ivy", "role": "interviewer", "color": "#12ab9f",
            "joined_at": answer["created_at"], "is_online": True,
        }
    ]  # fmt: skip
    ivy.ref = answer["id"]
    session = await ivy.session()
    assert session == {key: answer[key] for key in SESSION}
    assert data((await town.anyone.get(ivy.path + "/")).ok()) == session


async def test_code_and_language_are_there_from_the_first_commit(town: Town) -> None:
    ivy = await created(town, code="print()\n", language="python")
    session = await ivy.session()
    assert (session["code"], session["language"]) == ("print()\n", "python")
    rows = town.query(
        "select type from session_log join sessions using (session_id) where name = %s order by seq", ivy.ref
    )
    assert [kind for (kind,) in rows] == [
        "session_created", "session_started", "participant_joined", "language_changed", "code_edited",
    ]  # fmt: skip


@pytest.mark.parametrize("path", [f"{BASE}/sessions", f"{BASE}/sessions/"])
async def test_both_slashes_make_one(town: Town, path: str) -> None:
    ivy = Guest(town, "Ivy")
    assert (await ivy.post(path, {"creator": ivy.user})).status == 201


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"creator": None}, "`creator`: expected `object`, got `null`."),
        ({"creator": {"id": "ivy", "name": "Ivy"}}, "`creator.id` must be a UUID."),
        ({"creator": {"name": "Ivy"}}, "The field `creator.id` is required."),
        ({"creator": {"id": new_id()}}, "The field `creator.name` is required."),
        (
            {"creator": {"id": new_id(), "name": " "}},
            f"`creator.name` must be {VISIBLE_TEXT}.",
        ),
        ({"creator": {"id": new_id(), "name": "Ivy", "color": "url(//x)"}}, "`creator.color` must be a colour"),
        ({"language": "cobol"}, "`language` must be one of `html`, `javascript`, `python`."),
        ({"code": 5}, "`code`: expected `str`, got `int`."),
        ({"code": "a\0b"}, "`code` contains a NUL character."),
    ],
)
async def test_what_is_no_session_is_400_and_says_where(town: Town, change: Any, text: str) -> None:
    ivy = Guest(town, "Ivy")
    reply = await ivy.post(f"{BASE}/sessions", {"creator": ivy.user} | change)
    assert refused(reply, 400, "INVALID_REQUEST").startswith(text)


async def test_what_is_no_json_is_400(town: Town) -> None:
    for raw in (b"", b"{", b"[]", b"\xff", b"[" * 5_000):
        refused(await town.anyone.call("POST", f"{BASE}/sessions", raw=raw), 400, "INVALID_REQUEST")
    large = json.dumps({"creator": Guest(town, "Ivy").user, "code": "x" * 70_000}).encode()
    refused(await town.anyone.call("POST", f"{BASE}/sessions", raw=large), 413, "INVALID_REQUEST")


async def test_colours_are_what_css_takes_or_given(town: Town) -> None:
    for color in ("teal", "#abc", "rgb(1, 2, 3)", "hsl(120 80% 40%)"):
        ivy = Guest(town, "Ivy")
        body = {"creator": ivy.user | {"color": color}}
        answer = data((await ivy.post(f"{BASE}/sessions", body)).ok(201))
        assert answer["participants"][0]["color"] == color
    ivy = await created(town)
    given = []
    for name in ("Carl", "Cleo"):
        one = {"id": new_id(), "name": name}
        given.append(
            data((await town.anyone.post(f"{ivy.path}/join", {"user": one})).ok())["participants"][-1]["color"]
        )
    assert len(set(given)) == 2


async def test_an_id_that_is_taken_is_tried_again(town: Town) -> None:
    services = town.server.services
    teacher = await town.teacher()
    principal = Principal(teacher.user["id"], 1, "Tess", "teacher", "x", time.time() + 60)
    taken = (await created(town)).ref
    names = iter([taken, taken, "0000000a", taken])
    new = c.NewSession(title="InterviewSettings", kind="interview")
    opening = CreationOptions(named=lambda title: next(names))
    assert (await create_session_from(services, principal, new, opening)).session.name == "0000000a"
    assert next(names) == taken


async def test_ids_are_hexadecimal_and_no_numbers() -> None:
    assert all(HEX.fullmatch(hex_name("")) for _ in range(2_000))


# Reading


async def test_what_is_not_there_is_404(town: Town) -> None:
    seat = await (await town.teacher()).create(kind="interview")
    for ref in ("deadbeef", "00000000", seat.id, seat.code, seat.session["name"], str(seat.session["number"]), "x%00"):
        for path in ("", "/participants", "/code/snapshots"):
            reply = await town.anyone.get(f"{BASE}/sessions/{ref}{path}")
            refused(reply, 404, "SESSION_NOT_FOUND", "Session not found")
    refused(await town.anyone.get(f"{BASE}/nowhere"), 404, "NOT_FOUND")
    refused(await town.anyone.call("PUT", f"{BASE}/sessions"), 405, "INVALID_REQUEST")


async def test_guesses_are_counted(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"join_attempts_per_minute": 2}) as town:
        ivy = await created(town)
        for _ in range(2):
            refused(await town.anyone.get(f"{BASE}/sessions/deadbeef"), 404, "SESSION_NOT_FOUND")
        reply = await town.anyone.get(f"{BASE}/sessions/deadbeef")
        refused(reply, 429, "RATE_LIMITED")
        assert reply.headers["Retry-After"]
        assert (await town.anyone.get(ivy.path)).status == 200


async def test_newcomers_are_counted_by_address(dsn: str, data: Path) -> None:
    async with serving(dsn, data, limits={"guests_per_minute": 2}) as town:
        ivy, carl = await pair(town)
        reply = await town.anyone.post(f"{ivy.path}/join", {"user": Guest(town, "Cleo").user})
        refused(reply, 429, "RATE_LIMITED")
        await carl.join(ivy.ref)
        assert town.query("select count(*) from users where role = 'guest'") == [(2,)]


async def test_health_returns_ok(town: Town) -> None:
    before = int(time.time() * 1000)
    answer = (await town.anyone.get(f"{BASE}/health")).ok()
    assert answer.keys() == {"status", "timestamp"}
    assert answer["status"] == "ok"
    assert before <= answer["timestamp"] <= time.time() * 1000


# Joining


async def test_who_joins_is_a_candidate(town: Town) -> None:
    ivy = await created(town)
    carl = Guest(town, "Carl")
    session = await carl.join(ivy.ref)
    assert session.keys() == SESSION
    assert [(one["name"], one["role"], one["is_online"]) for one in session["participants"]] == [
        ("Ivy", "interviewer", True), ("Carl", "candidate", True),
    ]  # fmt: skip
    assert session["participants"][1] == {
        "id": carl.id, "name": "Carl", "role": "candidate", "color": "#12ab9f",
        "joined_at": session["updated_at"], "is_online": True,
    }  # fmt: skip
    assert session == await ivy.session()
    answer = (await town.anyone.get(f"{ivy.path}/participants")).ok()
    assert answer == {"participants": session["participants"]}
    assert all(one.keys() == PARTICIPANT for one in answer["participants"])


async def test_one_joins_again_with_one_s_token(town: Town) -> None:
    ivy, carl = await pair(town)
    first = carl.token
    session = await carl.join(ivy.ref)
    assert len(session["participants"]) == 2
    assert carl.token not in (None, first)
    assert data((await carl.patch(carl.path, {"code": "x"})).ok())["code"] == "x"


async def test_the_same_id_elsewhere_is_somebody_else(town: Town) -> None:
    ivy, carl = await pair(town)
    other = await created(town)
    twin = Guest(town, "Mallory", carl.id)
    await twin.join(other.ref)
    assert ((await twin.place())["name"], (await carl.place())["name"]) == ("Mallory", "Carl")
    refused(await twin.patch(ivy.path, {"code": "x"}), 403, "FORBIDDEN")


async def test_an_id_cannot_be_taken_over(town: Town) -> None:
    ivy, carl = await pair(town)
    mallory, other = Guest(town, "Mallory"), await created(town)
    for token in (None, "x.y.z", other.token):
        for theirs in (ivy, carl):
            for id_ in (theirs.id, theirs.id.upper()):
                mallory.token = token
                reply = await mallory.post(f"{ivy.path}/join", {"user": theirs.user | {"id": id_, "name": "Mallory"}})
                refused(reply, 409, "CONFLICT")
    # Not even to bring back who has left.
    await carl.delete(f"{ivy.path}/participants/{carl.id}")
    refused(await town.anyone.post(f"{ivy.path}/join", {"user": carl.user}), 409, "CONFLICT")
    assert (await carl.place())["is_online"] is False
    await mallory.join(ivy.ref)
    reply = await mallory.post(f"{ivy.path}/join", {"user": ivy.user})
    refused(reply, 403, "FORBIDDEN", "`id` is not who the token says you are.")
    assert [one["name"] for one in (await ivy.session())["participants"]] == ["Ivy", "Carl", "Mallory"]


async def test_nobody_takes_the_id_of_an_account_or_of_homeroom_s_own(town: Town) -> None:
    ivy = await created(town)
    teacher = await town.teacher()
    (own,) = town.query("select user_id::text from users where subject = %s", ivy.id)
    for id_ in (teacher.id, own[0]):
        reply = await town.anyone.post(f"{ivy.path}/join", {"user": {"id": id_, "name": "Mallory"}})
        refused(reply, 409, "CONFLICT")


async def test_of_two_who_present_an_id_at_once_one_gets_a_token(town: Town) -> None:
    ivy = await created(town)
    for _ in range(3):
        carl = Guest(town, "Carl")
        body = {"user": carl.user}
        replies = await asyncio.gather(*(town.anyone.post(f"{ivy.path}/join", body) for _ in range(5)))
        assert sorted(reply.status for reply in replies) == [200, 409, 409, 409, 409]
    assert len((await ivy.session())["participants"]) == 4


async def test_an_id_is_not_spent_on_a_door_that_was_shut(town: Town) -> None:
    ivy = await created(town)
    session_id = town.query("select session_id::text from sessions where name = %s", ivy.ref)[0][0]
    (await ivy.post(f"/v1/sessions/{session_id}/commands", {"type": "lock"})).ok()
    carl = Guest(town, "Carl")
    refused(await carl.post(f"{ivy.path}/join", {"user": carl.user}), 409, "CONFLICT")
    (await ivy.post(f"/v1/sessions/{session_id}/commands", {"type": "unlock"})).ok()
    await carl.join(ivy.ref)
    assert (await carl.place())["role"] == "candidate"


async def test_an_account_is_itself(town: Town) -> None:
    teacher, ivy = await town.teacher(), await created(town)
    me = {"id": teacher.id, "name": "Somebody else", "color": "teal"}
    session = data((await teacher.post(f"{ivy.path}/join", {"user": me})).ok())
    assert [(one["id"], one["name"], one["color"]) for one in session["participants"][1:]] == [
        (teacher.id, "Tess", "teal")
    ]
    reply = await teacher.post(f"{ivy.path}/join", {"user": {"id": new_id(), "name": "Ghost"}})
    refused(reply, 403, "FORBIDDEN")
    made = data((await teacher.post(f"{BASE}/sessions", {"creator": me})).ok(201))
    assert made["creator_id"] == teacher.id
    assert (await teacher.get(f"/v1/sessions/{made['id']}")).ok()["owner"]["id"] == teacher.id
    scoped = Guest(town, "Tess", teacher.id)
    scoped.ref, scoped.token = made["id"], made["token"]
    assert data((await scoped.patch(scoped.path, {"code": "x"})).ok())["code"] == "x"
    await teacher.post("/v1/auth/logout")
    refused(await scoped.patch(scoped.path, {"code": "y"}), 401, "UNAUTHORIZED")
    assert town.server.services.tokens.longest_s > 86_400, "for as long as such a token may be good"


async def test_it_is_a_session_like_any_other(town: Town) -> None:
    ivy, carl = await pair(town)
    session = (await ivy.get(f"/v1/sessions/{ivy.ref}")).ok()
    assert (session["kind"], session["status"], session["owner"]["name"]) == ("interview", "live", "Ivy")
    log = (await ivy.get(f"/v1/sessions/{ivy.ref}/log")).ok()["items"]
    assert [row["type"] for row in log] == [
        "session_created", "session_started", "participant_joined", "participant_joined",
    ]  # fmt: skip
    assert (await ivy.get(f"/v1/sessions/{ivy.ref}/attendance")).ok()
    assert (await carl.get(f"/v1/sessions/{ivy.ref}/log")).status == 403
    reply = await (await town.student()).post("/v1/sessions/join", {"code": session["code"]})
    assert reply.status == 200
    assert [one["role"] for one in (await ivy.session())["participants"]] == ["interviewer", "candidate", "candidate"]


async def test_what_the_owner_shuts_is_shut(town: Town) -> None:
    ivy, carl = await pair(town)
    (await ivy.patch(f"/v1/sessions/{ivy.ref}", {"features": {"guests": False}})).ok()
    for path in ("", "/participants", "/code/snapshots"):
        refused(await town.anyone.get(ivy.path + path), 403, "FORBIDDEN")
        for one in (ivy, carl):
            assert (await one.get(ivy.path + path)).status == 200
    reply = await town.anyone.post(f"{ivy.path}/join", {"user": Guest(town, "Cleo").user})
    refused(reply, 403, "FORBIDDEN")


# The code


async def test_code_and_language_are_changed_apart_or_together(town: Town) -> None:
    ivy, carl = await pair(town)
    for sent, code, language in (
        ({"code": "a"}, "a", "javascript"),
        ({"language": "html"}, "a", "html"),
        ({"code": "b", "language": "python"}, "b", "python"),
        ({"code": "b"}, "b", "python"),
    ):
        session = data((await carl.patch(ivy.path, sent)).ok())
        assert session.keys() == SESSION
        assert (session["code"], session["language"]) == (code, language)
        assert session == await ivy.session()
    refusals: tuple[tuple[Any, str], ...] = (
        ({}, "Send `code` or `language`, or both."),
        ({"language": "go"}, "`language` must be one of `html`, `javascript`, `python`."),
        ({"code": None}, "`code`: expected `str`, got `null`."),
    )
    for bad, text in refusals:
        refused(await carl.patch(ivy.path, bad), 400, "INVALID_REQUEST", text)


async def test_a_replacement_of_an_old_version_is_409_and_changes_nothing(town: Town) -> None:
    ivy, carl = await pair(town)
    path = f"{ivy.path}/code"
    session = data((await carl.call("PUT", path, {"code": "a", "language": "python"})).ok())
    assert (session["code"], session["language"]) == ("a", "python")
    sent = {"code": "b", "language": "html", "base_version": 1}
    assert data((await ivy.call("PUT", path, sent)).ok())["code"] == "b"
    refused(
        await carl.call("PUT", path, sent | {"code": "c"}), 409, "CONFLICT",
        "The document is at version 2, not 1: apply the edit to the current text.",
    )  # fmt: skip
    assert ((await ivy.session())["code"], (await ivy.session())["language"]) == ("b", "html")
    for bad in ({"code": "b"}, {"language": "html"}, sent | {"base_version": -1}, sent | {"base_version": "1"}):
        refused(await carl.call("PUT", path, bad), 400, "INVALID_REQUEST")


async def test_versions_are_kept_newest_first(town: Town) -> None:
    ivy, carl = await pair(town, code="zero")
    for text in ("one", "two"):
        await carl.patch(ivy.path, {"code": text})
    changes = [{"at": 0, "delete": 1, "insert": "T"}, {"at": 3, "insert": "!"}]
    command = {"type": "edit_code", "base_version": 3, "changes": changes}
    (await ivy.post(f"/v1/sessions/{ivy.ref}/commands", command)).ok()
    kept = data((await town.anyone.get(f"{ivy.path}/code/snapshots")).ok())["snapshots"]
    assert [(one["version"], one["code"], one["user_id"]) for one in kept] == [
        (4, "Two!", ivy.id), (3, "two", carl.id), (2, "one", carl.id), (1, "zero", ivy.id),
    ]  # fmt: skip
    assert kept[0].keys() == {"version", "code", "user_id", "created_at"}
    assert kept[0]["created_at"] == (await ivy.session())["updated_at"]
    for params, versions in (({"limit": "2"}, [4, 3]), ({"before": "3"}, [2, 1]), ({"before": "1"}, [])):
        page = data((await town.anyone.get(f"{ivy.path}/code/snapshots", **params)).ok())["snapshots"]
        assert [one["version"] for one in page] == versions
        assert page == [one for one in kept if one["version"] in versions]
    refused(await town.anyone.get(f"{ivy.path}/code/snapshots", limit="0"), 400, "INVALID_REQUEST")


async def test_a_page_of_versions_has_a_bound(town: Town) -> None:
    ivy = await created(town)
    for digit in range(20):
        (await ivy.patch(ivy.path, {"code": str(digit % 10) * 60_000})).ok()
    kept = data((await ivy.get(f"{ivy.path}/code/snapshots", limit="100")).ok())["snapshots"]
    assert [one["version"] for one in kept] == list(range(20, 3, -1))
    assert all(one["code"] == str((one["version"] - 1) % 10) * 60_000 for one in kept)


# Participants


async def test_presence_is_kept_by_hand(town: Town) -> None:
    ivy, carl = await pair(town)
    path = f"{ivy.path}/participants/{carl.id}"
    before = await carl.place()
    for one in (carl, ivy):
        for online in (False, False, True, True):
            place = data((await one.patch(path, {"is_online": online})).ok())
            assert place == before | {"is_online": online} == await carl.place()
    refused(await carl.patch(path, {"is_online": 1}), 400, "INVALID_REQUEST")
    refused(await carl.patch(path, {}), 400, "INVALID_REQUEST", "The field `is_online` is required.")
    refused(await carl.patch(f"{ivy.path}/participants/{ivy.id}", {"is_online": False}), 403, "FORBIDDEN")
    for nobody in (new_id(), "nobody", "x%00"):
        reply = await ivy.patch(f"{ivy.path}/participants/{nobody}", {"is_online": False})
        refused(reply, 404, "PARTICIPANT_NOT_FOUND", "Participant not found")


async def test_an_interviewer_removes_people_and_their_tokens_are_over(town: Town) -> None:
    ivy, carl = await pair(town)
    cleo = Guest(town, "Cleo")
    await cleo.join(ivy.ref)
    path = f"{ivy.path}/participants/{carl.id}"
    refused(await cleo.delete(path), 403, "FORBIDDEN")
    reply = await ivy.delete(path)
    assert (reply.status, reply.body) == (204, b"")
    assert await carl.place() is None
    refused(await carl.patch(ivy.path, {"code": "x"}), 403, "FORBIDDEN")
    refused(await carl.post(f"{ivy.path}/join", {"user": carl.user}), 403, "FORBIDDEN")
    refused(await ivy.delete(path), 404, "PARTICIPANT_NOT_FOUND", "Participant not found")


async def test_one_leaves_by_oneself_and_may_come_back(town: Town) -> None:
    ivy, carl = await pair(town)
    assert (await carl.delete(f"{ivy.path}/participants/{carl.id.upper()}")).status == 204
    assert (await carl.place())["is_online"] is False
    refused(await carl.patch(ivy.path, {"code": "x"}), 403, "FORBIDDEN", "Join the session first.")
    await carl.join(ivy.ref)
    assert (await carl.place())["is_online"] is True


# The end


async def test_a_deleted_session_is_not_found(town: Town) -> None:
    ivy, carl = await pair(town)
    refused(await carl.delete(ivy.path), 403, "FORBIDDEN")
    reply = await ivy.delete(ivy.path)
    assert (reply.status, reply.body) == (204, b"")
    for one in (ivy, carl, town.anyone):
        refused(await one.get(ivy.path), 404, "SESSION_NOT_FOUND", "Session not found")
    refused(await ivy.delete(ivy.path), 404, "SESSION_NOT_FOUND", "Session not found")


async def test_one_that_its_owner_has_ended_is_gone_too(town: Town) -> None:
    ivy, carl = await pair(town)
    (await ivy.post(f"/v1/sessions/{ivy.ref}/commands", {"type": "end"})).ok()
    for reply in (
        await town.anyone.get(ivy.path),
        await carl.patch(ivy.path, {"code": "x"}),
        await town.anyone.post(f"{ivy.path}/join", {"user": Guest(town, "Cleo").user}),
        await carl.delete(f"{ivy.path}/participants/{carl.id}"),
    ):
        refused(reply, 410, "SESSION_EXPIRED", "Session has ended")
    assert (await ivy.delete(ivy.path)).status == 204


async def test_a_session_expires(dsn: str, data: Path) -> None:
    async with serving(dsn, data, dialects={"interview": InterviewSettings(ttl_s=1)}) as town:
        ivy, carl = await pair(town, code="x")
        cleo = Guest(town, "Cleo")
        async with carl.talk() as talk, ivy.talk(token=None) as onlooker:
            assert await talk.closed() == await onlooker.closed() == 4410
        for one, reply in (
            ("read", await town.anyone.get(ivy.path)),
            ("people", await town.anyone.get(f"{ivy.path}/participants")),
            ("versions", await town.anyone.get(f"{ivy.path}/code/snapshots")),
            ("join again", await town.anyone.post(f"{ivy.path}/join", {"user": carl.user})),
            ("join", await cleo.post(f"{ivy.path}/join", {"user": cleo.user})),
            ("change", await carl.patch(ivy.path, {"code": "y"})),
            ("socket", await ivy.upgrade()),
            ("socket of an onlooker", await ivy.upgrade(token=None)),
        ):
            assert refused(reply, 410, "SESSION_EXPIRED") == "Session has expired", one
        rows = town.query("select event ->> 'reason' from session_log where type = 'session_ended'")
        assert rows == [("expired",)]


# camelCase


async def test_keys_are_in_camel_case_for_who_asks(town: Town) -> None:
    ivy, carl = await pair(town)
    plain = await ivy.session()
    session = data((await ivy.get(ivy.path, case="camel")).ok())
    assert session.keys() == {
        "id", "createdAt", "updatedAt", "expiresAt", "code", "language", "participants", "creatorId",
    }  # fmt: skip
    assert session["participants"][0].keys() == {"id", "name", "role", "color", "joinedAt", "isOnline"}
    assert session["participants"][0]["joinedAt"] == plain["participants"][0]["joined_at"]
    assert (session["createdAt"], session["creatorId"]) == (plain["created_at"], ivy.id)
    assert data((await ivy.get(ivy.path, case="snake")).ok()) == plain
    people = (await ivy.get(f"{ivy.path}/participants", case="camel")).ok()["participants"]
    assert people == session["participants"]
    made = data((await ivy.post(f"{BASE}/sessions?case=camel", {"creator": Guest(town, "I").user})).ok(201))
    assert made["token"]
    assert made["creatorId"]
    # Bodies too, and the other way is no mistake.
    path = f"{ivy.path}/participants/{carl.id}?case=camel"
    for field in ("isOnline", "is_online"):
        assert data((await ivy.patch(path, {field: False})).ok())["isOnline"] is False
    sent = {"code": "is_online isOnline", "language": "html", "baseVersion": 0}
    answer = data((await ivy.call("PUT", f"{ivy.path}/code?case=camel", sent)).ok())
    assert answer["code"] == "is_online isOnline"
    refused(await ivy.call("PUT", f"{ivy.path}/code?case=camel", sent), 409, "CONFLICT")
    assert data((await ivy.get(f"{ivy.path}/code/snapshots", case="camel")).ok())["snapshots"][0]["userId"] == ivy.id


async def test_refusals_have_no_key_that_it_changes(town: Town) -> None:
    refused(await town.anyone.get(f"{BASE}/sessions/deadbeef", case="camel"), 404, "SESSION_NOT_FOUND")
    ivy = await created(town)
    text = refused(await ivy.get(ivy.path, case="kebab"), 400, "INVALID_REQUEST")
    assert text == "`case` must be one of `snake`, `camel`."
    for raw in (b"{", b"[" * 5_000, b"\xff", b'{"isOnline": "no"}'):
        reply = await ivy.call("PATCH", f"{ivy.path}/participants/{ivy.id}?case=camel", raw=raw)
        refused(reply, 400, "INVALID_REQUEST")
