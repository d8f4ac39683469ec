"""Questions to the session: asked, upvoted, answered or dismissed.

With `question_approval` a question is hidden from members until a moderator approves it.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.permissions import allowed, not_in, require, role_of
from actors.session.state import Question, State

MAX_QUESTIONS = 1_000
"""Questions per session, answered and dismissed ones included."""


def ask(state: State, command: c.AskQuestion, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "ask")
    features = state.session.features
    if not features.questions:
        raise Rejected(Reason.FEATURE_OFF, "Questions are switched off in this session.")
    if len(state.questions) >= MAX_QUESTIONS:
        raise Rejected(Reason.TOO_MANY, f"A session has at most {MAX_QUESTIONS} questions.")
    hidden = features.question_approval and not allowed(state, by.user_id, "moderate")
    return [
        e.QuestionAsked(
            question_id=state.last_question_id + 1, text=command.text, anonymous=command.anonymous, hidden=hidden
        )
    ]


def visible_question(state: State, question_id: int, user_id: UserId) -> Question:
    """Return a question that a user may see. Raise Rejected for others."""
    question = state.questions.get(question_id)
    if question is None or not (question.visible or question.user_id == user_id or allowed(state, user_id, "moderate")):
        raise Rejected(Reason.UNKNOWN_QUESTION, f"There is no question {question_id}.", field="question_id")
    return question


def open_question(state: State, question_id: int, user_id: UserId) -> Question:
    """Return an open question that a user may see. Raise Rejected for others."""
    question = visible_question(state, question_id, user_id)
    if question.status != "open":
        raise Rejected(Reason.NOT_ALLOWED, f"The question is {question.status}, not open.", field="question_id")
    return question


def approve(state: State, command: c.ApproveQuestion, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    question = visible_question(state, command.question_id, by.user_id)
    if question.status != "hidden":
        return []
    who = None if question.anonymous else question.user_id
    asker = None if who is None else state.participants.get(who)
    return [
        e.QuestionApproved(
            question_id=question.question_id,
            text=question.text,
            user_id=who,
            name=None if asker is None else asker.name,
            asked_at=question.at,
        )
    ]


def upvote(state: State, command: c.UpvoteQuestion, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "vote")
    question = open_question(state, command.question_id, by.user_id)
    if (by.user_id in question.upvotes) != command.remove:
        return []
    return [e.QuestionUpvoted(question_id=question.question_id, removed=command.remove)]


def answer(state: State, command: c.AnswerQuestion, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    question = open_question(state, command.question_id, by.user_id)
    return [e.QuestionAnswered(question_id=question.question_id, text=command.text)]


def dismiss(state: State, command: c.DismissQuestion, by: c.Caller, now: Millis) -> list[e.Event]:
    if role_of(state, by.user_id) is None:
        raise not_in(state, by.user_id)
    question = visible_question(state, command.question_id, by.user_id)
    own = question.user_id == by.user_id
    if not own:
        require(state, by, "moderate")
    if question.status == "dismissed":
        return []
    return [e.QuestionDismissed(question_id=question.question_id, anonymous=own and question.anonymous)]


def on_asked(state: State, event: e.QuestionAsked, recorded: e.Recorded) -> None:
    state.last_question_id = event.question_id
    state.questions[event.question_id] = Question(
        question_id=event.question_id,
        user_id=recorded.actor_id or state.session.owner_id,
        text=event.text,
        at=recorded.at,
        status="hidden" if event.hidden else "open",
        anonymous=event.anonymous,
        visible=not event.hidden,
    )


def on_approved(state: State, event: e.QuestionApproved, recorded: e.Recorded) -> None:
    question = state.questions[event.question_id]
    question.status, question.visible = "open", True


def on_upvoted(state: State, event: e.QuestionUpvoted, recorded: e.Recorded) -> None:
    question = state.questions[event.question_id]
    others = [user_id for user_id in question.upvotes if user_id != recorded.actor_id]
    question.upvotes = others if event.removed or recorded.actor_id is None else [*others, recorded.actor_id]


def on_answered(state: State, event: e.QuestionAnswered, recorded: e.Recorded) -> None:
    question = state.questions[event.question_id]
    question.status = "answered"
    question.answer, question.answered_by = event.text, recorded.actor_id


def on_dismissed(state: State, event: e.QuestionDismissed, recorded: e.Recorded) -> None:
    state.questions[event.question_id].status = "dismissed"


HANDLERS = {
    c.AskQuestion: ask,
    c.ApproveQuestion: approve,
    c.UpvoteQuestion: upvote,
    c.AnswerQuestion: answer,
    c.DismissQuestion: dismiss,
}
APPLIERS = {
    e.QuestionAsked: on_asked,
    e.QuestionApproved: on_approved,
    e.QuestionUpvoted: on_upvoted,
    e.QuestionAnswered: on_answered,
    e.QuestionDismissed: on_dismissed,
}
