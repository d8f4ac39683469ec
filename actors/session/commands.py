"""What can be asked of a session. Imperative, frozen, tagged by `type` in snake_case.

`WireCommand` is what clients may send; the commands after it come from the server itself. Who asks travels
beside the command as a `Caller`, never inside it, so that no body can name somebody else.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from actors.session.ids import (
    AnswerText,
    AudioId,
    Capacity,
    CodeLanguage,
    Colour,
    Description,
    Emoji,
    EventType,
    Id,
    Language,
    MessageId,
    MessageText,
    Millis,
    OptionText,
    Position,
    QuestionText,
    Seconds,
    SessionId,
    Speed,
    Title,
    UserId,
    Why,
)
from actors.session.state import (
    BoardTool,
    Features,
    FeaturesUpdate,
    Kind,
    Permission,
    RecordingStatus,
    Role,
    Room,
    TextChange,
    Track,
)

When = Annotated[datetime, Meta(tz=True)]


def snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Command(Struct, frozen=True, tag_field="type", tag=snake_case, forbid_unknown_fields=True):
    """Anything a session can be asked to do."""


class Person(Struct, frozen=True):
    """A user as others meet them: a name, and the number of their account."""

    name: str
    number: int = 0


class Caller(Struct, frozen=True):
    """Who asks, as a verified credential says. `has_invitation`: they came by the join code, which is an invitation.

    `people` and `tracks` are what the shell has looked up for this command: other users,
    pieces of audio, texts of earlier versions of the code. `issued_at` is set for a credential that is good for
    this session alone: when it was made. `alias` is the id that an outside client knows a guest by."""

    user_id: UserId
    name: str
    has_invitation: bool = False
    number: int = 0
    alias: str | None = None
    people: Mapping[UserId, Person] = {}
    tracks: Mapping[str, Track] = {}
    texts: Mapping[int, str] = {}
    guest: bool = False
    colour: str | None = None
    issued_at: Millis | None = None


# Lifecycle


class NewFeatures(Features, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The features that a new session is to have. An unknown one is refused."""

    def stored(self) -> Features:
        return Features(**structs.asdict(self))


class NewSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a creator may say of a session."""

    title: Title
    kind: Kind = "classroom"
    description: Description = ""
    starts_at: When | None = None
    ends_at: When | None = None
    capacity: Capacity | None = None
    name: (
        Annotated[
            str,
            Meta(
                max_length=64,
                pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$(?!\n)",
                description="lower-case words and digits with `-` between them, such as `physics-101`",
            ),
        ]
        | None
    ) = None
    course_id: Id | None = None
    features: NewFeatures = NewFeatures()
    mute_on_join: bool = False
    locked: bool = False
    language: Language | None = None
    ttl: Seconds | None = None
    auto_start: bool = False
    early: Seconds | None = None
    empty_after: Seconds | None = None
    host_gone_after: Seconds | None = None
    room: bool = False


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


# Media


class SetMedia(Command, frozen=True, kw_only=True):
    """Say what one sends: only the fields that are sent count. One screen at a time; a host takes it over."""

    video: bool | UnsetType = UNSET
    audio: bool | UnsetType = UNSET
    screen: bool | UnsetType = UNSET


# Playback


class SelectAudio(Command, frozen=True):
    """Put a piece of audio on, stopped at its start."""

    audio_id: AudioId


class Play(Command, frozen=True):
    """Play what is on, from where it stands or from `position`."""

    position: Position | None = None
    speed: Speed | None = None


class Pause(Command, frozen=True):
    """Hold where it stands."""


class Seek(Command, frozen=True):
    """Go to a position, playing or not."""

    position: Position


class SetSpeed(Command, frozen=True):
    """Play faster or slower."""

    speed: Speed


class Stop(Command, frozen=True):
    """Stop, and go back to the start."""


class SendVoice(Command, frozen=True):
    """Send a recording from the audio library as a message."""

    audio_id: AudioId
    to: UserId | None = None
    reply_to: MessageId | None = None


# Questions and polls


class AskQuestion(Command, frozen=True):
    """Ask. Anonymous questions name nobody to members; the log knows."""

    text: QuestionText
    anonymous: bool = False


class ApproveQuestion(Command, frozen=True):
    """Show a question that waits for approval."""

    question_id: int


class UpvoteQuestion(Command, frozen=True):
    """Say that one wants it answered too, or with `remove` not any more."""

    question_id: int
    remove: bool = False


class AnswerQuestion(Command, frozen=True):
    """Mark a question answered, with the answer or after having said it."""

    question_id: int
    text: AnswerText | None = None


class DismissQuestion(Command, frozen=True):
    """Take a question off the list. One's own needs no permission."""

    question_id: int


class OpenPoll(Command, frozen=True):
    """Ask everyone to choose."""

    question: QuestionText
    options: Annotated[list[OptionText], Meta(min_length=2, max_length=20)]
    multiple: bool = False
    anonymous: bool = False


class Vote(Command, frozen=True):
    """Choose options, by index from 0. Once."""

    poll_id: int
    options: Annotated[list[Annotated[int, Meta(ge=0, lt=20)]], Meta(min_length=1, max_length=20)]


class ClosePoll(Command, frozen=True):
    """Take no more votes."""

    poll_id: int


