"""The commands of a session, as frozen structs. Their names are imperatives; in snake_case they are the tag `type`.

`WireCommand` has those that clients may send; the others come from the server. The caller travels beside the command as
a `Caller`, never inside it, so that no request body can act for another user.
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
    KickReason,
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
    """Return the tag for a class name: `RaiseHand` → `raise_hand`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Command(Struct, frozen=True, tag_field="type", tag=snake_case, forbid_unknown_fields=True):
    """The base of all commands."""


class Person(Struct, frozen=True):
    """The facts about a user that others may know: the name, and the number of the account."""

    name: str
    number: int = 0


class Caller(Struct, frozen=True):
    """The user who sends a command, as a verified credential identifies them, and the inputs loaded for the command."""

    user_id: UserId
    name: str
    has_invitation: bool = False
    """The caller has the join code."""
    number: int = 0
    alias: str | None = None
    """The id by which an external client knows a guest."""
    people: Mapping[UserId, Person] = {}
    """Other users whom the command names, by id."""
    tracks: Mapping[str, Track] = {}
    """Audio that the command names, by id."""
    texts: Mapping[int, str] = {}
    """Texts of earlier versions of the code, by version."""
    guest: bool = False
    colour: str | None = None
    issued_at: Millis | None = None
    """When the credential was issued, if it is for this session only."""


# Lifecycle


