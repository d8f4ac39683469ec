"""The log in PostgreSQL: implements the actors' `EventLog`, and pages of rows for clients.

**Law:** `append` commits a session's part of a batch completely or not at all, and only for the owner and epoch in the
session's head row (`sql/queries/event_log.sql`).
"""

from collections.abc import Callable, Collection, Sequence

import msgspec
from msgspec import Raw, Struct

from actors.ports import (
    Append,
    AudioUse,
    Claim,
    Creation,
    KeyRow,
    LogRow,
    NotificationRow,
    NotUnique,
    OutboxRow,
    ParticipantRow,
    Redaction,
)
from actors.session.events import DurableEvent, Recorded
from actors.session.ids import Millis, SessionId, UserId
from storage import queries
from storage.aiopg_connection import Row
from storage.errors import Conflict
from storage.pool import Pool, Writer

SQL = queries.load("event_log")
KEYS_KEPT = 1_000
TAIL_ROWS = 2_000
"""The most rows that one statement reads while a session is restored."""

# The writer's statements are planned once, with settings that suit full tables: at a first start they are empty.
PREPARE = (
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; "
    "set enable_hashjoin = off; set enable_mergejoin = off; set jit = off",
    SQL["append"],
    SQL["append_rows"],
)

_json = msgspec.json.Encoder()
_events = msgspec.json.Decoder(DurableEvent)


class _SessionHead(Struct, frozen=True, gc=False):
    session_id: SessionId
    epoch: int
    old_seq: int
    new_seq: int
    wake_at: Millis | None


class _SessionBody(Struct, frozen=True, gc=False):
    session_id: SessionId
    body: Raw


class _SessionKey(KeyRow, frozen=True, kw_only=True):
    session_id: SessionId


class _SessionParticipant(ParticipantRow, frozen=True, kw_only=True):
    session_id: SessionId


class _SessionRedaction(Redaction, frozen=True, kw_only=True):
    session_id: SessionId


class _SessionAudioUse(AudioUse, frozen=True, kw_only=True):
    session_id: SessionId


class _SessionOutboxRow(OutboxRow, frozen=True, kw_only=True):
    session_id: SessionId


class _NumberedNotification(NotificationRow, frozen=True, kw_only=True):
    position: int
    session_id: SessionId


class _Batch(Struct, omit_defaults=True):
    heads: list[_SessionHead]
    rows: list[LogRow]
    keys: list[_SessionKey] = []
    sessions: list[_SessionBody] = []
    participants: list[_SessionParticipant] = []
    redactions: list[_SessionRedaction] = []
    audio_uses: list[_SessionAudioUse] = []
    outbox_rows: list[_SessionOutboxRow] = []
    notifications: list[_NumberedNotification] = []


def batched(appends: Sequence[Append]) -> tuple[str, bytes]:
    """Return the name of the group commit's statement, and its one parameter: the appends as JSON.

    Only the last state of a session and of each participant is written. An event that is redacted in the same batch is
    written redacted.
    """
    heads: dict[SessionId, _SessionHead] = {}
    bodies: dict[SessionId, _SessionBody] = {}
    people: dict[tuple[SessionId, UserId], _SessionParticipant] = {}
    keys: list[_SessionKey] = []
    redactions: dict[tuple[SessionId, int], _SessionRedaction] = {}
    audio_uses: list[_SessionAudioUse] = []
    outbox_rows: list[_SessionOutboxRow] = []
    rows: list[LogRow] = []
    notifications: list[_NumberedNotification] = []
    for append in appends:
        sid = append.session_id
        first = heads.get(sid)
        old_seq = first.old_seq if first else append.old_seq
        heads[sid] = _SessionHead(sid, append.epoch, old_seq, append.new_seq, append.wake_at)
        rows += append.rows
        if append.only_rows:
            continue
        if append.session is not None:
            bodies[sid] = _SessionBody(sid, append.session)
        for p in append.participants:
            people[sid, p.user_id] = _SessionParticipant(
                p.user_id, p.number, p.name, p.role, p.status, p.joined_at, p.left_at, session_id=sid
            )
        keys += [
            _SessionKey(k.user_id, k.key, k.digest, k.first_seq, k.last_seq, k.at, session_id=sid) for k in append.keys
        ]
        for r in append.redactions:
            redactions[sid, r.seq] = _SessionRedaction(r.seq, r.event, session_id=sid)
        audio_uses += [
            _SessionAudioUse(u.seq, u.audio_id, u.selected, u.sender_id, u.to_id, session_id=sid)
            for u in append.audio_uses
        ]
        outbox_rows += [_SessionOutboxRow(n.seq, n.kind, n.type, n.user_id, session_id=sid) for n in append.outbox_rows]
        notifications += numbered(append.notifications, sid, len(notifications))
    if redactions:
        audio_uses = [use for use in audio_uses if (use.session_id, use.seq) not in redactions]
        rows = [
            msgspec.structs.replace(row, event=hidden.event)
            if (hidden := redactions.get((row.session_id, row.seq)))
            else row
            for row in rows
        ]
    projected = (list(bodies.values()), list(people.values()), list(redactions.values()))
    changes = (keys, *projected, audio_uses, outbox_rows, notifications)
    statement = "append" if any(changes) else "append_rows"
    return statement, _json.encode(_Batch(list(heads.values()), rows, *changes))


