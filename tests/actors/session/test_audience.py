"""Who hears of what: decided once per event, in the state after it."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.audience import moderators
from actors.session.event_rules import RULES, audience, ends_streams
from actors.session.ids import MessageId, UserId
from tests.support.script import (
    ANN,
    BEN,
    CAT,
    CORA,
    EVE,
    GRACE,
    HUGO,
    OLAF,
    SERVER,
    SONG,
    TEACHER,
    Script,
    Steps,
    class_of,
    does,
    features,
    given,
    grants,
    has_role,
    joins,
    passes,
    says,
    staff,
)

ONE = MessageId(1)


def of(*people: c.Caller) -> frozenset[UserId]:
    return frozenset(one.user_id for one in people)


def heard(script: Script) -> frozenset[UserId] | None:
    """Return the audience of the last event in the log."""
    last = script.log[-1]
    return audience(script.state, last.event, last.actor_id)


def room(*steps: Steps) -> Script:
    """A class with staff in it; Cat waits in the lobby."""
    return given(class_of(ANN, BEN), staff(), features(lobby=True), joins(CAT), list(steps))


STAFF = (TEACHER, HUGO, CORA)


def test_most_things_are_for_everyone() -> None:
    for command in (c.SendMessage(text="Hi"), c.RaiseHand(), c.Mute(), c.Leave()):
        assert heard(room(does(ANN, command))) is None
    assert heard(room(does(TEACHER, c.Lock()))) is None


def test_a_direct_message_is_for_its_two_sides() -> None:
    script = room(says(ANN, "Secret", to=BEN))
    assert heard(script) == of(ANN, BEN)
    assert heard(script.given(does(BEN, c.React(message_id=ONE, emoji="👍")))) == of(ANN, BEN)
    assert heard(script.given(does(TEACHER, c.DeleteMessage(message_id=ONE)))) == of(ANN, BEN)


def test_a_direct_message_from_long_ago_is_still_for_its_two_sides() -> None:
    script = room(says(ANN, "Secret", to=BEN))
    row = script.log[-1]
    script.state.messages.clear()
    assert audience(script.state, row.event, row.actor_id) == of(ANN, BEN)


def test_a_signal_is_for_one() -> None:
    assert audience(room().state, e.SignalSent(to=BEN.user_id, payload=1), ANN.user_id) == of(BEN)
    assert audience(room().state, e.TypingChanged(), ANN.user_id) is None
    assert audience(room().state, e.CursorMoved({}), ANN.user_id) is None


def test_lobby_events_go_to_moderators_and_the_waiting_participant() -> None:
    both = of(*STAFF, CAT)
    assert heard(room()) == both
    assert heard(room(does(CAT, c.Connect()))) == both
    assert heard(room(does(CAT, c.Connect(), c.Disconnect()))) == both
    assert heard(room(does(CAT, c.Leave()))) == both
    assert heard(room(does(CAT, c.Connect(), c.Disconnect()), passes(GRACE))) == both
    assert heard(room(does(TEACHER, c.Deny(CAT.user_id)))) == both
    assert heard(room(does(TEACHER, c.Kick(CAT.user_id)))) == both
    assert heard(room(does(TEACHER, c.SetRole(CAT.user_id, "observer")))) == both
    assert heard(room(grants(CAT, "screen"))) == both
    assert heard(room(does(TEACHER, c.Admit(CAT.user_id)))) is None


def test_an_invitation_is_moderators_business() -> None:
    assert heard(room(does(TEACHER, c.Invite(EVE.user_id)))) == of(*STAFF)
    assert heard(room(does(TEACHER, c.Invite(EVE.user_id), c.Kick(EVE.user_id)))) == of(*STAFF, EVE)


def test_everyone_learns_who_is_online_in_class_and_who_was_removed() -> None:
    assert heard(room(does(ANN, c.Connect()))) is None
    assert heard(room(does(TEACHER, c.Kick(ANN.user_id)))) is None
    assert heard(room(does(TEACHER, c.SetRole(ANN.user_id, "observer")))) is None


def test_a_request_to_unmute_goes_to_moderators_and_the_participant() -> None:
    assert heard(room(does(ANN, c.Mute()), does(TEACHER, c.RequestUnmute(ANN.user_id)))) == of(*STAFF, ANN)


def test_notes_are_for_moderators() -> None:
    assert heard(room(does(ANN, c.LogEvent(event_type="error")))) == of(*STAFF)
    assert heard(room(does(TEACHER, c.LogAudioUpload(SONG)))) == of(*STAFF)


def test_moderators_are_those_who_may_moderate_now() -> None:
    script = room(grants(ANN, "moderate"))
    assert moderators(script.state) == of(*STAFF, ANN)
    script.given(does(CORA, c.Leave()), does(TEACHER, c.SetPermissions(HUGO.user_id, revoke=["moderate"])))
    assert moderators(script.state) == of(TEACHER, ANN)
    assert moderators(given().state) == of(TEACHER), "joined or not"
    assert moderators(given(has_role(OLAF, "observer")).state) == of(TEACHER)


def test_whose_streams_end() -> None:
    ends = {event: rule.streams for event, rule in RULES.items() if rule.streams not in ("continue", "ended")}
    assert ends == {
        e.ParticipantKicked: "kicked",
        e.ParticipantDenied: "kicked",
        e.ParticipantLeft: "left",
        e.ParticipantJoined: "admitted",
    }


def test_when_all_streams_end() -> None:
    assert all(map(ends_streams, (e.SessionEnded(reason="host"), e.SessionCancelled(), e.SessionDeleted())))
    assert not ends_streams(e.SessionLocked())


def test_only_moderators_learn_of_lost_streams_in_the_lobby() -> None:
    script = room(does(ANN, c.Connect()), does(CAT, c.Connect()))
    script.when(c.LoseConnections([ANN.user_id, CAT.user_id]), by=SERVER)
    known, waiting = script.then(e.ConnectionsLost([ANN.user_id]), e.ConnectionsLost([CAT.user_id])).log[-2:]
    assert audience(script.state, known.event, None) is None
    assert audience(script.state, waiting.event, None) == of(*STAFF, CAT)
    # As logs from before hold them.
    assert audience(script.state, e.ConnectionsLost([ANN.user_id, CAT.user_id]), None) == of(*STAFF, ANN, CAT)


def test_a_departure_is_readable_later_though_its_user_waits_or_is_invited_again() -> None:
    """The audience of rows that are read from the log follows from the present state."""
    script = room(does(ANN, c.Leave(), c.Join()), does(TEACHER, c.Kick(user_id=BEN.user_id)))
    script = script.given(does(TEACHER, c.Invite(user_id=BEN.user_id)))
    assert (script.participant(ANN).status, script.participant(BEN).status) == ("waiting", "invited")
    for went in (e.ParticipantLeft(ANN.user_id), e.ParticipantKicked(BEN.user_id)):
        assert audience(script.state, went, None) is None
    assert audience(script.state, e.ParticipantLeft(CAT.user_id), None) == of(*STAFF, CAT), "who has only waited"