class NewFeatures(Features, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The features of a new session, from a request. Unknown features are refused."""

    def stored(self) -> Features:
        """Return these features in the form in which they are stored."""
        return Features(**structs.asdict(self))


class NewSession(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The facts of a new session, from a request."""

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
    """Cancel a scheduled session."""


class Update(Command, frozen=True, kw_only=True):
    """Change facts of the session. Only the fields that are sent change; null clears one."""

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
    """Refuse new participants."""


class Unlock(Command, frozen=True):
    """Admit new participants again."""


# Roster


class Join(Command, frozen=True):
    """Join the session. If it has a lobby, wait there until a moderator admits you."""


class Leave(Command, frozen=True):
    """Leave the session."""


class Invite(Command, frozen=True):
    """Invite a user, who may then join without the code. Lifts a ban."""

    user_id: UserId


class Admit(Command, frozen=True):
    """Admit a participant from the lobby."""

    user_id: UserId


class Deny(Command, frozen=True):
    """Refuse a participant in the lobby."""

    user_id: UserId


class Kick(Command, frozen=True):
    """Remove a participant. They lose granted permissions, and any role above member.

    With `ban`, they cannot join again until they are invited."""

    user_id: UserId
    ban: bool = False
    reason: KickReason | None = None


class SetRole(Command, frozen=True):
    """Change a participant's role. Only hosts may do this."""

    user_id: UserId
    role: Role


class SetPermissions(Command, frozen=True):
    """Grant or revoke single permissions, as exceptions to the permissions of the role."""

    user_id: UserId
    grant: Annotated[list[Permission], Meta(max_length=32)] = []
    revoke: Annotated[list[Permission], Meta(max_length=32)] = []


class Mute(Command, frozen=True):
    """Mute yourself. With the permission `moderate`, you may mute other participants."""

    user_id: UserId | None = None


class Unmute(Command, frozen=True):
    """Unmute yourself. With the permission `moderate`, you may unmute other participants."""

    user_id: UserId | None = None


class MuteAll(Command, frozen=True):
    """Mute every participant whose role is not above the caller's, except those listed."""

    except_: Annotated[list[UserId], Meta(max_length=1_000)] = field(default_factory=list, name="except")


class RequestUnmute(Command, frozen=True):
    """Ask a muted participant to unmute. The participant decides."""

    user_id: UserId


# Hands


class RaiseHand(Command, frozen=True):
    """Raise your hand: join the queue of those who want to speak."""


class LowerHand(Command, frozen=True):
    """Lower your hand. With the permission `moderate`, you may lower the hands of other participants."""

    user_id: UserId | None = None


class LowerAll(Command, frozen=True):
    """Lower all hands."""


class CallNext(Command, frozen=True):
    """Call on the participant whose hand has been up longest, and lower it."""


# Chat


class SendMessage(Command, frozen=True):
    """Send a message to everyone, or only to the participant in `to`."""

    text: MessageText
    to: UserId | None = None
    reply_to: MessageId | None = None


class DeleteMessage(Command, frozen=True):
    """Delete a message: its text disappears from the state, the log and all exports."""

    message_id: MessageId


class React(Command, frozen=True):
    """React to a message with an emoji. With `remove`, withdraw this reaction."""

    message_id: MessageId
    emoji: Emoji
    remove: bool = False


# Media


class SetMedia(Command, frozen=True, kw_only=True):
    """Report which media you send. Only the fields that are sent change.

    One screen is shared at a time; a host or cohost may take over from others."""

    video: bool | UnsetType = UNSET
    audio: bool | UnsetType = UNSET
    screen: bool | UnsetType = UNSET


# Playback


class SelectAudio(Command, frozen=True):
    """Select audio from the library for playback, stopped at its start."""

    audio_id: AudioId


class Play(Command, frozen=True):
    """Play the selected audio, from its present position or from `position`."""

    position: Position | None = None
    speed: Speed | None = None


class Pause(Command, frozen=True):
    """Pause playback at its position."""


class Seek(Command, frozen=True):
    """Move playback to a position, whether it is playing or not."""

    position: Position


class SetSpeed(Command, frozen=True):
    """Change the speed of playback."""

    speed: Speed


class Stop(Command, frozen=True):
    """Stop playback, and go back to the start."""


class SendVoice(Command, frozen=True):
    """Send audio from the library as a message, to everyone or only to the participant in `to`."""

    audio_id: AudioId
    to: UserId | None = None
    reply_to: MessageId | None = None


# Questions and polls


class AskQuestion(Command, frozen=True):
    """Ask a question. An anonymous question does not name you to members; moderators see who asked."""

    text: QuestionText
    anonymous: bool = False


class ApproveQuestion(Command, frozen=True):
    """Approve a question, so that everyone sees it."""

    question_id: int


class UpvoteQuestion(Command, frozen=True):
    """Upvote a question. With `remove`, withdraw your vote."""

    question_id: int
    remove: bool = False


class AnswerQuestion(Command, frozen=True):
    """Mark a question as answered. `text` is the answer; omit it after answering aloud."""

    question_id: int
    text: AnswerText | None = None


class DismissQuestion(Command, frozen=True):
    """Remove your question from the list. With the permission `moderate`, you may remove any question."""

    question_id: int


class OpenPoll(Command, frozen=True):
    """Open a poll: a question to everyone, with options."""

    question: QuestionText
    options: Annotated[list[OptionText], Meta(min_length=2, max_length=20)]
    multiple: bool = False
    anonymous: bool = False


class Vote(Command, frozen=True):
    """Vote in a poll, once. `options` are indices, from 0."""

    poll_id: int
    options: Annotated[list[Annotated[int, Meta(ge=0, lt=20)]], Meta(min_length=1, max_length=20)]


class ClosePoll(Command, frozen=True):
    """Close a poll, which then accepts no votes."""

    poll_id: int


# Code and board


class Change(Struct, frozen=True, forbid_unknown_fields=True):
    """A change of a text, from a request: at position `at`, delete `delete` characters, then insert `insert`."""

    at: Annotated[int, Meta(ge=0)]
    delete: Annotated[int, Meta(ge=0)] = 0
    insert: str = ""

    def stored(self) -> TextChange:
        """Return this change in the form in which it is stored."""
        return TextChange(self.at, self.delete, self.insert)


class EditCode(Command, frozen=True):
    """Edit the code document at `base_version`: replace the whole text, or apply changes one after the other.

    Without `base_version` the whole text replaces any version."""

    base_version: Annotated[int, Meta(ge=0)] | None = None
    text: str | None = None
    changes: Annotated[list[Change], Meta(max_length=1_000)] | None = None


class SetLanguage(Command, frozen=True):
    """Set the language of the code document."""

    language: CodeLanguage


class RestoreCode(Command, frozen=True):
    """Restore the text of an earlier version, as a new version."""

    version: Annotated[int, Meta(ge=0)]


class MergeCode(Command, frozen=True):
    """Merge a Yjs update (base64) into the code document."""

    update: Annotated[str, Meta(max_length=1_400_000)]


class Draw(Command, frozen=True, kw_only=True):
    """Draw a stroke on the board."""

    tool: BoardTool = "pen"
    points: Annotated[list[Annotated[float, Meta(ge=0, le=1)]], Meta(min_length=2, max_length=2_000)]
    color: Colour = "#000000"
    width: Annotated[float, Meta(gt=0, le=100)] = 2.0
    text: Annotated[str, Meta(max_length=500)] | None = None


class Erase(Command, frozen=True):
    """Erase your own strokes from the board. With the permission `erase`, you may erase any strokes."""

    stroke_ids: Annotated[list[int], Meta(min_length=1, max_length=1_000)]


class ClearBoard(Command, frozen=True):
    """Remove all strokes from the board."""


class RestoreBoard(Command, frozen=True):
    """Restore the strokes that the last `clear_board` removed."""


# Recording


class StartRecording(Command, frozen=True):
    """Start a recording: an interval of the session's timeline."""


class StopRecording(Command, frozen=True):
    """Stop the recording."""


# The log, and events that are relayed without being stored


class LogEvent(Command, frozen=True):
    """Log an event of the client. The allowed types depend on the session's kind."""

    event_type: EventType
    data: dict[str, Any] = {}


class Signal(Command, frozen=True):
    """Send a payload to one participant, such as a WebRTC offer. It is never stored."""

    to: UserId
    payload: Any


class MoveCursor(Command, frozen=True, tag="cursor"):
    """Show others the position of your cursor. It is never stored."""

    position: dict[str, Any]


class Typing(Command, frozen=True):
    """Show others that you are typing. It is never stored."""

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
    | LogEvent | Signal | MoveCursor | Typing
)  # fmt: skip


