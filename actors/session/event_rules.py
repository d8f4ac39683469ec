"""What follows from each type of event besides the state: who receives it, which list rows and streams it changes.

**Law:** every type of event has a rule, and a missing one raises KeyError; no rule applies by default.
"""

from collections.abc import Callable
from typing import Any, Literal

from msgspec import Struct, UnsetType, structs

from actors.session import audience as a
from actors.session import events as e
from actors.session.ids import UserId
from actors.session.state import State


class EventRule(Struct, frozen=True, gc=False):
    """The rule of one type of event. The first four have no default: each type has to say them."""

    audience: a.Audience
    lists: Literal["unchanged", "session", "participant", "everyone"]
    """Which rows of lists and reports it changes: none; the session's; also the participant's (`event.user_id`); also
    those of all participants."""
    streams: Literal["continue", "ended", "kicked", "left", "admitted"]
    """All continue; every stream of the session ends; or those of `event.user_id` end, for that reason. `admitted` ends
    only those in the lobby, whose clients reconnect for a snapshot."""
    confidants: a.Confidants | None
    """Who may learn the actor if the event says that it is `anonymous`. None: its actor is always named."""
    lobby: bool = False
    """A fact of the session itself, which streams from the lobby carry too."""
    room: bool = False
    """It requires a request to the provider of the session's room."""
    new_view: Callable[[Any], UserId | None] | None = None
    """The user for whom other parts of the session may be visible afterwards: a moderator, new or former."""
    revokes_guest_access: Callable[[Any], bool] | None = None
    """Whether users who only watch may not do so any more."""
    for_reader: Callable[[Any, UserId | None, UserId], e.Event] | None = None
    """(event, actor's user id, reader's user id) → the event for a reader of the whole log. None: unchanged."""


def guests_excluded(event: e.SessionUpdated) -> bool:
    """Return whether the session has a lobby, or admits no guests, from now on."""
    features = event.features
    return not isinstance(features, UnsetType) and (features.lobby or not features.guests)


def participant(event: e.RoleChanged | e.ParticipantKicked) -> UserId:
    """Return the participant whom the event is about: it may make or unmake a moderator."""
    return event.user_id


def participant_with_other_rights(event: e.PermissionsChanged) -> UserId | None:
    """Return the participant whom the event is about, if it concerns the permission to moderate."""
    return event.user_id if "moderate" in event.granted or "moderate" in event.revoked else None


def joined_moderator(event: e.ParticipantJoined) -> UserId | None:
    """Return the participant who joins, if they may moderate: their streams may have begun before that."""
    may = event.role in ("host", "cohost") or "moderate" in (event.permissions or ())
    return event.user_id if may else None


def message_for_reader(event: e.ChatMessage, actor_id: UserId | None, reader: UserId) -> e.ChatMessage:
    """Return a direct message between others without its content: the reader learns only that it was sent."""
    if event.to is None or reader in (event.to, actor_id):
        return event
    return structs.replace(event, text="", voice=None)


PLAIN = EventRule(a.everyone, "unchanged", "continue", None)
FACT = EventRule(a.everyone, "session", "continue", None, lobby=True)
END = EventRule(a.everyone, "everyone", "ended", None, lobby=True, room=True)
NOTE = EventRule(a.only_moderators, "unchanged", "continue", None)
PRESENCE = EventRule(a.those_who_see_participant, "session", "continue", None)
WAITING = EventRule(a.participant_and_moderators, "participant", "continue", None)
IN_ROOM = EventRule(a.everyone, "unchanged", "continue", None, room=True)

