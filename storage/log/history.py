"""Reads a session's log in parts that fit into memory, and totals that the database computes.

**Law:** nothing here holds more than one part of a log, whatever its length. A part is bounded in rows and bytes.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from actors.session import events as e
from actors.session import machine
from actors.session.events import Recorded
from actors.session.ids import MessageId, Millis, SessionId, UserId
from actors.session.rope import Rope
from actors.session.state import State
from storage import queries
from storage.log.event_log import recorded
from storage.pool import Pool

SQL = queries.load("records")
PART_ROWS = 500
TYPED_ROWS = 100
"""The same for rows of some types, which are searched one after the other."""
STRETCH_ROWS = 20_000
"""How many rows one statement searches for rows of some types."""
PART_BYTES = 1 << 18
"""Bytes of JSON in one part; a single row may be larger."""
PEOPLE, MINUTES, POLLS = 1_000, 1_440, 1_000
"""The most entries of each list in the statistics."""
ROWS_PER_TURN = 200
"""How many rows are applied to a state before other tasks run."""


class Edit(Struct, frozen=True):
    """A version of the code. `size` in characters."""

    version: int
    author: UserId | None
    at: Millis
    size: int
    text: str | None = None


class ChatRows(Struct, frozen=True):
    """Rows of chat, latest first, with their reactions and the names of their senders."""

    rows: list[Recorded]
    reactions: dict[MessageId, dict[str, list[UserId]]]
    names: dict[UserId, str]


class Records:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def last_seq(self, session_id: SessionId) -> int:
        """Return the `seq` of the last row; 0 if there is none."""
        rows = await self._pool.fetch(SQL["last_seq"], {"session_id": session_id}, retry=True)
        return int(rows[0][0]) if rows else 0

    async def part(
        self,
        session_id: SessionId,
        *,
        after: int,
        upto: int,
        types: Collection[type[e.Event]] | None = None,
        limit: int = PART_ROWS,
    ) -> list[Recorded]:
        """Return the first rows after `after` and up to `upto`, of some types or all, in order.

        Search at most `STRETCH_ROWS` rows, whatever plan the database chooses; for all types, at most `limit`.
        """
        upto = min(upto, after + (limit if types is None else STRETCH_ROWS))
        tags = None if types is None else [str(kind.__struct_config__.tag) for kind in types]
        params = {
            "session_id": session_id, "after": after, "upto": upto, "types": tags, "limit": limit, "bytes": PART_BYTES,
        }  # fmt: skip
        return [recorded(session_id, row) for row in await self._pool.fetch(SQL["rows"], params, retry=True)]

    async def parts(
        self, session_id: SessionId, *, after: int = 0, upto: int, types: Collection[type[e.Event]] | None = None
    ) -> AsyncGenerator[list[Recorded], None]:
        """Return all rows after `after` and up to `upto`, part by part. Each part is read when it is needed."""
        limit = PART_ROWS if types is None else TYPED_ROWS
        reach = limit
        while after < upto:
            end = min(upto, after + reach)
            rows = await self.part(session_id, after=after, upto=end, types=types, limit=limit)
            after = rows[-1].seq if rows else end
            if types is None:
                # If rows are large, the next part asks for fewer.
                limit = reach = PART_ROWS if len(rows) == limit else max(8, min(PART_ROWS, 2 * len(rows)))
            else:
                # If rows of the types are rare, the next part searches more of the log.
                reach = max(limit, reach // 2) if len(rows) == limit else min(2 * reach, STRETCH_ROWS)
            if rows:
                yield rows

    async def client_events(
        self, session_id: SessionId, *, event_type: str | None, user_id: UserId | None, limit: int
    ) -> list[Recorded]:
        """Return the latest `event_logged` rows, latest first, of a client event type and a user, or all."""
        params = {"session_id": session_id, "event_type": event_type, "user_id": user_id, "limit": limit}
        return [recorded(session_id, row) for row in await self._pool.fetch(SQL["client_events"], params, retry=True)]

    async def client_event_counts(self, session_id: SessionId, *, user_id: UserId | None) -> dict[str, int]:
        """Return the number of client events by type, of a user or all."""
        params = {"session_id": session_id, "user_id": user_id}
        return {row[0]: row[1] for row in await self._pool.fetch(SQL["client_event_counts"], params, retry=True)}

    async def state_at(self, session_id: SessionId, seq: int) -> State | None:
        """Return the state as of a row, from the snapshot if it is not later; None if there is no such row."""
        saved = await self._pool.fetch(SQL["snapshot"], {"session_id": session_id, "upto": seq}, retry=True)
        state = machine.restored(bytes(saved[0][1])) if saved else None
        async for rows in self.parts(session_id, after=0 if state is None else state.seq, upto=seq):
            for first in range(0, len(rows), ROWS_PER_TURN):
                state = machine.replay(rows[first : first + ROWS_PER_TURN], state)
                await asyncio.sleep(0)
        return state

    async def started(self, session_id: SessionId) -> Millis | None:
        """Return when the session went live; None if it has not."""
        rows = await self._pool.fetch(SQL["started"], {"session_id": session_id}, retry=True)
        return Millis(rows[0][0]) if rows else None

    async def at_position(self, session_id: SessionId, at: Millis, upto: int) -> int:
        """Return the `seq` of the last row at or before a time; 0 if there is none."""
        params = {"session_id": session_id, "at": at, "upto": upto}
        return int((await self._pool.fetch(SQL["at_position"], params, retry=True))[0][0])

    # Chat

    async def chat(
        self, session_id: SessionId, viewer: UserId, *, before: int, limit: int, direct: bool = True
    ) -> ChatRows:
        """Return the latest messages before a row that a viewer may read, latest first; `direct`: direct ones too."""
        params = {"session_id": session_id, "viewer": viewer, "before": before, "limit": limit, "direct": direct}
        rows = [recorded(session_id, row) for row in await self._pool.fetch(SQL["chat"], params, retry=True)]
        reactions: dict[MessageId, dict[str, list[UserId]]] = {}
        names: dict[UserId, str] = {}
        if rows:
            messages = (row.event for row in rows if isinstance(row.event, e.ChatMessage))
            ids = [message.message_id for message in messages if not message.deleted]
            wanted = {"session_id": session_id, "after": rows[-1].seq, "message_ids": ids}
            for message_id, emoji, user_id in await self._pool.fetch(SQL["reactions"], wanted, retry=True):
                reactions.setdefault(message_id, {}).setdefault(emoji, []).append(user_id)
            who = list({row.actor_id for row in rows if row.actor_id is not None})
            found = await self._pool.fetch(SQL["names"], {"session_id": session_id, "user_ids": who}, retry=True)
            names = dict(found)
        return ChatRows(rows, reactions, names)

    async def chat_count(self, session_id: SessionId, upto: int) -> int:
        """Return the number of messages that were for everyone."""
        params = {"session_id": session_id, "upto": upto}
        return int((await self._pool.fetch(SQL["chat_count"], params, retry=True))[0][0])

    # Code

    async def edits(self, session_id: SessionId, *, before: int, limit: int) -> list[Edit]:
        """Return versions of the code below `before`, latest first, without texts."""
        params = {"session_id": session_id, "before": before, "limit": limit}
        return [Edit(*row) for row in await self._pool.fetch(SQL["edits"], params, retry=True)]

    async def edit(self, session_id: SessionId, version: int) -> Edit | None:
        """Return a version with its text, rebuilt from the last full text and later changes; None if there is none."""
        found = await self._pool.fetch(SQL["edit_at"], {"session_id": session_id, "version": version}, retry=True)
        if not found:
            return None
        seq, author, at, whole = found[0]
        text = Rope()
        async for rows in self.parts(session_id, after=max(0, whole - 1), upto=seq, types=(e.CodeEdited,)):
            text = apply_edits(text, rows)
            await asyncio.sleep(0)
        made = str(text)
        return Edit(version, author, Millis(at), len(made), made)

    async def with_texts(self, session_id: SessionId, edits: Sequence[Edit], most: int) -> list[Edit]:
        """Return `edits` (latest first, without gaps) with their texts: the first ones (at least one) with
        at most `most` characters together.
        """
        if not edits:
            return []
        first, last = [
            (await self._pool.fetch(SQL["edit_at"], {"session_id": session_id, "version": version}, retry=True))[0]
            for version in (edits[-1].version, edits[0].version)
        ]
        known = {edit.version: edit for edit in edits}
        text, found, size = Rope(), deque[Edit](), 0
        async for rows in self.parts(session_id, after=max(0, first[3] - 1), upto=last[0], types=(e.CodeEdited,)):
            for row in rows:
                text = apply_edits(text, [row])
                edit = known.get(row.event.version) if isinstance(row.event, e.CodeEdited) else None
                if edit is not None:
                    found.appendleft(structs.replace(edit, text=str(text)))
                    size += edit.size
                while size > most and len(found) > 1:
                    size -= found.pop().size
            await asyncio.sleep(0)
        return list(found)

    async def statistics(self, session_id: SessionId) -> Any:
        """Return statistics of a session's log as JSON, computed by the database."""
        params = {"session_id": session_id, "people": PEOPLE, "minutes": MINUTES, "polls": POLLS}
        return msgspec.json.decode((await self._pool.fetch(SQL["statistics"], params, retry=True))[0][0])


def apply_edits(text: Rope, rows: Sequence[Recorded]) -> Rope:
    """Return a text after the code edits among some rows."""
    for row in rows:
        if isinstance(row.event, e.CodeEdited):
            if row.event.text is not None:
                text = Rope(row.event.text)
            for change in row.event.changes or ():
                text.change(change)
    return text
