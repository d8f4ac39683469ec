"""What `seeds` answers: its shapes, made of the session's state, of the log's rows and of the stores'."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.lifecycle import CLOSED
from actors.session.permissions import RANKS, allowed, not_in, role_of
from actors.session.playback import position_at
from actors.session.state import Participant, Playback, Question, Session, State
from server import actions as do
from server.devices import Registered
from server.pieces import Piece
from server.records import ChatPage, LogLine, LogSummary
from server.routes import Call


def naive(at: Millis) -> str:
    """Print a moment in UTC, to the microsecond, without saying so."""
    seconds, millis = divmod(at, 1000)
    whole = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return whole.replace(microsecond=millis * 1000).isoformat(timespec="microseconds")


def naive_or_none(at: Millis | None) -> str | None:
    return None if at is None else naive(at)


class Done(Struct, frozen=True):
    ok: bool = True


class Said(Struct, frozen=True, kw_only=True):
    ok: bool = True
    message: str


# Accounts


class AccountView(Struct, frozen=True):
    user_id: int
    name: str
    phone_number: str | None
    role: str
    created_at: str


class Token(Struct, frozen=True, kw_only=True):
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind of token, not one
    user_id: int
    role: str
    name: str


class Student(Struct, frozen=True):
    user_id: int
    name: str
    phone_number: str | None


class DeviceView(Struct, frozen=True):
    ok: bool
    device_type: str


def account(user: do.Account, call: Call) -> AccountView:
    return AccountView(user.number, user.name, user.phone, user.role, naive(user.created_at))


def token(made: do.LoggedIn, call: Call) -> Token:
    user = made.user
    return Token(access_token=made.access_token, user_id=user.number, role=user.role, name=user.name)


def students(found: list[do.Account], call: Call) -> list[Student]:
    return [Student(user.number, user.name, user.phone) for user in found]


def device(made: Registered, call: Call) -> DeviceView:
    return DeviceView(True, made.platform)


# Sessions


class SessionView(Struct, frozen=True, kw_only=True):
    session_id: int
    title: str
    is_active: bool
    created_by: int
    created_at: str
    ended_at: str | None
    participant_count: int
    teacher_name: str


class ParticipantView(Struct, frozen=True):
    id: int
    user_id: int
    name: str
    muted: bool
    hand_raised: bool


class ActiveAudio(Struct, frozen=True):
    """`started_at`: when it began, had it been played through from its start at the speed that it has now."""

    audio_id: int
    started_at: str


class StateView(Struct, frozen=True):
    session_id: int
    is_active: bool
    participants: list[ParticipantView]
    active_audio: ActiveAudio | None


class Joined(Struct, frozen=True, kw_only=True):
    participant_id: int
    session_id: int
    user_id: int
    name: str
    is_muted: bool
    hand_raised: bool
    is_teacher: bool
    joined_at: str | None


class Invited(Struct, frozen=True, kw_only=True):
    ok: bool = True
    message: str
    student_id: int
    session_id: int
    notifications_sent: int


class Muted(Struct, frozen=True, kw_only=True):
    ok: bool = True
    muted: bool


class Acted(Struct, frozen=True, kw_only=True):
    """`participant_id`: the caller's; null for a creator who has not joined."""

    ok: bool = True
    type: str
    participant_id: int | None


def session_view(session: Session) -> SessionView:
    return SessionView(
        session_id=session.number,
        title=session.title,
        is_active=session.status == "live",
        created_by=session.owner_number,
        created_at=naive(session.created_at),
        ended_at=naive_or_none(session.ended_at),
        participant_count=session.joined,
        teacher_name=session.owner_name,
    )


def created(state: State, call: Call) -> SessionView:
    return session_view(state.session)


def listed(found: tuple[list[Session], int], call: Call) -> list[SessionView]:
    return [session_view(session) for session in found[0]]


def inside(state: State, user_id: UserId) -> None:
    """Refuse who is not in a session, nor was in it at its end. Raises: Rejected."""
    place = state.participants.get(user_id)
    was_in = state.session.status in CLOSED and place is not None and place.status == "left" and place.joined_at
    if role_of(state, user_id) is None and not was_in:
        raise not_in(state, user_id)


def joined(state: State) -> list[Participant]:
    return [place for place in state.participants.values() if place.status == "joined"]


