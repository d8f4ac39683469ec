"""The state of a session at one moment. Only the appliers change it, in place. A snapshot is its encoding.

Each aspect has a field, which the module of that name maintains. A new aspect adds a field with a default, so that
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
"""The name of Homeroom itself as a provider of rooms."""


class Features(Struct, frozen=True, kw_only=True):
    """The features of a session, as they are stored. A newer version may have stored more, which are ignored."""

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
    """Users without an account may join by the join code."""


class FeaturesUpdate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change of features, from a request: only those that are sent change. Same fields as `Features` (tested)."""

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
    """The room of a session's audio and video, at a provider. `url` may be a path of this server."""

    provider: str
    name: str
    url: str

    def url_at(self, origin: str) -> str:
        """Return the URL for a client that reaches this server at `origin`.

        The origin that the creator used is not stored: it need not be the one that other clients can reach."""
        return origin + self.url if self.url.startswith("/") else self.url

    @property
    def recorder(self) -> str | None:
        """The provider that makes recordings of its own; None: the session's timeline is the only one."""
        return None if self.provider == BUILTIN else self.provider


class Session(Struct, kw_only=True):
    """The facts of a session, which lists have too."""

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
    """The session starts by itself at `starts_at`, or `early_ms` before."""
    early_ms: int = 0
    empty_after_ms: int | None = None
    """The session ends after it has had no participant for so long; None: never."""
    host_gone_after_ms: int | None = None
    """The session ends after it has had no host or cohost for so long."""
    deleted: bool = False
    joined: int = 0
    online: int = 0
    owner_number: int = 0
    room: Room | None = None
    dialect: str | None = None
    """The older product's API that created it, which has other rules for joining; None: Homeroom's own."""


class Participant(Struct, kw_only=True):
    """A user in the roster. `number` counts from 1, in the order of first joining or invitation.

    `user_number` is the number of the account; `alias`, the id that an external client knows a guest by."""

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
    """Older credentials for this session only are no longer valid."""


class VoiceNote(Struct, frozen=True):
    """Audio from the library, sent as a message."""

    audio_id: str
    duration_s: float | None
    number: int = 0
    """Its number in the library."""


class Message(Struct, kw_only=True, gc=False):
    """A chat message. `seq` is its row in the log. `text` is empty after its deletion."""

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
    """Audio of the library, as a session knows it. `duration_s` is None if it could not be measured.

    `number` is its number in the library."""

    audio_id: str
    title: str
    duration_s: float | None
    number: int = 0


class Playback(Struct, kw_only=True):
    """The playback for everyone: at `at` the track is at `position_s`. See `playback.position_at` for other moments."""

    track: Track
    status: Literal["stopped", "playing", "paused"]
    position_s: float
    speed: float
    at: Millis


class Question(Struct, kw_only=True):
    """A question to the session. With `question_approval` it is `hidden` until a moderator approves it."""

    question_id: int
    user_id: UserId
    text: str
    at: Millis
    status: Literal["hidden", "open", "answered", "dismissed"]
    anonymous: bool = False
    visible: bool = field(default=True, name="shown")
    """Members may see it. A hidden question that is dismissed never becomes visible."""
    answer: str | None = None
    answered_by: UserId | None = None
    upvotes: list[UserId] = []


class Poll(Struct, kw_only=True):
    """A poll. `votes`: the indices of the options that each user chose."""

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
    """A change of a text, as it is stored: at a position, in characters, delete some and insert others."""

    at: int
    delete: int = 0
    insert: str = ""


class Code(Struct, kw_only=True):
    """The code document. `version` counts its edits. `updates` are its Yjs updates (base64), for clients that merge."""

    text: str = ""
    language: str = "javascript"
    version: int = 0
    edited_by: UserId | None = None
    edited_at: Millis | None = None
    updates: list[str] = []


class Stroke(Struct, frozen=True):
    """A stroke on the board: points as x, y, x, y … from 0 to 1 of its width and height."""

    stroke_id: int
    user_id: UserId
    tool: BoardTool
    points: list[float]
    color: str
    width: float
    text: str | None = None


class Board(Struct, kw_only=True):
    """The shared board. `version` counts its changes."""

    strokes: dict[int, Stroke] = {}
    last_stroke_id: int = 0
    points: int = 0
    """Coordinates of all strokes together."""
    version: int = 0


class Recording(Struct, kw_only=True):
    """An interval of the session's timeline, from its first to its last row in the log.

    If a `provider` also makes a recording, it knows that as `provider_id`, and `status` is that recording's.
    `duration_ms` is known once it has ended. The provider reports `s3_key`, or the `reason` of a failure."""

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
    """A whole session as of the event `seq`, which happened at `at` and was committed in `epoch`."""

    session: Session
    epoch: int
    seq: int
    at: Millis = Millis(0)
    participants: dict[UserId, Participant] = {}
    away: dict[UserId, Millis] = {}
    """Participants without an open stream, and since when; oldest first."""
    hands: dict[UserId, Millis] = {}
    """Participants with a raised hand, and since when, in the order of the queue."""
    messages: dict[MessageId, Message] = {}
    """The latest messages (`chat.HISTORY`), in order."""
    last_message_id: MessageId = field(default=MessageId(0))
    sharer: UserId | None = None
    """The participant who shares their screen."""
    playback: Playback | None = None
    questions: dict[int, Question] = {}
    last_question_id: int = 0
    polls: dict[int, Poll] = {}
    last_poll_id: int = 0
    code: Code = field(default_factory=Code)
    board: Board = field(default_factory=Board)
    cleared: dict[int, Stroke] = {}
    """The strokes of the board before it was last cleared."""
    recordings: list[Recording] = []
    hosts: int = 0
    """The number of hosts and cohosts who have joined."""
    emptied_at: Millis | None = None
    """Since when the live session has had no participant; None: it has one."""
    hostless_at: Millis | None = None
    """Since when it has had no host or cohost."""
