"""Events: facts about a session, in the past tense. The tag is the `type` in the log and the name on streams.

**Law:** an event contains all that `apply` and a client's view need (`docs/state.md`), so that nothing is looked up or
decided again. New fields have defaults, since old rows lack them. `permissions` are all permissions that the
participant has from then on, sorted; None in such rows. Each type has a rule in `event_rules`.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from msgspec import UNSET, Struct, UnsetType

from actors.session.commands import snake_case
from actors.session.ids import MessageId, Millis, SessionId, UserId
from actors.session.state import (
    BoardTool,
    EndReason,
    Features,
    Kind,
    Permission,
    RecordingStatus,
    Role,
    Room,
    TextChange,
    VoiceNote,
)


class Event(Struct, frozen=True, tag_field="type", tag=snake_case, omit_defaults=True, gc=False):
    """The base of all types of events."""


class Recorded(Struct, frozen=True, gc=False):
    """A row of the log. `seq` counts from 1 in each session, without gaps.

    `actor_id` is None for events that the server causes by itself."""

    session_id: SessionId
    epoch: int
    seq: int
    at: Millis
    actor_id: UserId | None
    event: "AnyEvent"


# Lifecycle


class SessionCreated(Event, frozen=True, kw_only=True):
    """The first event of every log."""

    number: int
    name: str
    code: str
    kind: Kind
    title: str
    owner_name: str
    capacity: int
    features: Features
    grace_ms: int
    description: str = ""
    mute_on_join: bool = False
    locked: bool = False
    course_id: str | None = None
    language: str | None = None
    starts_at: Millis | None = None
    ends_at: Millis | None = None
    expires_at: Millis | None = None
    auto_start: bool = False
    early_ms: int = 0
    empty_after_ms: int | None = None
    host_gone_after_ms: int | None = None
    owner_number: int = 0
    room: Room | None = None
    dialect: str | None = None


class SessionStarted(Event, frozen=True):
    pass


class SessionEnded(Event, frozen=True):
    reason: EndReason


class SessionCancelled(Event, frozen=True):
    pass


class SessionUpdated(Event, frozen=True, kw_only=True):
    """Only the fields that changed are set."""

    title: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    starts_at: Millis | UnsetType | None = UNSET
    ends_at: Millis | UnsetType | None = UNSET
    capacity: int | UnsetType = UNSET
    course_id: str | UnsetType | None = UNSET
    features: Features | UnsetType = UNSET
    mute_on_join: bool | UnsetType = UNSET
    language: str | UnsetType | None = UNSET


class SessionLocked(Event, frozen=True):
    pass


class SessionUnlocked(Event, frozen=True):
    pass


class SessionDeleted(Event, frozen=True):
    pass


# Roster


class ParticipantInvited(Event, frozen=True):
    user_id: UserId
    name: str
    number: int
    user_number: int = 0
    permissions: list[Permission] | None = None


class ParticipantWaiting(Event, frozen=True):
    """The participant waits in the lobby until a moderator admits or denies them."""

    user_id: UserId
    name: str
    number: int
    guest: bool = False
    colour: str | None = None
    user_number: int = 0
    alias: str | None = None
    permissions: list[Permission] | None = None


class ParticipantJoined(Event, frozen=True):
    """`joined_at`: when the participant first joined; None: now. `online`: they have a stream open, in the lobby."""

    user_id: UserId
    name: str
    number: int
    role: Role
    muted: bool = False
    guest: bool = False
    colour: str | None = None
    user_number: int = 0
    alias: str | None = None
    permissions: list[Permission] | None = None
    joined_at: Millis | None = None
    online: bool = False


class ParticipantDenied(Event, frozen=True):
    user_id: UserId


class ParticipantLeft(Event, frozen=True):
    """`gone`: the participant had no stream for the grace time; their last one closed at `last_seen`."""

    user_id: UserId
    reason: Literal["left", "gone"] = "left"
    last_seen: Millis | None = None


class ParticipantKicked(Event, frozen=True):
    """`role`: the participant's role from then on, as a removed host is a member; None in old rows."""

    user_id: UserId
    banned: bool = False
    reason: str | None = None
    role: Role | None = None
    permissions: list[Permission] | None = None


class ParticipantOnline(Event, frozen=True):
    user_id: UserId


