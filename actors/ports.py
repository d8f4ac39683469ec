"""Protocols of everything that the actors need of the server: a channel for each session, and the event log.

Also the rows of a commit, which the log stores.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Protocol

from msgspec import Raw, Struct
from pykka import ActorRef

from actors.session import events as e
from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Presence, Role, Session, State
from actors.session.visibility import Published


class SessionChannel(Protocol):
    """The streams of one session, as its actor uses them. They outlive the actor."""

    last_seq: int
    """The last event that was published; 0: none yet."""

    def publish(self, batch: Sequence[Published]) -> None:
        """Write committed events, in order, to the streams of their audiences."""

    def restored(self, state: State) -> None:
        """Use the state of a new actor from now on. All its events count as published."""

    def relay(self, event: e.Event, by: UserId, at: Millis, audience: frozenset[UserId] | None, state: State) -> None:
        """Write an ephemeral event."""

    def admit(self, subscribers: Sequence[Any], state: State) -> Callable[[], None]:
        """Encode the snapshots that new streams begin with from the current state; calling the result attaches them."""

    def refresh(self, user_ids: Collection[UserId], arriving: Sequence[Any], state: State) -> Callable[[], None] | None:
        """Encode new snapshots for these users' streams from the current state; calling the result writes them.

        `arriving`: subscribers that are admitted but not attached yet. Return None if no stream needs a snapshot."""

    def users(self) -> Collection[UserId]:
        """Return the users who have a stream open."""


class LogUnavailable(Exception):
    """The log cannot be reached, or did not confirm a change, whose outcome is then unknown."""


class NotUnique(Exception):
    """A value that must be unique is in use already. `what` is its kind, such as "name" or "code"."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is in use")
        self.what = what


class LogRow(Struct, frozen=True, gc=False):
    """A durable event for the log. `event` is its JSON, encoded once for log and streams."""

    session_id: SessionId
    epoch: int
    seq: int
    at: Millis
    actor_id: UserId | None
    type: str
    event: Raw


class KeyRow(Struct, frozen=True):
    """An Idempotency-Key and the rows of its command: `first_seq` > `last_seq` if it has none."""

    user_id: UserId
    key: str
    digest: str
    first_seq: int
    last_seq: int
    at: Millis


class ParticipantRow(Struct, frozen=True):
    """A participant as lists and reports store it."""

    user_id: UserId
    number: int
    name: str
    role: Role
    status: Presence
    joined_at: Millis | None
    left_at: Millis | None


class Redaction(Struct, frozen=True):
    """The new content of the stored row at `seq`."""

    seq: int
    event: Raw


class AudioUse(Struct, frozen=True):
    """The row at `seq` selects audio for playback, or sends it as a message: to everyone, or to one participant."""

    seq: int
    audio_id: str
    selected: bool
    sender_id: UserId | None
    to_id: UserId | None


class OutboxRow(Struct, frozen=True):
    """The row at `seq`, of this type, has to be sent to a user's webhook endpoints, or to their devices."""

    seq: int
    kind: Literal["webhook", "push"]
    type: str
    user_id: UserId


class NotificationRow(Struct, frozen=True):
    """A notification to a user, who need not be in the session. `body` is a `Notification` as JSON."""

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
    """The session's facts as JSON (`Session`), if they changed."""
    participants: list[ParticipantRow]
    audio_uses: list[AudioUse] = []
    outbox_rows: list[OutboxRow] = []
    notifications: list[NotificationRow] = []
    wake_at: Millis | None
    """When a server must wake this session even if this process is gone; 0: at the next start of a server."""
    size: int
    """Approximate bytes of JSON."""

    @property
    def only_rows(self) -> bool:
        """Whether nothing but the log changes, which is the usual case."""
        changes = self.keys or self.redactions or self.session or self.participants or self.audio_uses
        return not (changes or self.outbox_rows or self.notifications)


class Claim(Struct, frozen=True):
    """A session that this process owns now: the appends of earlier owners are fenced."""

    epoch: int
    snapshot: bytes | None
    tail: list[Recorded]
    """The log after the snapshot."""
    keys: list[KeyRow]
    """The latest Idempotency-Keys, oldest first."""


class CreationKey(Struct, frozen=True):
    """The Idempotency-Key of a request that creates something: its user, and a digest of the body."""

    user_id: UserId
    key: str
    digest: str


class Creation(Struct, frozen=True):
    """A session's first commit: its facts, its rows from seq 1 on, and its first participants."""

    session: Session
    rows: list[LogRow]
    participants: list[ParticipantRow] = []
    wake_at: Millis | None = None
    """See `Append`."""
    outbox_rows: list[OutboxRow] = []
    notifications: list[NotificationRow] = []
    booking_id: str | None = None
    """The booking that it is the one session of."""
    key: CreationKey | None = None


class EventLog(Protocol):
    """The store of sessions. Every method may raise LogUnavailable if the store cannot be reached or the outcome of a
    change is unknown. After any other error nothing has changed."""

    async def next_number(self) -> int:
        """Return the next session's number."""

    async def create(self, creation: Creation) -> None:
        """Commit a new session, owned by this node in epoch 1.

        Raise NotUnique for a number, name or code in use, for a "booking" that has a session, and for a "key" that has
        created something."""

    async def append(self, appends: Sequence[Append]) -> Collection[SessionId]:
        """Commit appends in one statement. Return the sessions whose appends are committed.

        A session that is absent was fenced (another owner, epoch or `old_seq`) or repeated a key; nothing of it was
        written. A session may have several appends if each continues from the one before it."""

    async def claim(self, session_id: SessionId) -> Claim | None:
        """Become the owner of a session and read it. Return None if it does not exist."""

    async def read(self, session_id: SessionId, after: int, limit: int) -> list[Recorded]:
        """Return at most `limit` rows with seq > after, in order."""

    async def find_key(self, session_id: SessionId, user_id: UserId, key: str) -> KeyRow | None:
        """Return a user's Idempotency-Key in a session, however old."""

    async def save_snapshot(self, session_id: SessionId, seq: int, snapshot: bytes) -> None:
        """Store a snapshot, unless there is a newer one."""

    async def due(self, now: Millis, limit: int) -> list[SessionId]:
        """Return sessions whose `wake_at` has passed, earliest first."""

    async def interrupted(self) -> list[SessionId]:
        """Return sessions that a server left with streams open when it stopped."""
