"""The in-memory double of the `EventLog`, for tests only: it keeps the same promises, and fails on request.

**Law:** `tests/storage/log/test_event_log.py` runs the same contract tests against it and against `PostgresEventLog`.
"""

import asyncio
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from typing import Literal, TypeVar

import msgspec
from msgspec import Struct

from actors.ports import Append, Claim, Creation, KeyRow, LogRow, NotificationRow, NotUnique, OutboxRow, ParticipantRow
from actors.session.events import DurableEvent, MessageDeleted, Recorded
from actors.session.ids import Millis, SessionId, UserId
from storage.errors import Conflict, DatabaseUnavailable, StorageError, UnknownOutcome

T = TypeVar("T")
Call = Literal[
    "next_number", "create", "append", "claim", "read", "find_key", "save_snapshot", "due", "interrupted", "heartbeat"
]
Trouble = Literal["before", "after", "refused"]
"""Unavailable and nothing done; unknown outcome but done; a plain error."""

KEYS_KEPT = 1_000
ALIVE_S = 6.0
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""A character that PostgreSQL stores in no text."""
_DELETED: str = str(MessageDeleted.__struct_config__.tag)

_events = msgspec.json.Decoder(DurableEvent)


class SessionHead(Struct):
    owner: str
    epoch: int
    last_seq: int
    wake_at: Millis | None


class Stored(Struct):
    """All stored rows of one session."""

    name: str
    code: str
    number: int
    head: SessionHead
    body: bytes
    rows: list[LogRow]
    keys: dict[tuple[UserId, str], KeyRow] = {}
    participants: dict[UserId, ParticipantRow] = {}
    outbox_rows: list[OutboxRow] = []
    notifications: list[NotificationRow] = []
    snapshot: tuple[int, bytes] | None = None


class Tables:
    """The tables that several logs, of several owners, share like a database."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.sessions: dict[SessionId, Stored] = {}
        self.bookings: dict[str, SessionId | None] = {}
        """The bookings, each with its session, if it has one."""
        self.creations: set[tuple[UserId, str]] = set()
        """The Idempotency-Keys under which something was created."""
        self.heartbeats: dict[str, float] = {}
        self.numbers = 0

    def alive(self, owner: str) -> bool:
        return owner in self.heartbeats and self.heartbeats[owner] > self.clock() - ALIVE_S


class Held:
    """A commit that waits until a test decides its outcome."""

    def __init__(self, appends: Sequence[Append]) -> None:
        self.appends = list(appends)
        self._go: asyncio.Future[Trouble | None] = asyncio.get_running_loop().create_future()

    def release(self) -> None:
        self._go.set_result(None)

    def fail(self, trouble: Trouble) -> None:
        self._go.set_result(trouble)

    async def verdict(self) -> Trouble | None:
        return await self._go