# From the server itself


class Create(Command, frozen=True, kw_only=True):
    """The first command of every session. The server generates the ids, and the caller becomes the owner."""

    new: NewSession
    session_id: SessionId
    number: int
    name: str
    code: str
    default_capacity: int
    grace_ms: int
    room: Room | None = None
    dialect: str | None = None
    """The name of the dialect that creates the session."""
    live: bool = False
    """The session starts at once."""
    owner_status: Literal["invited", "joined"] | None = None
    """The owner's first status in the roster; None: the owner is not in the roster yet."""
    invited: list[UserId] = []
    """Other users who are invited from the beginning. The caller's `people` has their names."""
    text: str = ""
    """The first text of the code document, in `text_language`."""
    text_language: CodeLanguage | None = None


class Together(Command, frozen=True):
    """Several commands of one caller: all are carried out, or none."""

    commands: list[Command]


class Relay(Command, frozen=True):
    """Relay a frame of a client-defined type to everyone, including its sender. It is never stored."""

    name: Annotated[str, Meta(min_length=1, max_length=64)]
    body: dict[str, Any]


class SetPresent(Command, frozen=True):
    """Set whether the caller is in the session. With the permission `moderate`, the caller may set it for others.

    For clients that manage presence themselves. The participant keeps their role, permissions and invitation."""

    user_id: UserId
    present: bool


class Connect(Command, frozen=True):
    """The caller's first stream has opened. With `join`, the caller also joins."""

    join: bool = False


class Disconnect(Command, frozen=True):
    """The caller's last stream has closed."""


class LoseConnections(Command, frozen=True):
    """Mark participants offline whose streams were lost when a server stopped. A restored actor sends it to itself."""

    user_ids: list[UserId]


class LogAudioUpload(Command, frozen=True):
    """Log that the owner has uploaded audio for this session."""

    track: Track


class Delete(Command, frozen=True):
    """End or cancel the session if necessary, and remove it from all lists."""


class Merge(Command, frozen=True):
    """Record a Yjs update that the actor has merged, and the changes that the update makes to the text."""

    changes: list[TextChange]
    update: str


class Compact(Command, frozen=True):
    """Replace all Yjs updates of the code document with a single one (base64)."""

    update: str


class ReportRecording(Command, frozen=True, kw_only=True):
    """Record a provider's report about a recording.

    `recording_id` or the provider's `provider_id` identifies the recording. If no recording has this `provider_id` yet,
    it is the one that was running at `at`."""

    status: RecordingStatus
    recording_id: int | None = None
    provider_id: str | None = None
    at: Millis | None = None
    duration_ms: int | None = None
    s3_key: str | None = None
    reason: str | None = None


class Tick(Command, frozen=True):
    """Make the changes that are due at this time (`machine.deadline`)."""


AnyCommand = (
    WireCommand | Create | Together | Relay | SetPresent | Connect | Disconnect | LoseConnections | LogAudioUpload
    | Delete | Merge | Compact | ReportRecording | Tick
)  # fmt: skip
