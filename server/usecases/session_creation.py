"""Opening sessions: the first commit of each, with its room, its name and its join code.

**Law:** a session is there whole or not at all: its first rows, its facts, its room and who has a place are one commit.
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
"""Without 0 O 1 I: codes are read out and typed."""
TRIES = 8


@dataclass(frozen=True, kw_only=True)
class CreationParts:
    """The first commit of sessions."""

    settings: Settings
    log: PostgresEventLog
    rooms: RoomProvisioner
    creations: Creations


class CreationOptions(Struct, frozen=True, kw_only=True):
    """How a session begins, besides what its creator says of it. `owner_status`: the owner's status from the beginning.

    `named` makes the name from the title, where the creator gives none. `invited`: who else may come in."""

    dialect: str | None = None
    """The dialect that it is made through."""
    live: bool = False
    owner_status: Literal["invited", "joined"] | None = None
    named: Callable[[str], str] | None = None
    invited: Mapping[UserId, c.Person] = {}
    owner: c.Caller | None = None
    """Whose it is, if not the caller's own."""
    session_id: SessionId | None = None
    """Its id, where that was needed before it."""
    text: str = ""
    text_language: str | None = None
    """What the code document has at first."""
    booking_id: str | None = None
    """The booking whose one session it is to be."""
    key: CreationKey | None = None
    """The Idempotency-Key that it is made under."""


@refuses(invalid=422, not_allowed=422, not_permitted=403, room_failed=502, taken=409, too_large=413)
async def create_session(parts: CreationParts, call: Call) -> Session:
    require_teacher(call.principal)
    return (await create_session_idempotent(parts, call, call.body, CreationOptions())).session


def require_teacher(principal: Principal) -> None:
    """Raises: Problem 403."""
    if principal.role != "teacher":
        raise Problem(403, "not_permitted", "Only teachers may create sessions.")


@refuses(invalid=422, not_allowed=422, room_failed=502, taken=409, too_large=413)
async def create_session_idempotent(
    parts: CreationParts, call: Call, new: c.NewSession, opening: CreationOptions
) -> State:
    """Open a session, or give the one that the call's key has opened before, as it was then. Raises: Problem."""

    async def make(key: CreationKey | None) -> State:
        return await create_session_from(parts, call.principal, new, structs.replace(opening, key=key))

    async def again(made: KeyedCreation) -> State:
        return machine.replay(await parts.log.read(SessionId(made.made_id), 0, made.last_seq))

    return await idempotent(parts.creations, call, make, again)


async def create_session_from(
    parts: CreationParts, principal: Principal, new: c.NewSession, opening: CreationOptions
) -> State:
    """Commit a new session, with its room; give its state.

    Raises: Problem, NotUnique("booking"), NotUnique("key")."""
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
        # The provider's account may have a room of a name that somebody chose: with an ending nobody chose it is ours.
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
    """Commit a new session. Raises: Problem, NotUnique for what somebody else has, a join code the last of all."""
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
    by, now = structs.replace(opening.owner or principal.caller(), people=opening.invited), now_millis()
    try:
        events = lifecycle.create(create, by, now)
    except Rejected as rejected:
        raise problem_of(rejected, "") from rejected
    state, commit = creation(machine.record(create.session_id, 1, 0, now, by.user_id, events))
    return state, structs.replace(commit, booking_id=opening.booking_id, key=opening.key)


def join_code() -> str:
    """Make six characters, of which one at least is a letter: digits alone are a session's number."""
    while (code := "".join(secrets.choice(CODE_LETTERS) for _ in range(6))).isdigit():
        pass
    return code


def session_name(title: str) -> str:
    """Make a name for links: the title in plain letters, and four more so that it is the only one."""
    words = re.findall(r"[a-z0-9]+", title.lower())[:6]
    ending = "".join(secrets.choice(CODE_LETTERS) for _ in range(4)).lower()
    return "-".join([*words, ending] if words else ["session", ending])[-60:].lstrip("-")


def room_name(title: str) -> str:
    """Make a name that says nothing and cannot be guessed."""
    return f"session-{new_id()}"


def hex_name(title: str) -> str:
    """Make a name of eight hexadecimal digits, one of them at least a letter: digits alone are a session's number."""
    while (name := secrets.token_hex(4)).isdigit():
        pass
    return name
