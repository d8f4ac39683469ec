"""A dialect that no product has, with one row of every kind."""

from typing import Annotated, Any, get_args

from msgspec import Meta, Struct, structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.access import Ask
from actors.session.errors import Reason, Rejected
from actors.session.ids import UserId
from actors.session.state import Participant, State
from server.api import dialect_frames as frames
from server.api.dialect import Dialect
from server.api.routes import (
    OWN_RULE,
    ActionRoute,
    CommandRoute,
    ContentRoute,
    CreateRoute,
    Frame,
    MessageSocketRoute,
    ReadRoute,
    StreamRoute,
)
from server.api.services import Services
from server.http.problems import Problem
from server.http.refusals import refusals_of, refuses
from server.security.principal import Principal
from server.usecases import accounts, sessions
from server.usecases.audio import library
from server.usecases.call import Call, Content
from server.usecases.session_commands import seen
from server.usecases.session_creation import CreationOptions


class New(Struct, frozen=True):
    title: Annotated[str, Meta(min_length=1)]
    limit: int = 5


class Who(Struct, frozen=True):
    who: int


class Code(Struct, frozen=True):
    code: str


class Say(Struct, frozen=True):
    text: str


def numbered(state: State, number: int) -> Participant:
    for place in state.participants.values():
        if place.number == number:
            return place
    raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {number}.")


def room(state: State, call: Call) -> Any:
    names = [place.name for place in state.participants.values() if place.status == "joined"]
    return {"n": state.session.number, "title": state.session.title, "people": names, "made": len(call.made)}


def broken(state: State, call: Call) -> Any:
    return 1 / 0


def refused(status: int, text: str, problem: Problem) -> Any:
    return {"oops": text, "field": problem.field, "place": problem.location}


def muted(recorded: e.Recorded, state: State) -> Any:
    return {"who": state.participants[recorded.event.user_id].number}  # type: ignore[union-attr, index]


EVENTS: dict[type[e.Event], Any] = {
    e.ParticipantMuted: ("muted", muted),
    e.AllMuted: ("muted", lambda r, s: [{"who": s.participants[user].number} for user in r.event.user_ids]),
    e.ChatMessage: ("chat", lambda r, s: {"text": r.event.text, "by": s.participants[r.actor_id].user_number}),
}
RELAYS: dict[type, Any] = {e.Relayed: lambda event, by, at, state: (event.name, event.body | {"at": at})}


def first(state: State, viewer: UserId, now: int) -> list[tuple[str, Any]]:
    return [("hello", {"you": state.participants[viewer].number}), ("room", {"n": state.session.number})]


async def shouting(services: Services, call: Call) -> str:
    return str(call.seen["title"]).upper()


@refuses(**refusals_of(library.content))
async def whole(services: Services, call: Call) -> Content:
    found = await library.content(services, call)
    return structs.replace(found, whole=True, headers={"Content-Disposition": "inline"})


async def made_at(services: Services, call: Call, state: State) -> int:
    return state.session.created_at


async def stranger(services: Services, call: Call) -> Principal:
    """Identify a caller by the name they give, as the session's owner if they have no credential."""
    if call.caller is not None:
        return call.caller
    owner: Principal = await seen(services, call, standing)
    return owner


def standing(state: State, call: Call) -> Principal:
    place = next(iter(state.participants.values()))
    return Principal(place.user_id, place.user_number, place.name, "guest", "", float("inf"), state.session.id)


def unlocked(state: State, call: Call) -> None:
    if state.session.locked:
        raise Problem(423, "locked_up", "The door is locked.")


