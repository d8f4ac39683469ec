"""Questions: asked, approved, upvoted, answered, dismissed; by somebody, or by nobody that members know of."""

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects.questions import MAX_QUESTIONS
from actors.session.errors import Reason
from actors.session.event_rules import anonymous, audience
from tests.support.script import (
    ANN,
    BEN,
    CORA,
    EVE,
    TEACHER,
    Script,
    Steps,
    class_of,
    does,
    features,
    given,
    has_role,
    revokes,
)

WHY = "Why is the sky blue?"


def asks(one: c.Caller, *, secretly: bool = False) -> list[Steps]:
    return [does(one, c.AskQuestion(WHY, anonymous=secretly))]


def room(*steps: Steps) -> Script:
    return given(class_of(ANN, BEN), has_role(CORA, "cohost"), list(steps))


def heard_by_all(script: Script) -> bool:
    last = script.log[-1]
    return audience(script.state, last.event, last.actor_id) is None


def test_asking() -> None:
    script = room().when(c.AskQuestion(WHY), by=ANN).then(e.QuestionAsked(question_id=1, text=WHY))
    assert heard_by_all(script)
    script.when(c.AskQuestion(WHY), by=ANN).then(e.QuestionAsked(question_id=2, text=WHY))
    assert [question.user_id for question in script.state.questions.values()] == [ANN.user_id] * 2


def test_who_may_ask() -> None:
    script = room(revokes(BEN, "ask"))
    script.when(c.AskQuestion(WHY), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.AskQuestion(WHY), by=EVE).rejected(Reason.NOT_JOINED)
    script.given(features(questions=False)).when(c.AskQuestion(WHY), by=ANN).rejected(Reason.FEATURE_OFF)


def test_a_session_holds_so_many() -> None:
    script = room(asks(ANN))
    for number in range(MAX_QUESTIONS - 1):
        script.state.questions[number + 2] = script.state.questions[1]
    script.when(c.AskQuestion(WHY), by=ANN).rejected(Reason.TOO_MANY)


# Upvotes


def test_upvotes_count_once_each() -> None:
    script = room(asks(ANN)).when(c.UpvoteQuestion(1), by=BEN).then(e.QuestionUpvoted(question_id=1))
    script.when(c.UpvoteQuestion(1), by=BEN).then()
    script.given(does(ANN, c.UpvoteQuestion(1)))
    assert script.state.questions[1].upvotes == [BEN.user_id, ANN.user_id]
    script.when(c.UpvoteQuestion(1, remove=True), by=BEN).then(e.QuestionUpvoted(question_id=1, removed=True))
    script.when(c.UpvoteQuestion(1, remove=True), by=BEN).then()
    assert script.state.questions[1].upvotes == [ANN.user_id]


def test_only_an_open_question_is_upvoted() -> None:
    script = room(asks(ANN), does(TEACHER, c.AnswerQuestion(1)))
    script.when(c.UpvoteQuestion(1), by=BEN).rejected(Reason.NOT_ALLOWED, field="question_id")
    script.when(c.UpvoteQuestion(2), by=BEN).rejected(Reason.UNKNOWN_QUESTION, field="question_id")


# Answers


def test_answering() -> None:
    script = room(asks(ANN))
    script.when(c.AnswerQuestion(1, "Scattering."), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.AnswerQuestion(1, "Scattering."), by=CORA)
    script.then(e.QuestionAnswered(question_id=1, text="Scattering."))
    question = script.state.questions[1]
    assert (question.status, question.answer, question.answered_by) == ("answered", "Scattering.", CORA.user_id)
    script.when(c.AnswerQuestion(1), by=TEACHER).rejected(Reason.NOT_ALLOWED, field="question_id")


