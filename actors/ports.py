"""The channel, as a session's actor sees it: where committed events go out to the session's streams."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Protocol

from msgspec import Raw, Struct
from pykka import ActorRef

from actors.session import events as e
from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Presence, Role, Session, State


class Published(Struct, gc=False):
    """A committed event on its way out: its JSON as the log has it, and whom it concerns (None: everyone).

    `state` is for looking up what never changes, such as names and numbers: it may be ahead of the event.
    `confidants`: who may learn the actor of an anonymous event; None if it is not anonymous."""

    recorded: e.Recorded
    event: bytes
    audience: frozenset[UserId] | None
    state: State
    confidants: frozenset[UserId] | None = None
    printed: dict[str, bytes] = {}
    """The same as an API prints it, by the API's name: made once for the answer and the streams."""


class SessionChannel(Protocol):
    """The streams of one session, as its actor sees them. They outlive the actor."""

    last_seq: int
    """The last event that went out; 0: none yet."""

    def publish(self, batch: Sequence[Published]) -> None:
        """Write committed events, in order, to those concerned."""

    def restored(self, state: State) -> None:
        """Go by a new actor's state from now on, for what has gone out too."""

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        """Write an ephemeral event."""

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        """Encode what newcomers get first from the state as it is now; calling the result attaches them."""

    def refresh(self, user_ids: Collection[UserId], arriving: Sequence[Any], state: State) -> Callable[[], None] | None:
        """Encode new snapshots for these users' streams from the state as it is now; calling the result writes them.

        `arriving`: subscribers that are admitted but not attached yet. None: no stream needs one."""

    def users(self) -> Collection[UserId]:
        """Name who has a stream open."""


class LogUnavailable(Exception):
    """The log cannot be reached, or did not say whether it took what it was given."""


class Taken(Exception):
    """What can be had once, such as a name or a code, somebody has; `what` names it."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is taken")
        self.what = what


class LogRow(Struct, frozen=True, gc=False):
    """A durable event on its way to the log; `event` is its JSON, encoded once for log and streams."""

    session_id: SessionId
    epoch: int
    seq: int
    at: Millis
    actor_id: UserId | None
    type: str
    event: Raw


class KeyRow(Struct, frozen=True):
    """An Idempotency-Key and the rows that its command made: `first_seq` > `last_seq` when it made none."""

    user_id: UserId
    key: str
    digest: str
    first_seq: int
    last_seq: int
    at: Millis


class ParticipantRow(Struct, frozen=True):
    """A participant as lists and reports keep it."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    joined_at: Millis | None
    left_at: Millis | None


class Redaction(Struct, frozen=True):
    """What the stored row at `seq` holds from now on."""

    seq: int
    event: Raw


class AudioUse(Struct, frozen=True):
    """The row at `seq` selects a piece of audio, or sends it: to everyone, or to one alone."""

    seq: int
    audio_id: str
    selected: bool
    sender_id: UserId | None
    to_id: UserId | None


class Notice(Struct, frozen=True):
    """The row at `seq`, of this type, is to be told to somebody outside: to a user's endpoints, or to their devices."""

    seq: int
    kind: Literal["webhook", "push"]
    type: str
    user_id: UserId


class NotificationRow(Struct, frozen=True):
    """Something that a user is told whether or not they are in the session; `body` is a `Notification` as JSON."""

    user_id: UserId
    at: Millis
    body: Raw


class Append(Struct, kw_only=True):
    """One session's part of a commit: its rows, and everything else that changes with them."""

    actor: ActorRef[Any]
    session_id: SessionId
    epoch: int
    old_seq: int
    new_seq: int
    rows: list[LogRow]
    keys: list[KeyRow]
    redactions: list[Redaction]
    session: Raw | None
    """The session's facts as JSON (`Session`), when they changed."""
    participants: list[ParticipantRow]
    uses: list[AudioUse] = []
    notices: list[Notice] = []
    notifications: list[NotificationRow] = []
    wake_at: Millis | None
    """When somebody has to look at this session, whatever becomes of this process; 0: at the next start."""
    size: int
    """Bytes of JSON, about."""

    @property
    def only_rows(self) -> bool:
        """Whether nothing else changes, as is mostly so."""
        changes = self.keys or self.redactions or self.session or self.participants or self.uses
        return not (changes or self.notices or self.notifications)


class Claim(Struct, frozen=True):
    """A session taken over: nobody else's appends count any more."""

    epoch: int
    snapshot: bytes | None
    tail: list[Recorded]
    """The log after the snapshot."""
    keys: list[KeyRow]
    """The latest Idempotency-Keys, oldest first."""


class CreationKey(Struct, frozen=True):
    """The Idempotency-Key that something is made under: whose it is, and a digest of what was asked for."""

    user_id: UserId
    key: str
    digest: str


class Creation(Struct, frozen=True):
    """A session's first commit: its head, its facts, its first rows from seq 1 on, and who has a place already."""

    session: Session
    rows: list[LogRow]
    participants: list[ParticipantRow] = []
    wake_at: Millis | None = None
    """When somebody has to look at it; see `Append`."""
    notices: list[Notice] = []
    notifications: list[NotificationRow] = []
    booking_id: str | None = None
    """The booking whose one session it is to be."""
    key: CreationKey | None = None


class EventLog(Protocol):
    """What the actors need of a store. Everything here raises LogUnavailable when it cannot be reached, or when it is
    not known what came of it; any other error says that nothing was changed."""

    async def next_number(self) -> int:
        """Give the next session's number."""

    async def create(self, creation: Creation) -> None:
        """Commit a new session, owned by this node in epoch 1.

        Raises: Taken, also for a booking that has one, and for a "key" that has made something."""

    async def append(self, batch: Sequence[Append]) -> Collection[SessionId]:
        """Commit a batch in one statement; give the sessions it was committed for. One that is absent was fenced
        (another owner, epoch or `old_seq`) or repeated a key, and nothing of it was written. A session may occur
        several times, its appends then following on from one another."""

    async def claim(self, session_id: SessionId) -> Claim | None:
        """Take a session over and read it; None: there is no such session."""

    async def read(self, session_id: SessionId, after: int, limit: int) -> list[Recorded]:
        """Give at most `limit` rows with seq > after, in order."""

    async def find_key(self, session_id: SessionId, user_id: UserId, key: str) -> KeyRow | None: ...

    async def save_snapshot(self, session_id: SessionId, seq: int, snapshot: bytes) -> None:
        """Keep the newest snapshot of a session."""

    async def due(self, now: Millis, limit: int) -> list[SessionId]:
        """Give sessions whose `wake_at` has passed, earliest first."""

    async def interrupted(self) -> list[SessionId]:
        """Give sessions that an earlier run of a server left with streams open."""