class ParticipantOffline(Event, frozen=True):
    user_id: UserId


class ConnectionsLost(Event, frozen=True):
    """The server with the streams of these users stopped. They have the grace time to reconnect."""

    user_ids: list[UserId]


class RoleChanged(Event, frozen=True):
    user_id: UserId
    role: Role
    permissions: list[Permission] | None = None


class PermissionsChanged(Event, frozen=True):
    """All permissions that are granted and revoked from then on, in addition to the role's, sorted."""

    user_id: UserId
    granted: list[Permission]
    revoked: list[Permission]
    permissions: list[Permission] | None = None


class ParticipantMuted(Event, frozen=True):
    user_id: UserId


class ParticipantUnmuted(Event, frozen=True):
    user_id: UserId


class AllMuted(Event, frozen=True):
    """These participants were muted by one command."""

    user_ids: list[UserId]


class UnmuteRequested(Event, frozen=True):
    user_id: UserId


# Hands


class HandRaised(Event, frozen=True):
    user_id: UserId


class HandLowered(Event, frozen=True):
    user_id: UserId


class HandsLowered(Event, frozen=True):
    """These participants' hands were lowered by one command."""

    user_ids: list[UserId] = []


class HandCalled(Event, frozen=True):
    user_id: UserId


# Chat


class ChatMessage(Event, frozen=True):
    """`deleted` is set only in a stored row that was redacted, whose text is empty."""

    message_id: MessageId
    text: str
    to: UserId | None = None
    reply_to: MessageId | None = None
    voice: VoiceNote | None = None
    deleted: bool = False


class MessageDeleted(Event, frozen=True):
    message_id: MessageId
    to: UserId | None = None


class MessageReacted(Event, frozen=True):
    message_id: MessageId
    emoji: str
    removed: bool = False
    to: list[UserId] | None = None
    """Sender and addressee of a direct message; None for a message to everyone."""


# Media


class MediaChanged(Event, frozen=True):
    """The media that the participant sends from then on."""

    user_id: UserId
    video: bool
    audio: bool
    screen: bool


# Playback. `position` is in seconds of the track, at the time of the event. `number` is the track's in the library


class AudioSelected(Event, frozen=True):
    audio_id: str
    title: str
    duration: float | None = None
    number: int = 0


class AudioPlay(Event, frozen=True):
    audio_id: str
    position: float
    speed: float
    number: int = 0


class AudioPause(Event, frozen=True):
    position: float
    speed: float = 1.0


class AudioSeek(Event, frozen=True):
    audio_id: str
    position: float
    speed: float = 1.0
    number: int = 0


class AudioSpeed(Event, frozen=True):
    """`playing`: the track plays, so that the speed is audible at once."""

    position: float
    speed: float
    playing: bool = False
    number: int = 0


class AudioStop(Event, frozen=True):
    audio_id: str
    speed: float = 1.0


class AudioEnded(Event, frozen=True):
    """The track has played to its end."""

    audio_id: str
    speed: float = 1.0


# Questions and polls


class QuestionAsked(Event, frozen=True):
    """`hidden`: the question awaits a moderator's approval. `anonymous`: only moderators learn who asked."""

    question_id: int
    text: str
    anonymous: bool = False
    hidden: bool = False


class QuestionApproved(Event, frozen=True):
    """Repeats the question, which members have not received yet.

    `user_id` and `name` are the asker's; None for an anonymous question. `asked_at` is None in old rows."""

    question_id: int
    text: str
    user_id: UserId | None = None
    name: str | None = None
    asked_at: Millis | None = None


class QuestionUpvoted(Event, frozen=True):
    question_id: int
    removed: bool = False


class QuestionAnswered(Event, frozen=True):
    question_id: int
    text: str | None = None


class QuestionDismissed(Event, frozen=True):
    """`anonymous`: the asker of an anonymous question has withdrawn it."""

    question_id: int
    anonymous: bool = False


class PollOpened(Event, frozen=True):
    poll_id: int
    question: str
    options: list[str]
    multiple: bool = False
    anonymous: bool = False


class PollVoted(Event, frozen=True):
    """`anonymous`: only the voter and the log know who chose these options."""

    poll_id: int
    options: list[int]
    anonymous: bool = False


