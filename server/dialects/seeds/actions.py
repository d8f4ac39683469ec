"""The actions of `seeds`: one route that performs several, by their type."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from msgspec import Meta, Struct

from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.aspects.lifecycle import closed_rejection
from actors.session.errors import Reason, Rejected
from actors.session.ids import UserId
from actors.session.permissions import allowed, not_in, role_of
from actors.session.state import State
from server.dialects.seeds.bodies import muting, numbered, removal
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases.call import Call


class Action(Struct, frozen=True, kw_only=True):
    """One of several commands, by its `type`. `mute` belongs to `mute_self` and `mute_participant`, `text` to `chat`,
    `payload`, which may be any JSON, to `webrtc_signal`."""

    type: Annotated[str, Meta(max_length=64)]
    target_participant_id: int | None = None
    mute: bool = True
    text: Annotated[str, Meta(max_length=2_000)] | None = None
    # Any: JSON of any shape, from clients.
    payload: Any = None


def chat_action(call: Call) -> c.Command:
    """Return the command of the action `chat`. Raise Problem 400 for an empty text."""
    if not (call.body.text or "").strip():
        raise Problem(400, "empty_message", "Empty message", field="text")
    return c.SendMessage(text=call.body.text)


ACTIONS: Mapping[str, Callable[[Call], c.Command]] = {
    "mute_self": lambda call: c.Mute() if call.body.mute else c.Unmute(),
    "raise_hand": lambda call: c.RaiseHand(),
    "lower_hand": lambda call: c.LowerHand(),
    "chat": chat_action,
    "mute_participant": lambda call: muting(call.found, call.body.mute),
    "unmute_participant": lambda call: c.Unmute(call.found),
    "kick_participant": lambda call: removal(call.found),
    "end_session": lambda call: c.End(),
    "webrtc_signal": lambda call: c.Signal(to=call.found, payload=call.body.payload),
}
TEACHERS = frozenset({"mute_participant", "unmute_participant", "kick_participant", "end_session"})
TARGETED = frozenset({"mute_participant", "unmute_participant", "kick_participant", "webrtc_signal"})


@refuses(
    empty_message=400,
    cancelled=410,
    ended=410,
    kicked=403,
    no_target=400,
    not_joined=403,
    not_permitted=403,
    unknown_action=400,
    unknown_participant=404,
    waiting=403,
)
def target(state: State, call: Call) -> UserId | None:
    """Return the participant whom an action concerns, None for actions that concern none.

    Raise Problem 400 for an unknown action or a missing target, and Rejected if the caller may not perform it."""
    body: Action = call.body
    if body.type not in ACTIONS:
        raise Problem(400, "unknown_action", f"Unknown action type: {body.type}", field="type")
    caller = call.principal.user_id
    if state.session.status in CLOSED:
        raise closed_rejection(state.session)
    if role_of(state, caller) is None:
        raise not_in(state, caller)
    if body.type in TEACHERS and not allowed(state, caller, "moderate"):
        raise Rejected(Reason.NOT_PERMITTED, "This is for the session's teacher.")
    if body.type not in TARGETED:
        return None
    if body.target_participant_id is None:
        raise Problem(400, "no_target", "target_participant_id required", field="target_participant_id")
    return numbered(state, body.target_participant_id).user_id


@refuses(empty_message=400)
def act(call: Call) -> c.Command:
    """Return the command of an action. `call.found` is its target. Raise Problem 400 for an empty chat message."""
    return ACTIONS[call.body.type](call)
