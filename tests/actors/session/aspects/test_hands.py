"""Raised hands: a fair queue."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason
from tests.support.script import (
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    HUGO,
    OLAF,
    START,
    TEACHER,
    class_of,
    does,
    features,
    given,
    grants,
    joins,
    passes,
    staff,
)


def test_raising_and_lowering_ones_hand() -> None:
    script = given(class_of(ANN)).when(c.RaiseHand(), by=ANN, after=3).then(e.HandRaised(user_id=ANN.user_id))
    assert script.state.hands == {ANN.user_id: START + 3}
    script.when(c.RaiseHand(), by=ANN, after=3).then()
    script.when(c.LowerHand(), by=ANN).then(e.HandLowered(user_id=ANN.user_id))
    script.when(c.LowerHand(), by=ANN).then()


def test_only_those_in_class_raise_a_hand() -> None:
    script = given(class_of(ANN), does(ANN, c.Leave()), features(lobby=True), joins(BEN))
    script.when(c.RaiseHand(), by=ANN).rejected(Reason.NOT_JOINED)
    script.when(c.RaiseHand(), by=BEN).rejected(Reason.WAITING)
    script.when(c.RaiseHand(), by=EVE).rejected(Reason.NOT_JOINED)
    given(does(TEACHER, c.Start())).when(c.RaiseHand(), by=TEACHER).rejected(Reason.NOT_JOINED)


def test_observers_may_raise_a_hand_it_is_how_they_ask_for_the_word() -> None:
    given(class_of(), staff()).when(c.RaiseHand(), by=OLAF).then(e.HandRaised(user_id=OLAF.user_id))


def test_when_hands_are_switched_off_the_queue_can_still_be_emptied() -> None:
    script = given(class_of(ANN, BEN), does(ANN, c.RaiseHand()), features(hands=False))
    script.when(c.RaiseHand(), by=BEN).rejected(Reason.FEATURE_OFF)
    script.when(c.CallNext(), by=TEACHER).then(e.HandCalled(user_id=ANN.user_id))


def test_the_first_raised_hand_is_called_first() -> None:
    script = given(class_of(ANN, BEN, CAT), does(BEN, c.RaiseHand()), passes(1), does(ANN, c.RaiseHand()))
    script.given(does(CAT, c.RaiseHand()), does(BEN, c.LowerHand(), c.RaiseHand()))
    for one in (ANN, CAT, BEN):
        script.when(c.CallNext(), by=TEACHER).then(e.HandCalled(user_id=one.user_id))
    script.when(c.CallNext(), by=TEACHER).rejected(Reason.QUEUE_EMPTY)


def test_leaving_and_being_removed_lower_ones_hand_and_coming_back_does_not_raise_it() -> None:
    script = given(class_of(ANN, BEN, CAT), [does(one, c.RaiseHand()) for one in (ANN, BEN, CAT)])
    script.given(does(ANN, c.Leave()), does(TEACHER, c.Kick(BEN.user_id)), joins(ANN, BEN))
    assert list(script.state.hands) == [CAT.user_id]


def test_a_lost_connection_keeps_the_position_in_the_queue_for_the_grace_time() -> None:
    script = given(class_of(ANN), does(ANN, c.Connect(), c.RaiseHand(), c.Disconnect(), c.Connect()))
    assert list(script.state.hands) == [ANN.user_id]


def test_moderators_lower_the_hands_of_those_they_have_a_say_over() -> None:
    script = given(class_of(ANN, BEN), staff(), [does(one, c.RaiseHand()) for one in (ANN, HUGO)])
    script.when(c.LowerHand(ANN.user_id), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.LowerHand(HUGO.user_id), by=CORA).rejected(Reason.NOT_PERMITTED)
    script.when(c.LowerHand(EVE.user_id), by=CORA).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")
    script.when(c.LowerHand(ANN.user_id), by=CORA).then(e.HandLowered(user_id=ANN.user_id))
    script.when(c.LowerHand(ANN.user_id), by=CORA).then()


def test_emptying_the_queue() -> None:
    script = given(class_of(ANN, BEN), [does(one, c.RaiseHand()) for one in (ANN, BEN)])
    script.when(c.LowerAll(), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.LowerAll(), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.LowerAll(), by=TEACHER).then(e.HandsLowered(user_ids=[ANN.user_id, BEN.user_id]))
    assert script.state.hands == {}
    script.when(c.LowerAll(), by=TEACHER).then()


def test_who_may_call() -> None:
    script = given(class_of(ANN), does(ANN, c.RaiseHand()))
    script.when(c.CallNext(), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.CallNext(), by=EVE).rejected(Reason.NOT_JOINED)
    script.given(grants(ANN, "moderate")).when(c.CallNext(), by=ANN).then(e.HandCalled(user_id=ANN.user_id))
