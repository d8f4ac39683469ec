"""The creation of sessions: the first commit of each, with its room, name and join code.

**Law:** a session exists completely or not at all: its first rows, its row in `sessions`, its room and its participants
are one commit.
"""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct, structs

from actors.commit import creation
from actors.ports import Creation, CreationKey, NotUnique
from actors.session import commands as c
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.errors import Rejected
from actors.session.ids import SessionId, UserId
from actors.session.state import Session, State
from server.http.problems import Problem, problem_of
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.http.uuids import new_id
from server.rooms.provisioning import RoomProvisioner
from server.security.principal import Principal
from server.settings.sections import Settings
from server.usecases.call import Call
from server.usecases.idempotent_creation import idempotent
from storage.creations import Creations, KeyedCreation
from storage.log.event_log import PostgresEventLog
from storage.sessions import UUID

CODE_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
"""No 0, O, 1, I: people read codes aloud and type them."""
TRIES = 8


@dataclass(frozen=True, kw_only=True)
class CreationParts:
    """The first commit of sessions."""

    settings: Settings
    log: PostgresEventLog
    rooms: RoomProvisioner
    creations: Creations


class CreationOptions(Struct, frozen=True, kw_only=True):
    """The beginning of a session, besides its creator's input. `owner_status` is the owner's first status.

    `named` makes the name from the title if the creator chose none. `invited` are the users who may join besides the
    owner."""

    dialect: str | None = None
    """The dialect through which it is created."""
    live: bool = False
    owner_status: Literal["invited", "joined"] | None = None
    named: Callable[[str], str] | None = None
    invited: Mapping[UserId, c.Person] = {}
    owner: c.Caller | None = None
    """The owner, if not the caller."""
    session_id: SessionId | None = None
    """Its id, if one was chosen before its creation."""
    text: str = ""
    text_language: str | None = None
    """The first content of the code document."""
    booking_id: str | None = None
    """The booking that it is the session of."""
    key: CreationKey | None = None
    """The Idempotency-Key of the request."""


@refuses(invalid=422, not_allowed=422, not_permitted=403, room_failed=502, taken=409, too_large=413)
async def create_session(parts: CreationParts, call: Call) -> Session:
    """Create a session for a teacher. Raise Problem 403 to other callers, 409, 413, 422, 502, 503."""
    require_teacher(call.principal)
    return (await create_session_idempotent(parts, call, call.body, CreationOptions())).session


def require_teacher(principal: Principal) -> None:
    """Raise Problem 403 if the caller is no teacher."""
    if principal.role != "teacher":
        raise Problem(403, "not_permitted", "Only teachers may create sessions.")


@refuses(invalid=422, not_allowed=422, room_failed=502, taken=409, too_large=413)
async def create_session_idempotent(
    parts: CreationParts, call: Call, new: c.NewSession, opening: CreationOptions
) -> State:
    """Create a session, or return the one that the call's key created before, in its first state.

    Raise Problem 409 if the name is in use, 413, 422, 502 if the provider fails, 503."""

    async def make(key: CreationKey | None) -> State:
        return await create_session_from(parts, call.principal, new, structs.replace(opening, key=key))

    async def again(made: KeyedCreation) -> State:
        return machine.replay(await parts.log.read(SessionId(made.made_id), 0, made.last_seq))

    return await idempotent(parts.creations, call, make, again)


async def create_session_from(
    parts: CreationParts, principal: Principal, new: c.NewSession, opening: CreationOptions
) -> State:
    """Create a session with its room; return its state.

    Raise Problem 409 if the name is in use, 422, 502, 503, and NotUnique("booking") or NotUnique("key")."""
    if new.name is not None and (UUID.fullmatch(new.name) or not new.name.isprintable()):
        raise Problem(422, "invalid", "`name` must not look like an id, or have a newline in it.", field="name")
    number, settings = await parts.log.next_number(), parts.settings.sessions
    for _ in range(TRIES):
        create = c.Create(
            new=new,
            session_id=opening.session_id or SessionId(new_id()),
            number=number,
            name=new.name or (opening.named or session_name)(new.title),
            code=join_code(),
            default_capacity=settings.default_capacity,
            grace_ms=round(settings.grace_s * 1000),
            dialect=opening.dialect,
            live=opening.live,
            owner_status=opening.owner_status,
            invited=list(opening.invited),
            text=opening.text,
            text_language=opening.text_language,
        )
        # The provider's account may already have a room with the chosen name. A random ending makes the name unused.
        room_named = create.name if new.name is None else f"{create.name}-{secrets.token_hex(6)}"
        async with parts.rooms.room(room_named, new, new.capacity or settings.default_capacity) as room:
            try:
                return await committed(parts, principal, structs.replace(create, room=room), opening)
            except NotUnique as conflict:
                if conflict.what in ("booking", "key"):
                    raise
                if conflict.what == "name" and new.name is not None:
                    raise Problem(409, "taken", "A session with this name exists already.", field="name") from conflict
                if room is not None:
                    raise Problem(503, "unavailable", "The room took too long; try again.", retry_s=1) from conflict
    raise Problem(503, "unavailable", "No free join code was found; try again.", retry_s=1)


async def committed(parts: CreationParts, principal: Principal, create: c.Create, opening: CreationOptions) -> State:
    """Commit a new session, trying other join codes if one is in use. Return its state.

    Raise Problem if the command is refused, NotUnique if something else is in use or every attempt's join code was."""
    for attempt in range(1, TRIES + 1):
        state, commit = created(principal, create, opening)
        try:
            await parts.log.create(commit)
        except NotUnique as conflict:
            if conflict.what != "code" or attempt == TRIES:
                raise
            create = structs.replace(create, code=join_code())
        else:
            return state
    raise AssertionError("the last attempt either returns or raises")


def created(principal: Principal, create: c.Create, opening: CreationOptions) -> tuple[State, Creation]:
    """Return the state and the first commit of a session. Raise Problem if the command is refused."""
    by, now = structs.replace(opening.owner or principal.caller(), people=opening.invited), now_millis()
    try:
        events = lifecycle.create(create, by, now)
    except Rejected as rejected:
        raise problem_of(rejected, "") from rejected
    state, commit = creation(machine.record(create.session_id, 1, 0, now, by.user_id, events))
    return state, structs.replace(commit, booking_id=opening.booking_id, key=opening.key)


def join_code() -> str:
    """Return a random code of six characters with at least one letter: digits alone are a session's number."""
    while (code := "".join(secrets.choice(CODE_LETTERS) for _ in range(6))).isdigit():
        pass
    return code


def session_name(title: str) -> str:
    """Return a name for links: the title in plain letters, and four random characters that make it unique."""
    words = re.findall(r"[a-z0-9]+", title.lower())[:6]
    ending = "".join(secrets.choice(CODE_LETTERS) for _ in range(4)).lower()
    return "-".join([*words, ending] if words else ["session", ending])[-60:].lstrip("-")


def room_name(title: str) -> str:
    """Return a name that reveals nothing and cannot be guessed."""
    return f"session-{new_id()}"


def hex_name(title: str) -> str:
    """Return eight random hexadecimal digits with at least one letter: digits alone are a session's number."""
    while (name := secrets.token_hex(4)).isdigit():
        pass
    return name