RULES: dict[type[e.Event], EventRule] = {
    e.SessionCreated: PLAIN,
    e.SessionStarted: FACT,
    e.SessionEnded: END,
    e.SessionCancelled: END,
    e.SessionUpdated: EventRule(
        a.everyone, "session", "continue", None, lobby=True, revokes_guest_access=guests_excluded
    ),
    e.SessionLocked: FACT,
    e.SessionUnlocked: FACT,
    e.SessionDeleted: END,
    # The roster
    e.ParticipantInvited: EventRule(a.only_moderators, "participant", "continue", None),
    e.ParticipantWaiting: WAITING,
    e.ParticipantJoined: EventRule(a.everyone, "participant", "admitted", None, new_view=joined_moderator),
    e.ParticipantDenied: EventRule(a.participant_and_moderators, "participant", "kicked", None),
    e.ParticipantLeft: EventRule(a.those_who_saw_participant, "participant", "left", None),
    e.ParticipantKicked: EventRule(
        a.those_who_saw_participant, "participant", "kicked", None, room=True, new_view=participant
    ),
    e.ParticipantOnline: PRESENCE,
    e.ParticipantOffline: PRESENCE,
    e.ConnectionsLost: EventRule(a.those_who_see_all, "session", "continue", None),
    e.RoleChanged: EventRule(a.those_who_see_participant, "participant", "continue", None, new_view=participant),
    e.PermissionsChanged: EventRule(
        a.those_who_see_participant, "unchanged", "continue", None, new_view=participant_with_other_rights
    ),
    e.ParticipantMuted: PLAIN,
    e.ParticipantUnmuted: PLAIN,
    e.AllMuted: PLAIN,
    e.UnmuteRequested: EventRule(a.participant_and_moderators, "unchanged", "continue", None),
    e.HandRaised: PLAIN,
    e.HandLowered: PLAIN,
    e.HandsLowered: PLAIN,
    e.HandCalled: PLAIN,
    # Chat
    e.ChatMessage: EventRule(a.both_sides, "unchanged", "continue", None, for_reader=message_for_reader),
    e.MessageDeleted: EventRule(a.both_sides, "unchanged", "continue", None),
    e.MessageReacted: EventRule(a.listed_sides, "unchanged", "continue", None),
    # Media and playback
    e.MediaChanged: PLAIN,
    e.AudioSelected: PLAIN,
    e.AudioPlay: PLAIN,
    e.AudioPause: PLAIN,
    e.AudioSeek: PLAIN,
    e.AudioSpeed: PLAIN,
    e.AudioStop: PLAIN,
    e.AudioEnded: PLAIN,
    # Questions and polls
    e.QuestionAsked: EventRule(a.those_who_see_new_question, "unchanged", "continue", a.actor_and_moderators),
    e.QuestionApproved: PLAIN,
    e.QuestionUpvoted: PLAIN,
    e.QuestionAnswered: PLAIN,
    e.QuestionDismissed: EventRule(a.those_who_saw_question, "unchanged", "continue", a.actor_only),
    e.PollOpened: PLAIN,
    e.PollVoted: EventRule(a.everyone, "unchanged", "continue", a.actor_only),
    e.PollClosed: PLAIN,
    # Code, board and recording
    e.CodeEdited: PLAIN,
    e.CodeMerged: PLAIN,
    e.CodeCompacted: PLAIN,
    e.LanguageChanged: PLAIN,
    e.BoardDrawn: PLAIN,
    e.BoardErased: PLAIN,
    e.BoardCleared: PLAIN,
    e.BoardRestored: PLAIN,
    e.RecordingStarted: IN_ROOM,
    e.RecordingStopped: IN_ROOM,
    e.RecordingUpdated: PLAIN,
    # The log
    e.EventLogged: NOTE,
    e.AudioUploaded: NOTE,
    # Ephemeral
    e.SignalSent: EventRule(a.addressee, "unchanged", "continue", None),
    e.CursorMoved: PLAIN,
    e.TypingChanged: PLAIN,
    e.Relayed: PLAIN,
}


def audience(state: State, event: e.Event, actor_id: UserId | None) -> frozenset[UserId] | None:
    """Return the users whom an event concerns, by the state just after it; None for everyone in the session."""
    return RULES[type(event)].audience(state, event, actor_id)


def anonymous(event: e.Event) -> bool:
    """Return whether an event names its actor only to confidants. The log names the actor in any case."""
    return RULES[type(event)].confidants is not None and event.anonymous  # type: ignore[attr-defined]


def new_view(event: e.Event, owner_id: UserId) -> UserId | None:
    """Return the user for whom other parts of the session may be visible after this event, as they may have become
    a moderator, or stopped being one. That is never the owner, who always is one.

    The event alone decides, so that this also answers for rows of the log: it may return a user for whom nothing
    changes, but it never misses one."""
    of = RULES[type(event)].new_view
    viewer = None if of is None else of(event)
    return None if viewer == owner_id else viewer


def ends_streams(event: e.Event) -> bool:
    """Return whether every stream of the session ends with this event."""
    return RULES[type(event)].streams == "ended"
