"""The group commit: what queues while a commit runs is the next one. No timer, no resending.

**Law:** a session actor hears `Committed` only after PostgreSQL has said so, and in the order it appended. When a
commit's outcome is unknown nothing is sent again: every actor of that batch is told `CommitFailed`, stops, and
is restored from the log.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal, Protocol

from msgspec import Raw, Struct
from pykka import ActorDeadError, ActorRef

from actors.runtime import LoopActor
from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Presence, Role, Session

logger = logging.getLogger(__name__)


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


class Committed(Struct, frozen=True):
    """The oldest so many appends of this actor's are in the log, which reaches `seq` with them."""

    seq: int
    appends: int = 1


class CommitFailed(Struct, frozen=True):
    """Nothing further of this actor's will be written. `fenced`: certainly not; else the outcome is unknown."""

    fenced: bool


class SaveSnapshot(Struct, frozen=True):
    """A snapshot of what has been committed, to be kept when there is time."""

    session_id: SessionId
    seq: int
    snapshot: bytes


class Idle(Struct):
    """Set `reply` when everything told before has been written or has failed."""

    reply: asyncio.Future[None]


class Persistence(LoopActor):
    """The one writer of the log in this process."""

    def __init__(
        self,
        log: EventLog,
        *,
        batch_rows: int,
        batch_bytes: int,
        queue_rows: int,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        super().__init__()
        self._log = log
        self._batch_rows = batch_rows
        self._batch_bytes = batch_bytes
        self._queue_rows = queue_rows
        self._observe = observe
        self._queue: deque[Append] = deque()
        self._snapshots: dict[SessionId, SaveSnapshot] = {}
        self._waiting: list[Idle] = []
        self._commits: asyncio.Task[None] | None = None
        self._saves: asyncio.Task[None] | None = None
        self.queued_rows = 0

    @property
    def full(self) -> bool:
        return self.queued_rows >= self._queue_rows

    def on_receive(self, message: object) -> None:
        match message:
            case Append():
                self._queue.append(message)
                self.queued_rows += len(message.rows)
            case SaveSnapshot():
                # Only the newest counts, so the queue is never longer than there are sessions.
                self._snapshots[message.session_id] = message
            case Idle():
                self._waiting.append(message)
            case _:
                raise TypeError(f"Persistence takes no {type(message).__name__}")

    def on_drained(self) -> None:
        if self._queue and self._commits is None:
            self._commits = asyncio.create_task(self._commit_all())
        if self._snapshots and self._saves is None:
            self._saves = asyncio.create_task(self._save_all())
        self._tell_idle()

    def _tell_idle(self) -> None:
        if self._commits is None and self._saves is None:
            for idle in self._waiting:
                if not idle.reply.done():
                    idle.reply.set_result(None)
            self._waiting.clear()

    async def _commit_all(self) -> None:
        try:
            while batch := self._next_batch():
                await self._commit(batch)
        finally:
            self._commits = None
            self._tell_idle()

    def _next_batch(self) -> list[Append]:
        batch: list[Append] = []
        epochs: dict[SessionId, int] = {}
        rows = size = 0
        while self._queue:
            append = self._queue[0]
            if not append.actor.is_alive():
                # It has told everyone that this may not have been done; its successor goes by what is in the log.
                self.queued_rows -= len(self._queue.popleft().rows)
                continue
            rows += len(append.rows)
            size += append.size
            if batch and (rows > self._batch_rows or size > self._batch_bytes):
                break
            # An actor's last words and its successor's first ones are two claims: never in one statement.
            if epochs.setdefault(append.session_id, append.epoch) != append.epoch:
                break
            batch.append(self._queue.popleft())
        return batch

    async def _commit(self, batch: list[Append]) -> None:
        started = time.perf_counter()
        last: dict[SessionId, Append] = {}
        appends: dict[SessionId, int] = {}
        rows = 0
        for append in batch:
            session_id = append.session_id
            last[session_id] = append
            appends[session_id] = appends.get(session_id, 0) + 1
            rows += len(append.rows)
        committed: Collection[SessionId] = ()
        fenced = False
        try:
            committed = await self._log.append(batch)
            fenced = True
        except LogUnavailable as error:
            logger.warning("commit for %d sessions failed, outcome unknown: %s", len(last), error)
        except Exception:
            logger.exception("the log refused a commit for %d sessions", len(last))
            if len(last) > 1:
                # Refused is not applied: what one session's rows are refused for must not cost the others theirs.
                for session_id in last:
                    await self._commit([append for append in batch if append.session_id == session_id])
                return
        self.queued_rows -= rows
        for session_id, append in last.items():
            if session_id in committed:
                tell(append.actor, Committed(append.new_seq, appends[session_id]))
            else:
                self._forget(session_id, append.epoch)
                tell(append.actor, CommitFailed(fenced))
        self._observe(rows, time.perf_counter() - started)

    def _forget(self, session_id: SessionId, epoch: int) -> None:
        """Drop what a failed actor has queued behind: it follows on from rows that may not be there.

        What its successor, of a later epoch, has queued meanwhile stays."""
        dropped = [append for append in self._queue if (append.session_id, append.epoch) == (session_id, epoch)]
        if dropped:
            self._queue = deque(
                append for append in self._queue if (append.session_id, append.epoch) != (session_id, epoch)
            )
            self.queued_rows -= sum(len(append.rows) for append in dropped)

    async def _save_all(self) -> None:
        try:
            while self._snapshots:
                session_id = next(iter(self._snapshots))
                message = self._snapshots.pop(session_id)
                try:
                    await self._log.save_snapshot(session_id, message.seq, message.snapshot)
                except LogUnavailable as error:
                    # A snapshot saves time, nothing else: the log has it all.
                    logger.warning("snapshots not saved: %s", error)
                    self._snapshots.clear()
                except Exception:
                    logger.exception("the log refused a snapshot of session %s", session_id)
        finally:
            self._saves = None
            self._tell_idle()


def tell(actor: ActorRef[Any], message: object) -> None:
    """Tell an actor that may have stopped meanwhile."""
    try:
        actor.tell(message)
    except ActorDeadError:
        logger.debug("%s came after its actor had stopped", type(message).__name__)
