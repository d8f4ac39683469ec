"""Records in `/v1`: chat, questions, code, statistics, recordings and downloads, with their rows.

A reader gets from a record what their own stream would have carried; the use cases filter, this module prints.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType, structs

from actors.session.access import Ask
from actors.session.events import ChatMessage
from actors.session.ids import Millis, UserId
from actors.session.state import Recording, RecordingStatus, Session
from actors.session.visibility import NOBODY, VisibleEvent
from server.api.routes import OWN_RULE, ActionRoute, DownloadRoute, ReplayRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339, when
from server.rooms.providers import DownloadLink
from server.usecases import room_access
from server.usecases.call import Call
from server.usecases.records import (
    archive,
    attendance,
    chat_history,
    code_history,
    export,
    recordings,
    replay,
    statistics,
)
from server.v1.attendance import AttendanceView, attendance_reply
from server.v1.frames import REPLAYED, gap, replay_end
from server.v1.state_views import MessageView, QuestionView, StateView, VoiceView, question_view, state_view
from server.v1.views import Page, SessionView, encode, session_view
from storage.log.history import Edit

NDJSON = "application/x-ndjson"


# Chat, questions, code


class ChatView(Struct, frozen=True):
    """Chat messages, latest first. Send `next` as `before` to get the page after this one."""

    items: list[MessageView]
    next: int | None


class QuestionsView(Struct, frozen=True):
    """All questions that the caller may see, in the order in which they were asked."""

    items: list[QuestionView]
    next: None


class EditView(Struct, frozen=True):
    """A version of the code. `size` is in characters. `text` is present if the request names one version."""

    version: int
    author: UserId | None
    at: str
    size: int
    text: str | UnsetType = UNSET


class EditsView(Struct, frozen=True):
    """A page of versions, latest first. `next` is the cursor of the page after it, null on the last."""

    items: list[EditView]
    next: str | None


def chat(page: chat_history.ChatPage, call: Call) -> ChatView:
    """Return a page of chat messages."""
    return ChatView([recorded_message(page, one) for one in page.messages], page.next)


def recorded_message(page: chat_history.ChatPage, visible: VisibleEvent) -> MessageView:
    """Return the view of a chat message from the log, with the reactions and names that belong to its page."""
    event, session, author = visible.event, page.session, visible.actor_id or page.session.owner_id
    assert isinstance(event, ChatMessage)
    return MessageView(
        message_id=event.message_id,
        seq=visible.seq,
        user_id=author,
        name=page.chatted.names.get(author) or (session.owner_name if author == session.owner_id else None),
        text=event.text,
        at=rfc3339(visible.at),
        to=event.to,
        reply_to=event.reply_to,
        voice=None if event.voice is None else VoiceView(event.voice.audio_id, event.voice.duration_s),
        deleted=event.deleted,
        reactions=page.chatted.reactions.get(event.message_id, {}),
    )


def page(listed: Listed, call: Call) -> Page:
    """Return a page whose items are views already."""
    return Page(listed.items, listed.next)


def edits(listed: Listed, call: Call) -> Page:
    """Return a page of versions of the code."""
    return Page([edit_view(edit) for edit in listed.items], listed.next)


def edit_view(edit: Edit) -> EditView:
    """Return the view of a version of the code, without its text if that was not loaded."""
    text = UNSET if edit.text is None else edit.text
    return EditView(edit.version, edit.author, rfc3339(edit.at), edit.size, text)


# Statistics


class ParticipantStatistics(Struct, frozen=True):
    """The number of events that a participant caused, by type."""

    user_id: UserId
    total: int
    by_type: dict[str, int]


class MinuteStatistics(Struct, frozen=True):
    """The number of chat messages in the minute that begins at `at`."""

    at: str
    messages: int


class HandStatistics(Struct, frozen=True):
    """How often hands were raised, and how often a raised hand was called on."""

    raised: int
    called: int


class QuestionStatistics(Struct, frozen=True):
    """`answered_share` is null if no question was asked."""

    asked: int
    answered: int
    dismissed: int
    upvotes: int
    answered_share: float | None


class PollStatistics(Struct, frozen=True):
    """`turnout` is the fraction of all participants who have ever joined, null if nobody has."""

    poll_id: int
    question: str
    voters: int
    turnout: float | None


class StatisticsView(Struct, frozen=True, kw_only=True):
    """The most active participants come first. Minutes without messages are left out."""

    joined: int
    participants: list[ParticipantStatistics]
    messages_per_minute: list[MinuteStatistics]
    hands: HandStatistics
    questions: QuestionStatistics
    polls: list[PollStatistics]


def statistics_view(counted: Any, call: Call) -> Reply:  # Any: one JSON document, made by the database
    """Return the statistics of a session."""
    joined, asked = counted["joined"], counted["questions"]
    view = StatisticsView(
        joined=joined,
        participants=[ParticipantStatistics(**one) for one in counted["participants"]],
        messages_per_minute=[
            MinuteStatistics(rfc3339(minute["at"]), minute["messages"]) for minute in counted["messages_per_minute"]
        ],
        hands=HandStatistics(**counted["hands"]),
        questions=QuestionStatistics(**asked, answered_share=share(asked["answered"], asked["asked"])),
        polls=[PollStatistics(**poll, turnout=share(poll["voters"], joined)) for poll in counted["polls"]],
    )
    return Reply(200, encode(view))


def share(part: int, whole: int) -> float | None:
    """Return `part` as a fraction of `whole`, 0 to 1, with four decimals; None if `whole` is 0."""
    return round(min(1.0, part / whole), 4) if whole else None


# Recordings


class ProviderRecordingView(Struct, frozen=True):
    """The recording that the room's provider makes, as far as the provider has reported on it. `duration` is in
    seconds."""

    provider: str
    status: RecordingStatus
    recording_id: str | None
    duration: float | None
    s3_key: str | None
    reason: str | None


class RecordingLine(Struct, frozen=True, kw_only=True):
    """A recording: an interval of the session's log. `duration` is in seconds, up to now while the recording runs."""

    recording_id: int
    status: Literal["recording", "finished"]
    user_id: UserId
    started_at: str
    stopped_at: str | None
    duration: float
    first_seq: int
    last_seq: int | None
    provider: ProviderRecordingView | None


