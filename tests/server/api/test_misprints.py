"""An API whose encoder fails: its own subscribers lose their streams, and no others do."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Never

import pytest
import pytest_asyncio
from msgspec import structs

from actors.session import events as e
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.api.routes import OWN_RULE, ActionRoute, Api, StreamRoute
from server.api.services import Services
from server.usecases.call import Call
from server.usecases.session_access import read_state
from server.v1.frames import FRAMES
from server.v1.table import API
from tests.support.client import Seat
from tests.support.serving import Town, serving

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Misprinting(Api, frozen=True, kw_only=True):
    @property
    def description_path(self) -> str:
        return f"{self.prefix}/openapi.json"


def misprint(*args: Any) -> Never:
    raise ZeroDivisionError("a mistake in an API's table")


def no_hands(visible: VisibleEvent, state: State) -> bytes | None:
    return misprint() if isinstance(visible.event, e.HandRaised) else FRAMES.event(visible, state)


async def mislook(services: Services, call: Call) -> Any:
    return await read_state(services, call.session_id, call.params["ref"], misprint)


MISPRINTING = Misprinting(
    name="misprinting",
    title="An API with mistakes",
    prefix="/misprinting",
    rows=(
        *(
            StreamRoute(path=f"/{what}/{{ref}}", summary="Misprint", format=structs.replace(FRAMES, **{what: form}))
            for what, form in {"event": no_hands, "relayed": misprint, "snapshot": misprint}.items()
        ),
        ActionRoute(path="/look/{ref}", summary="Mislook", reads=OWN_RULE, act=mislook, view=misprint),
    ),
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def printing(town_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Town]:
    async with serving(town_dsn, tmp_path_factory.mktemp("misprints"), apis=(API, MISPRINTING)) as town:
        yield town


async def test_a_failing_view_does_not_stop_the_session_actor(printing: Town, caplog: pytest.LogCaptureFixture) -> None:
    host, anna = await printing.classroom("Anna")
    [actor] = [one for one in printing.server.services.directory if one.session_id == host.id]
    answers = await asyncio.gather(anna.say("Hello"), anna.person.get(f"/misprinting/look/{host.id}"), anna.say("Bye"))
    answers[1].refused(500, "internal")
    assert [one for one in printing.server.services.directory if one.session_id == host.id] == [actor]
    assert len(caplog.messages) == 1


def misprinted(seat: Seat, what: str) -> Any:
    return seat.person.stream(f"/misprinting/{what}/{seat.id}")


@pytest.mark.parametrize("lobby", [False, True])
async def test_an_encoding_error_ends_only_the_streams_of_that_format(printing: Town, lobby: bool) -> None:
    host, anna, ben = await printing.classroom("Anna", "Ben")
    # One subscriber before the failing stream and one after it; the second time, audiences differ.
    async with host.stream() as before, misprinted(anna, "event") as broken, ben.stream() as after:
        for stream in (before, broken, after):
            await stream.until("snapshot")
        if lobby:
            await host.do("update", features={"lobby": True})
            await (await printing.student("Cleo")).at(host).join()
        await asyncio.gather(host.do("raise_hand"), ben.say("meanwhile"))
        await host.say("and on")
        for stream in (before, after):
            await stream.until("chat_message", lambda data: data["text"] == "and on")
            assert "hand_raised" in stream.events
            assert stream.texts == ["meanwhile", "and on"]
        # The failing stream ends instead of continuing with a gap.
        assert "and on" not in str(await broken.rest())


async def test_a_snapshot_that_cannot_be_encoded_is_a_500_and_opens_no_stream(printing: Town) -> None:
    host, anna = await printing.classroom("Anna")
    async with host.stream() as stream:
        await stream.until("snapshot")
        refused = await anna.person.get(f"/misprinting/snapshot/{anna.id}")
        refused.refused(500, "internal")
        await host.say("and on")
        await stream.until("chat_message")
        async with anna.stream() as hers:
            await hers.until("snapshot")


async def test_an_ephemeral_event_that_one_format_cannot_encode_reaches_the_others(printing: Town) -> None:
    host, anna, ben = await printing.classroom("Anna", "Ben")
    async with misprinted(anna, "relayed") as broken, ben.stream() as stream:
        for each in (broken, stream):
            await each.until("snapshot")
        assert (await host.command("typing")).status == 202
        await stream.until("typing")
        await host.say("and on")
        for each in (broken, stream):
            await each.until("chat_message")
