"""The server is killed after it sends a webhook and before it records that: the webhook is sent again, in order."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp

from tests.support.client import Person
from tests.support.processes import LIFTED, Server, homeroom
from tests.support.receiver import HANGS, Got, Receiver, receiving

# Deliveries of a killed server are claimed again after the time that an attempt may take.
QUICK = {"attempt_s": 1.0, "margin_s": 0.1, "poll_s": 0.05}
KILLS = 2


def at_text(text: str, status: int) -> Callable[[Got], int]:
    return lambda got: status if got.text == text else 200


def arrived(receiver: Receiver, text: str) -> bool:
    return any(got.text == text for got in receiver.to("hook", well=True))


async def test_a_webhook_is_sent_again_in_order_if_the_server_dies_before_recording_it(
    dsn: str, tmp_path: Path
) -> None:
    settings = {**LIFTED, "outbox": QUICK, "webhooks": {"allow_private": True, "allow_http": True}}
    server = Server(tmp_path / "data", dsn=dsn, settings=settings)
    async with receiving() as receiver, homeroom(server), aiohttp.ClientSession() as http:
        teacher = await Person.register(http, server.url, "Tess", "tess@example.org", "teacher")
        body = {"url": receiver.at("hook"), "types": ["chat_message"]}
        (await teacher.post("/v1/webhooks", body)).ok(201)
        host = await teacher.create()
        await host.do("start")
        await host.join()
        for number in range(KILLS):
            receiver.always("hook", at_text(f"{number}.1", HANGS))
            for part in range(3):
                await host.say(f"{number}.{part}")
            await receiver.until(lambda: any(got.answered == HANGS for got in receiver.to("hook")[-1:]))
            await server.kill()
            receiver.always("hook", 200)
            await server.start()
            await receiver.until(partial(arrived, receiver, f"{number}.2"))
        got = receiver.to("hook")
        order = list(dict.fromkeys(one.id for one in got))
        rows = [row["seq"] for row in await host.log(type="chat_message")]
        assert [int(name.rpartition("_")[2]) for name in order] == rows, "in order, and none is missing"
        assert all(sum(one.text == f"{number}.1" for one in got) >= 2 for number in range(KILLS))
        ids = [one.id for one in got]
        assert ids == sorted(ids, key=order.index), "a repetition comes before what is after it"