class PollClosed(Event, frozen=True):
    """`results` are the votes per option."""

    poll_id: int
    results: list[int]


# Code and board


class CodeEdited(Event, frozen=True):
    """How this version follows from the one before: by changes, one after the other, or by a whole new text."""

    version: int
    changes: list[TextChange] | None = None
    text: str | None = None


class CodeMerged(Event, frozen=True):
    """A Yjs update (base64) of the document, whose text stays that of `version`."""

    version: int
    update: str


class CodeCompacted(Event, frozen=True):
    """All Yjs updates so far, merged into one (base64)."""

    update: str


class LanguageChanged(Event, frozen=True):
    language: str


class BoardDrawn(Event, frozen=True, kw_only=True):
    stroke_id: int
    tool: BoardTool
    points: list[float]
    color: str
    width: float
    text: str | None = None


class BoardErased(Event, frozen=True):
    stroke_ids: list[int]


class BoardCleared(Event, frozen=True):
    pass


class BoardRestored(Event, frozen=True):
    pass


# Recording


class RecordingStarted(Event, frozen=True):
    """`provider` records the session too; None: no provider does."""

    recording_id: int
    provider: str | None = None


class RecordingStopped(Event, frozen=True):
    recording_id: int
    duration_ms: int


class RecordingUpdated(Event, frozen=True, kw_only=True):
    """News about the provider's recording. None: the field is unchanged."""

    recording_id: int
    status: RecordingStatus
    provider_id: str | None = None
    duration_ms: int | None = None
    s3_key: str | None = None
    reason: str | None = None


# The log


class EventLogged(Event, frozen=True):
    """A client's own entry in the log, for moderators."""

    event_type: str
    data: dict[str, Any]


class AudioUploaded(Event, frozen=True):
    """A file was uploaded for this session. It is for moderators only until it is selected or sent."""

    audio_id: str
    title: str
    duration: float | None = None
    number: int = 0


# Ephemeral events: relayed at once and never stored, without `seq`


class SignalSent(Event, frozen=True, tag="signal"):
    """A message from one participant's client to another's, such as for WebRTC."""

    to: UserId
    payload: Any


class CursorMoved(Event, frozen=True, tag="cursor"):
    """The position of the actor's cursor, in the client's own terms."""

    position: dict[str, Any]


class TypingChanged(Event, frozen=True, tag="typing"):
    """The actor is writing a chat message, or stops."""

    active: bool = True


class Relayed(Event, frozen=True):
    """A frame of a type that a dialect's clients define."""

    name: str
    body: dict[str, Any]


DurableEvent = (
    SessionCreated | SessionStarted | SessionEnded | SessionCancelled | SessionUpdated
    | SessionLocked | SessionUnlocked | SessionDeleted
    | ParticipantInvited | ParticipantWaiting | ParticipantJoined | ParticipantDenied | ParticipantLeft
    | ParticipantKicked | ParticipantOnline | ParticipantOffline | ConnectionsLost
    | RoleChanged | PermissionsChanged | ParticipantMuted | ParticipantUnmuted | AllMuted | UnmuteRequested
    | HandRaised | HandLowered | HandsLowered | HandCalled
    | ChatMessage | MessageDeleted | MessageReacted
    | MediaChanged | AudioSelected | AudioPlay | AudioPause | AudioSeek | AudioSpeed | AudioStop | AudioEnded
    | QuestionAsked | QuestionApproved | QuestionUpvoted | QuestionAnswered | QuestionDismissed
    | PollOpened | PollVoted | PollClosed
    | CodeEdited | CodeMerged | CodeCompacted | LanguageChanged
    | BoardDrawn | BoardErased | BoardCleared | BoardRestored
    | RecordingStarted | RecordingStopped | RecordingUpdated
    | EventLogged | AudioUploaded
)  # fmt: skip
EphemeralEvent = SignalSent | CursorMoved | TypingChanged | Relayed
AnyEvent = DurableEvent | EphemeralEvent

TYPES: Mapping[type, str] = {event: str(event.__struct_config__.tag) for event in get_args(AnyEvent)}
"""The `type` of each event in the log."""
EPHEMERAL: frozenset[type] = frozenset({SignalSent, CursorMoved, TypingChanged, Relayed})
