"""What a session is at one moment. Mutable, changed by the appliers alone; encodes to its snapshot as it stands.

One field per aspect, each kept by the module of that name; a new aspect adds a field with a default, so that
older snapshots still decode.
"""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

from actors.session.ids import MessageId, Millis, SessionId, UserId

Kind = Literal["classroom", "tutoring", "lesson", "course", "interview"]
Status = Literal["scheduled", "live", "ended", "cancelled"]
EndReason = Literal["host", "expired", "empty", "limit"]
Role = Literal["host", "cohost", "member", "observer"]
Presence = Literal["invited", "waiting", "joined", "left", "kicked", "denied"]
Permission = Literal[
    "speak", "video", "screen", "chat", "ask", "vote", "draw", "erase", "edit_code", "control_audio",
    "moderate", "record", "end",
]  # fmt: skip


class Features(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a session offers its participants."""

    chat: bool = True
    direct_messages: bool = True
    hands: bool = True
    lobby: bool = False


class FeaturesUpdate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change of features: only those sent count. Holds the same names as `Features` (tested)."""

    chat: bool | UnsetType = UNSET
    direct_messages: bool | UnsetType = UNSET
    hands: bool | UnsetType = UNSET
    lobby: bool | UnsetType = UNSET


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
    deleted: bool = False
    joined: int = 0
    online: int = 0


class Participant(Struct, kw_only=True):
    """One person's place in the roster. `number` counts from 1 in the order of first joining or being invited."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    muted: bool = False
    online: bool = False
    banned: bool = False
    gone: bool = False
    granted: frozenset[Permission] = frozenset()
    revoked: frozenset[Permission] = frozenset()
    invited_at: Millis | None = None
    joined_at: Millis | None = None
    left_at: Millis | None = None


class Message(Struct, kw_only=True):
    """A chat message. `seq` is its row in the log; `text` is empty once it has been deleted."""

    message_id: MessageId
    seq: int
    user_id: UserId
    text: str
    at: Millis
    to: UserId | None = None
    reply_to: MessageId | None = None
    deleted: bool = False
    reactions: dict[str, list[UserId]] = {}


class State(Struct, kw_only=True):
    """A whole session as of `seq`, committed in `epoch`."""

    session: Session
    epoch: int
    seq: int
    participants: dict[UserId, Participant] = {}
    away: dict[UserId, Millis] = {}
    """Who has no stream open any more, since when; oldest first."""
    hands: dict[UserId, Millis] = {}
    """Who has raised a hand, since when: the queue, in its order."""
    messages: dict[MessageId, Message] = {}
    """The latest messages (`chat.HISTORY`), in order."""
    last_message_id: MessageId = field(default=MessageId(0))
