"""Synchronized playback: where the track stands, for whoever asks and whenever."""

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects.playback import position_at, track_end
from actors.session.errors import Reason
from actors.session.ids import MessageId, Millis
from actors.session.state import VoiceNote
from tests.support.script import (
    ANN,
    AUDIO,
    EVE,
    SECOND,
    SERVER,
    SONG,
    START,
    TEACHER,
    UNKNOWN,
    UNMEASURED,
    Script,
    Steps,
    class_of,
    does,
    given,
    grants,
    joins,
    knowing,
    passes,
)


def plays(*steps: Steps) -> Script:
    """A class that has been listening to the song for ten seconds."""
    return given(class_of(ANN), does(TEACHER, c.SelectAudio(AUDIO), c.Play()), passes(10 * SECOND), list(steps))


def position(script: Script) -> float:
    assert script.state.playback is not None
    return position_at(script.state.playback, script.now)


def status(script: Script) -> str:
    assert script.state.playback is not None
    return script.state.playback.status


def test_selecting_puts_a_track_on_at_its_start() -> None:
    script = given(class_of(ANN)).when(c.SelectAudio(AUDIO), by=TEACHER)
    script.then(e.AudioSelected(audio_id=AUDIO, title=SONG.title, duration=60.0, number=7))
    assert (status(script), position(script)) == ("stopped", 0)
    assert track_end(script.state) is None


def test_audio_that_is_selected_before_the_start_stays_selected() -> None:
    script = given(does(TEACHER, c.SelectAudio(AUDIO))).when(c.Play(), by=TEACHER)
    script.rejected(Reason.NOT_LIVE)
    script.given(joins(TEACHER)).when(c.Play(), by=TEACHER).then(
        e.AudioPlay(audio_id=AUDIO, position=0.0, speed=1.0, number=7)
    )


def test_audio_that_is_not_in_the_library_cannot_be_selected() -> None:
    given(class_of()).when(c.SelectAudio(UNKNOWN), by=TEACHER).rejected(Reason.UNKNOWN_AUDIO, field="audio_id")


@pytest.mark.parametrize("command", [c.Play(), c.Pause(), c.Seek(1.0), c.SetSpeed(2.0), c.Stop()])
def test_with_nothing_on_there_is_nothing_to_control(command: c.Command) -> None:
    given(class_of()).when(command, by=TEACHER).rejected(Reason.NO_AUDIO)


@pytest.mark.parametrize("command", [c.SelectAudio(AUDIO), c.Play(), c.Pause(), c.Seek(1.0), c.SetSpeed(2.0), c.Stop()])
def test_who_controls_it(command: c.Command) -> None:
    script = plays()
    script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(command, by=EVE).rejected(Reason.NOT_JOINED)
    script.given(grants(ANN, "control_audio"), does(knowing(ANN), command))


# Where it stands


def test_it_moves_with_the_clock() -> None:
    script = plays()
    assert position(script) == 10
    assert position(script.given(passes(250))) == 10.25


def test_pause_holds_it_and_play_goes_on_from_there() -> None:
    script = plays().when(c.Pause(), by=TEACHER).then(e.AudioPause(position=10.0))
    assert position(script.given(passes(5 * SECOND))) == 10
    script.when(c.Pause(), by=TEACHER).then()
    script.when(c.Play(), by=TEACHER).then(e.AudioPlay(audio_id=AUDIO, position=10.0, speed=1.0, number=7))
    assert position(script.given(passes(SECOND))) == 11


def test_play_while_playing_is_so_already() -> None:
    script = plays().when(c.Play(), by=TEACHER).then()
    script.when(c.Play(speed=1.0), by=TEACHER).then()
    script.when(c.Play(position=3.0), by=TEACHER).then(e.AudioPlay(audio_id=AUDIO, position=3.0, speed=1.0, number=7))


def test_speed_changes_the_pace_from_now_on() -> None:
    script = (
        plays().when(c.SetSpeed(2.0), by=TEACHER).then(e.AudioSpeed(position=10.0, speed=2.0, playing=True, number=7))
    )
    assert position(script.given(passes(10 * SECOND))) == 30
    script.when(c.SetSpeed(2.0), by=TEACHER).then()
    script.given(does(TEACHER, c.SetSpeed(0.5)))
    assert position(script.given(passes(10 * SECOND))) == 35
    script.when(c.Pause(), by=TEACHER).then(e.AudioPause(position=35.0, speed=0.5))
    script.when(c.Seek(7.0), by=TEACHER).then(e.AudioSeek(audio_id=AUDIO, position=7.0, speed=0.5, number=7))
    script.when(c.Play(), by=TEACHER).then(e.AudioPlay(audio_id=AUDIO, position=7.0, speed=0.5, number=7))


