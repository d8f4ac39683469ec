"""Several commands as one, and several events as one creation."""

import pytest
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.aspects.code import LIMIT_BYTES
from actors.session.errors import Reason, Rejected
from tests.support.script import ANN, KNOWN, SESSION, START, TEACHER, class_of, creation, given, joins


def test_several_commands_are_carried_out_together_or_not_at_all() -> None:
    both = c.Together([c.Update(title="Physics 102"), c.Start()])
    given().when(both, by=TEACHER).then(e.SessionUpdated(title="Physics 102"), e.SessionStarted())
    # The second is decided on what the first has made: nobody starts a session that has just been cancelled.
    given().when(c.Together([c.Cancel(), c.Start()]), by=TEACHER).rejected(Reason.CANCELLED)
    given(joins(TEACHER)).when(c.Together([c.Lock(), c.Cancel()]), by=TEACHER).rejected(Reason.NOT_SCHEDULED)
    given(class_of(ANN)).when(c.Together([c.RaiseHand(), c.Lock()]), by=ANN).rejected(Reason.NOT_PERMITTED)


def test_a_session_can_begin_live_with_its_owner_in_it() -> None:
    create = structs.replace(creation(), live=True, owner_status="joined")
    events = lifecycle.create(create, TEACHER, START)
    assert [type(event) for event in events] == [e.SessionCreated, e.SessionStarted, e.ParticipantJoined]
    state = machine.replay(machine.record(SESSION, 1, 0, START, TEACHER.user_id, events))
    assert (state.session.status, state.session.joined, state.hosts, state.emptied_at) == ("live", 1, 1, None)


def test_a_session_can_begin_with_people_invited() -> None:
    teacher = structs.replace(TEACHER, people=KNOWN, number=7)
    create = structs.replace(creation(), owner_status="invited", invited=[ANN.user_id])
    state = machine.replay(
        machine.record(SESSION, 1, 0, START, TEACHER.user_id, lifecycle.create(create, teacher, START))
    )
    places = [(one.user_id, one.number, one.user_number, one.status) for one in state.participants.values()]
    assert places == [(TEACHER.user_id, 1, 7, "invited"), (ANN.user_id, 2, 0, "invited")]
    assert state.session.owner_number == 7


def test_a_session_can_begin_with_code() -> None:
    create = structs.replace(creation(), text="print()", text_language="python")
    events = lifecycle.create(create, TEACHER, START)
    assert events[1:] == [e.LanguageChanged("python"), e.CodeEdited(version=1, text="print()")]
    state = machine.replay(machine.record(SESSION, 1, 0, START, TEACHER.user_id, events))
    code = state.code
    assert (code.text, code.language, code.version, code.edited_by) == ("print()", "python", 1, TEACHER.user_id)
    assert state.at == START
    plain = structs.replace(creation(), text_language="javascript")
    assert len(lifecycle.create(plain, TEACHER, START)) == 1
    with pytest.raises(Rejected):
        lifecycle.create(structs.replace(create, text="x" * (LIMIT_BYTES + 1)), TEACHER, START)


def test_a_frame_of_a_client_s_own_is_relayed_and_not_kept() -> None:
    script = given(class_of(ANN))
    script.when(c.Relay("scroll", {"top": 3}), by=ANN).then(e.Relayed("scroll", {"top": 3}))
    script.when(c.Relay("scroll", {"x": "y" * 20_000}), by=ANN).rejected(Reason.TOO_LARGE, "data")
    given(joins(TEACHER)).when(c.Relay("scroll", {}), by=ANN).rejected(Reason.NOT_JOINED)