class RecordingsView(Struct, frozen=True):
    """All recordings of a session."""

    items: list[RecordingLine]
    next: None


class RecordingLinks(RecordingLine, frozen=True, kw_only=True):
    """A recording and its URLs, which need no credential until `expires_at`. They lead to what every participant could
    see."""

    download_url: str
    replay_url: str
    expires_at: str


class RecordingFile(Struct, frozen=True):
    """`url` is the room provider's own. It needs no credential until `expires_at`."""

    url: str
    expires_at: str


def recording_line(read: recordings.RecordingRead) -> RecordingLine:
    """Return the view of a recording."""
    recording = read.recording
    until = read.now if recording.stopped_at is None else recording.stopped_at
    return RecordingLine(
        recording_id=recording.recording_id,
        status="recording" if recording.stopped_at is None else "finished",
        user_id=recording.user_id,
        started_at=rfc3339(recording.started_at),
        stopped_at=when(recording.stopped_at),
        duration=max(0, until - recording.started_at) / 1000,
        first_seq=recording.first_seq,
        last_seq=recording.last_seq,
        provider=None if recording.provider is None else provider_recording(recording, recording.provider),
    )


def provider_recording(recording: Recording, provider: str) -> ProviderRecordingView:
    """Return the view of the recording that the room's provider makes."""
    duration = None if recording.duration_ms is None else recording.duration_ms / 1000
    return ProviderRecordingView(
        provider, recording.status, recording.provider_id, duration, recording.s3_key, recording.reason
    )


def recording_list(listed: Listed, call: Call) -> Page:
    """Return all recordings of a session."""
    return Page([recording_line(recording) for recording in listed.items], None)


def recording_links(linked: recordings.Linked, call: Call) -> Reply:
    """Return a recording with its signed URLs. They are credentials, so that no cache may store the answer."""
    view = RecordingLinks(
        **structs.asdict(recording_line(linked.found)),
        download_url=linked.download_url,
        replay_url=linked.replay_url,
        expires_at=rfc3339(linked.expires_at),
    )
    return Reply(200, encode(view), {"Cache-Control": "no-store"})


def recording_file(link: DownloadLink, call: Call) -> Reply:
    """Return the URL of the provider's file. It is a credential, so that no cache may store the answer."""
    return Reply(200, encode(RecordingFile(link.url, rfc3339(link.expires_at))), {"Cache-Control": "no-store"})


