"""The socket of `interview`: what is told of a session as it goes on, what may be said, and what is passed on."""

from collections.abc import Mapping
from typing import Any

import msgspec

from actors.session import commands as c
from actors.session import events as e
from actors.session.ids import Millis, UserId
from actors.session.state import State
from server.api import dialect_frames as frames
from server.api.dialect import Frame, Shown
from server.dialects.interview.bodies import (
    CodeChange,
    CursorPosition,
    LanguageChange,
    UserJoin,
    UserLeave,
    id_of,
)
from server.dialects.interview.views import failure, participant
from server.http.problems import Problem
from server.streams.format import Bye
from server.usecases.call import Call

ECHOED = 4_000
"""Characters of code that are passed on though they change nothing: longer ones are no frame to relay."""


# What is told


def by(recorded: e.Recorded, state: State) -> dict[str, Any]:
    who = recorded.actor_id
    return {"userId": "" if who is None else id_of(state, who), "timestamp": recorded.at}


def code_change(recorded: e.Recorded, state: State) -> dict[str, Any] | None:
    """Give the whole text. Of changes by others' clients it is known at the latest version alone, which says it all."""
    event: Any = recorded.event
    text = state.code.text if event.text is None and event.version == state.code.version else event.text
    return None if text is None else {"code": text, **by(recorded, state)}


def language_change(recorded: e.Recorded, state: State) -> dict[str, Any]:
    event: Any = recorded.event
    return {"language": event.language, **by(recorded, state)}


def user_join(recorded: e.Recorded, state: State) -> dict[str, Any]:
    event: Any = recorded.event
    return {"user": participant(state, state.participants[event.user_id]), "timestamp": recorded.at}


def user_leave(recorded: e.Recorded, state: State) -> dict[str, Any]:
    event: Any = recorded.event
    return {"userId": id_of(state, event.user_id), "timestamp": recorded.at}


EVENTS: dict[type[e.Event], Shown] = {
    e.CodeEdited: ("code_change", code_change),
    e.LanguageChanged: ("language_change", language_change),
    e.ParticipantJoined: ("user_join", user_join),
    e.ParticipantLeft: ("user_leave", user_leave),
    e.ParticipantKicked: ("user_leave", user_leave),
}


# What is passed on


def cursor_position(event: e.Cursor, who: UserId, at: Millis, state: State) -> tuple[str, Any]:
    return "cursor_position", {"position": event.position, "userId": id_of(state, who), "timestamp": at}


def passed_on(event: e.Relayed, who: UserId, at: Millis, state: State) -> tuple[str, Any]:
    """Print a client's own frame, as from who they are: whatever it says of that is replaced."""
    data = dict(event.body)
    if event.name == "user_join":
        data = {"user": participant(state, state.participants[who])}
    elif "userId" in data:
        data["userId"] = id_of(state, who)
    return event.name, {**data, "timestamp": at}


RELAYS: Mapping[type, Any] = {e.Cursor: cursor_position, e.Relayed: passed_on}


# What may be said. What is so already is passed on all the same: everybody gets every frame.


def edit(call: Call) -> c.Command:
    code = call.body.code
    again = call.found == code and len(code) < ECHOED
    return c.Relay("code_change", {"code": code, "userId": ""}) if again else c.EditCode(text=code)


def set_language(call: Call) -> c.Command:
    language = call.body.language
    if call.found == language:
        return c.Relay("language_change", {"language": language, "userId": ""})
    return c.SetLanguage(language)


def point(call: Call) -> c.Command:
    return c.Cursor(msgspec.to_builtins(call.body.position))


def join(call: Call) -> c.Command:
    return c.Relay("user_join", {}) if call.found else c.Join()


def joined(state: State, call: Call) -> bool:
    place = state.participants.get(call.principal.user_id)
    return place is not None and place.status == "joined"


MESSAGES: Mapping[str, Frame] = {
    "code_change": Frame(CodeChange, edit, lambda state, call: state.code.text),
    "language_change": Frame(LanguageChange, set_language, lambda state, call: state.code.language),
    "cursor_position": Frame(CursorPosition, point),
    "user_join": Frame(UserJoin, join, joined),
    "user_leave": Frame(UserLeave, lambda call: c.Leave()),
}
CLOSES: Mapping[Bye, int] = {
    "left": 1000, "admitted": 1012, "expired": 4401, "kicked": 4403, "slow": 4408, "ended": 4410, "draining": 1012,
}  # fmt: skip


def relay(kind: str, call: Call) -> c.Command:
    return c.Relay(kind, call.body)


def first(state: State, viewer: UserId, now: Millis) -> list[tuple[str, Any]]:
    """Tell a newcomer nothing: they have read the session."""
    return []


def failed(problem: Problem, kind: str) -> bytes:
    """Say to the sender what is wrong with a message."""
    return frames.typed("error", msgspec.json.encode(failure(problem.status, problem.detail, problem)), None)
