"""Presence over streams that open, close and are lost."""

from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.errors import Reason
from actors.session.ids import UserId
from actors.session.state import Participant
from tests.support.script import (  # fmt: skip
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    GRACE,
    HUGO,
    OLAF,
    SERVER,
    START,
    TEACHER,
    class_of,
    does,
    features,
    given,
    joined_event,
    joins,
    kicks,
    loses_connection,
    online_event,
    passes,
    person,
    without_code,
)


def test_the_first_stream_is_being_online_and_the_last_ones_end_is_being_away() -> None:
    script = given(class_of(ANN)).when(c.Connect(), by=ANN).then(online_event(ANN))
    script.when(c.Connect(), by=ANN).then()
    script.when(c.Disconnect(), by=ANN, after=5).then(e.ParticipantOffline(user_id=ANN.user_id))
    script.when(c.Disconnect(), by=ANN).then()
    assert script.state.away == {ANN.user_id: START + 5}
    assert script.state.session.online == 0
    assert machine.deadline(script.state) == START + 5 + GRACE


def test_a_reconnect_within_the_grace_time_is_no_departure() -> None:
    script = given(class_of(ANN), does(ANN, c.Connect(), c.Disconnect()))
    script.when(c.Tick(), by=SERVER, after=GRACE - 1).then()
    script.when(c.Connect(), by=ANN).then(online_event(ANN))
    assert machine.deadline(script.state) is None
    script.when(c.Tick(), by=SERVER, after=GRACE).then()


def test_after_the_grace_time_a_participant_left_when_the_stream_was_lost() -> None:
    script = given(class_of(ANN), does(ANN, c.Connect(), c.RaiseHand()), passes(70), does(ANN, c.Disconnect()))
    left = e.ParticipantLeft(user_id=ANN.user_id, reason="gone", last_seen=script.now)
    script.when(c.Tick(), by=SERVER, after=GRACE).then(left)
    assert script.participant(ANN).left_at == START + 70
    assert script.state.hands == {}
    script.when(c.Connect(), by=without_code(ANN)).then(joined_event(ANN), online_event(ANN))


def test_each_participant_has_a_separate_grace_time() -> None:
    people = [does(one, c.Connect()) for one in (ANN, BEN, CAT)]
    script = given(class_of(ANN, BEN, CAT), people, does(BEN, c.Disconnect()))
    script.given(passes(4), does(ANN, c.Disconnect()), passes(4), does(CAT, c.Disconnect()))
    assert list(script.state.away) == [BEN.user_id, ANN.user_id, CAT.user_id]
    script.given(passes(GRACE - 4))
    assert list(script.state.away) == [CAT.user_id]
    assert machine.deadline(script.state) == START + 8 + GRACE


def test_a_participant_who_left_on_purpose_has_to_join_again() -> None:
    script = given(class_of(ANN), does(ANN, c.Connect(), c.Leave()))
    script.when(c.Connect(), by=ANN).rejected(Reason.NOT_JOINED)
    script.when(c.Connect(join=True), by=ANN).then(joined_event(ANN), online_event(ANN))


def test_a_full_session_does_not_readmit_after_a_lost_connection() -> None:
    script = given(class_of(ANN), loses_connection(ANN), joins(BEN), capacity=2)
    script.when(c.Connect(), by=ANN).rejected(Reason.FULL)


def test_strangers_have_no_stream() -> None:
    given(class_of()).when(c.Connect(), by=EVE).rejected(Reason.NOT_JOINED)
    given().when(c.Connect(), by=TEACHER).then()
    given().when(c.Disconnect(), by=TEACHER).then()


def test_when_a_server_is_lost_its_people_have_the_grace_time_to_come_back() -> None:
    script = given(class_of(ANN, BEN, CAT), does(ANN, c.Connect()), does(BEN, c.Connect()))
    everyone = [ANN.user_id, BEN.user_id, CAT.user_id, UserId("nobody")]
    script.when(c.LoseConnections(everyone), by=SERVER, after=6)
    script.then(e.ConnectionsLost(user_ids=[ANN.user_id, BEN.user_id]))
    script.when(c.LoseConnections(everyone), by=SERVER).then()
    script.when(c.Connect(), by=ANN).then(online_event(ANN))
    script.given(passes(GRACE))
    assert (script.participant(ANN).status, script.participant(BEN).status, script.participant(CAT).status) == (
        "joined", "left", "joined",
    )  # fmt: skip


def test_who_may_open_a_stream_of_a_closed_session() -> None:
    lobby = [features(lobby=True), joins(CAT), joins(CORA), does(TEACHER, c.Deny(CORA.user_id))]
    invited = does(TEACHER, c.Invite(HUGO.user_id))
    script = given(class_of(ANN, BEN, EVE), does(BEN, c.Leave()), kicks(EVE), lobby, invited)
    script.given(does(TEACHER, c.End()))
    for one in (TEACHER, ANN, BEN):
        script.when(c.Connect(), by=one).then()
    for stranger in (CAT, CORA, HUGO, OLAF):
        script.when(c.Connect(join=True), by=stranger).rejected(Reason.NOT_JOINED)
    script.when(c.Connect(), by=EVE).rejected(Reason.KICKED)
    script.when(c.Disconnect(), by=ANN).then()


def test_numbers_count_the_roster() -> None:
    script = given(class_of(ANN), does(TEACHER, c.Invite(BEN.user_id)), joins(CAT), kicks(CAT), joins(BEN, EVE))
    numbers = [place.number for place in script.state.participants.values()]
    assert numbers == [1, 2, 3, 4, 5]


def test_a_participant_has_the_facts_of_the_joining_event() -> None:
    newcomer = structs.replace(person("Zoë"), has_invitation=True)
    script = given(class_of(newcomer))
    assert script.participant(newcomer) == Participant(
        user_id=newcomer.user_id, number=2, name="Zoë", role="member", status="joined", joined_at=START
    )
