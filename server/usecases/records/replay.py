"""Replays: a session or a recording as a stream of frames, each sent when it is due. Access is checked again during the
replay.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from actors.commit import outgoing
from actors.session import machine, replay_pacing
from actors.session.access import Ask
from actors.session.events import Recorded
from actors.session.ids import Millis, UserId
from actors.session.state import State
from actors.session.visibility import NOBODY
from server.http.problems import Problem, unauthenticated, unknown_session
from server.http.refusals import refuses
from server.security.principal import Principal
from server.security.tickets import Tickets
from server.streams.format import Cursor, StreamEncoder
from server.usecases.call import Call, Playing
from server.usecases.records.access_recheck import CHECK_S, periodic_recheck
from server.usecases.records.archive import ArchiveParts
from server.usecases.records.recordings import Expires, Signature, recording_named, replay_path
from server.usecases.session_access import require_membership
from storage.log.event_log import PostgresEventLog

FRESH_S = 2.0
"""The longest time between reading a row and sending it: a message can be deleted meanwhile."""


REPLAY_ROWS = 100


Position = Annotated[
    str,
    Meta(
        pattern=r"^([1-9][0-9]{0,8}|[0-9]{1,8}(\.[0-9]{1,3})?s)$(?!\n)",
        description="a `seq` such as `12`, or seconds such as `90.5s`",
    ),
]


@dataclass(frozen=True, kw_only=True)
class ReplayParts(ArchiveParts):
    """The sources of replays, and the tickets that open them."""

    log: PostgresEventLog
    tickets: Tickets


class ReplayQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """`from` is a `seq`, or with a trailing `s` the seconds since the start of the session or recording.

    `gaps` replays quiet periods of more than half a minute at their full length."""

    speed: Annotated[float, Meta(ge=0.25, le=100)] = 1.0
    from_: Position | None = None
    recording: Annotated[int, Meta(ge=1, le=1_000)] | None = None
    gaps: bool = False
    cursor: Annotated[str, Meta(max_length=24)] | None = None
    ticket: Annotated[str, Meta(max_length=64)] | None = None
    expires: Expires | None = None
    signature: Signature | None = None


class Frames(Struct, frozen=True):
    """The frames that an API prints: those of a live stream, and `gap` and `end` of a replay."""

    format: StreamEncoder
    gap: Callable[[Millis, Millis], bytes]
    end: Callable[[Cursor, Millis], bytes]


class Stretch(Struct, frozen=True):
    """The rows to replay: those after `after`, up to and including `upto`. `at` is the time at which the replay's clock
    starts.

    `resumes` is the client's valid cursor and the cursor of the last row. `lost`: the client sent a cursor that is not
    valid."""

    after: int
    upto: int
    at: Millis
    resumes: tuple[Cursor, Cursor] | None = None
    lost: bool = False


@refuses(
    bad_signature=403,
    bad_ticket=401,
    expired=403,
    invalid=422,
    kicked=403,
    not_joined=403,
    unauthenticated=401,
    unknown_recording=404,
    unknown_session=404,
)
async def replay(parts: ReplayParts, call: Call[object, ReplayQuery], frames: Frames) -> Playing:
    """Return a replay of a session or a recording. Raise Problem 401, 403, 404, 422."""
    query = call.query
    session_id, ref = call.session_id, call.params["ref"]
    reader = await replay_reader(parts, call)
    stretch = await stretch_of(parts, call)
    state = await parts.records.state_at(session_id, stretch.after)
    if state is None:
        raise unknown_session(ref)

    async def check() -> None:
        if reader is not None:
            await require_membership(parts, Ask.HISTORY, session_id, reader, ref)

    viewer = NOBODY if reader is None else reader.user_id
    if reader is None:
        state.session.code = ""
    return Playing(play(parts, state, stretch, query, viewer, frames, periodic_recheck(check)), reader)


async def replay_reader(parts: ReplayParts, call: Call[object, ReplayQuery]) -> Principal | None:
    """Return the authenticated reader, or None for a valid signed URL. Raise Problem 401, 403, 404."""
    query = call.query
    if query.signature is not None or query.expires is not None:
        parts.urls.verify(replay_path(call.session_id, query.recording or 0), query.expires, query.signature)
        return None
    reader = call.caller
    if query.ticket is not None:
        reader = parts.tickets.redeem(query.ticket, call.session_id)
        reader.require_scope(call.session_id)
    if reader is None:
        raise unauthenticated("Send `Authorization: Bearer <access token>`, a `ticket`, or use a signed URL.")
    await require_membership(parts, Ask.HISTORY, call.session_id, reader, call.params["ref"])
    return reader


async def stretch_of(parts: ReplayParts, call: Call[object, ReplayQuery]) -> Stretch:
    """Return the rows that the query selects. Raise Problem 404 for an unknown recording, 422 for an invalid cursor."""
    query = call.query
    session_id, records = call.session_id, parts.records
    last = await records.last_seq(session_id)
    first, upto = 2, last
    begins_at = None
    if query.recording is not None:
        recording = await recording_named(parts, call, query.recording)
        first, upto = recording.first_seq, recording.last_seq or last
        begins_at = recording.started_at
    if (place := call.last_event_id or query.cursor) is not None:
        return await resumed(parts, call, place, first, upto)
    after, at = first - 1, None
    if query.from_ is not None and query.from_.endswith("s"):
        base = begins_at or await records.started(session_id)
        if base is not None:
            at = Millis(base + round(float(query.from_[:-1]) * 1000))
            after = max(after, await records.at_position(session_id, at, upto))
    elif query.from_ is not None:
        after = max(after, int(query.from_) - 1)
    after = min(after, upto)
    if at is None:
        at = (await parts.log.read(session_id, min(after, upto - 1), 1))[0].at
    return Stretch(after, upto, at)


async def resumed(parts: ReplayParts, call: Call, place: str, first: int, upto: int) -> Stretch:
    """Return the rows after a cursor, or all rows if the cursor is not one of this log. Raise Problem 422 if it is
    malformed."""
    cursor = Cursor.parse(place)
    if cursor is None:
        raise Problem(422, "invalid", "`cursor` must be `<epoch>-<seq>`, as in a frame's id.", field="cursor")
    if first - 1 <= cursor.seq <= upto and cursor.seq > 0:
        row = (await parts.log.read(call.session_id, cursor.seq - 1, 1))[0]
        if row.epoch == cursor.epoch:
            last = (await parts.log.read(call.session_id, upto - 1, 1))[0]
            return Stretch(cursor.seq, upto, row.at, (cursor, Cursor(last.epoch, upto)))
    row = (await parts.log.read(call.session_id, first - 2, 1))[0]
    return Stretch(first - 1, upto, row.at, lost=True)


async def play(
    parts: ReplayParts,
    state: State,
    stretch: Stretch,
    query: ReplayQuery,
    viewer: UserId,
    frames: Frames,
    checked: Callable[[], Awaitable[None]],
) -> AsyncGenerator[bytes, None]:
    """Yield the frames of a stretch, each when it is due. Raise SlotRevoked when the reader loses access."""
    loop = asyncio.get_running_loop()
    yield opening(state, stretch, viewer, frames)
    rows: deque[Recorded] = deque()
    read_at, due, before = 0.0, loop.time(), stretch.at

    async def fresh() -> None:
        """Read the next rows if there are none, and read them again if they are older than `FRESH_S`."""
        nonlocal rows, read_at
        if not rows or loop.time() - read_at > FRESH_S:
            part = await parts.records.part(state.session.id, after=state.seq, upto=stretch.upto, limit=REPLAY_ROWS)
            rows, read_at = deque(part), loop.time()

    while state.seq < stretch.upto:
        await fresh()
        await checked()
        at = rows[0].at
        wait, shortened = replay_pacing.pause(before, at, speed=query.speed, gaps=query.gaps)
        if shortened:
            yield frames.gap(before, at)
        due += wait
        while (ahead := due - loop.time()) > 0:
            await asyncio.sleep(min(ahead, CHECK_S))
            await checked()
        await fresh()
        row = rows.popleft()
        machine.apply(state, row)
        before = row.at
        if frame := shown(row, state, viewer, frames.format):
            yield frame
    yield frames.end(Cursor(state.epoch, state.seq), before)


def shown(row: Recorded, state: State, viewer: UserId, format: StreamEncoder) -> bytes | None:
    """Return the frame of a row, or None if the viewer may not see the event."""
    visible = outgoing(row, state).visible_to(viewer)
    return None if visible is None else format.event(visible, state)


def opening(state: State, stretch: Stretch, viewer: UserId, frames: Frames) -> bytes:
    """Return the first frames: `resumed` after a valid cursor, otherwise the state."""
    format, here = frames.format, Cursor(state.epoch, state.seq)
    if stretch.resumes is not None:
        since, to = stretch.resumes
        return format.resumed(since, to, to.seq - since.seq)
    place = state.participants.get(viewer)
    if place is not None and place.status == "waiting":
        # A reader who was in the lobby then has been admitted since. They get the public state.
        viewer = NOBODY
    shared: dict[Hashable, bytes] = {}
    body = format.snapshot(state, viewer, stretch.at, shared)
    reset = format.reset("unknown_cursor") if stretch.lost else b""
    return reset + format.first(here, body)