def number_of(state: State, user_id: UserId | None) -> int | None:
    """Give a participant's number; None for whoever has no place."""
    place = None if user_id is None else state.participants.get(user_id)
    return None if place is None else place.number


def teaches(state: State, place: Participant) -> bool:
    return place.user_id == state.session.owner_id or RANKS[place.role] >= RANKS["cohost"]


def session_state(state: State, call: Call) -> StateView:
    inside(state, call.principal.user_id)
    people = [
        ParticipantView(place.number, place.user_number, place.name, place.muted, place.user_id in state.hands)
        for place in joined(state)
    ]
    session, playback = state.session, state.playback
    on = playback if playback is not None and playback.status == "playing" else None
    return StateView(session.number, session.status == "live", people, None if on is None else active_audio(on))


def active_audio(playback: Playback) -> ActiveAudio:
    started_at = Millis(playback.at - round(playback.position_s / playback.speed * 1000))
    return ActiveAudio(playback.track.number, naive(started_at))


def entrance(state: State, call: Call) -> Joined:
    place = state.participants[call.principal.user_id]
    return Joined(
        participant_id=place.number,
        session_id=state.session.number,
        user_id=place.user_number,
        name=place.name,
        is_muted=place.muted,
        hand_raised=place.user_id in state.hands,
        is_teacher=teaches(state, place),
        joined_at=naive_or_none(place.joined_at),
    )


def invited(reached: int, call: Call) -> Invited:
    student: do.Account = call.known
    return Invited(
        message=f"{student.name} is invited",
        student_id=student.number,
        session_id=int(call.params["ref"]),
        notifications_sent=reached,
    )


def muted(state: State, call: Call) -> Muted:
    return Muted(muted=state.participants[call.found].muted)


def acted(state: State, call: Call) -> Acted:
    return Acted(type=call.body.type, participant_id=number_of(state, call.principal.user_id))


# Audio


class AudioView(Struct, frozen=True, kw_only=True):
    """`duration` in seconds; null where the content does not say."""

    audio_id: int
    title: str
    duration: float | None
    content_type: str
    size_bytes: int
    created_at: str
    stream_url: str


class Selected(Struct, frozen=True, kw_only=True):
    ok: bool = True
    audio_id: int
    title: str


class PlaybackView(Struct, frozen=True, kw_only=True):
    """Where what is on stands at `server_time`; `position` and `duration` in seconds."""

    audio_id: int | None
    title: str | None
    status: Literal["stopped", "playing", "paused"]
    speed: float
    position: float
    duration: float | None
    server_time: str


class Controlled(PlaybackView, frozen=True, kw_only=True):
    ok: bool = True


def piece(found: Piece, call: Call) -> AudioView:
    return AudioView(
        audio_id=found.number,
        title=found.title,
        duration=found.duration_s,
        content_type=found.content_type,
        size_bytes=found.size_bytes,
        created_at=naive(found.created_at),
        stream_url=f"/audio/{found.number}/stream",
    )


def pieces(found: list[Piece], call: Call) -> list[AudioView]:
    return [piece(one, call) for one in found]


def on(state: State) -> Playback:
    """Raises: Rejected."""
    if state.playback is None:
        raise Rejected(Reason.NO_AUDIO, "No audio is selected in this session.")
    return state.playback


def selected(state: State, call: Call) -> Selected:
    track = on(state).track
    return Selected(audio_id=track.number, title=track.title)


def standing(state: State, now: Millis) -> dict[str, Any]:
    playback = state.playback
    if playback is None:
        track, stands = None, ("stopped", 1.0, 0.0)
    else:
        track, stands = playback.track, (playback.status, playback.speed, position_at(playback, now))
    status, speed, position = stands
    return {
        "audio_id": track and track.number, "title": track and track.title, "status": status, "speed": speed,
        "position": round(position, 3), "duration": track and track.duration_s, "server_time": naive(now),
    }  # fmt: skip


def playback(state: State, call: Call) -> PlaybackView:
    inside(state, call.principal.user_id)
    return PlaybackView(**standing(state, call.now))


def controlled(state: State, call: Call) -> Controlled:
    return Controlled(**standing(state, call.now))


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
    rows = [row for row in page.chatted.rows[::-1] if isinstance(row.event, e.ChatMessage) and not row.event.deleted]
    return [message(page.session.number, row, call.seen) for row in rows]


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
