"""Scheduled, live, ended, cancelled, deleted; settings; the end by time."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec import UNSET

from actors.session import commands as c
from actors.session import events as e
from actors.session import machine
from actors.session.aspects import lifecycle
from actors.session.errors import Reason, Rejected
from actors.session.ids import MessageId
from actors.session.state import Features, FeaturesUpdate
from tests.support.script import (  # fmt: skip
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    GRACE,
    HUGO,
    OLAF,
    SECOND,
    START,
    TEACHER,
    class_of,
    creation,
    does,
    given,
    grants,
    has_role,
    joins,
    passes,
    revokes,
    staff,
    without_code,
)

MONDAY = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


# Create


def test_a_new_session_is_scheduled_empty_and_its_creators() -> None:
    session = given(title="Maths", kind="lesson", ttl=60, locked=True, mute_on_join=True).state.session
    assert (session.status, session.title, session.kind, session.owner_id) == (
        "scheduled",
        "Maths",
        "lesson",
        "teacher",
    )
    assert (session.joined, session.online, session.locked, session.mute_on_join) == (0, 0, True, True)
    assert session.expires_at == START + 60 * SECOND
    assert session.created_at == session.updated_at == START


def test_capacity_is_the_default_unless_said() -> None:
    assert given().state.session.capacity == 100
    assert given(capacity=2).state.session.capacity == 2


def test_times_are_instants_in_any_time_zone() -> None:
    berlin = timezone(HOUR)
    one, other = given(starts_at=MONDAY).state.session, given(starts_at=MONDAY.astimezone(berlin)).state.session
    assert one.starts_at == other.starts_at == round(MONDAY.timestamp() * 1000)


@pytest.mark.parametrize("ends_at", [MONDAY, MONDAY - HOUR])
def test_a_session_ends_after_it_starts(ends_at: datetime) -> None:
    with pytest.raises(Rejected) as refused:
        lifecycle.create(creation(starts_at=MONDAY, ends_at=ends_at), TEACHER, START)
    assert (refused.value.reason, refused.value.field) == (Reason.NOT_ALLOWED, "ends_at")


def test_the_last_year_of_datetime_is_accepted() -> None:
    end_of_time = datetime.max.replace(tzinfo=timezone(-timedelta(hours=23)))
    assert given(ends_at=end_of_time).state.session.ends_at is not None


# Start


def test_the_owner_starts_without_joining() -> None:
    script = given().when(c.Start(), by=TEACHER, after=5).then(e.SessionStarted())
    assert (script.state.session.status, script.state.session.started_at) == ("live", START + 5)


def test_starting_a_live_session_changes_nothing() -> None:
    given(does(TEACHER, c.Start())).when(c.Start(), by=TEACHER).then()


def test_a_joined_host_starts_a_cohost_or_student_does_not() -> None:
    given(has_role(HUGO, "host")).when(c.Start(), by=HUGO).then(e.SessionStarted())
    given(has_role(CORA, "cohost")).when(c.Start(), by=CORA).rejected(Reason.NOT_PERMITTED)
    given(joins(ANN)).when(c.Start(), by=ANN).rejected(Reason.NOT_PERMITTED)
    given().when(c.Start(), by=EVE).rejected(Reason.NOT_JOINED)


def test_a_host_who_may_not_moderate_does_not_start() -> None:
    given(has_role(HUGO, "host"), revokes(HUGO, "moderate")).when(c.Start(), by=HUGO).rejected(Reason.NOT_PERMITTED)


def test_a_closed_session_does_not_start_again() -> None:
    given(class_of(), does(TEACHER, c.End())).when(c.Start(), by=TEACHER).rejected(Reason.ENDED)
    given(does(TEACHER, c.Cancel())).when(c.Start(), by=TEACHER).rejected(Reason.CANCELLED)


# End


def test_ending_ends_everyones_presence() -> None:
    script = given(class_of(ANN, BEN), does(ANN, c.Connect(), c.RaiseHand()), does(BEN, c.Connect(), c.Disconnect()))
    script.when(c.End(), by=TEACHER, after=9).then(e.SessionEnded(reason="host"))
    state = script.state
    assert (state.session.status, state.session.end_reason, state.session.ended_at) == ("ended", "host", START + 9)
    assert (state.session.joined, state.session.online, state.hands, state.away) == (0, 0, {}, {})
    assert {p.status for p in state.participants.values()} == {"left"}
    assert {p.left_at for p in state.participants.values()} == {START + 9}
    assert machine.deadline(state) is None


def test_only_who_has_the_permission_ends() -> None:
    script = given(class_of(ANN), staff())
    script.when(c.End(), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.End(), by=CORA).rejected(Reason.NOT_PERMITTED)
    script.when(c.End(), by=EVE).rejected(Reason.NOT_JOINED)
    script.given(grants(CORA, "end")).when(c.End(), by=CORA).then(e.SessionEnded(reason="host"))


def test_a_session_that_has_not_started_is_cancelled_not_ended() -> None:
    given().when(c.End(), by=TEACHER).rejected(Reason.NOT_LIVE)
    given(class_of(), does(TEACHER, c.End())).when(c.End(), by=TEACHER).rejected(Reason.ENDED)


def test_a_removed_cohost_cannot_end() -> None:
    kicked = [has_role(CORA, "cohost"), grants(CORA, "end"), does(TEACHER, c.Kick(CORA.user_id))]
    given(class_of(), kicked).when(c.End(), by=CORA).rejected(Reason.KICKED)


# Cancel


def test_cancelling_a_scheduled_session() -> None:
    script = given(joins(ANN)).when(c.Cancel(), by=TEACHER).then(e.SessionCancelled())
    assert script.state.session.status == "cancelled"
    assert script.participant(ANN).status == "left"


def test_who_may_cancel_and_when() -> None:
    given(class_of()).when(c.Cancel(), by=TEACHER).rejected(Reason.NOT_SCHEDULED)
    given(has_role(CORA, "cohost")).when(c.Cancel(), by=CORA).rejected(Reason.NOT_PERMITTED)
    given(has_role(HUGO, "host")).when(c.Cancel(), by=HUGO).then(e.SessionCancelled())
    given().when(c.Cancel(), by=EVE).rejected(Reason.NOT_JOINED)
    given(does(TEACHER, c.Cancel())).when(c.Cancel(), by=TEACHER).rejected(Reason.CANCELLED)
    given(class_of(), does(TEACHER, c.End())).when(c.Cancel(), by=TEACHER).rejected(Reason.ENDED)


# Update


def test_an_update_has_only_the_changed_fields() -> None:
    command = c.Update(title="Physics 102", description="", capacity=100, language="de", mute_on_join=True)
    script = given(class_of()).when(command, by=TEACHER, after=7)
    script.then(e.SessionUpdated(title="Physics 102", language="de", mute_on_join=True))
    assert script.state.session.title == "Physics 102"
    assert script.state.session.updated_at == START + 7
    script.when(command, by=TEACHER).then()
    script.when(c.Update(), by=TEACHER).then()


def test_null_clears_and_absence_keeps() -> None:
    script = given(course_id="c1", language="de", starts_at=MONDAY, ends_at=MONDAY + HOUR)
    script.when(c.Update(course_id=None, starts_at=None), by=TEACHER)
    script.then(e.SessionUpdated(course_id=None, starts_at=None))
    assert (script.state.session.course_id, script.state.session.language) == (None, "de")


def test_features_are_merged() -> None:
    script = given(features=c.NewFeatures(lobby=True)).when(c.Update(features=FeaturesUpdate(chat=False)), by=TEACHER)
    script.then(e.SessionUpdated(features=Features(chat=False, lobby=True)))
    script.when(c.Update(features=FeaturesUpdate(chat=False)), by=TEACHER).then()
    script.when(c.Update(features=FeaturesUpdate()), by=TEACHER).then()


def test_times_stay_in_order_when_one_of_them_moves() -> None:
    script = given(starts_at=MONDAY, ends_at=MONDAY + HOUR)
    script.when(c.Update(starts_at=MONDAY + HOUR), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="ends_at")
    script.when(c.Update(ends_at=MONDAY - HOUR), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="ends_at")
    both = c.Update(starts_at=MONDAY + HOUR, ends_at=MONDAY + 2 * HOUR)
    script.when(both, by=TEACHER)
    assert isinstance(script.answer, list)
    assert len(script.answer) == 1


def test_capacity_holds_who_is_there() -> None:
    script = given(class_of(ANN, BEN), capacity=3)
    script.when(c.Update(capacity=2), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="capacity")
    script.given(does(BEN, c.Leave())).when(c.Update(capacity=2), by=TEACHER).then(e.SessionUpdated(capacity=2))


def test_an_owner_over_capacity_can_still_change_the_title() -> None:
    script = given(joins(ANN, BEN, TEACHER), capacity=2)
    assert script.state.session.joined == 3
    script.when(c.Update(title="Full house"), by=TEACHER).then(e.SessionUpdated(title="Full house"))
    script.when(c.Update(capacity=2, title="Same"), by=TEACHER).then(e.SessionUpdated(title="Same"))


def test_who_may_update() -> None:
    script = given(class_of(ANN), staff())
    script.when(c.Update(title="Mine"), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.Update(title="Mine"), by=OLAF).rejected(Reason.NOT_PERMITTED)
    script.when(c.Update(title="Mine"), by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.Update(title="Ours"), by=CORA).then(e.SessionUpdated(title="Ours"))
    script.given(does(TEACHER, c.End())).when(c.Update(title="Late"), by=TEACHER).rejected(Reason.ENDED)


def test_unset_is_not_none_in_the_event() -> None:
    event = e.SessionUpdated(title="T")
    assert event.course_id is UNSET


# Lock


def test_lock_and_unlock() -> None:
    script = given(class_of(ANN))
    script.when(c.Lock(), by=TEACHER).then(e.SessionLocked())
    script.when(c.Lock(), by=TEACHER).then()
    script.when(c.Join(), by=BEN).rejected(Reason.LOCKED)
    script.when(c.Unlock(), by=TEACHER).then(e.SessionUnlocked())
    script.when(c.Unlock(), by=TEACHER).then()
    script.when(c.Join(), by=BEN)
    assert isinstance(script.answer, list)


def test_a_session_is_locked_before_it_starts_too() -> None:
    given().when(c.Lock(), by=TEACHER).then(e.SessionLocked())


def test_who_may_lock() -> None:
    script = given(class_of(ANN), staff())
    for command in (c.Lock(), c.Unlock()):
        script.when(command, by=ANN).rejected(Reason.NOT_PERMITTED)
        script.when(command, by=EVE).rejected(Reason.NOT_JOINED)
    script.when(c.Lock(), by=CORA).then(e.SessionLocked())
    script.given(does(TEACHER, c.End())).when(c.Unlock(), by=TEACHER).rejected(Reason.ENDED)


# Delete


def test_deleting_closes_first() -> None:
    given().when(c.Delete(), by=TEACHER).then(e.SessionCancelled(), e.SessionDeleted())
    script = given(class_of(ANN)).when(c.Delete(), by=TEACHER)
    script.then(e.SessionEnded(reason="host"), e.SessionDeleted())
    assert script.state.session.deleted
    assert script.state.session.joined == 0
    given(class_of(), does(TEACHER, c.End())).when(c.Delete(), by=TEACHER).then(e.SessionDeleted())


def test_deleting_twice_changes_nothing() -> None:
    given(does(TEACHER, c.Delete())).when(c.Delete(), by=TEACHER).then()


def test_only_the_owner_deletes() -> None:
    script = given(class_of(), staff())
    for one in (HUGO, CORA, EVE):
        script.when(c.Delete(), by=one).rejected(Reason.NOT_PERMITTED)


# The end by time


def test_a_session_expires_at_its_time_and_not_before() -> None:
    script = given(class_of(ANN), ttl=60)
    assert machine.deadline(script.state) == START + 60 * SECOND
    script.when(c.Tick(), by=TEACHER, after=60 * SECOND - 1).then()
    script.when(c.Tick(), by=TEACHER, after=1).then(e.SessionEnded(reason="expired"))
    assert machine.deadline(script.state) is None
    script.when(c.Tick(), by=TEACHER, after=60 * SECOND).then()


def test_a_session_that_never_started_expires_too() -> None:
    assert given(passes(60 * SECOND), ttl=60).state.session.end_reason == "expired"


def test_time_changes_nothing_without_a_ttl_or_an_absent_participant() -> None:
    script = given(class_of(ANN))
    assert machine.deadline(script.state) is None
    script.when(c.Tick(), by=TEACHER, after=10**9).then()


def test_the_end_of_the_session_comes_before_departures_due_at_the_same_moment() -> None:
    script = given(class_of(ANN), does(ANN, c.Connect(), c.Disconnect()), ttl=GRACE // SECOND)
    script.when(c.Tick(), by=TEACHER, after=GRACE).then(e.SessionEnded(reason="expired"))


# The host's first join starts


def test_a_hosts_join_starts_a_scheduled_session() -> None:
    script = given().when(c.Join(), by=TEACHER)
    script.then(e.SessionStarted(), e.ParticipantJoined(user_id=TEACHER.user_id, name="Teacher", number=1, role="host"))
    invited_host = [does(TEACHER, c.Invite(HUGO.user_id)), does(TEACHER, c.SetRole(HUGO.user_id, "host"))]
    script = given(invited_host).when(c.Join(), by=without_code(HUGO))
    script.then(e.SessionStarted(), e.ParticipantJoined(user_id=HUGO.user_id, name="Hugo", number=1, role="host"))


def test_students_who_come_early_do_not_start_it() -> None:
    script = given(joins(ANN, BEN))
    assert script.state.session.status == "scheduled"
    script.when(c.SendMessage(text="Anyone here?"), by=ANN).rejected(Reason.NOT_LIVE)
    script.given(joins(TEACHER)).when(c.SendMessage(text="Now"), by=ANN)
    script.then(e.ChatMessage(message_id=MessageId(1), text="Now"))


LIVE_ONLY: tuple[c.Command, ...] = (
    c.End(), c.Mute(), c.Unmute(), c.MuteAll(), c.RequestUnmute(CAT.user_id),
    c.RaiseHand(), c.LowerHand(), c.LowerAll(), c.CallNext(),
    c.SendMessage(text="Hi"), c.React(message_id=MessageId(1), emoji="👍"),
    c.LogEvent(event_type="error"), c.Signal(to=CAT.user_id, payload=1), c.MoveCursor(position={}), c.Typing(),
)  # fmt: skip


@pytest.mark.parametrize("command", LIVE_ONLY, ids=lambda command: type(command).__name__)
def test_commands_that_need_a_live_session(command: c.Command) -> None:
    given(joins(ANN)).when(command, by=TEACHER).rejected(Reason.NOT_LIVE)
    given(class_of(), does(TEACHER, c.End())).when(command, by=TEACHER).rejected(Reason.ENDED)
    given(does(TEACHER, c.Cancel())).when(command, by=TEACHER).rejected(Reason.CANCELLED)


UNTIL_CLOSED: tuple[c.Command, ...] = (
    c.Join(), c.Leave(), c.Invite(CAT.user_id), c.Admit(CAT.user_id), c.Deny(CAT.user_id), c.Kick(CAT.user_id),
    c.SetRole(CAT.user_id, "cohost"), c.SetPermissions(CAT.user_id), c.Update(title="T"), c.Lock(), c.Unlock(),
)  # fmt: skip


@pytest.mark.parametrize("command", UNTIL_CLOSED, ids=lambda command: type(command).__name__)
def test_commands_that_a_closed_session_refuses(command: c.Command) -> None:
    given(class_of(CAT), does(TEACHER, c.End())).when(command, by=TEACHER).rejected(Reason.ENDED)
    given(does(TEACHER, c.Cancel())).when(command, by=TEACHER).rejected(Reason.CANCELLED)
