"""The answers of `seeds` about chat, questions and the log."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.permissions import allowed
from actors.session.state import Question, State
from actors.session.visibility import VisibleEvent, asker, question_visible
from server.dialects.seeds.views import naive, naive_or_none, require_membership
from server.http.refusals import refuses
from server.usecases.call import Call
from server.usecases.records.chat_history import ChatPage
from server.usecases.records.log_pages import LogLine, LogSummary

# Chat and questions


class MessageView(Struct, frozen=True, kw_only=True):
    """A message to everyone. `participant_id` is null for a creator who has not joined. `audio_id` is the number of a
    voice note in the library."""

    message_id: int
    session_id: int
    participant_id: int | None
    sender_name: str
    message: str
    timestamp: str
    is_system_message: bool = False
    audio_id: int | None = None
    duration: float | None = None


class Sender(Struct, frozen=True):
    """The sender of a message."""

    participant_id: int | None
    name: str


class QuestionView(Struct, frozen=True, kw_only=True):
    """A question. `participant_id` and `asked_by` are null if it is anonymous or its author is no participant."""

    question_id: int
    session_id: int
    participant_id: int | None
    asked_by: str | None
    question: str
    status: str
    answer: str | None
    created_at: str


@refuses(kicked=403, not_joined=403, waiting=403)
def senders(state: State, call: Call) -> Mapping[UserId, Sender]:
    """Return the possible senders of messages: all participants, and the session's creator.

    Raise Rejected if the caller is not in the session."""
    require_membership(state, call.principal.user_id)
    creator = {state.session.owner_id: Sender(None, state.session.owner_name)}
    return creator | {one.user_id: Sender(one.number, one.name) for one in state.participants.values()}


def message_view(number: int, visible: VisibleEvent, by: Mapping[UserId, Sender]) -> MessageView:
    """Return the view of a message in the session with this number, sent by one of `by`."""
    event: Any = visible.event
    sender = by[visible.actor_id or UserId("")]
    return MessageView(
        message_id=event.message_id,
        session_id=number,
        participant_id=sender.participant_id,
        sender_name=sender.name,
        message=event.text,
        timestamp=naive(visible.at),
        audio_id=event.voice and event.voice.number,
        duration=event.voice and event.voice.duration_s,
    )


@refuses(kicked=403, not_joined=403, waiting=403)
def sent(state: State, call: Call) -> MessageView:
    """Return the message that the command sent."""
    return message_view(state.session.number, call.made[0], senders(state, call))


def chat(page: ChatPage, call: Call) -> list[MessageView]:
    """Return messages, oldest first, without deleted ones. `call.seen` are their `senders`; messages of participants
    who joined after those were read are left out."""
    kept = [row for row in page.messages if isinstance(row.event, e.ChatMessage) and not row.event.deleted]
    return [message_view(page.session.number, row, call.seen) for row in reversed(kept) if row.actor_id in call.seen]


def question_view(state: State, question: Question, names: bool) -> QuestionView:
    """Return the view of a question. `names` discloses the author of an anonymous one."""
    author_id = asker(question, confidant=names)
    author = None if author_id is None else state.participants.get(author_id)
    return QuestionView(
        question_id=question.question_id,
        session_id=state.session.number,
        participant_id=None if author is None else author.number,
        asked_by=None if author is None else author.name,
        question=question.text,
        status=question.status,
        answer=question.answer,
        created_at=naive(question.at),
    )


@refuses(kicked=403, not_joined=403, waiting=403)
def questions(state: State, call: Call) -> list[QuestionView]:
    """Return the questions in the order in which they were asked: the approved ones and the viewer's own, for the
    teacher all.

    Raise Rejected if the caller is not in the session."""
    viewer = call.principal.user_id
    require_membership(state, viewer)
    leads = allowed(state, viewer, "moderate")
    return [
        question_view(state, question, leads or question.user_id == viewer)
        for question in state.questions.values()
        if question_visible(question, viewer, moderator=leads)
    ]


def asked(state: State, call: Call) -> QuestionView:
    """Return the question that the command asked."""
    event: Any = call.made[0].event
    return question_view(state, state.questions[event.question_id], True)


def answered(state: State, call: Call) -> QuestionView:
    """Return the question that the command answered."""
    return question_view(state, state.questions[int(call.params["question_id"])], True)


# The log


class LogView(Struct, frozen=True):
    """A row of a session's log. `event_details` is a JSON object."""

    log_id: int
    event_type: str
    user_id: int | None
    # Any: JSON of any shape, from clients.
    event_details: Any
    created_at: str


class LogsView(Struct, frozen=True):
    """Rows of a session's log. `total_logs` is the number of rows in this answer."""

    session_id: int
    total_logs: int
    logs: list[LogView]


class SummaryView(Struct, frozen=True, kw_only=True):
    """The number of events in a session's log, by type, and of participants who have joined and left."""

    session_id: int
    total_events: int
    event_counts: dict[str, int]
    unique_participants_joined: int
    participants_left: int
    first_event: str | None
    last_event: str | None


def log_rows(lines: list[LogLine], call: Call) -> list[LogView]:
    """Return the views of rows of the log."""
    return [LogView(line.log_id, line.event_type, line.user_id, line.details, naive(line.at)) for line in lines]


def logs(lines: list[LogLine], call: Call) -> LogsView:
    """Return the views of rows of the log, with their number."""
    return LogsView(int(call.params["ref"]), len(lines), log_rows(lines, call))


def summary(counted: LogSummary, call: Call) -> SummaryView:
    """Return the summary of a session's log."""
    return SummaryView(
        session_id=int(call.params["ref"]),
        total_events=counted.total,
        event_counts=counted.by_type,
        unique_participants_joined=counted.joined,
        participants_left=counted.left,
        first_event=naive_or_none(counted.first_at),
        last_event=naive_or_none(counted.last_at),
    )