# The first lines of downloads


class ExportHead(Struct, frozen=True, tag_field="type", tag="session"):
    """The first line of an export: the session, and the last event that follows."""

    session: SessionView
    last_seq: int
    exported_at: str


class ArchiveHeadView(Struct, frozen=True, tag_field="type", tag="recording"):
    """The first line of an archive. `state` is the session as every participant saw it when the recording began.
    `audio` lists the tracks and voice notes that occur in the recording."""

    recording: RecordingLine
    state: StateView
    chat_count: int
    audio: list[str]


def export_head(session: Session, last_seq: int, now: Millis) -> bytes:
    """Encode the first line of an export, with its newline."""
    return encode(ExportHead(session_view(session), last_seq, rfc3339(now))) + b"\n"


def archive_head(head: archive.ArchiveHead) -> bytes:
    """Encode the first line of an archive, with its newline."""
    line = recording_line(head.recording)
    state = state_view(head.state, NOBODY, head.recording.recording.started_at)
    return encode(ArchiveHeadView(line, state, head.chat_count, head.audio_ids)) + b"\n"


def rows(line: Callable[[VisibleEvent], bytes]) -> tuple[ActionRoute | DownloadRoute | ReplayRoute, ...]:
    """Return the route rows. `line` encodes a row of the log as `/log` prints it, with a newline."""
    export_lines = export.Export(export_head, line)
    archive_lines = archive.Archive(archive_head, line)
    frames = replay.Frames(REPLAYED, gap, replay_end)
    return (
        ActionRoute(
            path="/sessions/{ref}/log/statistics", reads=Ask.MODERATION, summary="Read activity statistics",
            act=statistics.statistics, view=statistics_view, answer=StatisticsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/attendance", reads=Ask.CARD,
            summary="Read who attended, when and for how long; a member sees their own line only",
            query=attendance.AttendanceQuery, act=attendance.attended, view=attendance_reply, answer=AttendanceView,
            text_types=("text/csv",),
        ),
        DownloadRoute(
            path="/sessions/{ref}/export", reads=Ask.MODERATION,
            summary="Download the whole log as JSON lines; owner, hosts and cohosts",
            act=partial(export.export, lines=export_lines), content_type=NDJSON,
        ),
        ActionRoute(
            path="/sessions/{ref}/chat", reads=Ask.HISTORY,
            summary="Read the chat, latest first, with your own direct messages",
            query=chat_history.ChatQuery, act=chat_history.chat, view=chat, answer=ChatView,
        ),
        ActionRoute(
            path="/sessions/{ref}/questions", reads=Ask.HISTORY,
            summary="Read the questions, in the order they were asked",
            act=partial(chat_history.questions, show=question_view), view=page, answer=QuestionsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/code/history", reads=Ask.HISTORY,
            summary="List the code's versions, latest first, or read one",
            query=code_history.CodeQuery, act=code_history.code_history, view=edits, answer=EditsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/recordings", reads=Ask.HISTORY, summary="List the recordings",
            act=recordings.list_recordings, view=recording_list, answer=RecordingsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/recordings/{recording}", reads=Ask.HISTORY,
            summary="Get a recording, with its signed URLs",
            act=recordings.find_recording, view=recording_links, answer=RecordingLinks,
        ),
        ActionRoute(
            path="/sessions/{ref}/recordings/{recording}/file", reads=Ask.HISTORY,
            summary="Get the URL of the room provider's own file",
            act=room_access.recording_file, view=recording_file, answer=RecordingFile,
        ),
        DownloadRoute(
            path="/sessions/{ref}/recordings/{recording}/archive", reads=OWN_RULE,
            public=True, query=recordings.SignedQuery,
            summary="Download a recording as JSON lines, by the signed URL from `/recordings/{recording}`",
            act=partial(archive.archive, lines=archive_lines), content_type=NDJSON,
        ),
        ReplayRoute(
            path="/sessions/{ref}/replay", reads=OWN_RULE, public=True, query=replay.ReplayQuery, format=REPLAYED,
            summary="Replay a session at its original pace (SSE); by token, ticket or a recording's signed URL",
            play=partial(replay.replay, frames=frames),
        ),
    )  # fmt: skip
