"""What has happened in a session. Past facts, frozen; the tag is the log's `type` and the stream's event name.

**Law:** an event says everything `apply` needs: nothing is looked up, nothing is decided again. It also says what a
client needs to keep its view of the session (`docs/state.md`). `permissions` is all that a participant may do from
then on, sorted; None in rows that were written before the field existed.
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
    """Anything that can have happened."""


class Recorded(Struct, frozen=True, gc=False):
    """The one envelope: a log row, a stream frame, an input of replay. `seq` is dense per session from 1.

    `actor_id` is None for what the server did by itself."""

    session_id: SessionId
    epoch: int
    seq: int
    at: Millis
    actor_id: UserId | None
    event: "AnyEvent"


# Lifecycle


class SessionCreated(Event, frozen=True, kw_only=True):
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
    """Only what changed is set."""

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
    """In the lobby, until admitted or denied."""

    user_id: UserId
    name: str
    number: int
    guest: bool = False
    colour: str | None = None
    user_number: int = 0
    alias: str | None = None
    permissions: list[Permission] | None = None


class ParticipantJoined(Event, frozen=True):
    """`joined_at`: when they first joined; None: now. `online`: they have a stream open already, in the lobby."""

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
    """`gone`: no stream of theirs came back within the grace time; they were last seen at `last_seen`."""

    user_id: UserId
    reason: Literal["left", "gone"] = "left"
    last_seen: Millis | None = None


class ParticipantKicked(Event, frozen=True):
    """`role`: what is left of their role; None in rows that were written before the field existed."""

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
    """The server that held these users' streams went away; they have the grace time to come back."""

    user_ids: list[UserId]


class RoleChanged(Event, frozen=True):
    user_id: UserId
    role: Role
    permissions: list[Permission] | None = None


class PermissionsChanged(Event, frozen=True):
    """The whole of what is granted and revoked on top of the role, sorted."""

    user_id: UserId
    granted: list[Permission]
    revoked: list[Permission]
    permissions: list[Permission] | None = None


class ParticipantMuted(Event, frozen=True):
    user_id: UserId


class ParticipantUnmuted(Event, frozen=True):
    user_id: UserId


class AllMuted(Event, frozen=True):
    """These were muted, in one stroke."""

    user_ids: list[UserId]


class UnmuteRequested(Event, frozen=True):
    user_id: UserId


# Hands


class HandRaised(Event, frozen=True):
    user_id: UserId


class HandLowered(Event, frozen=True):
    user_id: UserId


class HandsLowered(Event, frozen=True):
    """Those that were up, in one stroke."""

    user_ids: list[UserId] = []


class HandCalled(Event, frozen=True):
    user_id: UserId


# Chat


class ChatMessage(Event, frozen=True):
    """`deleted` is set only where a stored row has been redacted; its text is then empty."""

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
    """The two sides of a direct message; None: everyone."""


# Media


class MediaChanged(Event, frozen=True):
    """All that a participant sends now."""

    user_id: UserId
    video: bool
    audio: bool
    screen: bool


# Playback. Positions in seconds of the track, true at the event's own time. `number` is the piece's own in the library


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
    """`playing`: it is heard at once."""

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
    """`hidden`: it waits for a moderator's approval. `anonymous`: only moderators and the log see who asked."""

    question_id: int
    text: str
    anonymous: bool = False
    hidden: bool = False


class QuestionApproved(Event, frozen=True):
    """Repeats the question, which members have not received yet.

    `user_id` and `name` are the asker's; None for an anonymous question. `asked_at` is None in rows that were written
    before the field existed."""

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
    """`anonymous`: whoever asked anonymously has taken it back."""

    question_id: int
    anonymous: bool = False


class PollOpened(Event, frozen=True):
    poll_id: int
    question: str
    options: list[str]
    multiple: bool = False
    anonymous: bool = False


class PollVoted(Event, frozen=True):
    """`anonymous`: everyone sees the choice, only the log who made it."""

    poll_id: int
    options: list[int]
    anonymous: bool = False


class PollClosed(Event, frozen=True):
    """`results`: votes per option."""

    poll_id: int
    results: list[int]


# Code and board


class CodeEdited(Event, frozen=True):
    """What made this version of the one before: changes one after the other, or a whole new text."""

    version: int
    changes: list[TextChange] | None = None
    text: str | None = None


class CodeMerged(Event, frozen=True):
    """A Yjs update (base64) that the document holds now, its text as of `version` being the same."""

    version: int
    update: str


class CodeCompacted(Event, frozen=True):
    """All Yjs updates so far, in one."""

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
    """`provider` makes one of its own besides."""

    recording_id: int
    provider: str | None = None


class RecordingStopped(Event, frozen=True):
    recording_id: int
    duration_ms: int


class RecordingUpdated(Event, frozen=True, kw_only=True):
    """What is known of the provider's recording from now on; None: nothing new."""

    recording_id: int
    status: RecordingStatus
    provider_id: str | None = None
    duration_ms: int | None = None
    s3_key: str | None = None
    reason: str | None = None


# The log


class EventLogged(Event, frozen=True):
    event_type: str
    data: dict[str, Any]


class AudioUploaded(Event, frozen=True):
    """A piece came into the library for this session. Nobody but its uploader has been shown it yet."""

    audio_id: str
    title: str
    duration: float | None = None
    number: int = 0


# Relayed at once, never stored, no seq


class Signal(Event, frozen=True):
    to: UserId
    payload: Any


class Cursor(Event, frozen=True):
    position: dict[str, Any]


class Typing(Event, frozen=True):
    active: bool = True


class Relayed(Event, frozen=True):
    """A frame of a client's own type."""

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
EphemeralEvent = Signal | Cursor | Typing | Relayed
AnyEvent = DurableEvent | EphemeralEvent

TYPES: Mapping[type, str] = {event: str(event.__struct_config__.tag) for event in get_args(AnyEvent)}
"""What each event is called in the log."""
EPHEMERAL: frozenset[type] = frozenset({Signal, Cursor, Typing, Relayed})
