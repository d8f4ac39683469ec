"""The inputs that some commands need from stores: a table, command type → fields of the `Caller`.

The session machine reads no stores. The shell loads these inputs before the machine decides the command.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from actors.session import commands as c
from actors.session.ids import SessionId
from server.http.problems import Problem
from server.http.refusals import refuses
from server.security.principal import Principal
from server.usecases.code import earlier
from server.usecases.session_access import HistoryParts
from storage.audio import Library
from storage.sessions import UUID
from storage.users import Users

# Any: each field of `Caller` has its own type.
Fields = Mapping[str, Any]
"""Fields of `Caller`, by name."""
NOTHING: Fields = {}


@dataclass(frozen=True, kw_only=True)
class InputParts(HistoryParts):
    """The stores that commands refer to: users, audio, versions of the code."""

    users: Users
    audio: Library


# Any: each field of `Caller` has its own type.
LookUp = Callable[[InputParts, SessionId, Principal, Any], Awaitable[Fields]]


@refuses(unknown_user=404)
async def people(parts: InputParts, session_id: SessionId, principal: Principal, command: c.Invite) -> Fields:
    """Return the user whom an invitation names. Raise Problem 404."""
    found = await parts.users.people([command.user_id]) if UUID.fullmatch(command.user_id) else {}
    if command.user_id not in found:
        raise Problem(404, "unknown_user", f"There is no user {command.user_id!r}.", field="user_id")
    return {"people": found}


async def tracks(
    parts: InputParts, session_id: SessionId, principal: Principal, command: c.SelectAudio | c.SendVoice
) -> Fields:
    """Return a piece of audio that the caller owns, or that this session has already made available to the caller."""
    track = await parts.audio.track(command.audio_id, principal.user_id, session_id, owned=principal.scope is None)
    return NOTHING if track is None else {"tracks": {track.audio_id: track}}


LOOKUPS: Mapping[type[c.Command], LookUp] = {
    c.Invite: people,
    c.SelectAudio: tracks,
    c.SendVoice: tracks,
    c.RestoreCode: earlier,
}


async def load_inputs(parts: InputParts, session_id: SessionId, principal: Principal, command: c.Command) -> Fields:
    """Return the inputs of a command: none for most commands. Raise Problem 404, 503."""
    if isinstance(command, c.Together):
        found: dict[str, Any] = {}
        for one in command.commands:
            for name, value in (await load_inputs(parts, session_id, principal, one)).items():
                found[name] = {**found.get(name, {}), **value}
        return found
    look_up = LOOKUPS.get(type(command))
    return NOTHING if look_up is None else await look_up(parts, session_id, principal, command)
