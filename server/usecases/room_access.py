"""Access to a session's room, and its latest recording. A caller who was removed or waits in the lobby gets no access
to the room.
"""

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from actors.session.ids import Millis
from actors.session.state import Recording, Session, State
from server.http.problems import Problem, unknown_session
from server.http.refusals import refuses
from server.rooms.providers import DownloadLink, RoomFailed
from server.rooms.provisioning import Meeting, RoomProvisioner
from server.usecases.call import Call
from server.usecases.records import recordings
from server.usecases.records.recordings import RecordingParts
from storage.sessions import SessionMembership

Taping = Literal["in-progress", "processing", "finished", "failed"]


@dataclass(frozen=True, kw_only=True)
class RoomParts(RecordingParts):
    """Rooms and recordings of sessions."""

    rooms: RoomProvisioner


class Met(Struct, frozen=True):
    """A session, and the caller's access to its room. `meeting` is None if there is no room or the caller has no
    access."""

    session: Session
    meeting: Meeting | None

    @property
    def pass_(self) -> Meeting:
        """Return the caller's access to the room. Raise Problem 409 without a room."""
        if self.meeting is None:
            raise Problem(409, "no_room", "This session has no room.")
        return self.meeting


class Links(Struct, frozen=True):
    """URLs that need no token, until they expire."""

    download_url: str
    access_url: str
    expires_at: Millis


class LatestRecording(Struct, frozen=True):
    """The latest recording of a session. `links` is None until it is finished."""

    session_id: str
    recording: Recording
    status: Taping
    links: Links | None


@refuses(kicked=403, room_failed=502, unknown_session=404, waiting=403)
async def met(parts: RoomParts, call: Call) -> Met:
    """Return a session and the caller's access to its room. Raise Problem 403, 404, 502."""
    found = await place_of(parts, call)
    session = found.session
    # A caller who was removed or waits in the lobby must not enter through the room.
    if found.membership.status in ("kicked", "denied", "waiting") and session.owner_id != call.principal.user_id:
        reason = "waiting" if found.membership.status == "waiting" else "kicked"
        raise Problem(403, reason, "You have no access to this session's room.")
    return Met(session, await parts.rooms.meeting(session, call.principal, call.origin))


@refuses(room_failed=502, unknown_session=404)
async def met_as_owner(parts: RoomParts, call: Call) -> Met:
    """Return a session and, to its owner only, access to its room. Raise Problem 404."""
    session = await session_of(parts, call)
    if session.owner_id != call.principal.user_id:
        return Met(session, None)
    return await met_at_creation(parts, call, session)


@refuses(room_failed=502)
async def met_at_creation(parts: RoomParts, call: Call, made: State | Session) -> Met:
    """Return a session and its owner's access to its room. A provider that fails leaves `meeting` None."""
    session = made.session if isinstance(made, State) else made
    try:
        return Met(session, await parts.rooms.cached_meeting(session, call.principal, call.origin))
    except Problem:
        return Met(session, None)


async def session_of(parts: RoomParts, call: Call) -> Session:
    """Return the session of a call. Raise Problem 404."""
    return (await place_of(parts, call)).session


async def place_of(parts: RoomParts, call: Call) -> SessionMembership:
    """Return the session of a call and the caller's membership. Raise Problem 404."""
    found = await parts.sessions.find(call.session_id, call.principal.user_id)
    if found is None:
        raise unknown_session(call.params.get("ref", ""))
    return found


@refuses(not_recorded=404, room_failed=502)
async def latest_recording(parts: RoomParts, call: Call) -> LatestRecording:
    """Return a session's latest recording, with links once it is finished. Raise Problem 404, 502."""
    found = await recordings.recordings(parts, call)
    if not found:
        raise Problem(404, "not_recorded", "This session has not been recorded.")
    latest = found[-1]
    status = taping(latest)
    links = await linked(parts, call, latest) if status == "finished" else None
    return LatestRecording(call.session_id, latest, status, links)


def taping(recording: Recording) -> Taping:
    """Return a recording's status in the words of these APIs."""
    if recording.status == "failed":
        return "failed"
    if recording.stopped_at is None:
        return "in-progress"
    return "finished" if recording.status == "completed" else "processing"


@refuses(no_file=404, not_ready=409, room_failed=502, unknown_recording=404)
async def recording_file(parts: RoomParts, call: Call) -> DownloadLink:
    """Return the link to the file that the room's provider has recorded. Raise Problem 404, 409, 502."""
    recording = await recordings.recording_named(parts, call, call.params["recording"])
    if recording.provider is None:
        raise Problem(404, "no_file", "No provider of rooms has recorded this: see its archive.", field="recording")
    if recording.status != "completed" or recording.provider_id is None:
        raise Problem(409, "not_ready", f"{recording.provider}'s recording is {recording.status}.", field="recording")
    return await provider_link(parts, recording.provider, recording.provider_id)


async def provider_link(parts: RoomParts, provider: str, recording_id: str) -> DownloadLink:
    """Return a provider's link to its recording. Links expire, so they are never stored. Raise Problem 502."""
    try:
        return await parts.rooms.provider(provider).link(recording_id)
    except RoomFailed as failed:
        raise Problem(502, "room_failed", f"The recording's link is not to be had: {failed.why}") from failed


async def linked(parts: RoomParts, call: Call, recording: Recording) -> Links:
    """Return the links to a finished recording: the provider's, or a signed URL of the archive. Raise Problem 502."""
    if recording.provider is not None and recording.provider_id is not None:
        link = await provider_link(parts, recording.provider, recording.provider_id)
        return Links(link.url, link.url, link.expires_at)
    expires = parts.urls.expiry()
    path = recordings.archive_path(call.session_id, recording.recording_id)
    url = call.origin + parts.urls.signed(path, expires)
    return Links(url, url, Millis(expires * 1000))
