"""Who an event concerns, by the state just after it. `event_rules` says which function applies to which event.

Each audience function returns user ids, or None for everyone in the session. Participants in the lobby (`waiting`) are
not in the session: they receive only events that name them, and the session's own facts.
"""

from collections.abc import Callable
from typing import Any

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.permissions import allowed, known_to_all
from actors.session.state import State

Users = frozenset[UserId]
Audience = Callable[[State, Any, UserId | None], Users | None]
"""(state, event, actor's user id) → user ids, or None for everyone in the session."""
Confidants = Callable[[State, UserId | None], Users]
"""(state, actor's user id) → the users who may learn the actor of an anonymous event."""


def everyone(state: State, event: e.Event, actor_id: UserId | None) -> None:
    """Return None: the event is for everyone in the session."""
    return


def moderators(state: State) -> Users:
    """Return the users who may moderate now: the owner, joined or not, and every participant with the permission."""
    # Only participants with such a role or with a grant can be moderators; there may be 10,000 others.
    candidates = (p.user_id for p in state.participants.values() if p.granted or p.role in ("host", "cohost"))
    able = {user_id for user_id in candidates if allowed(state, user_id, "moderate")}
    return frozenset(able | {state.session.owner_id})


def only_moderators(state: State, event: e.Event, actor_id: UserId | None) -> Users:
    """Return the moderators."""
    return moderators(state)


def participant_and_moderators(state: State, event: Any, actor_id: UserId | None) -> Users:
    """Return the participant whom the event is about, and the moderators."""
    return moderators(state) | {event.user_id}


def addressee(state: State, event: e.SignalSent, actor_id: UserId | None) -> Users:
    """Return the user to whom the event is addressed."""
    return frozenset({event.to})


# Chat


def both_sides(state: State, event: e.ChatMessage | e.MessageDeleted, actor_id: UserId | None) -> Users | None:
    """Return sender and addressee of a direct message. A message to everyone is for everyone."""
    if event.to is None:
        return None
    sender = message.user_id if (message := state.messages.get(event.message_id)) else actor_id
    return frozenset({event.to} if sender is None else {event.to, sender})


def listed_sides(state: State, event: e.MessageReacted, actor_id: UserId | None) -> Users | None:
    """Return both sides of the direct message, which the event lists. A message to everyone is for everyone."""
    return None if event.to is None else frozenset(event.to)


# Questions


def those_who_see_new_question(state: State, event: e.QuestionAsked, actor_id: UserId | None) -> Users | None:
    """Return moderators and asker of a question that awaits approval; any other is for everyone."""
    if not event.hidden:
        return None
    return moderators(state) | ({actor_id} if actor_id else frozenset())


def those_who_saw_question(state: State, event: e.QuestionDismissed, actor_id: UserId | None) -> Users | None:
    """Return moderators and asker of a question that was never approved; any other is for everyone."""
    question = state.questions.get(event.question_id)
    return None if question is None or question.visible else moderators(state) | {question.user_id}


def actor_only(state: State, actor_id: UserId | None) -> Users:
    """Return the actor alone: only their own snapshot says who acted."""
    return frozenset() if actor_id is None else frozenset({actor_id})


def actor_and_moderators(state: State, actor_id: UserId | None) -> Users:
    """Return the actor and the moderators: their snapshots say who acted."""
    return actor_only(state, actor_id) | moderators(state)


# The roster


def those_who_see_participant(state: State, event: Any, actor_id: UserId | None) -> Users | None:
    """Return who has the participant in their roster: everyone, except for participants who never joined."""
    if known_to_all(state, event.user_id):
        return None
    return participant_and_moderators(state, event, actor_id)


def those_who_saw_participant(state: State, event: Any, actor_id: UserId | None) -> Users | None:
    """Return who had a participant who departs in their roster.

    It depends on `joined_at` alone, which stays: events read from the log use the present state."""
    participant = state.participants.get(event.user_id)
    if participant is not None and participant.joined_at is not None:
        return None
    return participant_and_moderators(state, event, actor_id)


def those_who_see_all(state: State, event: e.ConnectionsLost, actor_id: UserId | None) -> Users | None:
    """Return who has all of the event's participants in their roster."""
    known = all(known_to_all(state, user_id) for user_id in event.user_ids)
    return None if known else moderators(state).union(event.user_ids)
