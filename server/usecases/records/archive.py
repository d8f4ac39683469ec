"""Archives of recordings: a recording as a file of lines, for every holder of its signed URL. An archive contains only
what everyone in the session could see.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from msgspec import Struct

from actors.commit import outgoing
from actors.session import events as e
from actors.session import machine
from actors.session.ids import SessionId
from actors.session.state import State, VoiceNote
from actors.session.visibility import NOBODY, VisibleEvent
from server.http.problems import unknown_session
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.usecases.call import Call, Download
from server.usecases.records.recordings import RecordingParts, RecordingRead, SignedQuery, archive_path, recording_named
from server.usecases.session_access import HistoryParts
from storage.log.history import ROWS_PER_TURN

TRACKS = 1_000
"""The most audio ids that an archive lists."""


@dataclass(frozen=True, kw_only=True)
class ArchiveParts(HistoryParts, RecordingParts):
    """Recordings and the logs that they are intervals of."""


class Archive(Struct, frozen=True):
    """The lines that an API prints of an archive: one about the recording, and one per event."""

    head: Callable[["ArchiveHead"], bytes]
    row: Callable[[VisibleEvent], bytes]


class ArchiveHead(Struct, frozen=True):
    """The first line of an archive: the recording, and the session's public state when the recording began."""

    recording: RecordingRead
    state: State
    chat_count: int
    audio_ids: list[str]
    """The selected and the sent audio, in order of first use."""


@refuses(bad_signature=403, expired=403, unknown_recording=404, unknown_session=404)
async def archive(parts: ArchiveParts, call: Call[object, SignedQuery], lines: Archive) -> Download:
    """Return a recording as a download, one line per event.

    Raise Problem 403 for a wrong or expired signature, 404 for an unknown session or recording."""
    query = call.query
    resource = archive_path(call.session_id, recording_number(call.params["recording"]))
    parts.urls.verify(resource, query.expires, query.signature)
    recording = await recording_named(parts, call, call.params["recording"])
    first = recording.first_seq
    upto = recording.last_seq or await parts.records.last_seq(call.session_id)
    state = await parts.records.state_at(call.session_id, first - 1)
    if state is None:
        raise unknown_session(call.params["ref"])
    # The join code admits people to the session, and archives are often passed on.
    state.session.code = ""
    audio_ids = await audio_in(parts, call.session_id, state, first, upto)
    head = ArchiveHead(
        RecordingRead(state.session, recording, now_millis()),
        state,
        await parts.records.chat_count(call.session_id, first - 1),
        audio_ids,
    )

    async def body() -> AsyncGenerator[bytes, None]:
        yield lines.head(head)
        async with contextlib.aclosing(parts.records.parts(call.session_id, after=first - 1, upto=upto)) as batches:
            async for rows in batches:
                shown = []
                for index, row in enumerate(rows):
                    machine.apply(state, row)
                    if (visible := outgoing(row, state).visible_to(NOBODY)) is not None:
                        shown.append(lines.row(visible))
                    if index % ROWS_PER_TURN == ROWS_PER_TURN - 1:
                        await asyncio.sleep(0)
                if shown:
                    yield b"".join(shown)

    return Download(f"{state.session.name}-{recording.recording_id}.ndjson", "application/x-ndjson", body(), None)


def recording_number(text: str) -> int:
    """Return a recording's number from a path, or 0, which is no recording's number."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


async def audio_in(parts: ArchiveParts, session_id: SessionId, state: State, first: int, upto: int) -> list[str]:
    """Return the ids of the audio of a recording, at most `TRACKS`: selected when it began, selected later, or sent to
    everyone as a voice message."""
    found = {} if state.playback is None else {state.playback.track.audio_id: None}
    types = (e.AudioSelected, e.ChatMessage)
    reading = parts.records.parts(session_id, after=first - 1, upto=upto, types=types)
    async with contextlib.aclosing(reading) as batches:
        async for rows in batches:
            for row in rows:
                match row.event:
                    case e.AudioSelected(audio_id=audio_id):
                        found[audio_id] = None
                    case e.ChatMessage(voice=VoiceNote(audio_id=audio_id), to=None):
                        found[audio_id] = None
            if len(found) >= TRACKS:
                break
    return list(found)[:TRACKS]
