"""Muting: participants themselves, others, everyone; and asking to unmute."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason
from actors.session.ids import UserId
from tests.support.script import (  # fmt: skip
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    HUGO,
    OLAF,
    TEACHER,
    class_of,
    does,
    given,
    grants,
    joined_event,
    revokes,
    staff,
)


def test_participants_mute_themselves_and_moderators_others() -> None:
    script = given(class_of(ANN, BEN))
    script.when(c.Mute(), by=ANN).then(e.ParticipantMuted(user_id=ANN.user_id))
    script.when(c.Mute(), by=ANN).then()
    script.when(c.Mute(ANN.user_id), by=ANN).then()
    script.when(c.Mute(BEN.user_id), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.Mute(BEN.user_id), by=TEACHER).then(e.ParticipantMuted(user_id=BEN.user_id))
    script.when(c.Unmute(), by=ANN).then(e.ParticipantUnmuted(user_id=ANN.user_id))
    script.when(c.Unmute(), by=ANN).then()
    script.when(c.Unmute(BEN.user_id), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.Unmute(BEN.user_id), by=TEACHER).then(e.ParticipantUnmuted(user_id=BEN.user_id))


def test_muting_needs_a_present_participant_of_no_higher_role() -> None:
    script = given(class_of(ANN), staff(), does(ANN, c.Leave()))
    for command in (c.Mute, c.Unmute):
        script.when(command(ANN.user_id), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")
        script.when(command(HUGO.user_id), by=CORA).rejected(Reason.NOT_PERMITTED)
        script.when(command(TEACHER.user_id), by=HUGO).rejected(Reason.NOT_PERMITTED)
        script.when(command(), by=EVE).rejected(Reason.NOT_JOINED)


def test_a_participant_who_may_not_speak_does_not_unmute() -> None:
    script = given(class_of(ANN), revokes(ANN, "speak"), does(ANN, c.Mute()))
    script.when(c.Unmute(), by=ANN).rejected(Reason.NOT_PERMITTED)
    given(class_of(), staff()).when(c.Unmute(), by=OLAF).rejected(Reason.NOT_PERMITTED)


def test_the_muted_come_back_muted_and_the_event_says_so() -> None:
    script = given(class_of(EVE), does(TEACHER, c.Mute(EVE.user_id)), does(EVE, c.Leave()))
    script.when(c.Join(), by=EVE).then(joined_event(EVE, muted=True))
    assert script.participant(EVE).muted


def test_mute_on_join_is_for_students() -> None:
    script = given(class_of(), mute_on_join=True).when(c.Join(), by=ANN).then(joined_event(ANN, muted=True))
    assert not script.participant(TEACHER).muted
    script.given(does(ANN, c.Unmute(), c.Leave())).when(c.Join(), by=ANN).then(joined_event(ANN, muted=True))


def test_mute_all_excepts_the_caller_and_the_listed() -> None:
    script = given(class_of(ANN, BEN, CAT, EVE), does(EVE, c.Mute()))
    script.when(c.MuteAll(except_=[BEN.user_id, UserId("nobody")]), by=TEACHER)
    script.then(e.AllMuted(user_ids=[ANN.user_id, CAT.user_id]))
    script.when(c.MuteAll(except_=[BEN.user_id]), by=TEACHER).then()
    assert [p.user_id for p in script.state.participants.values() if not p.muted] == [TEACHER.user_id, BEN.user_id]


def test_mute_all_reaches_no_higher_than_mute() -> None:
    script = given(class_of(ANN, BEN), staff(), grants(BEN, "moderate"))
    assert script.participant(OLAF).muted, "an observer may not speak"
    script.when(c.MuteAll(), by=BEN).then(e.AllMuted(user_ids=[ANN.user_id]))
    script.when(c.MuteAll(), by=CORA).then(e.AllMuted(user_ids=[BEN.user_id]))
    script.when(c.MuteAll(), by=HUGO).then(e.AllMuted(user_ids=[CORA.user_id]))
    script.when(c.MuteAll(), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.MuteAll(), by=EVE).rejected(Reason.NOT_JOINED)


def test_a_request_to_unmute_changes_nothing() -> None:
    script = given(class_of(ANN, BEN), does(ANN, c.Mute()))
    script.when(c.RequestUnmute(ANN.user_id), by=TEACHER).then(e.UnmuteRequested(user_id=ANN.user_id))
    assert script.participant(ANN).muted
    script.when(c.RequestUnmute(BEN.user_id), by=TEACHER).then()
    script.when(c.RequestUnmute(ANN.user_id), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.RequestUnmute(EVE.user_id), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")
