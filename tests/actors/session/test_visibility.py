"""What viewers receive of an event: with or without its actor, with or without its content, or nothing."""

import msgspec

from actors.session import commands as c
from actors.session.ids import MessageId, UserId
from actors.session.state import FeaturesUpdate
from actors.session.visibility import (
    NOBODY,
    Published,
    VisibleEvent,
    asker,
    event_in_log,
    message_visible,
    published_event,
    question_visible,
)
from tests.support.script import (
    ANN,
    BEN,
    CAT,
    CORA,
    HUGO,
    OLAF,
    TEACHER,
    Script,
    Steps,
    class_of,
    does,
    features,
    given,
    joins,
    says,
    staff,
)

SECRET = c.AskQuestion("Why?", anonymous=True)


def room(*steps: Steps) -> Script:
    """Return a class with staff in it; Cat waits in the lobby."""
    return given(class_of(ANN, BEN), staff(), features(lobby=True), joins(CAT), list(steps))


def last(script: Script) -> Published:
    row = script.log[-1]
    return published_event(row, msgspec.json.encode(row.event), script.state)


def actors(out: Published, *viewers: c.Caller) -> set[UserId | None]:
    return {visible.actor_id for one in viewers if (visible := out.visible_to(one.user_id)) is not None}


def test_an_event_for_everyone_is_the_same_for_everyone() -> None:
    out = last(room(says(ANN, "Hi")))
    received = [out.visible_to(one.user_id) for one in (TEACHER, ANN, BEN)]
    assert received == [out.public] * 3 == [out.whole] * 3
    assert out.visible_to(NOBODY) is out.public
    assert out.public.json == out.json


def test_a_direct_message_is_visible_to_its_two_sides() -> None:
    out = last(room(says(ANN, "Secret", to=BEN)))
    assert [bool(out.visible_to(one.user_id)) for one in (ANN, BEN, TEACHER, CORA, OLAF)] == [True, True, *[False] * 3]
    assert out.visible_to(NOBODY) is None


def test_the_lobby_receives_facts_of_the_session_and_events_about_its_viewer() -> None:
    assert last(room(does(TEACHER, c.Lock()))).visible_to(CAT.user_id, lobby=True)
    assert last(room(says(ANN, "Hi"))).visible_to(CAT.user_id, lobby=True) is None
    assert last(room()).visible_to(CAT.user_id, lobby=True)
    assert last(room()).visible_to(ANN.user_id) is None


def test_the_actor_of_an_anonymous_question_is_visible_to_moderators_and_the_asker() -> None:
    out = last(room(does(ANN, SECRET)))
    assert actors(out, TEACHER, HUGO, CORA, ANN) == {ANN.user_id}
    assert actors(out, BEN, OLAF) == {None}
    assert out.recorded.actor_id == ANN.user_id


def test_the_actor_of_an_anonymous_vote_is_visible_to_the_voter() -> None:
    out = last(room(does(TEACHER, c.OpenPoll("Which?", ["A", "B"], anonymous=True)), does(ANN, c.Vote(1, [0]))))
    assert actors(out, ANN) == {ANN.user_id}
    assert actors(out, TEACHER, HUGO, CORA, BEN) == {None}


def text(visible: VisibleEvent) -> str:
    return str(visible.event.text)  # type: ignore[union-attr]


def test_a_reader_of_the_log_learns_of_a_direct_message_but_not_its_content() -> None:
    row = room(says(ANN, "Secret", to=BEN)).log[-1]
    assert [text(event_in_log(row, one.user_id)) for one in (ANN, BEN, TEACHER)] == ["Secret", "Secret", ""]
    assert event_in_log(row, TEACHER.user_id).actor_id == ANN.user_id
    public = room(says(ANN, "Hi")).log[-1]
    assert text(event_in_log(public, TEACHER.user_id)) == "Hi"


def test_the_log_names_anonymous_actors_except_to_outside_systems() -> None:
    row = room(does(ANN, SECRET)).log[-1]
    assert event_in_log(row, TEACHER.user_id).actor_id == ANN.user_id
    assert event_in_log(row, TEACHER.user_id, with_actor=False).actor_id is None
    public = room(says(ANN, "Hi")).log[-1]
    assert event_in_log(public, TEACHER.user_id, with_actor=False).actor_id == ANN.user_id


def test_a_question_that_awaits_approval_is_visible_to_moderators_and_the_asker() -> None:
    approval = c.Update(features=FeaturesUpdate(question_approval=True))
    script = room(does(TEACHER, approval), does(ANN, SECRET))
    question = script.state.questions[1]
    assert question_visible(question, ANN.user_id, moderator=False)
    assert question_visible(question, TEACHER.user_id, moderator=True)
    assert not question_visible(question, BEN.user_id, moderator=False)
    assert (asker(question, confidant=True), asker(question, confidant=False)) == (ANN.user_id, None)
    approved = script.given(does(TEACHER, c.ApproveQuestion(1))).state.questions[1]
    assert question_visible(approved, BEN.user_id, moderator=False)


def test_a_message_in_the_state_is_visible_to_the_audience_of_its_event() -> None:
    for script in (room(says(ANN, "Secret", to=BEN)), room(says(ANN, "Hi"))):
        out, message = last(script), script.state.messages[MessageId(1)]
        for one in (ANN, BEN, TEACHER, OLAF):
            assert message_visible(message, one.user_id) == (out.visible_to(one.user_id) is not None)
