"""The group commit: appends that arrive while a commit runs form the next one. No timer, no retries.

**Law:** a session actor receives `AppendsCommitted` only after PostgreSQL has confirmed the commit, and in the order of
its appends. If the outcome of a commit is unknown, nothing is sent again: every actor in it receives `CommitFailed`,
stops, and is restored from the log.
"""

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping

from msgspec import Struct

from actors.ports import Append, EventLog, LogUnavailable
from actors.runtime import LoopActor, tell
from actors.session.ids import SessionId

logger = logging.getLogger(__name__)


class AppendsCommitted(Struct, frozen=True):
    """The actor's oldest `appends` appends are committed. The log now ends at `seq`."""

    seq: int
    appends: int = 1


class CommitFailed(Struct, frozen=True):
    """Nothing more of this actor will be written.

    `fenced`: certainly nothing of the failed append either; else the outcome of that append is unknown."""

    fenced: bool


class SaveSnapshot(Struct, frozen=True):
    """Save a snapshot of a committed state, after the commits that are due."""

    session_id: SessionId
    seq: int
    snapshot: bytes


class WhenIdle(Struct):
    """Set `reply` when every earlier message has been written or has failed."""

    reply: asyncio.Future[None]


class Persistence(LoopActor):
    """The one writer of the log in this process."""

    def __init__(
        self,
        log: EventLog,
        *,
        commit_rows: int,
        commit_bytes: int,
        queue_rows: int,
        observe: Callable[[int, float], None] = lambda rows, seconds: None,
    ) -> None:
        super().__init__()
        self._log = log
        self._commit_rows = commit_rows
        self._commit_bytes = commit_bytes
        self._queue_rows = queue_rows
        self._observe = observe
        self._queue: deque[Append] = deque()
        self._snapshots: dict[SessionId, SaveSnapshot] = {}
        self._waiting: list[WhenIdle] = []
        self._commits: asyncio.Task[None] | None = None
        self._saves: asyncio.Task[None] | None = None
        self.queued_rows = 0
        """Log rows whose commit has not ended."""
        self.commit_started: float | None = None
        """When the running commit began, in `time.perf_counter()`; None: there is none."""
        self.commit_failed: float | None = None
        """When the latest commit failed because the log was unavailable; None: it did not."""
        self.failures: Counter[str] = Counter(unavailable=0, refused=0)
        """Failed commits: the log was unavailable, or it refused the rows of one session."""

    @property
    def full(self) -> bool:
        """Whether so much is queued that sessions should refuse commands."""
        return self.queued_rows >= self._queue_rows

    def on_receive(self, message: object) -> None:
        match message:
            case Append():
                self._queue.append(message)
                self.queued_rows += len(message.rows)
            case SaveSnapshot():
                # Only the newest snapshot counts, so the queue is never longer than the number of sessions.
                self._snapshots[message.session_id] = message
            case WhenIdle():
                self._waiting.append(message)
            case _:
                raise TypeError(f"Persistence does not understand {type(message).__name__}")

    def on_drained(self) -> None:
        if self._queue and self._commits is None:
            self._commits = asyncio.create_task(self._commit_all())
        if self._snapshots and self._saves is None:
            self._saves = asyncio.create_task(self._save_all())
        self._reply_when_idle()

    def _reply_when_idle(self) -> None:
        if self._commits is None and self._saves is None:
            for idle in self._waiting:
                if not idle.reply.done():
                    idle.reply.set_result(None)
            self._waiting.clear()

    async def _commit_all(self) -> None:
        try:
            while group := self._next_group():
                await self._commit(group)
        finally:
            self._commits = None
            self._reply_when_idle()

    def _next_group(self) -> list[Append]:
        group: list[Append] = []
        epochs: dict[SessionId, int] = {}
        rows = size = 0
        while self._queue:
            append = self._queue[0]
            if not append.actor.is_alive():
                # Its callers know that this may not have been carried out, and its successor starts from the log.
                self.queued_rows -= len(self._queue.popleft().rows)
                continue
            rows += len(append.rows)
            size += append.size
            if group and (rows > self._commit_rows or size > self._commit_bytes):
                break
            # The last append of an actor and the first of its successor have different epochs: never in one statement.
            if epochs.setdefault(append.session_id, append.epoch) != append.epoch:
                break
            group.append(self._queue.popleft())
        return group

    async def _commit(self, group: list[Append]) -> None:
        started = self.commit_started = time.perf_counter()
        last: dict[SessionId, Append] = {}
        appends: dict[SessionId, int] = {}
        rows = 0
        for append in group:
            session_id = append.session_id
            last[session_id] = append
            appends[session_id] = appends.get(session_id, 0) + 1
            rows += len(append.rows)
        committed: Collection[SessionId] = ()
        fenced = False
        try:
            committed = await self._log.append(group)
            fenced = True
            self.commit_failed = None
        except LogUnavailable as error:
            logger.warning("commit for %d sessions failed, outcome unknown: %s", len(last), error)
            self.commit_failed = time.perf_counter()
            self.failures["unavailable"] += 1
        except Exception:
            logger.exception("the log refused a commit for %d sessions", len(last))
            if len(last) > 1:
                # A refused commit is not applied. Only the session whose rows caused it may fail, so try each alone.
                for session_id in last:
                    await self._commit([append for append in group if append.session_id == session_id])
                return
            self.failures["refused"] += 1
        self.commit_started = None
        self.queued_rows -= rows
        failed = {session_id: append.epoch for session_id, append in last.items() if session_id not in committed}
        if failed:
            self._drop_queued(failed)
        for session_id, append in last.items():
            if session_id in failed:
                tell(append.actor, CommitFailed(fenced))
            else:
                tell(append.actor, AppendsCommitted(append.new_seq, appends[session_id]))
        self._observe(rows, time.perf_counter() - started)

    def _drop_queued(self, failed: Mapping[SessionId, int]) -> None:
        """Drop the appends that failed actors, by session and epoch, have queued: they continue from rows that may not
        be in the log. Appends of their successors, which have later epochs, stay."""
        kept = deque(append for append in self._queue if failed.get(append.session_id) != append.epoch)
        self.queued_rows -= sum(len(append.rows) for append in self._queue) - sum(len(append.rows) for append in kept)
        self._queue = kept

    async def _save_all(self) -> None:
        try:
            while self._snapshots:
                session_id = next(iter(self._snapshots))
                message = self._snapshots.pop(session_id)
                try:
                    await self._log.save_snapshot(session_id, message.seq, message.snapshot)
                except LogUnavailable as error:
                    # A snapshot only saves time: the log has everything.
                    logger.warning("snapshots not saved: %s", error)
                    self._snapshots.clear()
                except Exception:
                    logger.exception("the log refused a snapshot of session %s", session_id)
        finally:
            self._saves = None
            self._reply_when_idle()
