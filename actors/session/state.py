"""What a session is at one moment. Mutable, changed by the appliers alone; encodes to its snapshot as it stands.

One field per aspect, each kept by the module of that name; a new aspect adds a field with a default, so that
older snapshots still decode.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from actors.session.ids import MessageId, Millis, SessionId, UserId

Kind = Literal["classroom", "tutoring", "lesson", "course", "interview"]
Status = Literal["scheduled", "live", "ended", "cancelled"]
EndReason = Literal["host", "expired", "empty", "host_gone", "limit"]
Role = Literal["host", "cohost", "member", "observer"]
Presence = Literal["invited", "waiting", "joined", "left", "kicked", "denied"]
BoardTool = Literal["pen", "marker", "line", "rectangle", "ellipse", "arrow", "text"]
RecordingStatus = Literal["processing", "completed", "failed"]
Permission = Literal[
    "speak", "video", "screen", "chat", "ask", "vote", "draw", "erase", "edit_code", "control_audio",
    "moderate", "record", "end",
]  # fmt: skip

BUILTIN = "builtin"
"""The provider of rooms that Homeroom is itself."""


class Features(Struct, frozen=True, kw_only=True):
    """What a session offers its participants, as it is stored: a newer version may have stored more."""

    chat: bool = True
    direct_messages: bool = True
    hands: bool = True
    lobby: bool = False
    questions: bool = True
    question_approval: bool = False
    polls: bool = True
    code: bool = True
    board: bool = True
    recording: bool = True
    guests: bool = False
    """People without an account may come in by the join code."""


class FeaturesUpdate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change of features: only those sent count. Holds the same names as `Features` (tested)."""

    chat: bool | UnsetType = UNSET
    direct_messages: bool | UnsetType = UNSET
    hands: bool | UnsetType = UNSET
    lobby: bool | UnsetType = UNSET
    questions: bool | UnsetType = UNSET
    question_approval: bool | UnsetType = UNSET
    polls: bool | UnsetType = UNSET
    code: bool | UnsetType = UNSET
    board: bool | UnsetType = UNSET
    recording: bool | UnsetType = UNSET
    guests: bool | UnsetType = UNSET


class Room(Struct, frozen=True):
    """Where a session's audio and video are, at a provider of rooms. `url` may be a path of this server's own."""

    provider: str
    name: str
    url: str

    def at(self, origin: str) -> str:
        """Give its URL for who reaches this server at `origin`. What a creator calls
        this server is not kept: others would follow it."""
        return origin + self.url if self.url.startswith("/") else self.url

    @property
    def records(self) -> str | None:
        """The provider that makes recordings of its own there; None: the session's timeline is all there is."""
        return None if self.provider == BUILTIN else self.provider


class Session(Struct, kw_only=True):
    """The facts about a session that lists show too."""

    id: SessionId
    number: int
    name: str
    code: str
    kind: Kind
    title: str
    description: str
    owner_id: UserId
    owner_name: str
    capacity: int
    features: Features
    mute_on_join: bool
    locked: bool
    grace_ms: int
    created_at: Millis
    updated_at: Millis
    status: Status = "scheduled"
    end_reason: EndReason | None = None
    course_id: str | None = None
    language: str | None = None
    starts_at: Millis | None = None
    ends_at: Millis | None = None
    expires_at: Millis | None = None
    started_at: Millis | None = None
    ended_at: Millis | None = None
    auto_start: bool = False
    """Goes live by itself at `starts_at`, or `early_ms` before it."""
    early_ms: int = 0
    empty_after_ms: int | None = None
    """Ends when nobody has been in it for so long; None: it waits."""
    host_gone_after_ms: int | None = None
    """Ends when no host or cohost has been in it for so long."""
    deleted: bool = False
    joined: int = 0
    online: int = 0
    owner_number: int = 0
    room: Room | None = None
    dialect: str | None = None
    """The older product's API that it was made through, which has other rules for who may come in; None: our own."""


class Participant(Struct, kw_only=True):
    """One person's place in the roster. `number` counts from 1 in the order of first joining or being invited.

    `user_number` is their account's, `alias` the id that an outside client knows a guest by."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    muted: bool = False
    online: bool = False
    video: bool = False
    audio: bool = False
    screen: bool = False
    banned: bool = False
    gone: bool = False
    guest: bool = False
    colour: str | None = None
    user_number: int = 0
    alias: str | None = None
    granted: frozenset[Permission] = frozenset()
    revoked: frozenset[Permission] = frozenset()
    invited_at: Millis | None = None
    joined_at: Millis | None = None
    left_at: Millis | None = None
    kicked_at: Millis | None = None
    """Credentials for this session alone that are older are over."""


class VoiceNote(Struct, frozen=True):
    """A recording in the audio library, sent as a message."""

    audio_id: str
    duration_s: float | None
    number: int = 0
    """The piece's, as that of `Track`."""