def test_dismissing() -> None:
    script = room(asks(ANN), asks(ANN)).when(c.DismissQuestion(1), by=BEN).rejected(Reason.NOT_PERMITTED)
    script.when(c.DismissQuestion(1), by=ANN).then(e.QuestionDismissed(question_id=1))
    script.when(c.DismissQuestion(2), by=CORA).then(e.QuestionDismissed(question_id=2))
    script.when(c.DismissQuestion(2), by=CORA).then()
    script.when(c.AnswerQuestion(2), by=CORA).rejected(Reason.NOT_ALLOWED, field="question_id")


def test_who_was_removed_takes_nothing_back() -> None:
    script = room(asks(ANN), does(TEACHER, c.Kick(ANN.user_id)))
    script.when(c.DismissQuestion(1), by=ANN).rejected(Reason.KICKED)
    script.when(c.DismissQuestion(1), by=EVE).rejected(Reason.NOT_JOINED)


# Approval


def approval(*steps: Steps) -> Script:
    return room(features(question_approval=True), list(steps))


def test_a_question_waits_for_approval_where_the_session_asks_for_that() -> None:
    script = approval().when(c.AskQuestion(WHY), by=ANN).then(e.QuestionAsked(question_id=1, text=WHY, hidden=True))
    last = script.log[-1]
    assert audience(script.state, last.event, last.actor_id) == frozenset({TEACHER.user_id, CORA.user_id, ANN.user_id})
    for command in (c.UpvoteQuestion(1), c.DismissQuestion(1)):
        script.when(command, by=BEN).rejected(Reason.UNKNOWN_QUESTION, field="question_id")
    script.when(c.UpvoteQuestion(1), by=ANN).rejected(Reason.NOT_ALLOWED, field="question_id")
    script.when(c.ApproveQuestion(1), by=ANN).rejected(Reason.NOT_PERMITTED)
    script.when(c.ApproveQuestion(1), by=CORA)
    script.then(e.QuestionApproved(question_id=1, text=WHY, user_id=ANN.user_id))
    assert heard_by_all(script)
    script.when(c.ApproveQuestion(1), by=CORA).then()
    script.when(c.UpvoteQuestion(1), by=BEN).then(e.QuestionUpvoted(question_id=1))


def test_moderators_need_no_approval() -> None:
    approval().when(c.AskQuestion(WHY), by=CORA).then(e.QuestionAsked(question_id=1, text=WHY))


def test_a_question_that_is_dismissed_before_approval_stays_hidden() -> None:
    for by in (TEACHER, ANN):
        script = approval(asks(ANN), does(by, c.DismissQuestion(1)))
        last = script.log[-1]
        hearing = frozenset({TEACHER.user_id, CORA.user_id, ANN.user_id})
        assert audience(script.state, last.event, last.actor_id) == hearing
        assert not script.state.questions[1].visible
        script.when(c.DismissQuestion(1), by=BEN).rejected(Reason.UNKNOWN_QUESTION, field="question_id")
        script.when(c.ApproveQuestion(1), by=TEACHER).then()


# Anonymous


def test_only_the_log_has_the_asker_of_an_anonymous_question() -> None:
    script = room().when(c.AskQuestion(WHY, anonymous=True), by=ANN)
    script.then(e.QuestionAsked(question_id=1, text=WHY, anonymous=True))
    assert anonymous(script.log[-1].event)
    assert script.log[-1].actor_id == script.state.questions[1].user_id == ANN.user_id


def test_withdrawing_an_anonymous_question_does_not_reveal_the_asker() -> None:
    script = room(asks(ANN, secretly=True)).when(c.DismissQuestion(1), by=ANN)
    script.then(e.QuestionDismissed(question_id=1, anonymous=True))
    assert anonymous(script.log[-1].event)
    script = room(asks(ANN, secretly=True), does(TEACHER, c.DismissQuestion(1)))
    assert not anonymous(script.log[-1].event), "that was the teacher, and may be seen to be"


def test_approving_an_anonymous_question_does_not_reveal_the_asker() -> None:
    script = approval(asks(ANN, secretly=True)).when(c.ApproveQuestion(1), by=TEACHER)
    script.then(e.QuestionApproved(question_id=1, text=WHY))
