"""The roster: joining, the lobby, leaving, invitations, kicks and bans; presence that clients manage themselves."""

import pytest
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects import roster
from actors.session.errors import Reason
from actors.session.ids import UserId
from tests.support.script import (  # fmt: skip
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    HUGO,
    LOBBY,
    OLAF,
    START,
    TEACHER,
    class_of,
    does,
    features,
    given,
    grants,
    has_role,
    joined_event,
    joins,
    kicks,
    knowing,
    loses_connection,
    online_event,
    passes,
    revokes,
    staff,
    waiting_event,
    without_code,
)

# Join and leave


def test_a_student_joins_with_the_code() -> None:
    script = given(class_of()).when(c.Join(), by=ANN, after=3).then(joined_event(ANN))
    place = script.participant(ANN)
    assert (place.status, place.role, place.joined_at, place.online) == ("joined", "member", START + 3, False)


def test_joining_twice_is_joining_once() -> None:
    given(class_of(ANN)).when(c.Join(), by=ANN).then()
    given(class_of(ANN), features(lobby=True), joins(BEN)).when(c.Join(), by=BEN).then()


def test_joining_needs_the_code_or_an_invitation() -> None:
    script = given(class_of()).when(c.Join(), by=without_code(EVE)).rejected(Reason.NOT_INVITED)
    script.when(c.Connect(join=True), by=without_code(EVE)).rejected(Reason.NOT_INVITED)


def test_the_owner_joins_without_code_and_despite_capacity_and_lock() -> None:
    script = given(joins(ANN), does(TEACHER, c.Lock()), capacity=1).when(c.Join(), by=TEACHER)
    assert isinstance(script.answer, list)
    script.take(script.answer)
    assert script.state.session.joined == 2
    script.given(does(TEACHER, c.Unlock())).when(c.Join(), by=BEN).rejected(Reason.FULL)


def test_the_owner_never_waits_in_the_lobby() -> None:
    script = given(features=LOBBY).when(c.Join(), by=TEACHER)
    assert isinstance(script.answer, list)
    assert isinstance(script.answer[-1], e.ParticipantJoined)


def test_a_full_session_admits_the_next_participant_when_one_leaves() -> None:
    script = given(class_of(ANN), capacity=2).when(c.Join(), by=BEN).rejected(Reason.FULL)
    script.given(does(ANN, c.Leave())).when(c.Join(), by=BEN).then(joined_event(BEN, 3))
    script.when(c.Join(), by=ANN).rejected(Reason.FULL)


def test_leaving_and_coming_back_keeps_number_and_role_but_takes_the_new_name() -> None:
    script = given(class_of(ANN), has_role(CORA, "cohost"), does(CORA, c.Leave()))
    assert script.participant(CORA).left_at is not None
    renamed = structs.replace(without_code(CORA), name="Cora C.")
    script.when(c.Join(), by=renamed)
    script.then(e.ParticipantJoined(user_id=CORA.user_id, name="Cora C.", number=3, role="cohost"))
    assert (script.participant(CORA).name, script.participant(CORA).left_at) == ("Cora C.", None)


def test_joined_at_is_set_once() -> None:
    script = given(class_of(ANN), passes(50), does(ANN, c.Leave()), passes(50), joins(ANN))
    assert script.participant(ANN).joined_at == START


def test_leaving() -> None:
    script = given(class_of(ANN)).when(c.Leave(), by=ANN).then(e.ParticipantLeft(user_id=ANN.user_id))
    script.when(c.Leave(), by=ANN).then()
    script.when(c.Leave(), by=EVE).rejected(Reason.NOT_JOINED)
    script.given(joins(BEN), kicks(BEN)).when(c.Leave(), by=BEN).rejected(Reason.KICKED)


def test_the_roster_is_bounded_but_never_closed_to_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "ROSTER_LIMIT", 2)
    script = given(joins(ANN, BEN))
    script.when(c.Join(), by=CAT).rejected(Reason.TOO_MANY)
    script.when(c.Invite(CAT.user_id), by=TEACHER).rejected(Reason.TOO_MANY)
    script.given(does(ANN, c.Leave()), joins(ANN, TEACHER))
    assert script.state.session.joined == 3


# Locked


