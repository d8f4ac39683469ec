"""Raised hands: a queue in the order of raising. A participant who leaves lowers their hand (`roster.depart`)."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import joined, require, self_or_moderated
from actors.session.state import State


def raise_hand(state: State, command: c.RaiseHand, by: c.Caller, now: Millis) -> list[e.Event]:
    if not state.session.features.hands:
        raise Rejected(Reason.FEATURE_OFF, "Raising hands is switched off in this session.")
    participant = joined(state, by)
    return [] if participant.user_id in state.hands else [e.HandRaised(user_id=participant.user_id)]


def lower_hand(state: State, command: c.LowerHand, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = self_or_moderated(state, by, command.user_id)
    return [e.HandLowered(user_id=participant.user_id)] if participant.user_id in state.hands else []


def lower_all(state: State, command: c.LowerAll, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    return [e.HandsLowered(user_ids=list(state.hands))] if state.hands else []


def call_next(state: State, command: c.CallNext, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    first = next(iter(state.hands), None)
    if first is None:
        raise Rejected(Reason.QUEUE_EMPTY, "No hand is raised.")
    return [e.HandCalled(user_id=first)]


def on_raised(state: State, event: e.HandRaised, recorded: e.Recorded) -> None:
    state.hands[event.user_id] = recorded.at


def on_lowered(state: State, event: e.HandLowered | e.HandCalled, recorded: e.Recorded) -> None:
    state.hands.pop(event.user_id, None)


def on_all_lowered(state: State, event: e.HandsLowered, recorded: e.Recorded) -> None:
    state.hands.clear()


HANDLERS = {c.RaiseHand: raise_hand, c.LowerHand: lower_hand, c.LowerAll: lower_all, c.CallNext: call_next}
APPLIERS = {
    e.HandRaised: on_raised,
    e.HandLowered: on_lowered,
    e.HandCalled: on_lowered,
    e.HandsLowered: on_all_lowered,
}
