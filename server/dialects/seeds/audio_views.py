"""What `seeds` answers about audio: pieces, and where what is on stands."""

from typing import Any, Literal

from msgspec import Struct

from actors.session.aspects.playback import position_at
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.state import Playback, State
from server.dialects.seeds.views import inside, naive
from server.usecases.audio.by_number import Piece
from server.usecases.call import Call


class AudioView(Struct, frozen=True, kw_only=True):
    """`duration` in seconds; null where the content does not say."""

    audio_id: int
    title: str
    duration: float | None
    content_type: str
    size_bytes: int
    created_at: str
    stream_url: str


class Selected(Struct, frozen=True, kw_only=True):
    ok: bool = True
    audio_id: int
    title: str


class PlaybackView(Struct, frozen=True, kw_only=True):
    """Where what is on stands at `server_time`; `position` and `duration` in seconds."""

    audio_id: int | None
    title: str | None
    status: Literal["stopped", "playing", "paused"]
    speed: float
    position: float
    duration: float | None
    server_time: str


class Controlled(PlaybackView, frozen=True, kw_only=True):
    ok: bool = True


def piece(found: Piece, call: Call) -> AudioView:
    return AudioView(
        audio_id=found.number,
        title=found.title,
        duration=found.duration_s,
        content_type=found.content_type,
        size_bytes=found.size_bytes,
        created_at=naive(found.created_at),
        stream_url=f"/audio/{found.number}/stream",
    )


def pieces(found: list[Piece], call: Call) -> list[AudioView]:
    return [piece(one, call) for one in found]


def on(state: State) -> Playback:
    """Raises: Rejected."""
    if state.playback is None:
        raise Rejected(Reason.NO_AUDIO, "No audio is selected in this session.")
    return state.playback


def selected(state: State, call: Call) -> Selected:
    track = on(state).track
    return Selected(audio_id=track.number, title=track.title)


def standing(state: State, now: Millis) -> dict[str, Any]:
    playback = state.playback
    if playback is None:
        track, stands = None, ("stopped", 1.0, 0.0)
    else:
        track, stands = playback.track, (playback.status, playback.speed, position_at(playback, now))
    status, speed, position = stands
    return {
        "audio_id": track and track.number, "title": track and track.title, "status": status, "speed": speed,
        "position": round(position, 3), "duration": track and track.duration_s, "server_time": naive(now),
    }  # fmt: skip


def playback(state: State, call: Call) -> PlaybackView:
    inside(state, call.principal.user_id)
    return PlaybackView(**standing(state, call.now))


def controlled(state: State, call: Call) -> Controlled:
    return Controlled(**standing(state, call.now))