def test_a_lock_keeps_out_the_new_the_invited_and_those_who_left() -> None:
    script = given(class_of(ANN), does(ANN, c.Leave()), does(TEACHER, c.Invite(BEN.user_id), c.Lock()))
    for one in (ANN, BEN, CAT):
        script.when(c.Join(), by=one).rejected(Reason.LOCKED)


def test_a_lock_admits_a_participant_who_lost_the_connection() -> None:
    script = given(class_of(ANN), loses_connection(ANN), does(TEACHER, c.Lock()))
    assert script.participant(ANN).status == "left"
    script.when(c.Connect(), by=without_code(ANN)).then(joined_event(ANN), online_event(ANN))


# Lobby


def test_with_a_lobby_participants_wait_to_be_admitted() -> None:
    script = given(class_of(), features=LOBBY).when(c.Join(), by=ANN).then(waiting_event(ANN))
    script.when(c.SendMessage(text="Let me in"), by=ANN).rejected(Reason.WAITING)
    script.when(c.Signal(to=TEACHER.user_id, payload=0), by=ANN).rejected(Reason.WAITING)
    script.when(c.RaiseHand(), by=ANN).rejected(Reason.WAITING)
    script.when(c.Admit(ANN.user_id), by=ANN).rejected(Reason.WAITING)
    assert script.state.session.joined == 0 + 1
    script.when(c.Admit(ANN.user_id), by=TEACHER).then(joined_event(ANN))
    script.when(c.Admit(ANN.user_id), by=TEACHER).then()


def test_the_invited_and_the_staff_pass_the_lobby_by() -> None:
    script = given(class_of(), has_role(CORA, "cohost"), does(CORA, c.Leave()), features(lobby=True))
    script.given(does(TEACHER, c.Invite(BEN.user_id))).when(c.Join(), by=without_code(BEN)).then(joined_event(BEN, 3))
    script.when(c.Join(), by=CORA)
    script.then(e.ParticipantJoined(user_id=CORA.user_id, name="Cora", number=2, role="cohost"))


def test_admitting_counts_against_the_capacity() -> None:
    script = given(class_of(), features(lobby=True), joins(BEN), features(lobby=False), joins(ANN), capacity=2)
    script.when(c.Admit(BEN.user_id), by=TEACHER).rejected(Reason.FULL)
    script.when(c.Invite(BEN.user_id), by=TEACHER).rejected(Reason.FULL)
    script.given(does(ANN, c.Leave())).when(c.Invite(BEN.user_id), by=TEACHER).then(joined_event(BEN, 2))


