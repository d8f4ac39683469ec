"""Synchronized playback: one track for everyone, and its position at any moment.

**Law:** a moving position is never stored. It is known at one instant, and computed for every other.
"""

from math import ceil

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require
from actors.session.state import Playback, State, Track


def position_at(playback: Playback, now: Millis) -> float:
    """Return the position in the track, in seconds, never past its end."""
    position = playback.position_s
    if playback.status == "playing":
        position += max(0, now - playback.at) / 1000 * playback.speed
    duration = playback.track.duration_s
    return position if duration is None else min(position, duration)


def track_end(state: State) -> Millis | None:
    """Return when the playing track reaches its end; None if it does not."""
    playback = state.playback
    if playback is None or playback.status != "playing" or playback.track.duration_s is None:
        return None
    left_s = max(0.0, playback.track.duration_s - playback.position_s) / playback.speed
    # Rounded up, so that the end has been reached at that instant; first to 6 digits, against rounding errors.
    return Millis(playback.at + ceil(round(left_s * 1000, 6)))


def track_ended(state: State, now: Millis) -> list[e.Event]:
    """Return the end of the playing track if it is due."""
    due = track_end(state)
    if due is None or now < due or state.playback is None:
        return []
    return [e.AudioEnded(audio_id=state.playback.track.audio_id, speed=state.playback.speed)]


def require_selected(state: State, by: c.Caller) -> Playback:
    """Return the selected playback. Raise Rejected if the caller may not control it, or none is selected."""
    require(state, by, "control_audio")
    if state.playback is None:
        raise Rejected(Reason.NO_AUDIO, "No audio is selected in this session; `select_audio` first.")
    return state.playback


def require_within(playback: Playback, position: float) -> float:
    """Return the position. Raise Rejected if it is past the end of the track."""
    duration = playback.track.duration_s
    if duration is not None and position > duration:
        raise Rejected(
            Reason.NOT_ALLOWED, f"`position` must not be past the end of the track, {duration:g} s.", field="position"
        )
    return position


def select_audio(state: State, command: c.SelectAudio, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "control_audio")
    track = by.tracks.get(command.audio_id)
    if track is None:
        raise Rejected(Reason.UNKNOWN_AUDIO, f"There is no audio {command.audio_id!r}.", field="audio_id")
    return [e.AudioSelected(audio_id=track.audio_id, title=track.title, duration=track.duration_s, number=track.number)]


def play(state: State, command: c.Play, by: c.Caller, now: Millis) -> list[e.Event]:
    playback = require_selected(state, by)
    position = position_at(playback, now) if command.position is None else require_within(playback, command.position)
    if command.position is None and position == playback.track.duration_s:
        position = 0.0
    speed = playback.speed if command.speed is None else command.speed
    if playback.status == "playing" and command.position is None and speed == playback.speed:
        return []
    track = playback.track
    return [e.AudioPlay(audio_id=track.audio_id, position=position, speed=speed, number=track.number)]


def pause(state: State, command: c.Pause, by: c.Caller, now: Millis) -> list[e.Event]:
    playback = require_selected(state, by)
    if playback.status != "playing":
        return []
    return [e.AudioPause(position=position_at(playback, now), speed=playback.speed)]


def seek(state: State, command: c.Seek, by: c.Caller, now: Millis) -> list[e.Event]:
    playback = require_selected(state, by)
    position, track = require_within(playback, command.position), playback.track
    return [e.AudioSeek(audio_id=track.audio_id, position=position, speed=playback.speed, number=track.number)]


def set_speed(state: State, command: c.SetSpeed, by: c.Caller, now: Millis) -> list[e.Event]:
    playback = require_selected(state, by)
    if command.speed == playback.speed:
        return []
    position, playing = position_at(playback, now), playback.status == "playing"
    return [e.AudioSpeed(position=position, speed=command.speed, playing=playing, number=playback.track.number)]


def stop(state: State, command: c.Stop, by: c.Caller, now: Millis) -> list[e.Event]:
    playback = require_selected(state, by)
    if playback.status == "stopped":
        return []
    return [e.AudioStop(audio_id=playback.track.audio_id, speed=playback.speed)]


def on_selected(state: State, event: e.AudioSelected, recorded: e.Recorded) -> None:
    track = Track(event.audio_id, event.title, event.duration, event.number)
    state.playback = Playback(track=track, status="stopped", position_s=0.0, speed=1.0, at=recorded.at)


def on_play(state: State, event: e.AudioPlay, recorded: e.Recorded) -> None:
    if playback := state.playback:
        playback.status, playback.speed = "playing", event.speed
        playback.position_s, playback.at = event.position, recorded.at


def on_pause(state: State, event: e.AudioPause, recorded: e.Recorded) -> None:
    if playback := state.playback:
        playback.status = "paused"
        playback.position_s, playback.at = event.position, recorded.at


def on_seek(state: State, event: e.AudioSeek, recorded: e.Recorded) -> None:
    if playback := state.playback:
        playback.position_s, playback.at = event.position, recorded.at
        if playback.status == "stopped":
            playback.status = "paused"


def on_speed(state: State, event: e.AudioSpeed, recorded: e.Recorded) -> None:
    if playback := state.playback:
        playback.position_s, playback.at = event.position, recorded.at
        playback.speed = event.speed


def on_stop(state: State, event: e.AudioStop, recorded: e.Recorded) -> None:
    stop_playback(state, recorded.at)


def on_track_end(state: State, event: e.AudioEnded, recorded: e.Recorded) -> None:
    stop_playback(state, recorded.at)


def stop_playback(state: State, at: Millis) -> None:
    """Stop the track, if there is one, and go back to its start."""
    if playback := state.playback:
        playback.status = "stopped"
        playback.position_s, playback.at = 0.0, at


HANDLERS = {
    c.SelectAudio: select_audio,
    c.Play: play,
    c.Pause: pause,
    c.Seek: seek,
    c.SetSpeed: set_speed,
    c.Stop: stop,
}
APPLIERS = {
    e.AudioSelected: on_selected,
    e.AudioPlay: on_play,
    e.AudioPause: on_pause,
    e.AudioSeek: on_seek,
    e.AudioSpeed: on_speed,
    e.AudioStop: on_stop,
    e.AudioEnded: on_track_end,
}