# Code and board


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """At a position, in characters, some are deleted and others inserted."""

    at: Annotated[int, Meta(ge=0)]
    delete: Annotated[int, Meta(ge=0)] = 0
    insert: str = ""

    def stored(self) -> TextChange:
        return TextChange(self.at, self.delete, self.insert)


class EditCode(Command, frozen=True):
    """Change the document as of `base_version`: its whole text, or changes one after the other.

    Without a `base_version` the whole text replaces what is there, whoever wrote it."""

    base_version: Annotated[int, Meta(ge=0)] | None = None
    text: str | None = None
    changes: Annotated[list[Change], Meta(max_length=1_000)] | None = None


class SetLanguage(Command, frozen=True):
    """Say what language the document is in."""

    language: CodeLanguage


class RestoreCode(Command, frozen=True):
    """Bring an earlier version's text back, as a new version."""

    version: Annotated[int, Meta(ge=0)]


class MergeCode(Command, frozen=True):
    """Merge a Yjs update (base64) into the document."""

    update: Annotated[str, Meta(max_length=1_400_000)]


class Draw(Command, frozen=True, kw_only=True):
    """Put a stroke on the board."""

    tool: BoardTool = "pen"
    points: Annotated[list[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=2, max_length=2_000)]
    color: Colour = "#000000"
    width: Annotated[float, Meta(gt=0, le=100)] = 2.0
    text: Annotated[str, Meta(max_length=500)] | None = None


class Erase(Command, frozen=True):
    """Take strokes off the board; one's own, or with `erase` anybody's."""

    stroke_ids: Annotated[list[int], Meta(min_length=1, max_length=1_000)]


class ClearBoard(Command, frozen=True):
    """Empty the board."""


class RestoreBoard(Command, frozen=True):
    """Put back what the board held before it was last cleared."""


# Recording


class StartRecording(Command, frozen=True):
    """Mark the start of a recording of the session's own timeline."""


class StopRecording(Command, frozen=True):
    """Mark its end."""


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
    | SendMessage | DeleteMessage | React | SendVoice
    | SetMedia | SelectAudio | Play | Pause | Seek | SetSpeed | Stop
    | AskQuestion | ApproveQuestion | UpvoteQuestion | AnswerQuestion | DismissQuestion
    | OpenPoll | Vote | ClosePoll
    | EditCode | SetLanguage | RestoreCode | MergeCode | Draw | Erase | ClearBoard | RestoreBoard
    | StartRecording | StopRecording
    | LogEvent | Signal | Cursor | Typing
)  # fmt: skip


# From the server itself


class Create(Command, frozen=True, kw_only=True):
    """The first command of every session; the ids are made by the shell. The caller becomes the owner.

    `dialect`: the older product's API that it is made through.
    `live`: it starts at once. `seat`: the place that the owner has from the beginning. `invited`: who else may come
    in, found among the caller's `people`. `text` and `text_language`: what the code document has at first."""

    new: NewSession
    session_id: SessionId
    number: int
    name: str
    code: str
    default_capacity: int
    grace_ms: int
    room: Room | None = None
    dialect: str | None = None
    live: bool = False
    seat: Literal["invited", "joined"] | None = None
    invited: list[UserId] = []
    text: str = ""
    text_language: CodeLanguage | None = None


class Together(Command, frozen=True):
    """Several commands of one caller, all or none."""

    commands: list[Command]


class Relay(Command, frozen=True):
    """Pass a frame of a client's own type on to everyone, the sender too. Never stored."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    body: dict[str, Any]


class SetPresent(Command, frozen=True):
    """Say that a participant is in the session or has left it: oneself, or another with the `moderate` permission.

    For clients who keep presence by hand. What others are trusted with stays theirs, and so does what let them in."""

    user_id: UserId
    present: bool


class Connect(Command, frozen=True):
    """The caller's first stream has opened. With `join`, they take part by that alone."""

    join: bool = False


class Disconnect(Command, frozen=True):
    """The caller's last stream has closed."""


class LoseConnections(Command, frozen=True):
    """Streams that the state believes open are gone: their server was. Sent after every restore that finds some."""

    user_ids: list[UserId]


class LogAudioUpload(Command, frozen=True):
    """Note in the log that its owner has uploaded a piece for this session."""

    track: Track


class Delete(Command, frozen=True):
    """Close the session whatever its status, and take it out of every list."""


class Merge(Command, frozen=True):
    """A Yjs update that the shell has merged: the changes it makes to the text, and the update itself."""

    changes: list[TextChange]
    update: str


class Compact(Command, frozen=True):
    """The document's Yjs updates in one (base64), in place of the many."""

    update: str


class ReportRecording(Command, frozen=True, kw_only=True):
    """Take in what a provider says of a recording: of `recording_id`, of its own `provider_id`, or of the one that was
    running at `at`."""

    status: RecordingStatus
    recording_id: int | None = None
    provider_id: str | None = None
    at: Millis | None = None
    duration_ms: int | None = None
    s3_key: str | None = None
    reason: str | None = None


class Tick(Command, frozen=True):
    """Time has reached `deadline(state)`."""


AnyCommand = (
    WireCommand | Create | Together | Relay | SetPresent | Connect | Disconnect | LoseConnections | LogAudioUpload
    | Delete | Merge | Compact | ReportRecording | Tick
)  # fmt: skip