def numbered(
    notifications: Sequence[NotificationRow], session_id: SessionId, start: int
) -> list[_NumberedNotification]:
    """Number a commit's notifications from `start`, which fixes the order of those of one user."""
    return [
        _NumberedNotification(n.user_id, n.at, n.body, position=i, session_id=session_id)
        for i, n in enumerate(notifications, start)
    ]


class Summary(Struct, frozen=True):
    """Totals of a session's log. `joined`: the number of different users; `left`: the number of departures."""

    total: int
    by_type: dict[str, int]
    joined: int
    left: int
    first_at: Millis | None
    last_at: Millis | None


class PostgresEventLog:
    """The log of every session, written by `owner` ('node:incarnation')."""

    def __init__(self, pool: Pool, writer: Writer, owner: str, *, on_outbox: Callable[[], None] = lambda: None) -> None:
        """Create the log. It calls `on_outbox` after a commit that may have added rows to the outbox."""
        self._pool = pool
        self._writer = writer
        self._owner = owner
        self._on_outbox = on_outbox

    async def next_number(self) -> int:
        return int((await self._pool.fetch(SQL["next_number"]))[0][0])

    async def create(self, creation: Creation) -> None:
        """Commit a new session, with the room that was announced for it. Raise NotUnique."""
        session, rows, room, key = creation.session, creation.rows, creation.session.room, creation.key
        values = {
            "booking_id": creation.booking_id,
            "session_id": session.id,
            "number": session.number,
            "name": session.name,
            "code": session.code,
            "kind": session.kind,
            "status": session.status,
            "owner_id": session.owner_id,
            "course_id": session.course_id,
            "body": _json.encode(session).decode(),
            "owner": self._owner,
            "last_seq": rows[-1].seq,
            "wake_at": creation.wake_at,
            "rows": _json.encode(rows).decode(),
            "participants": _json.encode(creation.participants).decode(),
            "outbox_rows": _json.encode(creation.outbox_rows).decode(),
            "notifications": _json.encode(numbered(creation.notifications, session.id, 0)).decode(),
            "provider": None if room is None else room.provider,
            "room": None if room is None else room.name,
            "key_user_id": None if key is None else key.user_id,
            "key": None if key is None else key.key,
            "key_digest": None if key is None else key.digest,
        }
        try:
            written = await self._pool.execute(SQL["create"], values)
        except Conflict as conflict:
            raise NotUnique(conflict.constraint.partition("_")[2]) from conflict
        if not written:
            raise NotUnique("room" if creation.booking_id is None else "booking")
        if creation.outbox_rows:
            self._on_outbox()

    async def append(self, appends: Sequence[Append]) -> Collection[SessionId]:
        statement, encoded = batched(appends)
        rows = await self._writer.fetch(f"execute {statement} (%s, %s)", (encoded.decode(), self._owner))
        if any(append.outbox_rows for append in appends):
            self._on_outbox()
        return {row[0] for row in rows}

    async def claim(self, session_id: SessionId) -> Claim | None:
        this = {"session_id": session_id}
        # Two statements: the first waits for an open commit of the previous owner; only the second sees its rows.
        claimed = await self._pool.fetch(SQL["claim"], {**this, "owner": self._owner})
        if not claimed:
            return None
        saved = await self._pool.fetch(SQL["snapshot"], this, retry=True)
        snapshot_seq, snapshot = (saved[0][0], bytes(saved[0][1])) if saved else (0, None)
        tail: list[Recorded] = []
        while page := await self.read(session_id, tail[-1].seq if tail else snapshot_seq, TAIL_ROWS):
            tail += page
            if len(page) < TAIL_ROWS:
                break
        keys = await self._pool.fetch(SQL["recent_keys"], {**this, "limit": KEYS_KEPT}, retry=True)
        return Claim(claimed[0][0], snapshot, tail, [KeyRow(*key) for key in reversed(keys)])

    async def read(self, session_id: SessionId, after: int, limit: int) -> list[Recorded]:
        params = {"session_id": session_id, "after": after, "limit": limit}
        return [recorded(session_id, row) for row in await self._pool.fetch(SQL["read"], params, retry=True)]

    async def page(
        self,
        session_id: SessionId,
        *,
        after: int | None,
        limit: int,
        types: Sequence[str] | None = None,
        user_id: UserId | None = None,
        since: Millis | None = None,
        until: Millis | None = None,
        descending: bool = False,
    ) -> list[Recorded]:
        """Return rows that match every filter that is not None, in order of `seq`. `after` follows the same order."""
        params = {
            "session_id": session_id, "after": after, "limit": limit, "user_id": user_id,
            "types": None if types is None else list(types), "since": since, "until": until,
        }  # fmt: skip
        page = SQL["page_descending" if descending else "page"]
        return [recorded(session_id, row) for row in await self._pool.fetch(page, params, retry=True)]

    async def summary(self, session_id: SessionId) -> Summary:
        """Return the totals of a session's log, computed by the database."""
        row = (await self._pool.fetch(SQL["summary"], {"session_id": session_id}, retry=True))[0]
        return Summary(row[0], msgspec.json.decode(row[1]), *row[2:])

    async def find_key(self, session_id: SessionId, user_id: UserId, key: str) -> KeyRow | None:
        params = {"session_id": session_id, "user_id": user_id, "key": key}
        rows = await self._pool.fetch(SQL["find_key"], params, retry=True)
        return KeyRow(*rows[0]) if rows else None

    async def save_snapshot(self, session_id: SessionId, seq: int, snapshot: bytes) -> None:
        await self._pool.execute(SQL["save_snapshot"], {"session_id": session_id, "seq": seq, "body": snapshot})

    async def due(self, now: Millis, limit: int) -> list[SessionId]:
        params = {"now": now, "limit": limit, "owner": self._owner}
        return [row[0] for row in await self._pool.fetch(SQL["due"], params, retry=True)]

    async def interrupted(self) -> list[SessionId]:
        return [row[0] for row in await self._pool.fetch(SQL["interrupted"], {"owner": self._owner}, retry=True)]

    async def ping(self) -> None:
        """Run an empty statement. Raise StorageError if the database does not answer."""
        await self._pool.fetch("select 1", retry=True)

    async def heartbeat(self) -> None:
        """Record that this process is alive. For 6 s, other processes do not claim its sessions."""
        await self._pool.execute(SQL["heartbeat"], {"owner": self._owner})

    async def deregister(self) -> None:
        """Record that this process has stopped."""
        await self._pool.execute(SQL["deregister"], {"owner": self._owner})

    async def forget_keys(self, before: Millis) -> int:
        """Delete Idempotency-Keys used before a time. Return their number, at most `FORGET_ROWS`."""
        return await self._pool.execute(SQL["forget_keys"], {"before": before, "limit": queries.FORGET_ROWS})


def recorded(session_id: SessionId, row: Row) -> Recorded:
    """Return a row (epoch, seq, at, actor_id, event) of a session's log as a value."""
    epoch, seq, at, actor_id, event = row
    return Recorded(session_id, epoch, seq, at, actor_id, _events.decode(event))
