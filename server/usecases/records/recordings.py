"""Recordings: intervals of a session's timeline, which archives and replays read.

**Law:** an archive, or a replay through a signed URL, contains only what everyone in the session could see: no direct
messages, nothing about the lobby or about content that waits for approval, and no authors of anonymous events. A replay
to an authenticated reader contains what that reader's own stream would have contained.
"""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct, structs

from actors.session.ids import Millis, SessionId
from actors.session.state import Recording, Room, Session, State
from server.http.pagination import Listed
from server.http.problems import Problem
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.rooms.recording_poll import RecordingPoller
from server.security.signed_urls import UrlSigner
from server.usecases.call import Call
from server.usecases.session_access import SessionParts, read_state

Signature = Annotated[str, Meta(max_length=128)]


Expires = Annotated[int, Meta(ge=0, lt=1 << 40)]


@dataclass(frozen=True, kw_only=True)
class RecordingParts(SessionParts):
    """Recordings of sessions."""

    recording_poller: RecordingPoller
    urls: UrlSigner
    """Of recordings."""


class RecordingRead(Struct, frozen=True):
    """A recording, its session, and the time of the read."""

    session: Session
    recording: Recording
    now: Millis


class Linked(Struct, frozen=True):
    """A recording, and the signed URLs that give access to it without a token."""

    found: RecordingRead
    download_url: str
    replay_url: str
    expires_at: Millis


class SignedQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    expires: Expires | None = None
    signature: Signature | None = None


def archive_path(session_id: SessionId, recording_id: int) -> str:
    """Return the path of a recording's archive, which a signed URL signs."""
    return f"/v1/sessions/{session_id}/recordings/{recording_id}/archive"


def replay_path(session_id: SessionId, recording_id: int) -> str:
    """Return the path of a recording's replay, which a signed URL signs."""
    return f"/v1/sessions/{session_id}/replay?recording={recording_id}"


async def list_recordings(parts: RecordingParts, call: Call) -> Listed:
    """Return the recordings of a session, oldest first. Raise Problem 404, 503."""
    session = call.card.session
    now = now_millis()
    return Listed([RecordingRead(session, recording, now) for recording in await recordings(parts, call)], None)


async def recordings(parts: RecordingParts, call: Call) -> list[Recording]:
    """Return the recordings of a session, oldest first. Overdue ones are first asked for at their provider. Raise
    Problem 404, 503."""

    def seen(state: State) -> tuple[Room | None, list[Recording]]:
        return state.session.room, [structs.replace(recording) for recording in state.recordings]

    ref = call.params["ref"]
    room, found = await read_state(parts, call.session_id, ref, seen)
    if await parts.recording_poller.ask(call.session_id, room, found):
        _, found = await read_state(parts, call.session_id, ref, seen)
    return list(found)


async def recording_named(parts: RecordingParts, call: Call, recording_id: str | int) -> Recording:
    """Return the recording with this id. Raise Problem 404, 503."""
    for recording in await recordings(parts, call):
        if str(recording.recording_id) == str(recording_id):
            return recording
    raise Problem(404, "unknown_recording", f"There is no recording {recording_id!r}.", field="recording")


@refuses(unknown_recording=404)
async def find_recording(parts: RecordingParts, call: Call) -> Linked:
    """Return the recording that the path names, with signed URLs. Raise Problem 404, 503."""
    session = call.card.session
    recording = await recording_named(parts, call, call.params["recording"])
    urls, expires = parts.urls, parts.urls.expiry()
    return Linked(
        RecordingRead(session, recording, now_millis()),
        call.origin + urls.signed(archive_path(session.id, recording.recording_id), expires),
        call.origin + urls.signed(replay_path(session.id, recording.recording_id), expires),
        Millis(expires * 1000),
    )
