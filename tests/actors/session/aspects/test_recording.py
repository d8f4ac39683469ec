"""Recording: intervals of the log, one at a time."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects.recording import MAX_RECORDINGS, running
from actors.session.errors import Reason
from tests.support.script import (
    ANN,
    CORA,
    EVE,
    SECOND,
    SERVER,
    TEACHER,
    class_of,
    does,
    features,
    given,
    has_role,
    passes,
    says,
)


def test_an_interval_of_the_log() -> None:
    script = given(class_of(ANN)).when(c.StartRecording(), by=TEACHER).then(e.RecordingStarted(recording_id=1))
    first = script.state.seq
    script.given(says(ANN), passes(5 * SECOND)).when(c.StopRecording(), by=TEACHER)
    script.then(e.RecordingStopped(recording_id=1, duration_ms=5 * SECOND))
    recording = script.state.recordings[0]
    assert (recording.first_seq, recording.last_seq) == (first, script.state.seq)
    assert (recording.user_id, recording.stopped_at) == (TEACHER.user_id, script.now)
    script.when(c.StartRecording(), by=TEACHER).then(e.RecordingStarted(recording_id=2))


def test_one_at_a_time() -> None:
    script = given(class_of()).when(c.StopRecording(), by=TEACHER).rejected(Reason.NOT_RECORDING)
    script.given(does(TEACHER, c.StartRecording())).when(c.StartRecording(), by=TEACHER).rejected(Reason.RECORDING)


def test_who_may() -> None:
    script = given(class_of(ANN), has_role(CORA, "cohost"), does(CORA, c.StartRecording()))
    for command in (c.StartRecording(), c.StopRecording()):
        script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
        script.when(command, by=EVE).rejected(Reason.NOT_JOINED)


def test_when_recording_is_switched_off_a_running_one_can_be_stopped() -> None:
    script = given(class_of(), does(TEACHER, c.StartRecording()), features(recording=False))
    script.when(c.StopRecording(), by=TEACHER).then(e.RecordingStopped(recording_id=1, duration_ms=0))
    script.when(c.StartRecording(), by=TEACHER).rejected(Reason.FEATURE_OFF)


def test_a_session_holds_so_many() -> None:
    script = given(class_of(), does(TEACHER, c.StartRecording(), c.StopRecording()))
    script.state.recordings *= MAX_RECORDINGS
    script.when(c.StartRecording(), by=TEACHER).rejected(Reason.TOO_MANY)


def test_the_end_of_the_session_ends_it_first() -> None:
    script = given(class_of(), does(TEACHER, c.StartRecording()), passes(SECOND)).when(c.End(), by=TEACHER)
    script.then(e.RecordingStopped(recording_id=1, duration_ms=SECOND), e.SessionEnded(reason="host"))
    assert running(script.state) is None


def test_whatever_ends_the_session() -> None:
    script = given(class_of(), does(TEACHER, c.StartRecording())).when(c.Delete(), by=TEACHER)
    stopped = e.RecordingStopped(recording_id=1, duration_ms=0)
    script.then(stopped, e.SessionEnded(reason="host"), e.SessionDeleted())
    script = given(class_of(), does(TEACHER, c.StartRecording()), ttl=60)
    script.when(c.Tick(), by=SERVER, after=60 * SECOND)
    script.then(e.RecordingStopped(recording_id=1, duration_ms=60 * SECOND), e.SessionEnded(reason="expired"))
