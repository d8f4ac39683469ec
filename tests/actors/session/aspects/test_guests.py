"""Guests, and credentials that are good for one session alone."""

import pytest
from msgspec import structs

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason
from actors.session.ids import Millis
from tests.support.script import ANN, GUS, SECOND, START, TEACHER, Script, Steps, class_of, does, features, given, joins


def party(*steps: Steps) -> Script:
    """A live session that admits guests."""
    return given(class_of(ANN), features(guests=True), list(steps))


def test_events_say_that_a_participant_is_a_guest() -> None:
    script = party().when(c.Join(), by=GUS)
    script.then(
        e.ParticipantJoined(user_id=GUS.user_id, name="Gus", number=3, role="member", guest=True, colour="#00aa00")
    )
    assert (script.participant(GUS).guest, script.participant(GUS).colour) == (True, "#00aa00")
    assert (script.participant(ANN).guest, script.participant(ANN).colour) == (False, None)


def test_guests_join_only_sessions_that_admit_them() -> None:
    given(class_of()).when(c.Join(), by=GUS).rejected(Reason.FEATURE_OFF)
    script = party(joins(GUS), features(guests=False))
    script.when(c.RaiseHand(), by=GUS).then(e.HandRaised(user_id=GUS.user_id))
    script.given(does(GUS, c.Leave())).when(c.Join(), by=GUS).rejected(Reason.FEATURE_OFF)


def test_a_guest_waits_in_the_lobby_and_is_still_one_when_let_in() -> None:
    script = party(features(lobby=True)).when(c.Join(), by=GUS)
    script.then(e.ParticipantWaiting(user_id=GUS.user_id, name="Gus", number=3, guest=True, colour="#00aa00"))
    script.given(does(TEACHER, c.Admit(GUS.user_id)))
    assert (script.participant(GUS).guest, script.participant(GUS).colour) == (True, "#00aa00")


@pytest.mark.parametrize(
    "command", [c.Join(), c.Connect(join=True), c.Connect(), c.Leave(), c.RaiseHand(), c.MoveCursor({})]
)
@pytest.mark.parametrize("ban", [True, False])
def test_a_removed_guest_is_out_for_good(command: c.Command, ban: bool) -> None:
    script = party(joins(GUS), does(TEACHER, c.Kick(GUS.user_id, ban=ban)))
    script.when(command, by=GUS, after=SECOND).rejected(Reason.KICKED)


def test_until_invited_again() -> None:
    script = party(joins(GUS), does(TEACHER, c.Kick(GUS.user_id, ban=True), c.Invite(GUS.user_id)), joins(GUS))
    assert script.participant(GUS).status == "joined"


def test_a_removal_outlives_every_older_token_and_no_newer_one() -> None:
    tokens = [structs.replace(ANN, issued_at=Millis(START + ms)) for ms in (0, SECOND, 2 * SECOND)]
    script = given(class_of(tokens[0]))
    script.now = Millis(START + SECOND)
    script.given(does(TEACHER, c.Kick(ANN.user_id)))
    for token in tokens[:2]:
        script.when(c.Join(), by=token, after=SECOND).rejected(Reason.KICKED)
    script.given(joins(ANN))
    for token in tokens[:2]:
        script.when(c.RaiseHand(), by=token).rejected(Reason.KICKED)
    script.when(c.RaiseHand(), by=tokens[2]).then(e.HandRaised(user_id=ANN.user_id))
