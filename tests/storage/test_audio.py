"""The audio library in PostgreSQL: quotas, who may read, what is on, and that no blob is ever forgotten."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from msgspec import Raw, structs

from actors.ports import Append, AudioUse, Creation, LogRow, ParticipantRow, Redaction
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Presence, Session
from storage.audio import Audio, Library, OverQuota
from storage.log.event_log import PREPARE, PostgresEventLog
from storage.pool import Pool, Writer
from tests.support.script import given

QUOTA = 1_000
_numbers = itertools.count(1)


def new_id() -> str:
    return str(uuid.uuid4())


class Shelf:
    """A library, and sessions whose log says what of it they have used."""

    def __init__(self, pool: Pool, log: PostgresEventLog) -> None:
        self.pool = pool
        self.library = Library(pool)
        self.log = log
        self.seqs: dict[SessionId, int] = {}
        self.sessions: dict[SessionId, Session] = {}

    def piece(self, owner_id: UserId, size_bytes: int = 10, **fields: Any) -> Audio:
        audio_id = new_id()
        return structs.replace(
            Audio(
                audio_id=audio_id, owner_id=owner_id, session_id=None, title="A piece", content_type="audio/wav",
                size_bytes=size_bytes, duration_s=1.5, tags={"artist": "Ann"}, sha256="0" * 64,
                blob_key=f"audio/{audio_id}", created_at=Millis(1_795_251_600_123),
            ),
            **fields,
        )  # fmt: skip

    async def add(self, owner_id: UserId, **fields: Any) -> Audio:
        piece = self.piece(owner_id, **fields)
        await self.library.announce(piece.blob_key, 60)
        added = await self.library.add(piece, QUOTA)
        assert added is not None
        return added

    async def session(self, owner_id: UserId) -> SessionId:
        number = next(_numbers)
        session = structs.replace(
            given().state.session,
            id=SessionId(new_id()), number=number, name=f"session-{number}", code=f"CODE{number:02}", owner_id=owner_id,
            status="live",
        )  # fmt: skip
        row = LogRow(session.id, 1, 1, Millis(0), owner_id, "session_created", Raw(b"{}"))
        await self.log.create(Creation(session, [row]))
        self.seqs[session.id], self.sessions[session.id] = 1, session
        return session.id

    async def commit(self, session_id: SessionId, *changes: Append) -> None:
        assert await self.log.append(changes) == {session_id}
        self.seqs[session_id] = changes[-1].new_seq

    def row(self, session_id: SessionId, **changes: Any) -> Append:
        seq = self.seqs[session_id] + 1
        return Append(
            actor=None,  # type: ignore[arg-type]
            session_id=session_id,
            epoch=1,
            old_seq=seq - 1,
            new_seq=seq,
            rows=[
                LogRow(session_id, 1, seq, Millis(0), None, "audio_stop", Raw(b'{"type":"audio_stop","audio_id":"a"}'))
            ],
            **{"keys": [], "redactions": [], "session": None, "participants": [], "wake_at": None, "size": 0} | changes,
        )

    def use(self, session_id: SessionId, piece: Audio, *, to: UserId | None = None, selected: bool = False) -> AudioUse:
        return AudioUse(self.seqs[session_id] + 1, piece.audio_id, selected, piece.owner_id, to)

    async def select(self, session_id: SessionId, piece: Audio) -> None:
        await self.commit(session_id, self.row(session_id, audio_uses=[self.use(session_id, piece, selected=True)]))

    async def place(self, session_id: SessionId, status: Presence, *, joined: bool = True) -> UserId:
        user_id = UserId(new_id())
        number = next(_numbers)
        person = ParticipantRow(user_id, number, "Ann", "member", status, Millis(0) if joined else None, None)
        await self.commit(session_id, self.row(session_id, participants=[person]))
        return user_id

    async def loose(self) -> list[str]:
        return [row[0] for row in await self.pool.fetch("select blob_key from loose_blob order by blob_key")]


@pytest.fixture
async def shelf(dsn: str) -> AsyncIterator[Shelf]:
    async with await Pool.open(dsn, size=8) as pool:
        writer = Writer(dsn, PREPARE)
        yield Shelf(pool, PostgresEventLog(pool, writer, "node:1"))
        await writer.close()


async def test_a_piece_is_found_as_it_was_added(shelf: Shelf) -> None:
    ann = UserId(new_id())
    piece = await shelf.add(ann, title="A – piece")
    assert piece.number > 0
    assert await shelf.library.find(piece.audio_id, ann) == piece
    assert await shelf.library.used(ann) == piece.size_bytes
    assert await shelf.loose() == []


async def test_however_many_come_at_once_the_quota_holds(shelf: Shelf) -> None:
    ann = UserId(new_id())
    answers = await asyncio.gather(*(shelf.add(ann, size_bytes=300) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(answer, OverQuota) for answer in answers) == 5
    assert await shelf.library.used(ann) == 900
    # What did not get in is still on the list of blobs to delete.
    assert len(await shelf.loose()) == 5


async def test_a_blob_whose_time_is_over_gets_no_owner(shelf: Shelf) -> None:
    piece = shelf.piece(UserId(new_id()))
    await shelf.library.announce(piece.blob_key, -1)
    assert await shelf.library.add(piece, QUOTA) is None
    assert await shelf.library.find(piece.audio_id, piece.owner_id) is None
    # It is due, but not yet named: an `add` that had begun in time may still be under way.
    assert await shelf.library.loose(10) == []
    await shelf.pool.execute("update loose_blob set due_at = due_at - interval '2 minutes'")
    assert await shelf.library.loose(10) == [piece.blob_key]
    await shelf.library.postpone(piece.blob_key)
    assert await shelf.library.loose(10) == []
    await shelf.library.deleted(piece.blob_key)
    assert await shelf.loose() == []


async def test_what_leaves_the_library_leaves_its_blob_on_the_list(shelf: Shelf) -> None:
    ann, ben = UserId(new_id()), UserId(new_id())
    piece = await shelf.add(ann)
    assert await shelf.library.remove(piece.audio_id, ben) is None
    assert await shelf.library.remove(piece.audio_id, ann) == piece.blob_key
    assert await shelf.loose() == [piece.blob_key]
    assert await shelf.library.remove(piece.audio_id, ann) is None


async def test_pages(shelf: Shelf) -> None:
    ann = UserId(new_id())
    session_id = await shelf.session(ann)
    pieces = [await shelf.add(ann, session_id=session_id if n == 1 else None) for n in range(3)]
    await shelf.add(UserId(new_id()))
    assert await shelf.library.page(ann, before=None, limit=2) == [pieces[2], pieces[1]]
    assert await shelf.library.page(ann, before=pieces[1].number, limit=2) == [pieces[0]]
    assert await shelf.library.page(ann, before=None, limit=9, session_id=session_id) == [pieces[1]]


async def test_who_may_read_follows_the_log(shelf: Shelf) -> None:
    ann, teacher, stranger = UserId(new_id()), UserId(new_id()), UserId(new_id())
    session_id, piece = await shelf.session(teacher), await shelf.add(ann)
    statuses: tuple[Presence, ...] = ("joined", "left", "kicked", "waiting", "invited", "denied")
    people = {status: await shelf.place(session_id, status) for status in statuses}
    unadmitted = await shelf.place(session_id, "left", joined=False)

    async def readers(scope: SessionId | None = None) -> set[str]:
        known = {"ann": ann, "teacher": teacher, "stranger": stranger, "unadmitted": unadmitted} | people
        return {name for name, user in known.items() if await shelf.library.find(piece.audio_id, user, scope)}

    assert await readers() == {"ann"}
    await shelf.select(session_id, piece)
    assert await readers() == {"ann", "teacher", "joined", "left"}
    # A credential for one session reads what that session has shown, and nothing else, be it one's own.
    assert await readers(session_id) == {"teacher", "joined", "left"}
    assert await readers(await shelf.session(teacher)) == set()
    gone = structs.replace(shelf.sessions[session_id], deleted=True)
    await shelf.commit(session_id, shelf.row(session_id, session=Raw(msgspec.json.encode(gone))))
    assert await readers() == {"ann"}


async def test_a_direct_message_shows_a_piece_to_its_two_sides_until_it_is_deleted(shelf: Shelf) -> None:
    ann, teacher = UserId(new_id()), UserId(new_id())
    session_id, piece = await shelf.session(teacher), await shelf.add(ann)
    ben, cat = [await shelf.place(session_id, "joined") for _ in range(2)]
    await shelf.commit(session_id, shelf.row(session_id, audio_uses=[shelf.use(session_id, piece, to=ben)]))
    seq = shelf.seqs[session_id]
    for user_id, may in ((ben, True), (cat, False), (teacher, False)):
        assert bool(await shelf.library.find(piece.audio_id, user_id)) is may
        assert bool(await shelf.library.track(piece.audio_id, user_id, session_id)) is may
    await shelf.commit(session_id, shelf.row(session_id, redactions=[Redaction(seq, Raw(b"{}"))]))
    assert await shelf.library.find(piece.audio_id, ben) is None


async def test_a_message_sent_and_deleted_in_one_commit_shows_nothing(shelf: Shelf) -> None:
    ann, teacher = UserId(new_id()), UserId(new_id())
    session_id, piece = await shelf.session(teacher), await shelf.add(ann)
    sent = shelf.row(session_id, audio_uses=[shelf.use(session_id, piece)])
    shelf.seqs[session_id] += 1
    deleted = shelf.row(session_id, redactions=[Redaction(sent.new_seq, Raw(b"{}"))])
    shelf.seqs[session_id] -= 1
    await shelf.commit(session_id, sent, deleted)
    assert await shelf.library.find(piece.audio_id, teacher) is None


async def test_a_session_that_was_fenced_has_shown_nothing(shelf: Shelf) -> None:
    ann, teacher = UserId(new_id()), UserId(new_id())
    session_id, piece = await shelf.session(teacher), await shelf.add(ann)
    fenced = shelf.row(session_id, audio_uses=[shelf.use(session_id, piece)])
    fenced.epoch = 9
    assert await shelf.log.append([fenced]) == set()
    assert await shelf.library.find(piece.audio_id, teacher) is None


async def test_what_is_on_is_what_was_selected_last_where_the_session_is_live(shelf: Shelf) -> None:
    ann = UserId(new_id())
    session_id, one, two = await shelf.session(ann), await shelf.add(ann), await shelf.add(ann)
    await shelf.commit(session_id, shelf.row(session_id, audio_uses=[shelf.use(session_id, two)]))
    assert await shelf.library.playing_in(two.audio_id) is None
    await shelf.select(session_id, one)
    assert await shelf.library.playing_in(one.audio_id) == session_id
    await shelf.select(session_id, two)
    assert [await shelf.library.playing_in(each.audio_id) for each in (one, two)] == [None, session_id]
    await shelf.pool.execute("update sessions set status = 'ended'")
    assert await shelf.library.playing_in(two.audio_id) is None


async def test_the_history_has_playback_and_nothing_else(shelf: Shelf) -> None:
    session_id = await shelf.session(UserId(new_id()))
    for _ in range(3):
        await shelf.commit(session_id, shelf.row(session_id))
    assert [row.seq for row in await shelf.library.history(session_id, after=0, limit=2)] == [2, 3]
    assert [row.seq for row in await shelf.library.history(session_id, after=3, limit=2)] == [4]
