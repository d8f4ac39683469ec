"""The answers of `seeds` about audio: tracks, and the state of playback."""

from typing import Any, Literal

from msgspec import Struct

from actors.session.aspects.playback import position_at
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.state import Playback, State
from server.dialects.seeds.views import naive, require_membership
from server.http.refusals import refuses
from server.usecases.audio.by_number import Piece
from server.usecases.call import Call


class AudioView(Struct, frozen=True, kw_only=True):
    """A track. `duration` is in seconds, null if the file does not state it."""

    audio_id: int
    title: str
    duration: float | None
    content_type: str
    size_bytes: int
    created_at: str
    stream_url: str


class Selected(Struct, frozen=True, kw_only=True):
    """The track that was selected."""

    ok: bool = True
    audio_id: int
    title: str


class PlaybackView(Struct, frozen=True, kw_only=True):
    """The state of playback at `server_time`. `position` and `duration` are in seconds."""

    audio_id: int | None
    title: str | None
    status: Literal["stopped", "playing", "paused"]
    speed: float
    position: float
    duration: float | None
    server_time: str


class Controlled(PlaybackView, frozen=True, kw_only=True):
    """The state of playback after a command."""

    ok: bool = True


def audio_view(track: Piece, call: Call) -> AudioView:
    """Return the view of a track."""
    return AudioView(
        audio_id=track.number,
        title=track.title,
        duration=track.duration_s,
        content_type=track.content_type,
        size_bytes=track.size_bytes,
        created_at=naive(track.created_at),
        stream_url=f"/audio/{track.number}/stream",
    )


def audio_list(tracks: list[Piece], call: Call) -> list[AudioView]:
    """Return the views of tracks."""
    return [audio_view(track, call) for track in tracks]


def playback_of(state: State) -> Playback:
    """Return the session's playback. Raise Rejected if no track is selected."""
    if state.playback is None:
        raise Rejected(Reason.NO_AUDIO, "No audio is selected in this session.")
    return state.playback


@refuses(no_audio=409)
def selected(state: State, call: Call) -> Selected:
    """Return the selected track. Raise Rejected if there is none."""
    track = playback_of(state).track
    return Selected(audio_id=track.number, title=track.title)


def playback_fields(state: State, now: Millis) -> dict[str, Any]:  # Any: JSON values
    """Return the fields of `PlaybackView` at `now`, the position to the millisecond."""
    playback = state.playback
    if playback is None:
        track, status, speed, position = None, "stopped", 1.0, 0.0
    else:
        track, status, speed = playback.track, playback.status, playback.speed
        position = position_at(playback, now)
    return {
        "audio_id": track and track.number, "title": track and track.title, "status": status, "speed": speed,
        "position": round(position, 3), "duration": track and track.duration_s, "server_time": naive(now),
    }  # fmt: skip


@refuses(kicked=403, not_joined=403, waiting=403)
def playback_view(state: State, call: Call) -> PlaybackView:
    """Return the state of playback. Raise Rejected if the caller is not in the session."""
    require_membership(state, call.principal.user_id)
    return PlaybackView(**playback_fields(state, call.now))


def controlled(state: State, call: Call) -> Controlled:
    """Return the state of playback after a command."""
    return Controlled(**playback_fields(state, call.now))