def dialect(prefix: str = "/toy", **changed: Any) -> Dialect:
    columns: dict[str, Any] = (
        {
            "name": "toy", "title": "Toy", "prefix": prefix, "kind": "classroom", "named": "number",
            "errors": dict.fromkeys(Reason, (418, "")) | {
                Reason.NOT_OWNER: (403, ""), Reason.NOT_PERMITTED: (403, "no way into {ref}"),
            },
            "problems": {"invalid": (400, ""), "unknown_session": (404, "no room {ref}")},
            "error_body": refused, "forms": True, "user_field": "me", "events": EVENTS,
            "cased": True, "reference": "[0-9]{1,6}", "inviting": True,
            "silent": frozenset(set(get_args(e.DurableEvent)) - EVENTS.keys()),
            "rows": (
                CreateRoute(
                    path="/rooms", summary="Make", body=New, teachers=True,
                    new=lambda call: c.NewSession(title=call.body.title, capacity=call.body.limit),
                    options=lambda call: CreationOptions(live=True), see=room,
                ),
                ActionRoute(path="/rooms", summary="List", query=sessions.SessionQuery, act=sessions.list_sessions,
                    view=lambda listed, call: [one.number for one in listed.items]),
                ReadRoute(path="/rooms/{ref}", summary="Look", see=room),
                ReadRoute(path="/rooms/{ref}/title", summary="Shout", public=True, reads=OWN_RULE, see=room,
                    then=shouting, view=lambda title, call: {"the_title": title, "of_n": call.seen["n"]}),
                CreateRoute(
                    path="/halls", summary="Make one, and say when", body=New, teachers=True,
                    new=lambda call: c.NewSession(title=call.body.title),
                    options=lambda call: CreationOptions(owner_status="joined"),
                    see=room, then=made_at, view=lambda at, call: {**call.seen, "at": at},
                ),
                CommandRoute(path="/rooms/{ref}/say", summary="Speak for the owner", public=True, body=Say,
                    identify=stranger, commands=(c.SendMessage,), ask=lambda call: c.SendMessage(text=call.body.text),
                    see=room),
                MessageSocketRoute(
                    path="/gallery/{ref}", summary="Look on", query_token=True, public=True, find=unlocked,
                    format=frames.talk(EVENTS, lambda state, viewer, now: [], lambda bye: None, RELAYS),
                    frames={"say": Frame(Say, lambda call: c.SendMessage(text=call.body.text))}, identify=stranger,
                    failed=lambda problem, kind: frames.typed("error", f'"{problem.reason}"'.encode(), None),
                    closes={"ended": 4410}, refusals={},
                ),
                CommandRoute(path="/enter", summary="Join by code", body=Code, code=lambda body: body.code, forms=True,
                    commands=(c.Join,), ask=lambda call: c.Join(), has_invitation=True, see=room),
                ActionRoute(method="POST", path="/account", summary="Register", public=True, body=Say, status=201,
                    into=lambda call: accounts.Register(name=call.body.text, password="horse", role="student",
                        email=f"{call.body.text}@example.org"),
                    act=accounts.register, view=lambda login, call: login.user.name),
                CommandRoute(path="/rooms/{ref}/turn", summary="Turn the key", body=Say,
                    find=lambda state, call: state.session.locked,
                    commands=(c.Lock, c.Unlock), ask=lambda call: c.Together([c.Unlock() if call.found else c.Lock()]),
                    see=lambda state, call: {"locked": state.session.locked, "made": len(call.made)}),
                ContentRoute(path="/sounds/{audio_id}", summary="Listen", query_token=True, scoped=True,
                    query=library.ContentQuery, act=library.content),
                ReadRoute(path="/rooms/{ref}/broken/", summary="Look badly", see=broken),
                CommandRoute(
                    path="/rooms/{ref}/join", summary="Join", commands=(c.Join,), ask=lambda call: c.Join(),
                    has_invitation=True, see=room,
                ),
                CommandRoute(
                    path="/rooms/{ref}/mute", summary="Mute", body=Who,
                    find=lambda state, call: numbered(state, call.body.who).user_id,
                    commands=(c.Mute,), ask=lambda call: c.Mute(call.found), see=room,
                    errors={"unknown_participant": (404, "nobody is {detail}")},
                ),
                CommandRoute(
                    path="/rooms/{ref}/invite", summary="Invite by number", body=Who, reads=Ask.OWNERSHIP,
                    lookup=accounts.numbered_student(lambda call: call.body.who),
                    commands=(c.Invite, c.SendMessage),
                    ask=lambda call: c.Together([c.Invite(call.known.user_id), c.SendMessage(text=call.known.name)]),
                    see=lambda state, call: {"name": call.known.name, "made": len(call.made), "now": call.now},
                ),
                ContentRoute(path="/sounds/{audio_id}/whole", summary="Listen to all", query=library.ContentQuery,
                    act=whole),
                StreamRoute(path="/watch/{ref}", summary="Watch", join=True, has_invitation=True, query_token=True,
                    format=frames.stream(EVENTS, first, lambda bye: None, RELAYS)),
                MessageSocketRoute(
                    path="/talk/{ref}", summary="Talk", query_token=True, join=True, has_invitation=True,
                    format=frames.talk(EVENTS, first, lambda bye: None, RELAYS),
                    frames={"say": Frame(Say, lambda call: c.SendMessage(text=call.body.text))},
                    other=lambda kind, call: c.Relay(kind, call.body),
                    failed=lambda problem, kind: frames.typed("error", f'"{problem.reason}"'.encode(), None),
                    closes={"ended": 4410, "kicked": 4403, "expired": 4401, "left": 4000, "slow": 4408,
                        "draining": 1012, "admitted": 4001},
                    refusals={401: 4401, 404: 4404},
                ),
            ),
        } | changed
    )  # fmt: skip
    return Dialect(**columns)
