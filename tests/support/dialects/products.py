"""A session of each product, created and joined as its own clients do, with every role and private content."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.booking import book
from tests.support.client import Client, Person
from tests.support.dialects.interviews import BASE as INTERVIEW
from tests.support.dialects.interviews import Guest, data
from tests.support.serving import Town

SECRET = "XYLOPHONE"
"""Is in the title, the chat, and where there is any in the code, of every session."""
TUTORIUM, SEEDS, LESSON, LIVE = "/tutorium/api/v1", "/seeds", "/lesson/api/v1", "/live/sessions"


class Cast(NamedTuple):
    """The users of every session, registered once because that takes longest."""

    host: Person
    anna: Person
    ben: Person


@dataclass
class Held:
    """A session as one of the products represents it. `ref` is its reference there."""

    town: Town
    product: str
    ref: str
    host: Person
    session: Any
    """As `/v1` shows it."""
    members: list[Client] = field(default_factory=list)

    @property
    def id(self) -> str:
        return str(self.session["id"])

    @property
    def names(self) -> tuple[str, ...]:
        return self.id, str(self.session["number"]), str(self.session["name"]), str(self.session["code"])

    async def do(self, type: str, **fields: Any) -> Any:
        """Send a command of the host through `/v1`."""
        return (await self.host.post(f"/v1/sessions/{self.id}/commands", {"type": type, **fields})).ok()

    async def state(self) -> Any:
        return (await self.host.get(f"/v1/sessions/{self.id}/state")).ok()

    async def enter(self, member: Client) -> None:
        """Join a session as a user who may join it."""
        if self.product == "interview":
            assert isinstance(member, Guest)
            (await member.post(f"{member.path}/join", {"user": member.user})).ok()
        else:
            (await member.post(JOINS[self.product].format(self.ref), {})).ok()


async def tutorium(cast: Cast) -> str:
    return str((await cast.host.post(f"{TUTORIUM}/sessions", {"title": SECRET})).ok(201)["id"])


async def seeds(cast: Cast) -> str:
    return str((await cast.host.post(f"{SEEDS}/sessions", {"title": SECRET})).ok()["session_id"])


async def lesson(cast: Cast) -> str:
    booking = await book(cast.host, cast.anna, title=SECRET)
    return str((await cast.host.post(f"{LESSON}/bookings/{booking['id']}/classroom/")).ok()["session_id"])


async def live(cast: Cast) -> str:
    body = {"courseId": "course-1", "startsAt": "2030-05-01T10:00:00.000Z", "recordingEnabled": True}
    return str((await cast.host.post(LIVE, body)).ok(201)["roomName"])


async def interview(cast: Cast) -> str:
    body = {"creator": {"id": cast.host.id, "name": cast.host.name}, "code": SECRET}
    return str(data((await cast.host.post(f"{INTERVIEW}/sessions", body)).ok(201))["id"])


MAKERS: Mapping[str, Callable[[Cast], Awaitable[str]]] = {
    "tutorium": tutorium, "seeds": seeds, "lesson": lesson, "live": live, "interview": interview,
}  # fmt: skip
JOINS: Mapping[str, str] = {
    "tutorium": TUTORIUM + "/sessions/{}/join",
    "seeds": SEEDS + "/sessions/{}/join",
    "lesson": LESSON + "/classroom/sessions/{}/jwt/",
    "live": LIVE + "/{}/join",
}


async def held(town: Town, product: str, cast: Cast, *, joined: bool = False) -> Held:
    """Create a session of a product; with `joined`, its host and two members have joined and sent messages."""
    ref = await MAKERS[product](cast)
    made = Held(town, product, ref, cast.host, (await cast.host.get(f"/v1/sessions/{ref}")).ok())
    if joined:
        await fill(made, cast)
    return made


async def fill(made: Held, cast: Cast) -> None:
    if made.product == "interview":
        made.members += [await guest(made, name) for name in ("Anna", "Ben")]
    else:
        made.members += [cast.anna, cast.ben]
        if made.product == "lesson":
            await made.do("invite", user_id=cast.ben.id)
        for person in cast:
            await made.enter(person)
    await made.do("update", title=SECRET)
    await made.do("send_message", text=SECRET)


async def guest(made: Held, name: str) -> Guest:
    """Join an interview without an account."""
    one = Guest(made.town, name)
    await one.join(made.ref)
    return one
