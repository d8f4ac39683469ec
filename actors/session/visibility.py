"""What viewers receive of events and of the state. Encoders get a `VisibleEvent` and never a row of the log.

**Law:** only `visible_event` makes a `VisibleEvent`. It applies `event_rules` to anonymous actors and to direct
messages; `Published.visible_to` and `event_in_log` say for whom. The functions for the state agree with them.
"""

from msgspec import Struct

from actors.session import events as e
from actors.session.event_rules import RULES, EventRule, anonymous
from actors.session.ids import Millis, UserId
from actors.session.state import Message, Poll, Question, State

NOBODY = UserId("")
"""A viewer who receives only what everyone in the session receives, as with a signed URL."""


class VisibleEvent(Struct, gc=False, eq=False):
    """An event as some viewers receive it.

    `actor_id`: None if the server acted by itself, and if these viewers may not learn who acted.
    `json`: the JSON of `event`, if it has been encoded already."""

    epoch: int
    seq: int
    at: Millis
    actor_id: UserId | None
    event: e.AnyEvent
    json: bytes | None = None
    encoded: bytes | None = None
    """A cache of `/v1`, which encodes the same event for answers and for several kinds of streams."""


def visible_event(
    recorded: e.Recorded, *, with_actor: bool, reader: UserId | None = None, json: bytes | None = None
) -> VisibleEvent:
    """Return an event as its viewers receive it: without the actor if it is anonymous, unless `with_actor`.

    `reader`: the viewer of a row of the log, who receives direct messages between others without their content.
    `json`: the JSON of the whole event."""
    event, actor_id = recorded.event, recorded.actor_id
    rule = RULES[type(event)]
    if not with_actor and rule.confidants is not None and anonymous(event):
        actor_id = None
    if reader is not None and rule.for_reader is not None:
        event, json = rule.for_reader(event, recorded.actor_id, reader), None  # type: ignore[assignment]
    return VisibleEvent(recorded.epoch, recorded.seq, recorded.at, actor_id, event, json)


class Published(Struct, gc=False):
    """A committed event for publication, and who receives it.

    `state` may be ahead of the event. Use it only to look up facts that never change, such as names and numbers."""

    recorded: e.Recorded
    json: bytes
    """The event's JSON as the log has it."""
    rule: EventRule
    state: State
    audience: frozenset[UserId] | None
    """None: everyone in the session."""
    public: VisibleEvent
    """For the audience."""
    whole: VisibleEvent
    """For the actor and other confidants; the same as `public` unless the event is anonymous."""
    confidants: frozenset[UserId] | None = None
    """None if the event is not anonymous."""

    def visible_to(self, viewer: UserId, *, lobby: bool = False) -> VisibleEvent | None:
        """Return what a viewer receives; None for nothing. `lobby`: the viewer waits in the lobby."""
        if self.audience is None:
            if lobby and not self.rule.lobby:
                return None
        elif viewer not in self.audience:
            return None
        return self.public if self.confidants is None or viewer not in self.confidants else self.whole


def published_event(recorded: e.Recorded, json: bytes, state: State) -> Published:
    """Return an event as it goes out. `state` is the one just after the event; for a row of the log, the present one,
    which then determines the audience."""
    event, actor_id = recorded.event, recorded.actor_id
    rule = RULES[type(event)]
    whom = rule.audience(state, event, actor_id)
    public = visible_event(recorded, with_actor=False, json=json)
    if rule.confidants is None or not anonymous(event):
        return Published(recorded, json, rule, state, whom, public, public)
    whole = visible_event(recorded, with_actor=True, json=json)
    return Published(recorded, json, rule, state, whom, public, whole, rule.confidants(state, actor_id))


def event_in_log(row: e.Recorded, reader: UserId, *, with_actor: bool = True) -> VisibleEvent:
    """Return a row of the log for a user who may read all rows that they ask for: a moderator, or a participant whose
    own rows they are. `with_actor`: name anonymous actors too, as the log does."""
    return visible_event(row, with_actor=with_actor, reader=reader)


# The state


def message_visible(message: Message, viewer: UserId) -> bool:
    """Return whether a message is to everyone, or the viewer is its sender or its addressee."""
    return message.to is None or viewer in (message.to, message.user_id)


def question_visible(question: Question, viewer: UserId, *, moderator: bool) -> bool:
    """Return whether a question is visible to a viewer: not to others while it awaits approval, or if it was dismissed
    before that."""
    return moderator or question.visible or question.user_id == viewer


def asker(question: Question, *, confidant: bool) -> UserId | None:
    """Return who asked a question; None if it is anonymous and the viewer may not know."""
    return question.user_id if confidant or not question.anonymous else None


def voters(poll: Poll) -> dict[UserId, list[int]] | None:
    """Return the options that each voter chose, by index; None for an anonymous poll."""
    return None if poll.anonymous else poll.votes
