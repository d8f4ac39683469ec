"""Outgoing webhooks at a real receiver: contents, recipients, signatures, order and failures."""

import asyncio
import base64
import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import pytest_asyncio
from psycopg2 import sql
from psycopg2.extensions import make_dsn
from standardwebhooks import Webhook

from tests.server.api.test_live import upload
from tests.support.client import Person, Seat
from tests.support.receiver import BIG_HEADERS, CLOSES, DRIPS, ENDLESS, GARBLED, HANGS, Got, receiving
from tests.support.serving import wait_for
from tests.support.webhook_calls import Hook, Hooked, hooked

pytestmark = pytest.mark.asyncio(loop_scope="session")

_paths = (f"hook{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def shared_dsn(_server_dsn: str, _template: str) -> Iterator[str]:
    name = f"homeroom_hooks_{os.getpid()}"
    connection = psycopg2.connect(_server_dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        named = sql.Identifier(name)
        cursor.execute(sql.SQL("create database {} template {}").format(named, sql.Identifier(_template)))
        yield make_dsn(_server_dsn, dbname=name)
        cursor.execute(sql.SQL("drop database {} with (force)").format(named))
    connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hooked]:
    """A server that tries again at once, and a receiver, for all that need no settings of their own."""
    async with hooked(shared_dsn, tmp_path_factory.mktemp("hooks")) as here:
        yield here


async def host_with_hook(here: Hooked, *types: str, **fields: Any) -> tuple[Seat, Hook]:
    """Create a teacher with a webhook, and a live session of theirs."""
    teacher = await here.town.teacher()
    hook = await here.hook(teacher, next(_paths), *types, **fields)
    return await live(teacher), hook


async def live(teacher: Person, **fields: Any) -> Seat:
    host = await teacher.create(**fields)
    await host.do("start")
    await host.join()
    return host


def texts(got: list[Got]) -> list[str]:
    return [one.text for one in got]


# Contents and receivers


async def test_a_webhook_reports_a_session_from_its_creation_to_its_end(here: Hooked) -> None:
    host, hook = await host_with_hook(here)
    await host.say("Hello")
    await host.do("end")
    log = await host.log()
    got = await hook.reached(len(log))
    assert [one.type for one in got] == [row["type"] for row in log]
    assert [one.body["data"]["seq"] for one in got] == [row["seq"] for row in log]
    assert len({one.id for one in got}) == len(log)
    said = next(one for one in got if one.type == "chat_message")
    row = next(row for row in log if row["type"] == "chat_message")
    assert said.body == {
        "type": "chat_message",
        "timestamp": row["at"],
        "data": {
            "seq": row["seq"], "at": row["at"], "actor": host.user_id, "type": "chat_message", "message_id": 1,
            "text": "Hello",
            "session": {"id": host.id, "number": host.session["number"], "name": host.session["name"]},
        },
    }  # fmt: skip
    assert said.headers["content-type"] == "application/json"
    assert said.headers["user-agent"].startswith("Homeroom/")


async def test_a_webhook_event_equals_the_event_of_the_stream(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "participant_joined", "chat_message", "poll_opened", "session_updated")
    async with host.stream() as stream:
        await host.do("open_poll", question="Which?", options=["a", "b"])
        await host.do("update", starts_at="2030-01-01T09:00:00Z")
        await host.say("x")
        await stream.until("chat_message")
        shown = [
            frame.data for frame in stream.seen if frame.event in ("chat_message", "poll_opened", "session_updated")
        ]
    got = [one.body["data"] for one in await hook.reached(4)][1:]
    assert [{k: v for k, v in one.items() if k != "session"} for one in got] == shown


async def test_only_the_chosen_event_types_are_sent(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message", "session_ended")
    await host.say("one")
    await host.do("raise_hand")
    await host.do("end")
    assert [one.type for one in await hook.reached(2)] == ["chat_message", "session_ended"]
    assert len(here.rows(hook)) == 2


async def test_a_webhook_reports_only_sessions_of_its_owner(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    elsewhere = await live(await here.town.teacher())
    guest = host.person.at(elsewhere)
    await guest.join()
    await guest.do("send_message", text="in another's")
    await host.say("in mine")
    assert texts(await hook.reached()) == ["in mine"]
    assert len(here.rows(hook)) == 1


async def test_an_owner_without_webhooks_gets_no_outbox_rows(here: Hooked) -> None:
    host = await live(await here.town.teacher())
    await host.say("hello")
    assert here.town.query("select seq from outbox where session_id = %s", host.id) == []


async def test_private_events_are_not_sent(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message", "question_asked", "poll_voted", "question_dismissed")
    anna = (await here.town.student("Anna")).at(host)
    ben = (await here.town.student("Ben")).at(host)
    for one in (anna, ben):
        await one.join()
    await anna.say("between us", to=ben.user_id)
    await anna.say("dear teacher", to=host.user_id)
    await anna.do("ask_question", text="Who am I?", anonymous=True)
    await anna.do("dismiss_question", question_id=1)
    poll = (await host.do("open_poll", question="?", options=["a", "b"], anonymous=True))["events"][0]["poll_id"]
    await anna.do("vote", poll_id=poll, options=[0])
    between, dear, asked, dismissed, voted = [one.body["data"] for one in await hook.reached(5)]
    assert (between["text"], between["actor"], between["to"]) == ("", anna.user_id, ben.user_id)
    assert dear["text"] == "dear teacher"
    assert (asked["text"], asked["actor"]) == ("Who am I?", None)
    assert (dismissed["actor"], voted["actor"]) == (None, None)
    raw = b"".join(one.raw for one in hook.got)
    assert b"between us" not in raw
    assert anna.user_id.encode() not in b"".join(one.raw for one in hook.got[2:])


async def test_a_direct_voice_message_between_others_is_not_sent(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    anna = (await here.town.student("Anna")).at(host)
    ben = (await here.town.student("Ben")).at(host)
    for one in (anna, ben):
        await one.join()
    audio_id = await upload(anna.person)
    await anna.do("send_voice", audio_id=audio_id, to=ben.user_id)
    (got,) = await hook.reached()
    assert audio_id.encode() not in got.raw


async def test_a_message_deleted_before_its_delivery_arrives_without_text(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message", "message_deleted")
    hook.answers(500)
    here.receiver.always(hook.path, lambda got: 500 if got.body["data"].get("text") else 200)
    said = await host.say("a secret")
    await hook.reached()
    await host.do("delete_message", message_id=said["message_id"])
    message, deleted = await hook.reached(2, well=True)
    assert (message.text, message.body["data"]["deleted"], deleted.type) == ("", True, "message_deleted")


async def test_code_compacted_is_not_a_webhook_type(here: Hooked) -> None:
    teacher = await here.town.teacher()
    body = {"url": here.receiver.at("x"), "types": ["code_compacted"]}
    (await teacher.post("/v1/webhooks", body)).refused(422, "invalid", "types")


# Signatures and secrets


async def test_a_delivery_is_signed_as_standard_webhooks_specifies(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    await host.say("Hellö")
    (got,) = await hook.reached()
    assert got.is_signed_with(hook.secret)
    assert got.id == f"evt_{host.id.replace('-', '')}_{got.body['data']['seq']}"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 10
    assert Webhook(hook.secret).verify(got.raw, got.headers) == got.body


async def test_an_owner_may_choose_the_secret(here: Hooked) -> None:
    secret = "whsec_" + "A" * 32
    host, hook = await host_with_hook(here, "chat_message", secret=secret)
    assert hook.secret == secret
    await host.say("Hello")
    assert (await hook.reached())[0].is_signed_with(secret)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "A" * 40,
        "whsec_" + "A" * 28,
        "whsec_" + "A" * 88,
        "whsec_" + "A" * 31,
        "whsec_" + "?" * 32,
        "WHSEC_" + "A" * 32,
    ],
)
async def test_an_invalid_secret_is_refused_and_not_quoted(here: Hooked, secret: str) -> None:
    teacher = await here.town.teacher()
    refusal = await teacher.post("/v1/webhooks", {"url": here.receiver.at("x"), "secret": secret})
    refusal.refused(422, "invalid", "secret")
    assert len(secret) < 10 or secret not in refusal.body.decode()


async def test_a_secret_is_returned_once_and_stored_encrypted(here: Hooked) -> None:
    _, hook = await host_with_hook(here)
    for reply in (await hook.owner.get("/v1/webhooks"), await hook.owner.get(hook.url)):
        assert b"secret" not in reply.body.replace(b"old_secret_until", b"")
        assert hook.secret.encode() not in reply.body
    ((row,),) = here.town.query("select row_to_json(w) from webhook_endpoint w where endpoint_id = %s", hook.id)
    stored = bytes.fromhex(row["secret"].removeprefix("\\x"))
    assert base64.b64decode(hook.secret.removeprefix("whsec_")) not in stored


async def test_after_a_rotation_both_secrets_sign_until_the_old_one_expires(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    reply = await hook.owner.post(f"{hook.url}/rotate")
    rotated = reply.ok()
    assert reply.headers["Cache-Control"] == "no-store"
    assert rotated["secret"] != hook.secret
    assert rotated["old_secret_until"] > rotated["updated_at"]
    await host.say("one")
    (got,) = await hook.reached()
    assert got.is_signed_with(rotated["secret"], hook.secret)
    for secret in (rotated["secret"], hook.secret):
        assert Webhook(secret).verify(got.raw, got.headers)
    here.town.query("update webhook_endpoint set old_secret_until = now() where endpoint_id = %s", hook.id)
    await host.say("two")
    assert (await hook.reached(2))[1].is_signed_with(rotated["secret"])
    assert (await hook.read())["old_secret_until"] is None


async def test_a_rotation_may_name_the_new_secret(here: Hooked) -> None:
    _, hook = await host_with_hook(here)
    given = "whsec_" + "B" * 64
    assert (await hook.owner.post(f"{hook.url}/rotate", {"secret": given})).ok()["secret"] == given
    (await hook.owner.post(f"{hook.url}/rotate", {"secret": "whsec_"})).refused(422, "invalid", "secret")


# Order


async def test_a_delivery_that_is_retried_keeps_its_order(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    hook.answers(500, 503, 200, 404, CLOSES, 200)
    for number in range(6):
        await host.say(str(number))
    got = await hook.reached(10)
    assert texts(got) == ["0", "0", "0", "1", "1", "1", "2", "3", "4", "5"]
    assert texts(hook.receiver.to(hook.path, well=True)) == [str(number) for number in range(6)]
    assert [one.id for one in got[:3]] == [got[0].id] * 3, "a repetition can be told"
    assert here.receiver.most_open[hook.path] == 1


async def test_a_session_does_not_wait_for_the_deliveries_of_another(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    other = await live(hook.owner)
    here.receiver.always(hook.path, lambda got: HANGS if got.text == "stuck" else 200)
    await host.say("stuck")
    await hook.reached()
    await host.say("behind it")
    for number in range(5):
        await other.say(str(number))
    assert texts(await hook.reached(6)) == ["stuck", "0", "1", "2", "3", "4"]


async def test_an_endpoint_does_not_wait_for_another_and_no_session_waits_for_an_endpoint(here: Hooked) -> None:
    host, good = await host_with_hook(here, "chat_message")
    hangs = await here.hook(host.person, next(_paths), "chat_message")
    here.receiver.always(hangs.path, HANGS)
    started = time.monotonic()
    for number in range(30):
        await host.say(str(number))
    assert texts(await good.reached(30)) == [str(number) for number in range(30)]
    assert time.monotonic() - started < 4.5, "less than one attempt at the other"
    assert texts(hangs.got) == ["0"]


async def test_concurrent_attempts_per_endpoint_are_bounded(here: Hooked) -> None:
    teacher = await here.town.teacher()
    hook = await here.hook(teacher, next(_paths), "chat_message")
    here.receiver.always(hook.path, HANGS)
    for _ in range(7):
        await (await live(teacher)).say("hello")
    await hook.reached(4)
    await wait_for(lambda: here.receiver.open[hook.path] == 4)
    assert len(here.town.query("select seq from outbox where target_id = %s and attempts = 0", hook.id)) == 3


async def test_a_busy_session_is_delivered_completely_and_in_order(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    await asyncio.gather(*(host.say(str(number)) for number in range(120)))
    sent = [row["details"]["text"] for row in await host.log(type="chat_message")]
    assert texts(await hook.reached(120)) == sent


# Receivers that answer badly, or not at all


@pytest.mark.parametrize(
    ("answer", "error", "status"),
    [
        (500, "the answer was 500", 500),
        (404, "the answer was 404", 404),
        (302, "the answer was 302", 302),
        (CLOSES, "the connection was closed before there was an answer", None),
        (GARBLED, "the answer was not HTTP", None),
        (BIG_HEADERS, "the answer was not HTTP", None),
    ],
)
async def test_the_delivery_log_says_why_an_attempt_failed(
    here: Hooked, answer: int, error: str, status: int | None
) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    hook.answers(answer)
    here.receiver.headers = {"Location": here.receiver.at("redirected")}
    await host.say("hello")
    (delivery,) = await hook.settled("delivered")
    bad, good = delivery["history"]
    assert (bad["status"], bad["error"]) == (status, error)
    assert (good["status"], good["error"]) == (200, None)
    assert 0 <= good["ms"] < 2_000
    assert delivery["attempts"] == 2
    assert here.receiver.to("redirected") == []


async def test_an_endless_answer_body_counts_as_an_answer(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    hook.answers(ENDLESS)
    await host.say("hello")
    (delivery,) = await hook.settled("delivered")
    assert [attempt["status"] for attempt in delivery["history"]] == [200]
    await wait_for(lambda: here.receiver.open[hook.path] == 0)


async def test_an_unreachable_endpoint_is_retried(here: Hooked) -> None:
    teacher = await here.town.teacher()
    hook = Hook(
        teacher, here.receiver, "", (await teacher.post("/v1/webhooks", {"url": "http://127.0.0.1:1/x"})).ok(201)
    )
    await teacher.create()
    while not (delivery := (await hook.settled("pending"))[0])["history"]:
        pass
    assert delivery["history"][0]["error"].startswith("no connection to 127.0.0.1:1: ")
    assert delivery["next_at"] is not None


@pytest.mark.parametrize("how", [HANGS, DRIPS])
async def test_an_attempt_that_takes_too_long_is_retried(dsn: str, data: Path, how: int) -> None:
    async with hooked(dsn, data, outbox={"attempt_s": 0.1}) as here:
        host, hook = await host_with_hook(here, "chat_message")
        hook.answers(how)
        await host.say("hello")
        (delivery,) = await hook.settled("delivered")
        assert [attempt["error"] for attempt in delivery["history"]] == ["no answer within 0.1 s", None]


@pytest.mark.parametrize("form", [str, lambda s: formatdate(time.time() + s, usegmt=True)], ids=["seconds", "date"])
async def test_a_webhook_waits_for_retry_after(here: Hooked, form: Callable[[int], str]) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    hook.answers(429)
    here.receiver.headers = {"Retry-After": form(600)}
    await host.say("hello")
    await hook.reached()
    await wait_for(lambda: here.rows(hook)[0][2] == 1)
    while not (delivery := (await hook.settled("pending"))[0])["history"]:
        pass
    here.receiver.headers = {}
    ((left,),) = here.town.query("select extract(epoch from next_at - now()) from outbox where target_id = %s", hook.id)
    assert 590 < left <= 601
    # The owner can have it sent at once.
    assert (await hook.owner.post(f"{hook.url}/deliveries/{delivery['id']}/replay")).ok(202)["status"] in (
        "pending",
        "delivered",
    )
    await hook.settled("delivered")


async def test_an_endpoint_that_answers_410_is_disabled(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    hook.answers(410)
    await host.say("one")
    (dead,) = await hook.settled("dead")
    assert dead["history"][0]["status"] == 410
    shown = await hook.read()
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "gone")
    await host.say("two")
    assert len(here.rows(hook)) == 1


async def test_a_delivery_given_up_is_a_dead_letter_and_an_endpoint_that_only_fails_is_disabled(
    dsn: str, data: Path
) -> None:
    async with hooked(dsn, data, outbox={"give_up_s": 0.3}) as here:
        host, hook = await host_with_hook(here, "chat_message")
        here.receiver.always(hook.path, 500)
        await host.say("one")
        await host.say("two")
        dead = await hook.settled("dead", 2)
        assert [delivery["seq"] for delivery in dead] == sorted(delivery["seq"] for delivery in dead)
        assert dead[0]["attempts"] > 2
        shown = await hook.read()
        assert (shown["status"], shown["disabled_reason"]) == ("disabled", "failing")
        (await hook.owner.post(f"{hook.url}/deliveries/{dead[0]['id']}/replay")).refused(409, "disabled")
        here.receiver.always(hook.path, 200)
        assert (await hook.change(enabled=True))["status"] == "active"
        since = host.session["created_at"]
        assert (await hook.owner.post(f"{hook.url}/replay", {"since": since})).ok(202) == {"queued": 2, "next": None}
        assert texts(await hook.reached(2, well=True)) == ["one", "two"]
        assert {got.id for got in hook.got} == {delivery["id"] for delivery in dead}


async def test_an_event_that_is_never_accepted_becomes_a_dead_letter_and_later_events_are_sent(
    dsn: str, data: Path
) -> None:
    async with hooked(dsn, data, outbox={"give_up_s": 0.3}) as here:
        host, hook = await host_with_hook(here, "chat_message")
        other = await live(hook.owner)
        here.receiver.always(hook.path, lambda got: 500 if got.text == "bad" else 200)
        await host.say("bad")
        await host.say("good")
        # Deliveries of another session succeed meanwhile, so the endpoint does not count as failing.
        while not (dead := await hook.deliveries(status="dead")):
            await other.say("hello")
        await hook.receiver.until(lambda: "good" in texts(hook.got))
        assert [delivery["seq"] for delivery in dead] == [4]
        assert (await hook.read())["status"] == "active"


async def test_an_endpoint_that_keeps_failing_is_paused_and_reported_as_paused(dsn: str, data: Path) -> None:
    async with hooked(dsn, data, outbox={"pause_after": 3, "pause_s": 600.0, "backoff_s": 0.2}) as here:
        host, hook = await host_with_hook(here, "chat_message")
        here.receiver.always(hook.path, 500)
        await host.say("hello")
        while (shown := await hook.read())["status"] != "paused":
            pass
        assert shown["failures"] == 3
        assert shown["failing_since"] < shown["paused_until"]
        assert len(hook.got) == 3
        # A test is sent all the same, to show whether the endpoint works again.
        assert (await hook.owner.post(f"{hook.url}/test")).ok()["delivered"] is False
        here.receiver.always(hook.path, 200)
        assert (await hook.owner.post(f"{hook.url}/test")).ok()["delivered"] is True
        # Enabling it ends the pause.
        await hook.change(enabled=True)
        await hook.settled("delivered")
        assert (await hook.read())["failures"] == 0


async def test_an_endpoint_with_too_large_a_backlog_is_disabled(dsn: str, data: Path) -> None:
    async with hooked(dsn, data, outbox={"backlog_rows": 5}) as here:
        host, hook = await host_with_hook(here, "chat_message")
        here.receiver.always(hook.path, HANGS)
        for number in range(7):
            await host.say(str(number))
        await here.town.server.services.dispatcher.maintain()
        shown = await hook.read()
        assert (shown["status"], shown["disabled_reason"]) == ("disabled", "behind")
        assert {row[1] for row in here.rows(hook)} == {"dead"}


# Over a restart, and over several servers


async def test_undelivered_events_are_sent_after_a_restart(dsn: str, data: Path) -> None:
    async with receiving() as receiver:
        async with hooked(dsn, data, receiver) as here:
            host, hook = await host_with_hook(here, "chat_message")
            receiver.always(hook.path, HANGS)
            await host.say("one")
            await host.say("two")
            await hook.reached()
        # The stop released the interrupted delivery, so that no one waits for the end of its lease.
        receiver.always(hook.path, 200)
        async with hooked(dsn, data, receiver):
            assert texts(await receiver.reached(hook.path, 3)) == ["one", "one", "two"]
            assert hook.got[0].id == hook.got[1].id


async def test_two_servers_send_each_event_once_and_in_order(dsn: str, data: Path) -> None:
    async with hooked(dsn, data) as here, hooked(dsn, data, here.receiver) as there:
        teacher = await here.town.teacher()
        hook = await here.hook(teacher, next(_paths), "chat_message")
        elsewhere = through(there, teacher)
        hosts = [await live(teacher) for _ in range(4)]
        # The other server knows the webhook after its next query.
        await there.town.server.services.webhooks.wanted.read()
        hosts += [await live(elsewhere) for _ in range(4)]
        await asyncio.gather(*(say(host, 10) for host in hosts))
        got = await hook.reached(80)
        assert len({one.id for one in got}) == len(got) == 80
        for host in hosts:
            told = [one for one in got if one.body["data"]["session"]["id"] == host.id]
            assert texts(told) == [str(number) for number in range(10)]


def through(there: Hooked, person: Person) -> Person:
    """The same person with the same token, at another server."""
    login = {"access_token": person.token, "refresh_token": "", "user": person.user}
    return Person(there.town.http, there.town.url, login, person.name)


async def say(host: Seat, count: int) -> None:
    for number in range(count):
        await host.say(str(number))


async def test_a_webhook_created_at_one_server_is_known_to_another_after_the_cache_time(dsn: str, data: Path) -> None:
    quick = {"reread_s": 0.05}
    async with hooked(dsn, data) as here, hooked(dsn, data, here.receiver, webhooks=quick) as there:
        teacher = await there.town.teacher()
        host = await live(teacher)
        at_here = through(here, teacher)
        hook = await here.hook(at_here, next(_paths), "chat_message")
        async with asyncio.timeout(5):
            while not hook.got:
                await host.say("now?")


# The delivery log and replays


async def test_the_delivery_log_is_paged(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    for number in range(5):
        await host.say(str(number))
    await hook.settled("delivered", 5)
    first = (await hook.owner.get(f"{hook.url}/deliveries", limit="3")).ok()
    second = (await hook.owner.get(f"{hook.url}/deliveries", limit="3", cursor=first["next"])).ok()
    seqs = [delivery["seq"] for delivery in first["items"] + second["items"]]
    assert seqs == sorted(seqs, reverse=True)
    assert (len(seqs), second["next"]) == (5, None)
    one = first["items"][0]
    assert one["id"] == hook.got[-1].id
    assert (one["type"], one["session_id"], one["attempts"]) == ("chat_message", host.id, 1)
    assert await hook.deliveries(status="dead") == []
    (await hook.owner.get(f"{hook.url}/deliveries", status="x")).refused(422, "invalid", "status")


async def test_a_delivery_is_repeated_under_its_own_id(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    await host.say("one")
    await host.say("two")
    first, _ = await hook.settled("delivered", 2)
    (await hook.owner.post(f"{hook.url}/deliveries/{first['id']}/replay")).ok(202)
    got = await hook.reached(3)
    assert texts(got) == ["one", "two", "one"]
    assert got[2].id == got[0].id
    for name in (f"evt_{'0' * 32}_1", "evt_x_1", "1"):
        (await hook.owner.post(f"{hook.url}/deliveries/{name}/replay")).refused(404, "unknown_delivery")


async def test_a_replay_includes_events_from_before_the_webhook(dsn: str, data: Path) -> None:
    async with hooked(dsn, data, webhooks={"replay_rows": 3}) as here:
        teacher = await here.town.teacher()
        host, other = await live(teacher), await live(teacher)
        for number in range(2):
            await host.say(f"a{number}")
            await other.say(f"b{number}")
        stranger = await live(await here.town.teacher())
        await stranger.say("not mine")
        hook = await here.hook(teacher, next(_paths), "chat_message")
        since = host.session["created_at"]
        replays = []
        while since is not None:
            replays.append((await teacher.post(f"{hook.url}/replay", {"since": since})).ok(202))
            since = replays[-1]["next"]
        # Events of one millisecond stay together.
        assert (len(replays), sum(replay["queued"] for replay in replays)) == (2, 4)
        assert sorted(texts(await hook.reached(4))) == ["a0", "a1", "b0", "b1"]
        later = "2100-01-01T00:00:00Z"
        assert (await teacher.post(f"{hook.url}/replay", {"since": later})).ok(202) == {"queued": 0, "next": None}
        (await teacher.post(f"{hook.url}/replay", {"since": "yesterday"})).refused(422, "invalid", "since")


async def test_a_test_delivery_reports_its_result(here: Hooked) -> None:
    _, hook = await host_with_hook(here, "session_ended")
    said = (await hook.owner.post(f"{hook.url}/test")).ok()
    assert (said["delivered"], said["status"], said["error"]) == (True, 200, None)
    (got,) = hook.got
    assert got.body["type"] == "ping"
    assert got.body["data"] == {"webhook_id": hook.id}
    assert got.is_signed_with(hook.secret)
    hook.answers(500, CLOSES)
    assert (await hook.owner.post(f"{hook.url}/test")).ok()["status"] == 500
    said = (await hook.owner.post(f"{hook.url}/test")).ok()
    assert (said["delivered"], said["status"]) == (False, None)
    assert here.rows(hook) == []


# Managing webhooks


async def test_a_webhook_can_be_read_changed_and_deleted(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message", "hand_raised", description="Mine")
    shown = await hook.read()
    assert (shown["status"], shown["types"], shown["description"]) == (
        "active",
        ["chat_message", "hand_raised"],
        "Mine",
    )
    assert (shown["url"], shown["failures"]) == (here.receiver.at(hook.path), 0)
    changed = await hook.change(types=["hand_raised"], url=here.receiver.at(f"{hook.path}b"))
    assert (changed["types"], changed["description"]) == (["hand_raised"], "Mine")
    await host.say("not wanted any more")
    await host.do("raise_hand")
    assert [got.type for got in await here.receiver.reached(f"{hook.path}b")] == ["hand_raised"]
    assert (await hook.change(types=[]))["types"] == []
    (await hook.owner.delete(hook.url)).ok(204)
    (await hook.owner.get(hook.url)).refused(404, "unknown_webhook")
    assert (await hook.owner.get("/v1/webhooks")).ok() == {"items": [], "next": None}
    await host.do("lower_hand")
    assert len(here.rows(hook)) == 1


async def test_a_webhook_can_be_disabled_and_enabled(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    hook.answers(*[500] * 3)
    here.receiver.always(hook.path, 500)
    await host.say("waits")
    await hook.reached()
    shown = await hook.change(enabled=False)
    assert (shown["status"], shown["disabled_reason"]) == ("disabled", "owner")
    assert [row[1] for row in here.rows(hook)] == ["dead"]
    await host.say("not sent")
    here.receiver.always(hook.path, 200)
    assert (await hook.change(enabled=True))["status"] == "active"
    await host.say("sent")
    assert texts(await hook.reached(1, well=True)) == ["sent"]


async def test_webhooks_are_paged_and_their_number_is_bounded(dsn: str, data: Path) -> None:
    async with hooked(dsn, data, webhooks={"endpoints_per_user": 3, "rotation_s": 0}) as here:
        teacher = await here.town.teacher()
        body = {"url": here.receiver.at("x")}
        replies = await asyncio.gather(*(teacher.post("/v1/webhooks", body) for _ in range(6)))
        assert sorted(reply.status for reply in replies) == [201] * 3 + [409] * 3
        next(reply for reply in replies if reply.status == 409).refused(409, "too_many")
        first = (await teacher.get("/v1/webhooks", limit="2")).ok()
        second = (await teacher.get("/v1/webhooks", limit="2", cursor=first["next"])).ok()
        numbers = [shown["number"] for shown in first["items"] + second["items"]]
        assert numbers == sorted(numbers, reverse=True)
        assert (len(numbers), second["next"]) == (3, None)
        assert (await (await here.town.teacher()).post("/v1/webhooks", body)).status == 201
        hook = Hook(teacher, here.receiver, "x", replies[0].json | {"id": first["items"][0]["id"], "secret": ""})
        rotated = (await teacher.post(f"{hook.url}/rotate")).ok()
        assert rotated["old_secret_until"] is None
        assert (await teacher.post(f"{hook.url}/test")).ok()["delivered"]
        assert here.receiver.got[-1].is_signed_with(rotated["secret"])


async def test_students_have_no_webhooks_and_owners_see_only_theirs(here: Hooked) -> None:
    _, hook = await host_with_hook(here)
    student = await here.town.student()
    (await student.post("/v1/webhooks", {"url": here.receiver.at("x")})).refused(403, "not_permitted")
    other = await here.town.teacher()
    for method, path, body in (
        ("GET", "", None), ("PATCH", "", {"enabled": False}), ("DELETE", "", None), ("POST", "/rotate", {}),
        ("POST", "/test", None), ("GET", "/deliveries", None), ("POST", "/deliveries/x/replay", None),
        ("POST", "/replay", {"since": "2020-01-01T00:00:00Z"}),
    ):  # fmt: skip
        (await other.call(method, hook.url + path, body)).refused(404, "unknown_webhook")
    (await other.get("/v1/webhooks/x")).refused(404, "unknown_webhook")
    assert (await hook.read())["status"] == "active"


async def test_test_deliveries_are_rate_limited(dsn: str, data: Path) -> None:
    async with hooked(dsn, data, webhooks={"probes_per_minute": 2}) as here:
        _, hook = await host_with_hook(here)
        assert (await hook.owner.post(f"{hook.url}/test")).ok()["delivered"]
        refusal = await hook.owner.post(f"{hook.url}/test")
        refusal.refused(429, "too_fast")
        assert int(refusal.headers["Retry-After"]) > 0


async def test_a_secret_under_an_unknown_signing_key_asks_for_a_rotation(dsn: str, data: Path) -> None:
    async with hooked(dsn, data) as here:
        _, hook = await host_with_hook(here, "session_ended")
        here.town.query("update webhook_endpoint set secret = %s where endpoint_id = %s", b"x" * 60, hook.id)
        said = (await hook.owner.post(f"{hook.url}/test")).ok()
        assert "rotate it" in said["error"]
        assert hook.got == []
        rotated = (await hook.owner.post(f"{hook.url}/rotate")).ok()
        assert (await hook.owner.post(f"{hook.url}/test")).ok()["delivered"]
        assert hook.got[0].is_signed_with(rotated["secret"])


async def test_deliveries_are_counted_in_metrics(here: Hooked) -> None:
    host, hook = await host_with_hook(here, "chat_message")
    await host.say("hello")
    await hook.settled("delivered")
    await here.town.server.services.dispatcher.maintain()
    text = (await here.town.anyone.get("/metrics")).body.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values['homeroom_outbox_attempts_total{kind="webhook",outcome="delivered"}']) > 0
    assert 'homeroom_outbox_pending{kind="webhook"}' in values
    assert 'homeroom_outbox_oldest_seconds{kind="webhook"}' in values
    assert 'homeroom_outbox_paused{kind="webhook"}' in values
    assert json.dumps(hook.id) not in text
