"""The audio library: the uploads, who may read them, and the blobs without an owner.

**Law:** a blob is announced as loose before its first byte is stored, and is loose again in the statement that removes
its audio from the library. Whatever fails in between, `loose` returns it (`sql/queries/audio.sql`).
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
    """An entry of the library. `add` assigns `number`. `sha256`: of the content, in hex."""

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
    """The upload exceeds the storage quota of its owner."""


class Library:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def announce(self, blob_key: str, seconds: float) -> None:
        """Record that a blob is about to be stored. Without an owner after `seconds`, `loose` returns it."""
        await self._pool.execute(SQL["announce"], {"blob_key": blob_key, "seconds": seconds})

    async def used(self, owner_id: UserId) -> int:
        """Return how many bytes a user has stored."""
        return int((await self._pool.fetch(SQL["used"], {"owner_id": owner_id}, retry=True))[0][0])

    async def add(self, audio: Audio, quota_bytes: int) -> Audio | None:
        """Add audio whose blob is stored, and return it with its number. Raise OverQuota.

        Return None if the upload took so long that its blob was deleted.
        """
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
        """Return audio that a user may read: as its owner, or as a participant of a session that used it.

        `scope`: only through that session. None if it does not exist or the user may not read it.
        """
        params = {"audio_id": audio_id, "user_id": user_id, "scope": scope}
        rows = await self._pool.fetch(SQL["find"], params, retry=True)
        return _audio(rows[0]) if rows else None

    async def track(self, audio_id: str, user_id: UserId, session_id: SessionId, *, owned: bool = True) -> Track | None:
        """Return audio that a user may play in a session: shared with them there, or with `owned` also their own."""
        params = {"audio_id": audio_id, "user_id": user_id, "session_id": session_id, "owned": owned}
        rows = await self._pool.fetch(SQL["track"], params, retry=True)
        return Track(*rows[0]) if rows else None

    async def id_by_number(self, number: int) -> str | None:
        """Return the id of the audio with a number; None if there is none."""
        rows = await self._pool.fetch(SQL["id_by_number"], {"number": number}, retry=True)
        return rows[0][0] if rows else None

    async def page(
        self, owner_id: UserId, *, before: int | None, limit: int, session_id: SessionId | None = None
    ) -> list[Audio]:
        """Return a user's own audio, newest first; `before`: only numbers below it."""
        params = {"owner_id": owner_id, "before": before, "limit": limit, "session_id": session_id}
        return [_audio(row) for row in await self._pool.fetch(SQL["page"], params, retry=True)]

    async def playing_in(self, audio_id: str) -> SessionId | None:
        """Return a live session in which the audio is selected; None if there is none."""
        rows = await self._pool.fetch(SQL["playing_in"], {"audio_id": audio_id}, retry=True)
        return rows[0][0] if rows else None

    async def remove(self, audio_id: str, owner_id: UserId) -> str | None:
        """Delete audio of this owner. Return the key of its blob, which is now loose; None if there is no audio."""
        rows = await self._pool.fetch(SQL["remove"], {"audio_id": audio_id, "owner_id": owner_id})
        return rows[0][0] if rows else None

    async def loose(self, limit: int) -> list[str]:
        """Return the keys of blobs to delete, in the order in which they fell due."""
        return [row[0] for row in await self._pool.fetch(SQL["due"], {"limit": limit}, retry=True)]

    async def postpone(self, blob_key: str) -> None:
        """Make a blob due for deletion later."""
        await self._pool.execute(SQL["postpone"], {"blob_key": blob_key})

    async def deleted(self, blob_key: str) -> None:
        """Record that a loose blob was deleted."""
        await self._pool.execute(SQL["deleted"], {"blob_key": blob_key})

    async def history(self, session_id: SessionId, *, after: int, limit: int) -> list[Recorded]:
        """Return the playback rows of a session's log, in order."""
        params = {"session_id": session_id, "after": after, "limit": limit}
        return [recorded(session_id, row) for row in await self._pool.fetch(SQL["history"], params, retry=True)]


def _audio(row: Row) -> Audio:
    names = Audio.__struct_fields__
    values = dict(zip(names, row, strict=True))
    return Audio(**{**values, "tags": msgspec.json.decode(values["tags"])})
