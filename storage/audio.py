"""The audio library: what was uploaded, who may read it, and which blobs have no owner.

**Law:** a blob is announced as loose before its first byte is stored, and is loose again in the statement that takes
its piece out of the library; whatever fails in between, `loose` still names it (`sql/queries/audio.sql`).
"""

import msgspec
from msgspec import Struct

from actors.session.events import Recorded
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Track
from storage import queries
from storage.aiopg_connection import Row
from storage.log.event_log import recorded
from storage.pool import Pool

SQL = queries.load("audio")


class Audio(Struct, frozen=True, kw_only=True):
    """A piece in the library. `number` is given by `add`; `sha256` of the content, in hex."""

    audio_id: str
    number: int = 0
    owner_id: UserId
    session_id: SessionId | None
    title: str
    content_type: str
    size_bytes: int
    duration_s: float | None
    tags: dict[str, str]
    sha256: str
    blob_key: str
    created_at: Millis


class OverQuota(Exception):
    """The piece does not fit into what its owner may still store."""


class Library:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def announce(self, blob_key: str, seconds: float) -> None:
        """Say that a blob is about to be stored; without an owner by then, `loose` names it."""
        await self._pool.execute(SQL["announce"], {"blob_key": blob_key, "seconds": seconds})

    async def used(self, owner_id: UserId) -> int:
        """Give how many bytes a user has stored."""
        return int((await self._pool.fetch(SQL["used"], {"owner_id": owner_id}, retry=True))[0][0])

    async def add(self, audio: Audio, quota_bytes: int) -> Audio | None:
        """Add a piece whose blob is stored; its number is given here. None: it took so long that the blob is gone.

        Raises: OverQuota."""
        owner = {"owner_id": audio.owner_id}
        values = {**msgspec.structs.asdict(audio), "tags": msgspec.json.encode(audio.tags).decode()}
        async with self._pool.transaction() as transaction:
            await transaction.execute(SQL["hold"], owner)
            used = (await transaction.fetch(SQL["used"], owner))[0][0]
            if used + audio.size_bytes > quota_bytes:
                raise OverQuota
            rows = await transaction.fetch(SQL["add"], values)
        return msgspec.structs.replace(audio, number=rows[0][0]) if rows else None

    async def find(self, audio_id: str, user_id: UserId, scope: SessionId | None = None) -> Audio | None:
        """Find a piece for someone who may read it: its owner, or who has a part in a session that has shown it.

        `scope`: only as a part of that session."""
        params = {"audio_id": audio_id, "user_id": user_id, "scope": scope}
        rows = await self._pool.fetch(SQL["find"], params, retry=True)
        return _audio(rows[0]) if rows else None

    async def track(self, audio_id: str, user_id: UserId, session_id: SessionId, *, owned: bool = True) -> Track | None:
        """Find a piece that a user may put on in a session: what it has shown them, and with `owned` their own."""
        params = {"audio_id": audio_id, "user_id": user_id, "session_id": session_id, "owned": owned}
        rows = await self._pool.fetch(SQL["track"], params, retry=True)
        return Track(*rows[0]) if rows else None

    async def numbered(self, number: int) -> str | None:
        """Give the id of the piece with a number."""
        rows = await self._pool.fetch(SQL["numbered"], {"number": number}, retry=True)
        return rows[0][0] if rows else None

    async def page(
        self, owner_id: UserId, *, before: int | None, limit: int, session_id: SessionId | None = None
    ) -> list[Audio]:
        """Give a user's own pieces, newest first; `before`: only numbers below it."""
        params = {"owner_id": owner_id, "before": before, "limit": limit, "session_id": session_id}
        return [_audio(row) for row in await self._pool.fetch(SQL["page"], params, retry=True)]

    async def on_in(self, audio_id: str) -> SessionId | None:
        """Name a live session that has the piece on."""
        rows = await self._pool.fetch(SQL["on_in"], {"audio_id": audio_id}, retry=True)
        return rows[0][0] if rows else None

    async def remove(self, audio_id: str, owner_id: UserId) -> str | None:
        """Take a piece out; give its blob's key, which is loose from now on. None: there is none of that owner's."""
        rows = await self._pool.fetch(SQL["remove"], {"audio_id": audio_id, "owner_id": owner_id})
        return rows[0][0] if rows else None

    async def loose(self, limit: int) -> list[str]:
        """Name blobs to delete, those due longest first."""
        return [row[0] for row in await self._pool.fetch(SQL["due"], {"limit": limit}, retry=True)]

    async def postpone(self, blob_key: str) -> None:
        """Try to delete a blob later."""
        await self._pool.execute(SQL["postpone"], {"blob_key": blob_key})

    async def deleted(self, blob_key: str) -> None:
        """A loose blob is gone for good."""
        await self._pool.execute(SQL["deleted"], {"blob_key": blob_key})

    async def history(self, session_id: SessionId, *, after: int, limit: int) -> list[Recorded]:
        """Give the rows of a session's log that are about playback, in order."""
        params = {"session_id": session_id, "after": after, "limit": limit}
        return [recorded(session_id, row) for row in await self._pool.fetch(SQL["history"], params, retry=True)]


def _audio(row: Row) -> Audio:
    names = Audio.__struct_fields__
    values = dict(zip(names, row, strict=True))
    return Audio(**{**values, "tags": msgspec.json.decode(values["tags"])})
