"""Notifications: who is told that they are invited, and that they no longer are."""

import pytest
from msgspec import structs

from actors.session import commands as c
from actors.session import machine
from actors.session.notifications import Closing, InvitationClosed, Notification, SessionInvitation, notifications
from tests.support.script import (
    ANN,
    BEN,
    CAT,
    HUGO,
    SERVER,
    SESSION,
    TEACHER,
    Script,
    Step,
    class_of,
    does,
    given,
    has_role,
    knowing,
    without_code,
)


def invites(*people: c.Caller, by: c.Caller = TEACHER) -> list[Step]:
    return does(knowing(by), *(c.Invite(one.user_id) for one in people))


def told(script: Script, command: c.Command, by: c.Caller) -> list[tuple[str, Notification]]:
    """Execute a command. Return the notifications of each of its events."""
    events = machine.decide(script.state, command, by, script.now)
    found: list[tuple[str, Notification]] = []
    for event in events:
        found += notifications(script.state, event, by)
        script.by = by
        script.take([event])
    return found


def closed(reason: Closing) -> InvitationClosed:
    return InvitationClosed(SESSION, reason)


def test_an_invitation_notifies_the_user_with_inviter_and_session() -> None:
    script = given(class_of(), has_role(HUGO, "host"), title="Physics 101")
    by_hugo = SessionInvitation(
        SESSION, 8, "physics-101-x7k2", "classroom", "Physics 101", "live", None, HUGO.user_id, HUGO.name
    )
    assert told(script, c.Invite(ANN.user_id), knowing(HUGO)) == [(ANN.user_id, by_hugo)]
    assert told(script, c.Invite(ANN.user_id), TEACHER) == [], "it is so already"
    by_teacher = structs.replace(by_hugo, by_id=TEACHER.user_id, by_name=TEACHER.name)
    assert told(script, c.Invite(BEN.user_id), TEACHER) == [(BEN.user_id, by_teacher)]


def test_coming_closes_the_invitation_and_only_that_of_who_comes() -> None:
    script = given(class_of(), invites(ANN, BEN))
    assert told(script, c.Join(), without_code(ANN)) == [(ANN.user_id, closed("joined"))]
    assert told(script, c.Leave(), ANN) == told(script, c.Join(), ANN) == []
    assert told(script, c.Join(), CAT) == [], "who came by the code was not invited"


def test_an_invitation_is_withdrawn_by_kicking() -> None:
    script = given(class_of(CAT), invites(ANN))
    assert told(script, c.Kick(ANN.user_id), TEACHER) == [(ANN.user_id, closed("withdrawn"))]
    assert told(script, c.Kick(CAT.user_id), TEACHER) == []
    assert [type(notification) for _, notification in told(script, c.Invite(ANN.user_id), TEACHER)] == [
        SessionInvitation
    ]


@pytest.mark.parametrize("command", [c.End(), c.Delete()])
def test_the_end_closes_each_open_invitation_once(command: c.Command) -> None:
    script = given(class_of(BEN), invites(ANN, CAT), does(CAT, c.Join()))
    assert told(script, command, TEACHER) == [(ANN.user_id, closed("over"))]
    if not isinstance(command, c.Delete):
        assert told(script, c.Delete(), TEACHER) == []


def test_cancelling_closes_and_so_does_time() -> None:
    script = given(invites(ANN))
    assert told(script, c.Cancel(), TEACHER) == [(ANN.user_id, closed("over"))]
    script = given(class_of(), invites(ANN), ttl=60)
    script.now = machine.deadline(script.state) or script.now
    assert told(script, c.Tick(), SERVER) == [(ANN.user_id, closed("over"))]