class Message(Struct, kw_only=True, gc=False):
    """A chat message. `seq` is its row in the log; `text` is empty once it has been deleted."""

    message_id: MessageId
    seq: int
    user_id: UserId
    text: str
    at: Millis
    to: UserId | None = None
    reply_to: MessageId | None = None
    voice: VoiceNote | None = None
    deleted: bool = False
    reactions: dict[str, list[UserId]] = {}


class Track(Struct, frozen=True):
    """A piece in the audio library, as a session knows it. `duration_s` is None when it could not be measured.

    `number` is the piece's own in the library."""

    audio_id: str
    title: str
    duration_s: float | None
    number: int = 0


class Playback(Struct, kw_only=True):
    """What plays to everyone: at `at` the track stood at `position_s`; `playback.position_at` for any other moment."""

    track: Track
    status: Literal["stopped", "playing", "paused"]
    position_s: float
    speed: float
    at: Millis


class Question(Struct, kw_only=True):
    """A question to the session. `hidden` until a moderator approves, where the session asks for that."""

    question_id: int
    user_id: UserId
    text: str
    at: Millis
    status: Literal["hidden", "open", "answered", "dismissed"]
    anonymous: bool = False
    shown: bool = True
    """Members have seen it; a hidden one that is dismissed they never do."""
    answer: str | None = None
    answered_by: UserId | None = None
    upvotes: list[UserId] = []


class Poll(Struct, kw_only=True):
    """A poll. `votes`: who chose which options, by index."""

    poll_id: int
    user_id: UserId
    question: str
    options: list[str]
    at: Millis
    multiple: bool = False
    anonymous: bool = False
    open: bool = True
    votes: dict[UserId, list[int]] = {}


class TextChange(Struct, frozen=True):
    """A change of a text, as it is stored: at a position, in characters, some are deleted and others inserted."""

    at: int
    delete: int = 0
    insert: str = ""


class Code(Struct, kw_only=True):
    """The document. `version` counts its edits; `updates` are its Yjs updates (base64) for clients that merge."""

    text: str = ""
    language: str = "javascript"
    version: int = 0
    edited_by: UserId | None = None
    edited_at: Millis | None = None
    updates: list[str] = []


class Stroke(Struct, frozen=True):
    """A line on the board: points as x, y, x, y … in 0..1 of its width and height."""

    stroke_id: int
    user_id: UserId
    tool: BoardTool
    points: list[float]
    color: str
    width: float
    text: str | None = None


class Board(Struct, kw_only=True):
    """The shared board; `version` counts what has happened to it."""

    strokes: dict[int, Stroke] = {}
    last_stroke_id: int = 0
    points: int = 0
    """Numbers in all strokes together."""
    version: int = 0


class Recording(Struct, kw_only=True):
    """An interval of the session's own timeline, by its first and last row in the log.

    `provider`: who makes a recording of its own besides, which it knows as `provider_id`; `status` is then that one's.
    `duration_ms` is known from its end on, `s3_key` and `reason` (why it failed) from what the provider has said."""

    recording_id: int
    user_id: UserId
    started_at: Millis
    first_seq: int
    stopped_at: Millis | None = None
    last_seq: int | None = None
    status: RecordingStatus = "completed"
    duration_ms: int | None = None
    provider: str | None = None
    provider_id: str | None = None
    s3_key: str | None = None
    reason: str | None = None


class State(Struct, kw_only=True):
    """A whole session as of `seq`, committed in `epoch`; what happened last did so at `at`."""

    session: Session
    epoch: int
    seq: int
    at: Millis = Millis(0)
    participants: dict[UserId, Participant] = {}
    away: dict[UserId, Millis] = {}
    """Who has no stream open any more, since when; oldest first."""
    hands: dict[UserId, Millis] = {}
    """Who has raised a hand, since when: the queue, in its order."""
    messages: dict[MessageId, Message] = {}
    """The latest messages (`chat.HISTORY`), in order."""
    last_message_id: MessageId = field(default=MessageId(0))
    sharer: UserId | None = None
    """Whose screen is shown: one at a time."""
    playback: Playback | None = None
    questions: dict[int, Question] = {}
    last_question_id: int = 0
    polls: dict[int, Poll] = {}
    last_poll_id: int = 0
    code: Code = field(default_factory=Code)
    board: Board = field(default_factory=Board)
    cleared: dict[int, Stroke] = {}
    """What the board held when it was last cleared."""
    recordings: list[Recording] = []
    hosts: int = 0
    """How many hosts and cohosts are in it."""
    emptied_at: Millis | None = None
    """Since when nobody has been in the live session; None: somebody is."""
    hostless_at: Millis | None = None
    """Since when no host or cohost has been in it."""
