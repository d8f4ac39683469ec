"""Attendance: a fold over presence events. Scripts for what it says, Hypothesis for its laws."""

from hypothesis import given as hypothesis_given
from hypothesis import settings
from hypothesis import strategies as st

from actors.session import commands as c
from actors.session import machine, replay_pacing
from actors.session.attendance import INTERVALS, Attendance, ParticipantAttendance
from actors.session.ids import Millis
from actors.session.state import FeaturesUpdate
from tests.support.script import ANN, BEN, CAT, GRACE, SECOND, START, TEACHER, Script, does, given, joins, passes

MINUTE = 60 * SECOND
LATE = 5 * MINUTE


def attendance(script: Script) -> Attendance:
    fold = Attendance()
    for recorded in script.log:
        fold.add(recorded)
    return fold


def line_of(script: Script, one: c.Caller, *, tolerance_ms: int = LATE) -> ParticipantAttendance:
    lines = attendance(script).lines(script.now, tolerance_ms=tolerance_ms)
    return next(line for line in lines if line.user_id == one.user_id)


def spans(line: ParticipantAttendance, since: int = START) -> list[tuple[int, int]]:
    """Intervals in seconds from the session's start."""
    return [((i.since - since) // SECOND, (i.until - since) // SECOND) for i in line.intervals]


def hour(*steps: object) -> Script:
    """An hour of class, and what happens in it."""
    script = given(*joins(TEACHER), *steps)  # type: ignore[arg-type]
    script.wait(START + 60 * MINUTE - script.now)
    return script.given(*does(TEACHER, c.End()))


def test_who_is_there_all_the_time() -> None:
    line = line_of(hour(joins(ANN)), ANN)
    assert spans(line) == [(0, 3600)]
    assert (line.present_ms, line.share, line.late, line.left_early) == (60 * MINUTE, 1.0, False, False)
    assert (line.first_joined_at, line.last_left_at) == (START, START + 60 * MINUTE)
    assert (line.name, line.role, line.status, line.kicked) == ("Ann", "member", "left", False)


def test_late_and_early_by_more_than_the_tolerance() -> None:
    script = hour(
        passes(LATE), joins(ANN), passes(1), joins(BEN),
        passes(50 * MINUTE - 1), does(ANN, c.Leave()), passes(1), does(BEN, c.Leave()),
    )  # fmt: skip
    assert (line_of(script, ANN).late, line_of(script, BEN).late) == (False, True)
    assert (line_of(script, ANN).left_early, line_of(script, BEN).left_early) == (False, False)
    assert line_of(script, BEN, tolerance_ms=4 * MINUTE).left_early is True


def test_coming_back_within_the_grace_time_is_no_interruption() -> None:
    script = hour(
        joins(ANN, BEN), passes(10 * MINUTE), does(ANN, c.Leave()), does(BEN, c.Leave()),
        passes(GRACE), joins(ANN), passes(1), joins(BEN),
    )  # fmt: skip
    assert spans(line_of(script, ANN)) == [(0, 3600)]
    assert [i.since for i in line_of(script, BEN).intervals] == [START, START + 10 * MINUTE + GRACE + 1]


def test_a_lost_connection_ends_when_it_was_lost() -> None:
    script = hour(
        does(ANN, c.Connect(join=True)), passes(10 * MINUTE), does(ANN, c.Disconnect()), passes(20 * MINUTE),
        does(ANN, c.Connect()),
    )  # fmt: skip
    assert spans(line_of(script, ANN)) == [(0, 600), (1800, 3600)]


def test_a_lost_connection_that_comes_back_in_time_is_none() -> None:
    script = hour(
        does(ANN, c.Connect(join=True)), passes(10 * MINUTE), does(ANN, c.Disconnect()), passes(GRACE - 1),
        does(ANN, c.Connect()),
    )  # fmt: skip
    assert spans(line_of(script, ANN)) == [(0, 3600)]


def test_lost_just_before_the_end_counts_up_to_then() -> None:
    script = given(does(TEACHER, c.Connect(join=True)), does(ANN, c.Connect(join=True)), passes(MINUTE))
    script.given(does(ANN, c.Disconnect()), passes(GRACE // 2), does(TEACHER, c.End()))
    assert spans(line_of(script, ANN)) == [(0, 60)]


def test_before_the_start_nothing_counts() -> None:
    script = given(does(TEACHER, c.Invite(ANN.user_id)), joins(ANN), passes(10 * MINUTE))
    assert (line_of(script, ANN).intervals, line_of(script, ANN).late) == ((), None)
    script.given(does(TEACHER, c.Start()), passes(MINUTE), does(ANN, c.Leave()), does(TEACHER, c.End()))
    line = line_of(script, ANN)
    assert spans(line, START + 10 * MINUTE) == [(0, 60)]
    assert (line.late, line.first_joined_at) == (False, START)


def test_a_user_who_was_only_invited_or_denied_has_a_line_without_time() -> None:
    script = hour(
        does(TEACHER, c.Update(features=FeaturesUpdate(lobby=True)), c.Invite(CAT.user_id)),
        joins(ANN, BEN), does(TEACHER, c.Deny(BEN.user_id)),
    )  # fmt: skip
    for one, status in ((ANN, "left"), (BEN, "denied"), (CAT, "invited")):
        line = line_of(script, one)
        assert (line.status, line.present_ms, line.share, line.late, line.left_early) == (status, 0, 0.0, None, None)


def test_kicked_and_back() -> None:
    script = hour(
        joins(ANN), does(TEACHER, c.SetRole(ANN.user_id, "cohost")), passes(10 * MINUTE),
        does(TEACHER, c.Kick(ANN.user_id)),
    )  # fmt: skip
    line = line_of(script, ANN)
    assert (spans(line), line.kicked, line.status, line.role) == ([(0, 600)], True, "kicked", "member")
    assert line.left_early is True


def test_while_it_is_live_time_counts_up_to_now() -> None:
    script = given(joins(TEACHER, ANN), passes(MINUTE), does(ANN, c.Leave()), passes(MINUTE))
    ann, teacher = line_of(script, ANN), line_of(script, TEACHER)
    assert (ann.present_ms, ann.share, ann.left_early) == (MINUTE, 0.5, None)
    assert (teacher.present_ms, teacher.share, teacher.last_left_at) == (2 * MINUTE, 1.0, None)


def test_intervals_past_the_bound_count_unlisted() -> None:
    script = given(joins(TEACHER))
    fold = attendance(script)
    for number in range(INTERVALS + 5):
        at = Millis(START + number * MINUTE)
        script.now = at
        for command, after in ((c.Join(), 0), (c.Leave(), 30 * SECOND)):
            script.now = Millis(at + after)
            events = machine.decide(script.state, command, ANN, script.now)
            rows = machine.record(script.log[0].session_id, 1, script.state.seq, script.now, ANN.user_id, events)
            for recorded in rows:
                machine.apply(script.state, recorded)
                fold.add(recorded)
    line = fold.line(ANN.user_id, script.now, tolerance_ms=LATE)
    assert line is not None
    assert (len(line.intervals), line.intervals_left_out) == (INTERVALS, 5)
    assert line.present_ms == (INTERVALS + 5) * 30 * SECOND


def test_rhythm_keeps_pauses_and_cuts_silences() -> None:
    at = Millis(START + 30_000)
    assert replay_pacing.pause(START, at, speed=1, gaps=False) == (30.0, False)
    assert replay_pacing.pause(START, Millis(at + 1), speed=1, gaps=False) == (2.0, True)
    assert replay_pacing.pause(START, Millis(at + 1), speed=2, gaps=False) == (1.0, True)
    assert replay_pacing.pause(START, Millis(at + 10_000), speed=4, gaps=True) == (10.0, False)
    assert replay_pacing.pause(at, START, speed=1, gaps=False) == (0.0, False)


# Laws, whatever people do

WHAT = st.sampled_from(
    [
        c.Join(),
        c.Leave(),
        c.Connect(join=True),
        c.Connect(),
        c.Disconnect(),
        c.LoseConnections([ANN.user_id, BEN.user_id]),
    ]
)
STEPS = st.lists(st.tuples(st.sampled_from([TEACHER, ANN, BEN]), WHAT, st.integers(0, 3 * GRACE)), max_size=30)


@settings(deadline=None)
@hypothesis_given(STEPS, st.booleans())
def test_laws(steps: list[tuple[c.Caller, c.Command, int]], ends: bool) -> None:
    script = given()
    for by, command, after in steps:
        script.wait(after)
        if script.when(command, by=by).answer and isinstance(script.answer, list):
            script.take(script.answer)
    if ends and script.state.session.status == "live":
        script.given(does(TEACHER, c.End()))
    fold = attendance(script)
    session = script.state.session
    end = script.now if session.ended_at is None else session.ended_at
    lines = fold.lines(script.now, tolerance_ms=LATE)
    assert [line.user_id for line in lines] == list(script.state.participants)
    for line in lines:
        place = script.state.participants[line.user_id]
        assert (line.status, line.role, line.number, line.name) == (place.status, place.role, place.number, place.name)
        assert line.present_ms == sum(i.until - i.since for i in line.intervals)
        assert 0 <= line.share <= 1
        before = None
        for interval in line.intervals:
            assert session.started_at is not None
            assert session.started_at <= interval.since < interval.until <= end
            assert before is None or interval.since - before > session.grace_ms, "a reconnect within grace is none"
            before = interval.until
