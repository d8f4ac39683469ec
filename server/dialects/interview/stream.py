"""The socket of `interview`: frames from events, commands from messages, and messages relayed between clients.

Every participant gets every message, also one that changes nothing: the products' clients rely on it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import VisibleEvent
from server.api import dialect_frames as frames
from server.api.dialect import Relayed, Shown
from server.api.routes import Frame
from server.dialects.interview.bodies import (
    CodeChange,
    CursorPosition,
    LanguageChange,
    UserJoin,
    UserLeave,
    id_of,
)
from server.dialects.interview.views import failure, participant_view
from server.http.problems import Problem
from server.streams.format import Bye
from server.usecases.call import Call

ECHOED = 4_000
"""Code that changes nothing is relayed if it has fewer characters than this: a longer text does not fit a relayed
message."""
Data = dict[str, Any]  # Any: JSON values
"""The data of a frame: a JSON object."""


# Frames from events


def actor_fields(visible: VisibleEvent, state: State) -> Data:
    """Return who caused an event and when, in Unix milliseconds. `userId` is empty for the server's own events."""
    actor_id = visible.actor_id
    return {"userId": "" if actor_id is None else id_of(state, actor_id), "timestamp": visible.at}


def code_change(visible: VisibleEvent, state: State) -> Data | None:
    """Return the whole text. None for a merged edit that is no longer the latest version: only the latest has a text,
    and it contains the earlier edits."""
    event: Any = visible.event
    text = state.code.text if event.text is None and event.version == state.code.version else event.text
    return None if text is None else {"code": text, **actor_fields(visible, state)}


def language_change(visible: VisibleEvent, state: State) -> Data:
    """Return the new language."""
    event: Any = visible.event
    return {"language": event.language, **actor_fields(visible, state)}


def user_join(visible: VisibleEvent, state: State) -> Data:
    """Return the participant who joined."""
    event: Any = visible.event
    return {"user": participant_view(state, state.participants[event.user_id]), "timestamp": visible.at}


def user_leave(visible: VisibleEvent, state: State) -> Data:
    """Return who left or was removed."""
    event: Any = visible.event
    return {"userId": id_of(state, event.user_id), "timestamp": visible.at}


EVENTS: dict[type[e.Event], Shown] = {
    e.CodeEdited: ("code_change", code_change),
    e.LanguageChanged: ("language_change", language_change),
    e.ParticipantJoined: ("user_join", user_join),
    e.ParticipantLeft: ("user_leave", user_leave),
    e.ParticipantKicked: ("user_leave", user_leave),
}


# Relayed messages


def cursor_position(event: e.CursorMoved, sender: UserId, at: Millis, state: State) -> tuple[str, Data]:
    """Return the frame of a participant's cursor."""
    return "cursor_position", {"position": event.position, "userId": id_of(state, sender), "timestamp": at}


def client_message(event: e.Relayed, sender: UserId, at: Millis, state: State) -> tuple[str, Data]:
    """Return a client's own message as it is relayed. The sender's identity replaces any that the message claims."""
    data = dict(event.body)
    if event.name == "user_join":
        data = {"user": participant_view(state, state.participants[sender])}
    elif "userId" in data:
        data["userId"] = id_of(state, sender)
    return event.name, {**data, "timestamp": at}


RELAYS: Mapping[type, Relayed] = {e.CursorMoved: cursor_position, e.Relayed: client_message}


# Commands from messages. A message that changes nothing is relayed all the same.


def edit(call: Call) -> c.Command:
    """Return the command for a code change. `call.found` is the present code."""
    code = call.body.code
    unchanged = call.found == code and len(code) < ECHOED
    return c.Relay("code_change", {"code": code, "userId": ""}) if unchanged else c.EditCode(text=code)


def set_language(call: Call) -> c.Command:
    """Return the command for a change of language. `call.found` is the present language."""
    language = call.body.language
    if call.found == language:
        return c.Relay("language_change", {"language": language, "userId": ""})
    return c.SetLanguage(language)


def move_cursor(call: Call) -> c.Command:
    """Return the command that relays the sender's cursor."""
    return c.MoveCursor(msgspec.to_builtins(call.body.position))


def join(call: Call) -> c.Command:
    """Return the command to join. `call.found` is whether the sender has joined already."""
    return c.Relay("user_join", {}) if call.found else c.Join()


def has_joined(state: State, call: Call) -> bool:
    """Return whether the caller is in the session."""
    participant = state.participants.get(call.principal.user_id)
    return participant is not None and participant.status == "joined"


MESSAGES: Mapping[str, Frame] = {
    "code_change": Frame(CodeChange, edit, lambda state, call: state.code.text),
    "language_change": Frame(LanguageChange, set_language, lambda state, call: state.code.language),
    "cursor_position": Frame(CursorPosition, move_cursor),
    "user_join": Frame(UserJoin, join, has_joined),
    "user_leave": Frame(UserLeave, lambda call: c.Leave()),
}
CLOSES: Mapping[Bye, int] = {
    "left": 1000, "admitted": 1012, "expired": 4401, "kicked": 4403, "slow": 4408, "ended": 4410, "draining": 1012,
}  # fmt: skip


def relay(kind: str, call: Call) -> c.Command:
    """Return the command that relays a message of a type that this API does not know."""
    return c.Relay(kind, call.body)


def first(state: State, viewer: UserId, now: Millis) -> list[tuple[str, Data]]:
    """Return no frames: a client has read the session before it opens the socket."""
    return []


def failed(problem: Problem, kind: str) -> bytes:
    """Return the frame that tells the sender why a message was rejected."""
    return frames.typed("error", msgspec.json.encode(failure(problem.status, problem.detail, problem)), None)
