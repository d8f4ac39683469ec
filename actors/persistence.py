"""The group commit: appends that arrive while a commit runs form the next one. No timer, no retries.

**Law:** a session actor receives `AppendsCommitted` only after PostgreSQL has confirmed the commit, and in the order of
its appends. If the outcome of a commit is unknown, nothing is sent again: every actor in it receives `CommitFailed`,
stops, and is restored from the log.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection

from msgspec import Struct

from actors.ports import Append, EventLog, LogUnavailable
from actors.runtime import LoopActor, tell
from actors.session.ids import SessionId

logger = logging.getLogger(__name__)


class AppendsCommitted(Struct, frozen=True):
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
                tell(append.actor, AppendsCommitted(append.new_seq, appends[session_id]))
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
