"""What can be asked of a session. Imperative, frozen, tagged by `type` in snake_case.

`WireCommand` is what clients may send; the commands after it come from the server itself. Who asks travels
beside the command as a `Caller`, never inside it, so that no body can name somebody else.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field

from actors.session.ids import (
    Capacity,
    Description,
    Emoji,
    EventType,
    Id,
    Language,
    MessageId,
    MessageText,
    Seconds,
    SessionId,
    Title,
    UserId,
    Why,
)
from actors.session.state import Features, FeaturesUpdate, Kind, Permission, Role

When = Annotated[datetime, Meta(tz=True)]


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Command(Struct, frozen=True, tag_field="type", tag=snake_case, forbid_unknown_fields=True):
    """Anything a session can be asked to do."""


class Caller(Struct, frozen=True):
    """Who asks, as a verified credential says. `holds_code`: they came by the join code, which is an invitation.

    `names` are the names of other users that the shell has looked up for this command."""

    user_id: UserId
    name: str
    holds_code: bool = False
    names: Mapping[UserId, str] = {}


# Lifecycle


class NewSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a creator may say of a session."""

    title: Title
    kind: Kind = "classroom"
    description: Description = ""
    starts_at: When | None = None
    ends_at: When | None = None
    capacity: Capacity | None = None
    name: Annotated[str, Meta(max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$(?!\n)")] | None = None
    course_id: Id | None = None
    features: Features = Features()
    mute_on_join: bool = False
    locked: bool = False
    language: Language | None = None
    ttl: Seconds | None = None


class Start(Command, frozen=True):
    """Make a scheduled session live."""


class End(Command, frozen=True):
    """End a live session for everyone."""


class Cancel(Command, frozen=True):
    """Call a scheduled session off."""


class Update(Command, frozen=True, kw_only=True):
    """Change what is said of a session. Only the fields that are sent count; null clears."""

    title: Title | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    starts_at: When | UnsetType | None = UNSET
    ends_at: When | UnsetType | None = UNSET
    capacity: Capacity | UnsetType = UNSET
    course_id: Id | UnsetType | None = UNSET
    features: FeaturesUpdate | UnsetType = UNSET
    mute_on_join: bool | UnsetType = UNSET
    language: Language | UnsetType | None = UNSET


class Lock(Command, frozen=True):
    """Let nobody new in."""


class Unlock(Command, frozen=True):
    """Let new people in again."""


# Roster


class Join(Command, frozen=True):
    """Take part. With a lobby, wait to be admitted."""


class Leave(Command, frozen=True):
    """Stop taking part."""


class Invite(Command, frozen=True):
    """Let a user join without the code. Lifts a ban."""

    user_id: UserId


class Admit(Command, frozen=True):
    """Let someone in from the lobby."""

    user_id: UserId


class Deny(Command, frozen=True):
    """Turn someone in the lobby away."""

    user_id: UserId


class Kick(Command, frozen=True):
    """Remove someone, and take from them what they were trusted with: a role above member, grants.

    With `ban` they stay out until they are invited again."""

    user_id: UserId
    ban: bool = False
    reason: Why | None = None


class SetRole(Command, frozen=True):
    """Give a participant another role. Hosts only."""

    user_id: UserId
    role: Role


class SetPermissions(Command, frozen=True):
    """Grant and revoke single permissions on top of what the role gives."""

    user_id: UserId
    grant: Annotated[list[Permission], Meta(max_length=32)] = []
    revoke: Annotated[list[Permission], Meta(max_length=32)] = []


class Mute(Command, frozen=True):
    """Mute oneself, or somebody else with the `moderate` permission."""

    user_id: UserId | None = None


class Unmute(Command, frozen=True):
    """Unmute oneself, or somebody else with the `moderate` permission."""

    user_id: UserId | None = None


class MuteAll(Command, frozen=True):
    """Mute everyone whom the caller has a say over, but for those named."""

    except_: Annotated[list[UserId], Meta(max_length=1_000)] = field(default_factory=list, name="except")


class RequestUnmute(Command, frozen=True):
    """Ask a muted participant to unmute: the choice stays theirs."""

    user_id: UserId


# Hands


class RaiseHand(Command, frozen=True):
    """Queue up to speak."""


class LowerHand(Command, frozen=True):
    """Leave the queue, or take somebody out of it with the `moderate` permission."""

    user_id: UserId | None = None


class LowerAll(Command, frozen=True):
    """Empty the queue."""


class CallNext(Command, frozen=True):
    """Give the word to whoever has waited longest."""


# Chat


class SendMessage(Command, frozen=True):
    """Write to everyone, or with `to` to one participant alone."""

    text: MessageText
    to: UserId | None = None
    reply_to: MessageId | None = None


class DeleteMessage(Command, frozen=True):
    """Take a message back: its text goes from the state, the log and every export."""

    message_id: MessageId


class React(Command, frozen=True):
    """Put an emoji on a message, or with `remove` take it off."""

    message_id: MessageId
    emoji: Emoji
    remove: bool = False


# The log, and what is relayed without being kept


class LogEvent(Command, frozen=True):
    """Note something a client saw. Which types are allowed depends on the session's kind."""

    event_type: EventType
    data: dict[str, Any] = {}


class Signal(Command, frozen=True):
    """Pass a payload to one participant (WebRTC and the like). Never stored."""

    to: UserId
    payload: Any


class Cursor(Command, frozen=True):
    """Show others where one points. Never stored."""

    position: dict[str, Any]


class Typing(Command, frozen=True):
    """Show others that one is writing. Never stored."""

    active: bool = True


WireCommand = (
    Start | End | Cancel | Update | Lock | Unlock
    | Join | Leave | Invite | Admit | Deny | Kick | SetRole | SetPermissions
    | Mute | Unmute | MuteAll | RequestUnmute
    | RaiseHand | LowerHand | LowerAll | CallNext
    | SendMessage | DeleteMessage | React
    | LogEvent | Signal | Cursor | Typing
)  # fmt: skip


# From the server itself


class Create(Command, frozen=True):
    """The first command of every session; the ids are made by the shell. The caller becomes the owner."""

    new: NewSession
    session_id: SessionId
    number: int
    name: str
    code: str
    default_capacity: int
    grace_ms: int


class Connect(Command, frozen=True):
    """The caller's first stream has opened. With `join`, they take part by that alone."""

    join: bool = False


class Disconnect(Command, frozen=True):
    """The caller's last stream has closed."""


class LoseConnections(Command, frozen=True):
    """Streams that the state believes open are gone: their server was. Sent after every restore that finds some."""

    user_ids: list[UserId]


class Delete(Command, frozen=True):
    """Close the session whatever its status, and take it out of every list."""


class Tick(Command, frozen=True):
    """Time has reached `deadline(state)`."""


AnyCommand = WireCommand | Create | Connect | Disconnect | LoseConnections | Delete | Tick
