"""Recordings: intervals of the session's own timeline, read from the log. They need no recorder.

If the session's room is at a provider that records too, the interval also stands for the provider's recording, and the
provider reports its status: late, twice, or out of order.
"""

from collections.abc import Callable

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require
from actors.session.state import Recording, RecordingStatus, State

MAX_RECORDINGS = 500
CLOCKS_MS = 2_000
"""How far a provider's clock may be behind ours. Some providers send whole seconds."""


def running(state: State) -> Recording | None:
    """Return the recording that has not been stopped; None if none is running."""
    latest = state.recordings[-1] if state.recordings else None
    return latest if latest is not None and latest.stopped_at is None else None


def start_recording(state: State, command: c.StartRecording, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "record")
    if not state.session.features.recording:
        raise Rejected(Reason.FEATURE_OFF, "Recording is switched off in this session.")
    if running(state) is not None:
        raise Rejected(Reason.RECORDING, "A recording is already running; stop it first.")
    if len(state.recordings) >= MAX_RECORDINGS:
        raise Rejected(Reason.TOO_MANY, f"A session has at most {MAX_RECORDINGS} recordings.")
    room = state.session.room
    return [e.RecordingStarted(len(state.recordings) + 1, None if room is None else room.recorder)]


def stop_recording(state: State, command: c.StopRecording, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "record")
    recording = running(state)
    if recording is None:
        raise Rejected(Reason.NOT_RECORDING, "No recording is running; start one first.")
    return [stopped_event(recording, now)]


def stopped_event(recording: Recording, now: Millis) -> e.RecordingStopped:
    """Return the end of a recording at `now`."""
    return e.RecordingStopped(recording_id=recording.recording_id, duration_ms=max(0, now - recording.started_at))


def stop_running(state: State, now: Millis) -> list[e.Event]:
    """Return the end of a running recording, for a session that ends."""
    recording = running(state)
    return [] if recording is None else [stopped_event(recording, now)]


def report_recording(state: State, command: c.ReportRecording, by: c.Caller, now: Millis) -> list[e.Event]:
    """Record what a provider reports. A recording that has ended at the provider ends here too."""
    recording = reported_recording(state, command)
    if recording is None:
        return []
    status = next_status(recording.status, command.status)
    if status == "completed" and command.status == "failed":
        return []
    reported = {"provider_id": command.provider_id, "duration_ms": command.duration_ms, "s3_key": command.s3_key}
    if status == "failed":
        reported["reason"] = command.reason
    changed = {name: value for name, value in reported.items() if value not in (None, getattr(recording, name))}
    if status == recording.status and not changed:
        return []
    over = status != "processing" and recording.stopped_at is None
    return [
        *([stopped_event(recording, now)] if over else []),
        e.RecordingUpdated(recording_id=recording.recording_id, status=status, **changed),  # type: ignore[arg-type]
    ]


def reported_recording(state: State, command: c.ReportRecording) -> Recording | None:
    """Return the recording that a provider reports on; None if it is not one of this session's."""
    provided = [recording for recording in state.recordings if recording.provider is not None]

    def latest(matches: Callable[[Recording], bool]) -> Recording | None:
        return next(filter(matches, reversed(provided)), None)

    if command.recording_id is not None:
        return latest(lambda one: one.recording_id == command.recording_id)
    provider_id, at = command.provider_id, command.at
    if provider_id is not None and (known := latest(lambda one: one.provider_id == provider_id)):
        return known
    # A recording with another provider id is not meant. A failure without an id is of one that is still processing.
    open_ = [one for one in provided if (one.provider_id is None if provider_id else one.status == "processing")]
    begun = [one for one in open_ if at is None or one.started_at <= at + CLOCKS_MS]
    return begun[-1] if begun else open_[0] if open_ else None


def next_status(status: RecordingStatus, reported: RecordingStatus) -> RecordingStatus:
    """Return the status after a report. `completed` is final; until then a reported failure may turn out wrong."""
    return status if status == "completed" or reported == "processing" else reported


def on_started(state: State, event: e.RecordingStarted, recorded: e.Recorded) -> None:
    state.recordings.append(
        Recording(
            recording_id=event.recording_id,
            user_id=recorded.actor_id or state.session.owner_id,
            started_at=recorded.at,
            first_seq=recorded.seq,
            status="processing",
            provider=event.provider,
        )
    )


def on_stopped(state: State, event: e.RecordingStopped, recorded: e.Recorded) -> None:
    recording = state.recordings[event.recording_id - 1]
    recording.stopped_at, recording.last_seq = recorded.at, recorded.seq
    recording.duration_ms = event.duration_ms
    if recording.provider is None:
        recording.status = "completed"


def on_updated(state: State, event: e.RecordingUpdated, recorded: e.Recorded) -> None:
    recording = state.recordings[event.recording_id - 1]
    recording.status = event.status
    recording.reason = (event.reason or recording.reason) if event.status == "failed" else None
    for name in ("provider_id", "duration_ms", "s3_key"):
        if (reported := getattr(event, name)) is not None:
            setattr(recording, name, reported)


HANDLERS = {c.StartRecording: start_recording, c.StopRecording: stop_recording, c.ReportRecording: report_recording}
APPLIERS = {e.RecordingStarted: on_started, e.RecordingStopped: on_stopped, e.RecordingUpdated: on_updated}
