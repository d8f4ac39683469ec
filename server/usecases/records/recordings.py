"""Recordings and replay: an interval of a session's own timeline, as an archive to keep and as a stream to watch.

**Law:** an archive, and whatever a signed URL leads to, holds what everyone in the session could see: no direct
messages, nothing of the lobby or of what waits for approval, and of anonymous events not who. A replay shows a reader
who says who they are what their own stream would have shown them.
"""

from typing import Annotated

from msgspec import Meta, Struct, structs

from actors.session.ids import Millis, SessionId
from actors.session.state import Recording, Room, Session, State
from server.http.pagination import Listed
from server.http.problems import Problem
from server.http.refusals import refuses
from server.http.timestamps import now_millis
from server.usecases.call import Call
from server.usecases.services import Services

Signature = Annotated[str, Meta(max_length=128)]


Expires = Annotated[int, Meta(ge=0, lt=1 << 40)]


class Found(Struct, frozen=True):
    """A recording, in its session."""

    session: Session
    recording: Recording
    now: Millis


class Linked(Struct, frozen=True):
    """A recording, and the URLs that lead to it for whoever has them."""

    found: Found
    download_url: str
    replay_url: str
    expires_at: Millis


class SignedQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    expires: Expires | None = None
    signature: Signature | None = None


def archive_path(session_id: SessionId, recording_id: int) -> str:
    return f"/v1/sessions/{session_id}/recordings/{recording_id}/archive"


def replay_path(session_id: SessionId, recording_id: int) -> str:
    return f"/v1/sessions/{session_id}/replay?recording={recording_id}"


async def list_recordings(services: Services, call: Call) -> Listed:
    session = call.card.session
    now = now_millis()
    return Listed([Found(session, recording, now) for recording in await recordings(services, call)], None)


async def recordings(services: Services, call: Call) -> list[Recording]:
    """Read a session's recordings, having asked their provider about those that it should have spoken of by now."""

    def seen(state: State) -> tuple[Room | None, list[Recording]]:
        return state.session.room, [structs.replace(recording) for recording in state.recordings]

    ref = call.params["ref"]
    room, found = await services.look(call.session_id, ref, seen)
    if await services.recording_poller.ask(call.session_id, room, found):
        _, found = await services.look(call.session_id, ref, seen)
    return list(found)


async def recording_named(services: Services, call: Call, recording_id: str | int) -> Recording:
    """Raises: Problem 404."""
    for recording in await recordings(services, call):
        if str(recording.recording_id) == str(recording_id):
            return recording
    raise Problem(404, "unknown_recording", f"There is no recording {recording_id!r}.", field="recording")


@refuses(unknown_recording=404)
async def find_recording(services: Services, call: Call) -> Linked:
    session = call.card.session
    recording = await recording_named(services, call, call.params["recording"])
    urls, expires = services.urls, services.urls.expiry()
    return Linked(
        Found(session, recording, now_millis()),
        call.origin + urls.signed(archive_path(session.id, recording.recording_id), expires),
        call.origin + urls.signed(replay_path(session.id, recording.recording_id), expires),
        Millis(expires * 1000),
    )
