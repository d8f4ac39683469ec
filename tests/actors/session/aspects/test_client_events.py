"""What clients note in the log, and what is passed on without being kept."""

from typing import Any

import pytest

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import client_events
from actors.session.commands import snake_case
from actors.session.errors import Reason
from actors.session.state import Track
from tests.support.script import (
    ANN,
    AUDIO,
    BEN,
    CAT,
    CORA,
    EVE,
    OLAF,
    SESSION,
    TEACHER,
    class_of,
    does,
    features,
    given,
    joins,
    revokes,
    staff,
)


def test_noting_something() -> None:
    script = given(class_of(ANN)).when(c.LogEvent(event_type="error", data={"code": 7}), by=ANN)
    before = machine.snapshot(script.state)
    script.then(e.EventLogged(event_type="error", data={"code": 7}))
    script.state.seq -= 1
    assert machine.snapshot(script.state) == before, "kept by the log alone"


def test_which_types_depend_on_the_kind() -> None:
    lesson = given(class_of(ANN), kind="lesson")
    lesson.when(c.LogEvent(event_type="export_board"), by=ANN).then(e.EventLogged(event_type="export_board", data={}))
    given(class_of(ANN)).when(c.LogEvent(event_type="export_board"), by=ANN).rejected(Reason.NOT_ALLOWED, "event_type")
    for forged in ("participant_joined", "session_ended"):
        given(class_of(ANN)).when(c.LogEvent(event_type=forged), by=ANN).rejected(Reason.NOT_ALLOWED, "event_type")


def test_types_clients_may_note_are_never_the_machines_own() -> None:
    own = {snake_case(event.__name__) for event in machine.APPLIERS}
    assert all(not types & own for types in client_events.EVENT_TYPES.values())


@pytest.mark.parametrize(
    ("command", "field"),
    [
        (c.LogEvent(event_type="error", data={"a": "x" * 4_089}), "data"),
        (c.MoveCursor(position={"a": "ü" * 2_045}), "position"),
        (c.Signal(to=TEACHER.user_id, payload="x" * 16_383), "payload"),
    ],
)
def test_a_payload_that_is_too_large_is_refused(command: c.Command, field: str) -> None:
    given(class_of(ANN)).when(command, by=ANN).rejected(Reason.TOO_LARGE, field)


def test_a_payload_of_the_largest_size_is_accepted() -> None:
    data = {"a": "x" * 4_088}
    given(class_of(ANN)).when(c.LogEvent(event_type="error", data=data), by=ANN).then(e.EventLogged("error", data))


@pytest.mark.parametrize("payload", [None, 0, "", [], {"sdp": "…"}])
def test_a_signal_is_passed_on_as_it_is(payload: Any) -> None:
    given(class_of(ANN, BEN)).when(c.Signal(to=BEN.user_id, payload=payload), by=ANN).then(
        e.SignalSent(BEN.user_id, payload)
    )


def test_signals_go_to_participants_and_the_owner() -> None:
    script = given(joins(ANN), does(TEACHER, c.Start()), features(lobby=True), joins(CAT))
    script.when(c.Signal(to=TEACHER.user_id, payload=1), by=ANN).then(e.SignalSent(TEACHER.user_id, 1))
    script.when(c.Signal(to=BEN.user_id, payload=1), by=ANN).rejected(Reason.UNKNOWN_PARTICIPANT, "to")
    script.when(c.Signal(to=CAT.user_id, payload=1), by=ANN).rejected(Reason.UNKNOWN_PARTICIPANT, "to")


def test_pointing_and_writing() -> None:
    script = given(class_of(ANN))
    script.when(c.MoveCursor(position={"x": 1}), by=ANN).then(e.CursorMoved({"x": 1}))
    script.when(c.Typing(), by=ANN).then(e.TypingChanged())
    script.when(c.Typing(active=False), by=ANN).then(e.TypingChanged(active=False))


def test_an_upload_for_a_session_is_logged() -> None:
    noted = e.AudioUploaded(audio_id=AUDIO, title="Song", duration=60.0, number=7)
    command = c.LogAudioUpload(Track(AUDIO, "Song", 60.0, 7))
    script = given(class_of(ANN), staff())
    script.when(command, by=TEACHER).then(noted)
    for one in (ANN, CORA):
        script.when(command, by=one).rejected(Reason.NOT_PERMITTED)
    # An upload takes its time: the session may be over by then.
    given(class_of(ANN), does(TEACHER, c.End())).when(command, by=TEACHER).then(noted)


def test_typing_needs_the_permission_to_chat() -> None:
    script = given(class_of(ANN), staff(), revokes(ANN, "chat"))
    for one in (ANN, OLAF):
        script.when(c.Typing(), by=one).rejected(Reason.NOT_PERMITTED)


def test_outsiders_neither_note_nor_pass_on_anything() -> None:
    script = given(class_of(ANN), features(lobby=True), joins(BEN))
    commands = (
        c.LogEvent(event_type="error"),
        c.Signal(to=ANN.user_id, payload=1),
        c.MoveCursor(position={}),
        c.Typing(),
    )
    for command in commands:
        script.when(command, by=EVE).rejected(Reason.NOT_JOINED)
        script.when(command, by=BEN).rejected(Reason.WAITING)


def test_relayed_events_are_never_recorded() -> None:
    durable = e.SessionLocked()
    rows = machine.record(SESSION, 1, 4, given().now, None, [e.TypingChanged(), durable, e.CursorMoved({}), durable])
    assert [(row.seq, row.event) for row in rows] == [(5, durable), (6, durable)]
