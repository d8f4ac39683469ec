"""What `seeds` answers about what is said: chat, questions, and the log."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from actors.session import events as e
from actors.session.ids import UserId
from actors.session.permissions import allowed
from actors.session.state import Question, State
from server.dialects.seeds.views import inside, naive, naive_or_none
from server.usecases.call import Call
from server.usecases.records.chat_history import ChatPage
from server.usecases.records.log_pages import LogLine, LogSummary

# Chat and questions


class MessageView(Struct, frozen=True, kw_only=True):
    """`participant_id` is null for a creator who has not joined. `audio_id`: what a voice note is in the library."""

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
    participant_id: int | None
    name: str


class QuestionView(Struct, frozen=True, kw_only=True):
    """`participant_id` and `asked_by` are null where the question is anonymous, or its asker has no place."""

    question_id: int
    session_id: int
    participant_id: int | None
    asked_by: str | None
    question: str
    status: str
    answer: str | None
    created_at: str


def senders(state: State, call: Call) -> Mapping[UserId, Sender]:
    """Give everybody who can have sent a message: whoever has been in the session, and its creator."""
    inside(state, call.principal.user_id)
    creator = {state.session.owner_id: Sender(None, state.session.owner_name)}
    return creator | {place.user_id: Sender(place.number, place.name) for place in state.participants.values()}


def message(number: int, recorded: e.Recorded, by: Mapping[UserId, Sender]) -> MessageView:
    event: Any = recorded.event
    sender = by[recorded.actor_id or UserId("")]
    return MessageView(
        message_id=event.message_id,
        session_id=number,
        participant_id=sender.participant_id,
        sender_name=sender.name,
        message=event.text,
        timestamp=naive(recorded.at),
        audio_id=event.voice and event.voice.number,
        duration=event.voice and event.voice.duration_s,
    )


def sent(state: State, call: Call) -> MessageView:
    return message(state.session.number, call.made[0], senders(state, call))


def chat(page: ChatPage, call: Call) -> list[MessageView]:
    """Print messages, oldest first: none that was taken back, nor any of who has come since `senders` looked."""
    kept = [row for row in page.chatted.rows if isinstance(row.event, e.ChatMessage) and not row.event.deleted]
    return [message(page.session.number, row, call.seen) for row in reversed(kept) if row.actor_id in call.seen]


def question_view(state: State, question: Question, names: bool) -> QuestionView:
    place = state.participants.get(question.user_id) if names or not question.anonymous else None
    return QuestionView(
        question_id=question.question_id,
        session_id=state.session.number,
        participant_id=None if place is None else place.number,
        asked_by=None if place is None else place.name,
        question=question.text,
        status=question.status,
        answer=question.answer,
        created_at=naive(question.at),
    )


def questions(state: State, call: Call) -> list[QuestionView]:
    """List questions in the order they were asked: those shown to everyone, one's own, and for the teacher the rest."""
    viewer = call.principal.user_id
    inside(state, viewer)
    leads = allowed(state, viewer, "moderate")
    return [
        question_view(state, question, leads or question.user_id == viewer)
        for question in state.questions.values()
        if leads or question.shown or question.user_id == viewer
    ]


def asked(state: State, call: Call) -> QuestionView:
    event: Any = call.made[0].event
    return question_view(state, state.questions[event.question_id], True)


def answered(state: State, call: Call) -> QuestionView:
    return question_view(state, state.questions[int(call.params["question_id"])], True)


# The log


class LogView(Struct, frozen=True):
    log_id: int
    event_type: str
    user_id: int | None
    event_details: Any
    created_at: str


class LogsView(Struct, frozen=True):
    session_id: int
    total_logs: int
    logs: list[LogView]


class SummaryView(Struct, frozen=True, kw_only=True):
    session_id: int
    total_events: int
    event_counts: dict[str, int]
    unique_participants_joined: int
    participants_left: int
    first_event: str | None
    last_event: str | None


def lines(found: list[LogLine], call: Call) -> list[LogView]:
    return [LogView(line.log_id, line.event_type, line.user_id, line.details, naive(line.at)) for line in found]


def logs(found: list[LogLine], call: Call) -> LogsView:
    return LogsView(int(call.params["ref"]), len(found), lines(found, call))


def summary(found: LogSummary, call: Call) -> SummaryView:
    return SummaryView(
        session_id=int(call.params["ref"]),
        total_events=found.total,
        event_counts=found.by_type,
        unique_participants_joined=found.joined,
        participants_left=found.left,
        first_event=naive_or_none(found.first_at),
        last_event=naive_or_none(found.last_at),
    )
