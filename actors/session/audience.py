"""Who sees what: which events are for some only, and whose streams an event cuts off."""

from collections.abc import Callable
from typing import Any

from msgspec import UnsetType

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.permissions import allowed, known_to_all
from actors.session.state import State


def audience(state: State, event: e.Event, actor_id: UserId | None) -> frozenset[UserId] | None:
    """Name those whom an event concerns. Decided once per event, in the state after it.

    None: everyone but those in the lobby (`waiting`), who get only what names them."""
    rule = AUDIENCES.get(type(event))
    return None if rule is None else rule(state, event, actor_id)


def two_sides(
    state: State, event: e.ChatMessage | e.MessageDeleted, actor_id: UserId | None
) -> frozenset[UserId] | None:
    if event.to is None:
        return None
    sender = message.user_id if (message := state.messages.get(event.message_id)) else actor_id
    return frozenset({event.to} if sender is None else {event.to, sender})


def named(state: State, event: e.MessageReacted, actor_id: UserId | None) -> frozenset[UserId] | None:
    return None if event.to is None else frozenset(event.to)


def addressee(state: State, event: e.Signal, actor_id: UserId | None) -> frozenset[UserId]:
    return frozenset({event.to})


def asked(state: State, event: e.QuestionAsked, actor_id: UserId | None) -> frozenset[UserId] | None:
    if not event.hidden:
        return None
    return moderators(state) | ({actor_id} if actor_id else frozenset())


def dismissed(state: State, event: e.QuestionDismissed, actor_id: UserId | None) -> frozenset[UserId] | None:
    question = state.questions.get(event.question_id)
    return None if question is None or question.shown else moderators(state) | {question.user_id}


def those_in_charge(state: State, event: e.Event, actor_id: UserId | None) -> frozenset[UserId]:
    return moderators(state)


def concerned(state: State, event: Any, actor_id: UserId | None) -> frozenset[UserId]:
    return moderators(state) | {event.user_id}


def lost(state: State, event: e.ConnectionsLost, actor_id: UserId | None) -> frozenset[UserId] | None:
    known = all(known_to_all(state, user_id) for user_id in event.user_ids)
    return None if known else moderators(state).union(event.user_ids)


def those_who_know(state: State, event: Any, actor_id: UserId | None) -> frozenset[UserId] | None:
    return None if known_to_all(state, event.user_id) else concerned(state, event, actor_id)


def those_who_knew(state: State, event: Any, actor_id: UserId | None) -> frozenset[UserId] | None:
    """Of a departure: whoever had them in their roster. By what stays true, as logs are read later, too."""
    place = state.participants.get(event.user_id)
    return None if place is not None and place.joined_at is not None else concerned(state, event, actor_id)


AUDIENCES: dict[type, Callable[[State, Any, UserId | None], frozenset[UserId] | None]] = {
    **dict.fromkeys((e.ChatMessage, e.MessageDeleted), two_sides),
    e.MessageReacted: named,
    e.Signal: addressee,
    e.QuestionAsked: asked,
    e.QuestionDismissed: dismissed,
    **dict.fromkeys((e.ParticipantInvited, e.EventLogged, e.AudioUploaded), those_in_charge),
    e.ConnectionsLost: lost,
    **dict.fromkeys((e.UnmuteRequested, e.ParticipantWaiting, e.ParticipantDenied), concerned),
    **dict.fromkeys(
        (e.ParticipantOnline, e.ParticipantOffline, e.RoleChanged, e.PermissionsChanged), those_who_know
    ),
    **dict.fromkeys((e.ParticipantLeft, e.ParticipantKicked), those_who_knew),
}  # fmt: skip
"""What is not here concerns everyone."""


def anonymous(event: e.Event) -> bool:
    """Say whether streams leave out who did it. The log knows."""
    return type(event) in ANONYMOUS and event.anonymous  # type: ignore[attr-defined]


ANONYMOUS: frozenset[type] = frozenset({e.QuestionAsked, e.QuestionDismissed, e.PollVoted})
"""Events that may be so."""


def confidants(state: State, event: e.Event, actor_id: UserId | None) -> frozenset[UserId] | None:
    """Return the users whose streams name the actor of an anonymous event; None if the event is not anonymous.

    They are those who see it in their snapshot: of a question its asker and the moderators, of a vote the voter."""
    if not anonymous(event):
        return None
    own = frozenset() if actor_id is None else frozenset({actor_id})
    return own | moderators(state) if type(event) is e.QuestionAsked else own


def changes_view(event: e.Event, owner_id: UserId) -> UserId | None:
    """Return the user for whom other parts of the session may be visible after this event, as they may have become
    a moderator, or stopped being one. That is never the owner, who always is one.

    The event alone decides, so that this also answers for rows of the log: it may name a user for whom nothing
    changes, but it never misses one."""
    match event:
        case e.RoleChanged() | e.ParticipantKicked():
            viewer = event.user_id
        case e.PermissionsChanged() if "moderate" in event.granted or "moderate" in event.revoked:
            viewer = event.user_id
        case e.ParticipantJoined() if event.role in ("host", "cohost") or "moderate" in (event.permissions or ()):
            viewer = event.user_id
        case _:
            return None
    return None if viewer == owner_id else viewer


CHANGES_VIEW: frozenset[type] = frozenset({
    e.RoleChanged, e.ParticipantKicked, e.PermissionsChanged, e.ParticipantJoined,
})  # fmt: skip
"""The events that `changes_view` looks at."""


def moderators(state: State) -> frozenset[UserId]:
    """Name who may moderate now: the owner, joined or not, and every participant with the permission."""
    # Looks closer only at those whom a role or a grant may have made one: there can be 10,000 others.
    candidates = (p.user_id for p in state.participants.values() if p.granted or p.role in ("host", "cohost"))
    able = {user_id for user_id in candidates if allowed(state, user_id, "moderate")}
    return frozenset(able | {state.session.owner_id})


def disconnects(event: e.Event) -> tuple[UserId, str] | None:
    """Name whose streams end with this event, and why."""
    why = DISCONNECTING.get(type(event))
    return None if why is None else (event.user_id, why)  # type: ignore[attr-defined]


DISCONNECTING: dict[type, str] = {
    e.ParticipantKicked: "kicked",
    e.ParticipantDenied: "kicked",
    e.ParticipantLeft: "left",
}


def revokes_guest_access(event: e.Event) -> bool:
    """Say whether those who only look on have to go with this event: the session is not open to everybody any more."""
    if not isinstance(event, e.SessionUpdated) or isinstance(event.features, UnsetType):
        return False
    return event.features.lobby or not event.features.guests


def ends_streams(event: e.Event) -> bool:
    """Say whether every stream of the session ends with this event."""
    return type(event) in CLOSING


CLOSING: frozenset[type] = frozenset({e.SessionEnded, e.SessionCancelled, e.SessionDeleted})
