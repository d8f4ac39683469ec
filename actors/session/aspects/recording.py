"""Recording with nothing else installed: an interval of the session's own timeline, read from the log.

Where the session's room is at a provider that records too, the interval stands for that recording as well. Its status
is then the provider's to say: late, twice, or in another order than it happened.
"""

from collections.abc import Callable

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import require
from actors.session.state import Recording, RecordingStatus, State

HELD = 500
CLOCKS_MS = 2_000
"""By how much a provider's clock may be behind; some of their times are in whole seconds."""


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
    room = state.session.room
    return [e.RecordingStarted(len(state.recordings) + 1, None if room is None else room.records)]


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


def report(state: State, command: c.ReportRecording, by: c.Caller, now: Millis) -> list[e.Event]:
    """Take in what a provider says. One that is over there is over here, too."""
    recording = meant(state, command)
    if recording is None:
        return []
    status = advanced(recording.status, command.status)
    if status == "completed" and command.status == "failed":
        return []
    said = {"provider_id": command.provider_id, "duration_ms": command.duration_ms, "s3_key": command.s3_key}
    if status == "failed":
        said["reason"] = command.reason
    news = {name: value for name, value in said.items() if value not in (None, getattr(recording, name))}
    if status == recording.status and not news:
        return []
    over = status != "processing" and recording.stopped_at is None
    return [
        *([stopped(recording, now)] if over else []),
        e.RecordingUpdated(recording_id=recording.recording_id, status=status, **news),  # type: ignore[arg-type]
    ]


def meant(state: State, command: c.ReportRecording) -> Recording | None:
    """Find the recording that a provider speaks of; None: it is none of ours."""
    theirs = [recording for recording in state.recordings if recording.provider is not None]

    def only(wanted: Callable[[Recording], bool]) -> Recording | None:
        return next(filter(wanted, reversed(theirs)), None)

    if command.recording_id is not None:
        return only(lambda one: one.recording_id == command.recording_id)
    provider_id, at = command.provider_id, command.at
    if provider_id is not None and (known := only(lambda one: one.provider_id == provider_id)):
        return known
    # One that it has named is not another; what fails, having no name, is one that has not come to its end.
    open_ = [one for one in theirs if (one.provider_id is None if provider_id else one.status == "processing")]
    begun = [one for one in open_ if at is None or one.started_at <= at + CLOCKS_MS]
    return begun[-1] if begun else open_[0] if open_ else None


def advanced(status: RecordingStatus, said: RecordingStatus) -> RecordingStatus:
    """Say what a status becomes. A file that is there stays; until then whoever reported a failure may be wrong."""
    return status if status == "completed" or said == "processing" else said


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
        if (said := getattr(event, name)) is not None:
            setattr(recording, name, said)


HANDLERS = {c.StartRecording: start_recording, c.StopRecording: stop_recording, c.ReportRecording: report}
APPLIERS = {e.RecordingStarted: on_started, e.RecordingStopped: on_stopped, e.RecordingUpdated: on_updated}
