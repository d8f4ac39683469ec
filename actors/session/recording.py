"""Recording with nothing else installed: an interval of the session's own timeline, read from the log."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require
from actors.session.state import Recording, State

HELD = 500


def running(state: State) -> Recording | None:
    """Find the recording that has not been stopped: the latest, if any."""
    latest = state.recordings[-1] if state.recordings else None
    return latest if latest is not None and latest.stopped_at is None else None


def start_recording(state: State, command: c.StartRecording, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "record")
    if not state.session.features.recording:
        raise Rejected(Reason.FEATURE_OFF, "Recording is switched off in this session.")
    if running(state) is not None:
        raise Rejected(Reason.RECORDING, "A recording is running already.")
    if len(state.recordings) >= HELD:
        raise Rejected(Reason.TOO_MANY, f"A session holds at most {HELD} recordings.")
    return [e.RecordingStarted(recording_id=len(state.recordings) + 1)]


def stop_recording(state: State, command: c.StopRecording, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "record")
    recording = running(state)
    if recording is None:
        raise Rejected(Reason.NOT_RECORDING, "No recording is running.")
    return [stopped(recording, now)]


def stopped(recording: Recording, now: Millis) -> e.RecordingStopped:
    return e.RecordingStopped(recording_id=recording.recording_id, duration_ms=max(0, now - recording.started_at))


def finish(state: State, now: Millis) -> list[e.Event]:
    """Give the end of a running recording, for a session that ends."""
    recording = running(state)
    return [] if recording is None else [stopped(recording, now)]


def on_started(state: State, event: e.RecordingStarted, recorded: e.Recorded) -> None:
    state.recordings.append(
        Recording(
            recording_id=event.recording_id,
            user_id=recorded.actor_id or state.session.owner_id,
            started_at=recorded.at,
            first_seq=recorded.seq,
        )
    )


def on_stopped(state: State, event: e.RecordingStopped, recorded: e.Recorded) -> None:
    recording = state.recordings[event.recording_id - 1]
    recording.stopped_at, recording.last_seq = recorded.at, recorded.seq


HANDLERS = {c.StartRecording: start_recording, c.StopRecording: stop_recording}
APPLIERS = {e.RecordingStarted: on_started, e.RecordingStopped: on_stopped}