def test_admitting_needs_a_waiting_participant_and_a_moderator() -> None:
    script = given(class_of(ANN), features(lobby=True), joins(BEN))
    for command in (c.Admit(BEN.user_id), c.Deny(BEN.user_id)):
        script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
        script.when(command, by=EVE).rejected(Reason.NOT_JOINED)
    for stranger in (c.Admit(EVE.user_id), c.Deny(EVE.user_id), c.Deny(ANN.user_id)):
        script.when(stranger, by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")


def test_denied_people_stay_out_until_they_knock_again() -> None:
    script = given(class_of(), does(EVE), features=LOBBY).given(joins(EVE))
    script.when(c.Deny(EVE.user_id), by=TEACHER).then(e.ParticipantDenied(user_id=EVE.user_id))
    script.when(c.Deny(EVE.user_id), by=TEACHER).then()
    script.when(c.Admit(EVE.user_id), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")
    script.when(c.Connect(), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.Join(), by=without_code(EVE)).rejected(Reason.NOT_INVITED)
    script.when(c.Join(), by=EVE).then(waiting_event(EVE))


def test_a_guest_in_the_lobby_may_have_a_stream_and_is_let_in_with_it() -> None:
    script = (
        given(class_of(), features=LOBBY).when(c.Connect(join=True), by=ANN).then(waiting_event(ANN), online_event(ANN))
    )
    script.when(c.Admit(ANN.user_id), by=TEACHER).then(joined_event(ANN))
    assert script.participant(ANN).online


def test_losing_the_connection_in_the_lobby_is_no_way_in() -> None:
    script = given(class_of(), joins(EVE), loses_connection(EVE), features=LOBBY)
    assert script.participant(EVE).status == "left"
    script.when(c.Connect(), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.Join(), by=EVE).then(waiting_event(EVE))


def test_losing_the_connection_in_class_is_no_reason_to_wait_again() -> None:
    script = given(class_of(ANN), features(lobby=True), loses_connection(ANN))
    script.when(c.Connect(), by=ANN).then(joined_event(ANN), online_event(ANN))


def test_leaving_on_purpose_with_a_lobby_is_waiting_again() -> None:
    given(class_of(ANN), features(lobby=True), does(ANN, c.Leave())).when(c.Join(), by=ANN).then(waiting_event(ANN))


def test_a_participant_may_leave_the_lobby() -> None:
    script = given(class_of(), joins(ANN), features=LOBBY)
    script.when(c.Leave(), by=ANN).then(e.ParticipantLeft(user_id=ANN.user_id))
    assert script.participant(ANN).joined_at is None


# Invite


def test_inviting() -> None:
    script = given(class_of()).when(c.Invite(ANN.user_id), by=TEACHER)
    script.then(e.ParticipantInvited(user_id=ANN.user_id, name="Ann", number=2))
    script.when(c.Invite(ANN.user_id), by=TEACHER).then()
    script.when(c.Connect(), by=ANN).rejected(Reason.NOT_JOINED)
    script.when(c.Connect(join=True), by=without_code(ANN)).then(joined_event(ANN), online_event(ANN))
    script.when(c.Invite(ANN.user_id), by=TEACHER).then()


def test_who_may_invite_and_whom() -> None:
    script = given(class_of(ANN), has_role(CORA, "cohost"))
    script.when(c.Invite(BEN.user_id), by=knowing(ANN)).rejected(Reason.NOT_PERMITTED)
    script.when(c.Invite(BEN.user_id), by=knowing(EVE)).rejected(Reason.NOT_JOINED)
    script.when(c.Invite(UserId("nobody")), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")
    script.when(c.Invite(BEN.user_id), by=knowing(CORA))
    script.then(e.ParticipantInvited(user_id=BEN.user_id, name="Ben", number=4))


def test_the_owner_needs_no_invitation() -> None:
    cohost = [has_role(CORA, "cohost")]
    asked = structs.replace(CORA, people={TEACHER.user_id: c.Person("Teacher")})
    given(cohost, does(TEACHER, c.Start())).when(c.Invite(TEACHER.user_id), by=asked).then()


def test_an_invitation_lifts_a_ban() -> None:
    script = given(class_of(EVE), kicks(EVE, ban=True), does(TEACHER, c.Invite(EVE.user_id)))
    assert not script.participant(EVE).banned
    script.when(c.Join(), by=without_code(EVE)).then(joined_event(EVE))


# Kick and ban


def test_kicking_ends_everything_that_needs_presence() -> None:
    script = given(class_of(EVE), does(EVE, c.Connect(), c.RaiseHand()))
    script.when(c.Kick(EVE.user_id, reason="Shouting"), by=TEACHER, after=4)
    script.then(e.ParticipantKicked(user_id=EVE.user_id, reason="Shouting"))
    place = script.participant(EVE)
    assert (place.status, place.online, place.left_at, place.banned) == ("kicked", False, START + 4, False)
    assert (script.state.hands, script.state.away, script.state.session.online) == ({}, {}, 0)
    for command in (c.SendMessage(text="Hey"), c.Connect(), c.MoveCursor(position={}), c.LogEvent(event_type="error")):
        script.when(command, by=EVE).rejected(Reason.KICKED)
    script.when(c.Disconnect(), by=EVE).then()


def test_the_kicked_come_back_with_the_code_only_and_the_banned_not_at_all() -> None:
    script = given(class_of(EVE, BEN), kicks(EVE), kicks(BEN, ban=True))
    script.when(c.Join(), by=without_code(EVE)).rejected(Reason.NOT_INVITED)
    script.when(c.Join(), by=EVE).then(joined_event(EVE, 2))
    script.when(c.Join(), by=BEN).rejected(Reason.KICKED)
    script.when(c.Connect(join=True), by=BEN).rejected(Reason.KICKED)
    script.when(c.Connect(), by=BEN).rejected(Reason.KICKED)


def test_a_ban_is_added_to_a_kick_and_a_kick_does_not_lift_it() -> None:
    script = given(class_of(EVE), kicks(EVE)).when(c.Kick(EVE.user_id), by=TEACHER).then()
    script.when(c.Kick(EVE.user_id, ban=True), by=TEACHER)
    script.then(e.ParticipantKicked(user_id=EVE.user_id, banned=True))
    script.when(c.Kick(EVE.user_id), by=TEACHER).then()
    assert script.participant(EVE).banned


def test_waiting_departed_and_invited_participants_can_be_banned() -> None:
    script = given(class_of(ANN), features(lobby=True), joins(BEN), does(ANN, c.Leave()))
    script.given(does(TEACHER, c.Invite(CAT.user_id)))
    for one in (ANN, BEN, CAT):
        script.given(kicks(one, ban=True)).when(c.Join(), by=one).rejected(Reason.KICKED)


def test_a_kicked_cohost_comes_back_as_a_member_without_grants() -> None:
    script = given(class_of(), has_role(CORA, "cohost"), grants(CORA, "end"), kicks(CORA), joins(CORA))
    assert (script.participant(CORA).role, script.participant(CORA).granted) == ("member", frozenset())
    script.when(c.Lock(), by=CORA).rejected(Reason.NOT_PERMITTED)


def test_being_kicked_is_no_way_to_be_rid_of_a_restriction() -> None:
    script = given(class_of(EVE), revokes(EVE, "chat"), has_role(OLAF, "observer"), kicks(EVE, OLAF), joins(EVE, OLAF))
    assert script.participant(OLAF).role == "observer"
    script.when(c.SendMessage(text="I am back"), by=EVE).rejected(Reason.NOT_PERMITTED)


def test_who_may_kick_whom() -> None:
    script = given(class_of(ANN, BEN), staff(), grants(BEN, "moderate"))
    refused = [(ANN, BEN), (CORA, HUGO), (CORA, TEACHER), (HUGO, TEACHER), (BEN, CORA)]
    for by, one in refused:
        script.when(c.Kick(one.user_id), by=by).rejected(Reason.NOT_PERMITTED)
    script.when(c.Kick(EVE.user_id), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, field="user_id")
    script.when(c.Kick(TEACHER.user_id), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="user_id")
    script.when(c.Kick(CORA.user_id), by=CORA).rejected(Reason.NOT_ALLOWED, field="user_id")
    script.when(c.Kick(ANN.user_id), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.Kick(ANN.user_id), by=BEN).then(e.ParticipantKicked(user_id=ANN.user_id))
    script.when(c.Kick(CORA.user_id), by=HUGO).then(e.ParticipantKicked(user_id=CORA.user_id))


# Presence that is kept by hand


def test_a_caller_sets_their_own_presence() -> None:
    script = given(class_of(ANN))
    script.when(c.SetPresent(ANN.user_id, True), by=ANN).then()
    script.when(c.SetPresent(ANN.user_id, False), by=ANN).then(e.ParticipantLeft(user_id=ANN.user_id))
    script.when(c.SetPresent(ANN.user_id, False), by=ANN).then()
    script.when(c.SetPresent(ANN.user_id, True), by=ANN).then(joined_event(ANN))


def test_a_moderator_sets_the_presence_of_others_who_keep_their_roles() -> None:
    script = given(class_of(ANN), grants(ANN, "screen"))
    script.when(c.SetPresent(ANN.user_id, False), by=TEACHER).then(e.ParticipantLeft(user_id=ANN.user_id))
    script.when(c.SetPresent(ANN.user_id, True), by=TEACHER).then(joined_event(ANN))
    script.when(c.SetPresent(ANN.user_id, True), by=TEACHER).then()
    assert script.participant(ANN).granted == {"screen"}


def test_members_do_not_set_the_presence_of_others() -> None:
    script = given(class_of(ANN, BEN), staff())
    script.when(c.SetPresent(ANN.user_id, False), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.SetPresent(TEACHER.user_id, False), by=HUGO).rejected(Reason.NOT_PERMITTED)
    script.when(c.SetPresent(HUGO.user_id, False), by=CORA).rejected(Reason.NOT_PERMITTED)
    script.when(c.SetPresent(EVE.user_id, False), by=TEACHER).rejected(Reason.UNKNOWN_PARTICIPANT, "user_id")
    script.given(kicks(ANN)).when(c.SetPresent(ANN.user_id, True), by=TEACHER)
    script.rejected(Reason.UNKNOWN_PARTICIPANT, "user_id")


def test_a_full_session_admits_no_participant_again() -> None:
    script = given(class_of(ANN), does(ANN, c.Leave()), joins(BEN), capacity=2)
    script.when(c.SetPresent(ANN.user_id, True), by=TEACHER).rejected(Reason.FULL)