def test_seek_while_it_plays_and_while_it_does_not() -> None:
    script = plays().when(c.Seek(40.0), by=TEACHER).then(e.AudioSeek(audio_id=AUDIO, position=40.0, number=7))
    assert position(script.given(passes(SECOND))) == 41
    script.given(does(TEACHER, c.Stop(), c.Seek(5.0)))
    assert (status(script), position(script)) == ("paused", 5)


def test_past_the_end_there_is_nothing() -> None:
    for command in (c.Seek(60.1), c.Play(position=60.1)):
        plays().when(command, by=TEACHER).rejected(Reason.NOT_ALLOWED, field="position")


def test_stop_goes_back_to_the_start() -> None:
    script = plays().when(c.Stop(), by=TEACHER).then(e.AudioStop(audio_id=AUDIO))
    assert (status(script), position(script)) == ("stopped", 0)
    script.when(c.Stop(), by=TEACHER).then()


# The end


def test_the_end_of_the_track_is_an_event_at_the_right_moment() -> None:
    script = given(class_of(), does(TEACHER, c.SelectAudio(AUDIO), c.Play(position=20.5, speed=2.0)))
    assert track_end(script.state) == machine.deadline(script.state) == START + 19_750
    script.now = Millis(START + 19_749)
    script.when(c.Tick(), by=SERVER).then()
    script.now = Millis(START + 19_750)
    script.when(c.Tick(), by=SERVER).then(e.AudioEnded(audio_id=AUDIO, speed=2.0))
    assert (status(script), position(script)) == ("stopped", 0)
    assert machine.deadline(script.state) is None


@pytest.mark.parametrize("speed", [0.5, 0.7, 1.0, 1.3, 1.9, 2.0])
def test_at_every_speed_it_has_been_reached_then_and_not_before(speed: float) -> None:
    script = given(class_of(), does(TEACHER, c.SelectAudio(AUDIO), c.Play(position=0.1, speed=speed)))
    end, playing = track_end(script.state), script.state.playback
    assert end is not None
    assert playing is not None
    assert position_at(playing, end) == pytest.approx(60)
    assert position_at(playing, Millis(end - 1)) < 60
    assert position_at(playing, Millis(end + SECOND)) <= 60


def test_no_end_is_due_while_it_does_not_play() -> None:
    for command in (c.Pause(), c.Stop(), c.SelectAudio(AUDIO)):
        assert machine.deadline(plays(does(TEACHER, command)).state) is None


def test_seeking_to_the_end_ends_it() -> None:
    script = plays(does(TEACHER, c.Seek(60.0))).when(c.Tick(), by=SERVER)
    script.then(e.AudioEnded(audio_id=AUDIO))


def test_play_at_the_end_starts_over() -> None:
    script = plays(does(TEACHER, c.Pause(), c.Seek(60.0))).when(c.Play(), by=TEACHER)
    script.then(e.AudioPlay(audio_id=AUDIO, position=0.0, speed=1.0, number=7))


def test_a_track_of_unknown_length_plays_on() -> None:
    script = given(class_of(), does(TEACHER, c.SelectAudio(UNMEASURED), c.Play(), c.Seek(3_000.0)))
    assert machine.deadline(script.state) is None
    assert position(script.given(passes(60 * SECOND))) == 3_060


def test_a_late_participant_gets_the_same_position() -> None:
    script = plays(joins(EVE))
    late = machine.restored(machine.snapshot(script.state))
    assert late.playback == script.state.playback
    assert position(script.given(passes(2 * SECOND))) == 12


def test_the_end_of_the_session_stops_it() -> None:
    script = plays(does(TEACHER, c.End()))
    assert (status(script), position(script)) == ("stopped", 0)
    assert machine.deadline(script.state) is None


def test_events_have_the_number_of_the_audio() -> None:
    script = given(class_of(ANN)).when(c.SelectAudio(AUDIO), by=TEACHER)
    script.then(e.AudioSelected(audio_id=AUDIO, title=SONG.title, duration=60.0, number=7))
    script.when(c.SetSpeed(2.0), by=TEACHER).then(e.AudioSpeed(position=0.0, speed=2.0, number=7))
    script.when(c.Play(), by=TEACHER).then(e.AudioPlay(audio_id=AUDIO, position=0.0, speed=2.0, number=7))
    script.when(c.Seek(5.0), by=TEACHER).then(e.AudioSeek(audio_id=AUDIO, position=5.0, speed=2.0, number=7))
    script.when(c.SetSpeed(1.0), by=TEACHER)
    script.then(e.AudioSpeed(position=5.0, speed=1.0, playing=True, number=7))
    script.when(c.SendVoice(AUDIO), by=TEACHER)
    script.then(e.ChatMessage(message_id=MessageId(1), text="", voice=VoiceNote(AUDIO, 60.0, 7)))