class MemoryEventLog:
    """The log of every session in `tables`, written by `owner`."""

    def __init__(self, tables: Tables | None = None, owner: str = "memory:1") -> None:
        self.tables = tables or Tables()
        self.commits: list[list[Append]] = []
        """The appends of every commit that was asked for, in order."""
        self.calls: Counter[str] = Counter()
        self.holding = False
        """Whether commits wait in `waiting` until a test decides their outcome."""
        self.waiting: asyncio.Queue[Held] = asyncio.Queue()
        self._owner = owner
        self._trouble: dict[str, deque[Trouble]] = {}

    # For tests

    def fail(self, call: Call, trouble: Trouble = "before", times: int = 1) -> None:
        """Make the next calls of one kind fail."""
        self._trouble.setdefault(call, deque()).extend([trouble] * times)

    def recover(self) -> None:
        """Make all calls succeed again."""
        self._trouble.clear()

    def recorded(self, session_id: SessionId, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """Return a session's rows after a `seq`, in order, at once and without trouble."""
        stored = self.tables.sessions.get(session_id)
        rows = sorted((row for row in stored.rows if row.seq > after), key=lambda row: row.seq) if stored else []
        return [
            Recorded(session_id, row.epoch, row.seq, row.at, row.actor_id, _events.decode(row.event))
            for row in rows[:limit]
        ]

    def seize(self, session_id: SessionId) -> None:
        """Claim a session at once, even in the middle of another owner's call."""
        self._claim(session_id)

    async def _do(self, call: Call, work: Callable[[], T], trouble: Trouble | None = None) -> T:
        self.calls[call] += 1
        queue = self._trouble.get(call)
        trouble = trouble or (queue.popleft() if queue else None)
        # No store answers within the same turn of the loop.
        await asyncio.sleep(0)
        if trouble == "before":
            raise DatabaseUnavailable(f"{call}: failed on request")
        if trouble == "refused":
            raise StorageError(f"{call}: refused on request")
        result = work()
        if trouble == "after":
            raise UnknownOutcome(f"{call}: failed on request, afterwards")
        return result

    # The protocol

    async def next_number(self) -> int:
        def work() -> int:
            self.tables.numbers += 1
            return self.tables.numbers

        return await self._do("next_number", work)

    async def create(self, creation: Creation) -> None:
        await self._do("create", lambda: self._create(creation))

    def _create(self, creation: Creation) -> None:
        session, rows = creation.session, creation.rows
        _storable(rows)
        booking_id, bookings = creation.booking_id, self.tables.bookings
        if booking_id is not None and bookings.get(booking_id, "") is not None:
            raise NotUnique("booking")
        if creation.key is not None and (creation.key.user_id, creation.key.key) in self.tables.creations:
            raise NotUnique("key")
        if session.id in self.tables.sessions:
            raise NotUnique("pkey")
        for what in ("number", "name", "code"):
            if any(getattr(other, what) == getattr(session, what) for other in self.tables.sessions.values()):
                raise NotUnique(what)
        head = SessionHead(self._owner, epoch=1, last_seq=rows[-1].seq, wake_at=creation.wake_at)
        self.tables.sessions[session.id] = Stored(
            session.name, session.code, session.number, head, msgspec.json.encode(session), list(rows)
        )
        self.tables.sessions[session.id].participants.update({one.user_id: one for one in creation.participants})
        self.tables.sessions[session.id].outbox_rows += creation.outbox_rows
        self.tables.sessions[session.id].notifications += creation.notifications
        if booking_id is not None:
            bookings[booking_id] = session.id
        if creation.key is not None:
            self.tables.creations.add((creation.key.user_id, creation.key.key))

    async def append(self, appends: Sequence[Append]) -> Collection[SessionId]:
        self.commits.append(list(appends))
        trouble = None
        if self.holding:
            held = Held(appends)
            self.waiting.put_nowait(held)
            trouble = await held.verdict()
        return await self._do("append", lambda: self._append(appends), trouble)

    def _append(self, appends: Sequence[Append]) -> Collection[SessionId]:
        parts: dict[SessionId, list[Append]] = {}
        for append in appends:
            parts.setdefault(append.session_id, []).append(append)
            _storable(append.rows)
        accepted = {session_id: part for session_id, part in parts.items() if self._follows(session_id, part)}
        # Check everything before changing anything.
        for session_id, part in accepted.items():
            keys = [(key.user_id, key.key) for append in part for key in append.keys]
            if len(set(keys)) < len(keys):
                raise Conflict("command_key_pkey")
            seqs = [row.seq for append in part for row in append.rows]
            known = {row.seq for row in self.tables.sessions[session_id].rows}
            if len(set(seqs)) < len(seqs) or known & set(seqs):
                raise Conflict("session_log_pkey")
        for session_id, part in accepted.items():
            for append in part:
                self._write(self.tables.sessions[session_id], append)
        return set(accepted)

    def _follows(self, session_id: SessionId, part: list[Append]) -> bool:
        """Return whether a session's part may be written: the fence."""
        stored = self.tables.sessions.get(session_id)
        if stored is None:
            return False
        head = stored.head
        if (head.owner, head.epoch, head.last_seq) != (self._owner, part[-1].epoch, part[0].old_seq):
            return False
        return not any((key.user_id, key.key) in stored.keys for append in part for key in append.keys)

    def _write(self, stored: Stored, append: Append) -> None:
        stored.head.last_seq = append.new_seq
        stored.head.wake_at = append.wake_at
        stored.rows += append.rows
        stored.keys.update({(key.user_id, key.key): key for key in append.keys})
        stored.participants.update({one.user_id: one for one in append.participants})
        stored.outbox_rows += append.outbox_rows
        stored.notifications += append.notifications
        if append.session is not None:
            stored.body = bytes(append.session)
        for redaction in append.redactions:
            stored.rows = [
                msgspec.structs.replace(row, event=redaction.event) if row.seq == redaction.seq else row
                for row in stored.rows
            ]
            if stored.snapshot is not None and stored.snapshot[0] >= redaction.seq:
                stored.snapshot = None

    async def claim(self, session_id: SessionId) -> Claim | None:
        return await self._do("claim", lambda: self._claim(session_id))

    def _claim(self, session_id: SessionId) -> Claim | None:
        stored = self.tables.sessions.get(session_id)
        if stored is None:
            return None
        stored.head.owner = self._owner
        stored.head.epoch += 1
        seq, snapshot = stored.snapshot or (0, None)
        keys = sorted(stored.keys.values(), key=lambda key: key.last_seq)
        return Claim(stored.head.epoch, snapshot, self.recorded(session_id, seq), keys[-KEYS_KEPT:])

    async def read(self, session_id: SessionId, after: int, limit: int) -> list[Recorded]:
        return await self._do("read", lambda: self.recorded(session_id, after, limit))

    async def find_key(self, session_id: SessionId, user_id: UserId, key: str) -> KeyRow | None:
        def work() -> KeyRow | None:
            stored = self.tables.sessions.get(session_id)
            return stored.keys.get((user_id, key)) if stored else None

        return await self._do("find_key", work)

    async def save_snapshot(self, session_id: SessionId, seq: int, snapshot: bytes) -> None:
        def work() -> None:
            stored = self.tables.sessions.get(session_id)
            if stored is None or stored.head.last_seq < seq:
                return
            if any(row.seq > seq and row.type == _DELETED for row in stored.rows):
                return
            if stored.snapshot is None or stored.snapshot[0] < seq:
                stored.snapshot = seq, snapshot

        await self._do("save_snapshot", work)

    async def due(self, now: Millis, limit: int) -> list[SessionId]:
        def work() -> list[SessionId]:
            heads = ((session_id, stored.head) for session_id, stored in self.tables.sessions.items())
            waiting = [
                (head.wake_at, session_id)
                for session_id, head in heads
                if head.wake_at and head.wake_at <= now and not self._elsewhere(head)
            ]
            return [session_id for _, session_id in sorted(waiting)[:limit]]

        return await self._do("due", work)

    async def interrupted(self) -> list[SessionId]:
        def work() -> list[SessionId]:
            heads = ((session_id, stored.head) for session_id, stored in self.tables.sessions.items())
            return [
                session_id
                for session_id, head in heads
                if head.wake_at == 0 and head.owner != self._owner and not self._elsewhere(head)
            ]

        return await self._do("interrupted", work)

    def _elsewhere(self, head: SessionHead) -> bool:
        return head.owner != self._owner and self.tables.alive(head.owner)

    async def heartbeat(self) -> None:
        """Record that this owner is alive. For a while, others do not claim its sessions."""
        await self._do("heartbeat", lambda: self.tables.heartbeats.update({self._owner: self.tables.clock()}))


def _storable(rows: Sequence[LogRow]) -> None:
    for row in rows:
        if _NUL.search(bytes(row.event)):
            raise StorageError("a text with a NUL cannot be stored")
