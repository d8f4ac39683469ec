"""How `/v1` prints records: chat, questions, code, statistics, recordings, the lines of downloads. And their rows."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

from msgspec import UNSET, Struct, UnsetType

from actors.session.events import ChatMessage, Recorded
from actors.session.ids import Millis, UserId
from actors.session.state import Recording, RecordingStatus, Session
from server.api.routes import ActionRoute, DownloadRoute, ReplayRoute
from server.http.pagination import Listed
from server.http.reply import Reply
from server.http.timestamps import rfc3339, when
from server.rooms.providers import DownloadLink
from server.usecases import room_access
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
from server.v1.attendance import AttendanceView, attended
from server.v1.frames import REPLAYED, gap, replay_end
from server.v1.state_views import MessageView, QuestionView, StateView, VoiceView, question_view, state_view
from server.v1.views import Page, SessionView, encode, session_view
from storage.history import Edit

NDJSON = "application/x-ndjson"


# Chat, questions, code


class ChatView(Struct, frozen=True):
    """Latest first. `next` is the `before` of the page that comes after this one."""

    items: list[MessageView]
    next: int | None


class QuestionsView(Struct, frozen=True):
    items: list[QuestionView]
    next: None


class EditView(Struct, frozen=True):
    """A version of the code. `size` is in characters; `text` comes when one version is asked for."""

    version: int
    author: UserId | None
    at: str
    size: int
    text: str | UnsetType = UNSET


class EditsView(Struct, frozen=True):
    items: list[EditView]
    next: str | None


def chat(page: chat_history.ChatPage) -> Reply:
    return Reply(200, encode(ChatView([message(page, row) for row in page.chatted.rows], page.next)))


def message(page: chat_history.ChatPage, row: Recorded) -> MessageView:
    event, session, author = row.event, page.session, row.actor_id or page.session.owner_id
    assert isinstance(event, ChatMessage)
    return MessageView(
        message_id=event.message_id,
        seq=row.seq,
        user_id=author,
        name=page.chatted.names.get(author) or (session.owner_name if author == session.owner_id else None),
        text=event.text,
        at=rfc3339(row.at),
        to=event.to,
        reply_to=event.reply_to,
        voice=None if event.voice is None else VoiceView(event.voice.audio_id, event.voice.duration_s),
        deleted=event.deleted,
        reactions=page.chatted.reactions.get(event.message_id, {}),
    )


def listed(found: Listed) -> Reply:
    return Reply(200, encode(Page(found.items, found.next)))


def edits(found: Listed) -> Reply:
    return Reply(200, encode(Page([edit_view(edit) for edit in found.items], found.next)))


def edit_view(edit: Edit) -> EditView:
    text = UNSET if edit.text is None else edit.text
    return EditView(edit.version, edit.author, rfc3339(edit.at), edit.size, text)


# Statistics


class ParticipantStatistics(Struct, frozen=True):
    user_id: UserId
    total: int
    by_type: dict[str, int]


class MinuteStatistics(Struct, frozen=True):
    at: str
    messages: int


class HandStatistics(Struct, frozen=True):
    raised: int
    called: int


class QuestionStatistics(Struct, frozen=True):
    """`answered_share` is null where nothing was asked."""

    asked: int
    answered: int
    dismissed: int
    upvotes: int
    answered_share: float | None


class PollStatistics(Struct, frozen=True):
    """`turnout`: of everyone who has ever joined."""

    poll_id: int
    question: str
    voters: int
    turnout: float | None


class StatisticsView(Struct, frozen=True, kw_only=True):
    """Who did most comes first; minutes without messages are left out."""

    joined: int
    participants: list[ParticipantStatistics]
    messages_per_minute: list[MinuteStatistics]
    hands: HandStatistics
    questions: QuestionStatistics
    polls: list[PollStatistics]


def statistics_view(found: Any) -> Reply:
    joined, asked = found["joined"], found["questions"]
    view = StatisticsView(
        joined=joined,
        participants=[ParticipantStatistics(**one) for one in found["participants"]],
        messages_per_minute=[
            MinuteStatistics(rfc3339(minute["at"]), minute["messages"]) for minute in found["messages_per_minute"]
        ],
        hands=HandStatistics(**found["hands"]),
        questions=QuestionStatistics(**asked, answered_share=share(asked["answered"], asked["asked"])),
        polls=[PollStatistics(**poll, turnout=share(poll["voters"], joined)) for poll in found["polls"]],
    )
    return Reply(200, encode(view))


def share(part: int, whole: int) -> float | None:
    return round(min(1.0, part / whole), 4) if whole else None


# Recordings


class ProviderRecordingView(Struct, frozen=True):
    """What a provider of rooms makes of its own, as far as it has said. `duration` in seconds."""

    provider: str
    status: RecordingStatus
    recording_id: str | None
    duration: float | None
    s3_key: str | None
    reason: str | None


class RecordingLine(Struct, frozen=True, kw_only=True):
    """`duration` in seconds, up to now while it is running."""

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
    items: list[RecordingLine]
    next: None


class RecordingLinks(RecordingLine, frozen=True, kw_only=True):
    """The URLs are good until `expires_at`, for whoever has them: what everyone in the session could see."""

    download_url: str
    replay_url: str
    expires_at: str


class RecordingFile(Struct, frozen=True):
    """`url` is the provider's, good until `expires_at`, for whoever has it."""

    url: str
    expires_at: str


def recording_fields(found: recordings.Found) -> dict[str, Any]:
    recording = found.recording
    until = found.now if recording.stopped_at is None else recording.stopped_at
    return {
        "recording_id": recording.recording_id,
        "status": "recording" if recording.stopped_at is None else "finished",
        "user_id": recording.user_id,
        "started_at": rfc3339(recording.started_at),
        "stopped_at": when(recording.stopped_at),
        "duration": max(0, until - recording.started_at) / 1000,
        "first_seq": recording.first_seq,
        "last_seq": recording.last_seq,
        "provider": None if recording.provider is None else provider_recording(recording, recording.provider),
    }


def provider_recording(recording: Recording, provider: str) -> ProviderRecordingView:
    duration = None if recording.duration_ms is None else recording.duration_ms / 1000
    return ProviderRecordingView(
        provider, recording.status, recording.provider_id, duration, recording.s3_key, recording.reason
    )


def recorded(found: Listed) -> Reply:
    return Reply(200, encode(Page([RecordingLine(**recording_fields(one)) for one in found.items], None)))


def links(linked: recordings.Linked) -> Reply:
    view = RecordingLinks(
        **recording_fields(linked.found),
        download_url=linked.download_url,
        replay_url=linked.replay_url,
        expires_at=rfc3339(linked.expires_at),
    )
    return Reply(200, encode(view), {"Cache-Control": "no-store"})


def file(link: DownloadLink) -> Reply:
    return Reply(200, encode(RecordingFile(link.url, rfc3339(link.expires_at))), {"Cache-Control": "no-store"})


# The first lines of downloads


class ExportHead(Struct, frozen=True, tag_field="type", tag="session"):
    session: SessionView
    last_seq: int
    exported_at: str


class ArchiveHead(Struct, frozen=True, tag_field="type", tag="recording"):
    """`state` is what everyone saw when the recording began; `audio`: what was on, was put on or was sent."""

    recording: RecordingLine
    state: StateView
    chat_count: int
    audio: list[str]


def export_head(session: Session, last_seq: int, now: Millis) -> bytes:
    return encode(ExportHead(session_view(session), last_seq, rfc3339(now))) + b"\n"


def archive_head(head: archive.ArchiveHead) -> bytes:
    line = RecordingLine(**recording_fields(head.recording))
    state = state_view(head.state, replay.NOBODY, head.recording.recording.started_at)
    return encode(ArchiveHead(line, state, head.chat_count, head.audio_ids)) + b"\n"


def rows(line: Callable[[Recorded], bytes]) -> tuple[ActionRoute | DownloadRoute | ReplayRoute, ...]:
    """Give the routes. `line` prints a row of the log as `/log` does, on a line."""
    export_lines = export.Export(export_head, line)
    archive_lines = archive.Archive(archive_head, line)
    frames = replay.Frames(REPLAYED, gap, replay_end)
    return (
        ActionRoute(
            path="/sessions/{ref}/log/statistics", summary="Count who did what, minute by minute", session=True,
            act=statistics.statistics, view=statistics_view, answer=StatisticsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/attendance", session=True,
            summary="Read who was there, when and for how long; members, of themselves",
            query=attendance.AttendanceQuery, act=attendance.attended, view=attended, answer=AttendanceView,
            text_types=("text/csv",),
        ),
        DownloadRoute(
            path="/sessions/{ref}/export", summary="Download the whole log, as lines of JSON; owner, hosts and cohosts",
            act=partial(export.export, lines=export_lines), content_type=NDJSON,
        ),
        ActionRoute(
            path="/sessions/{ref}/chat", summary="Read the chat, latest first: what was to all, and one's own",
            session=True, query=chat_history.ChatQuery, act=chat_history.chat, view=chat, answer=ChatView,
        ),
        ActionRoute(
            path="/sessions/{ref}/questions", summary="Read the questions, in the order they were asked", session=True,
            act=partial(chat_history.questions, show=question_view), view=listed, answer=QuestionsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/code/history", summary="Read the code's versions, latest first; one with its text",
            session=True, query=code_history.CodeQuery, act=code_history.code_history, view=edits, answer=EditsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/recordings", summary="List the recordings", session=True,
            act=recordings.list_recordings, view=recorded, answer=RecordingsView,
        ),
        ActionRoute(
            path="/sessions/{ref}/recordings/{recording}", summary="Get a recording's URLs, good for a while",
            session=True, act=recordings.find_recording, view=links, answer=RecordingLinks,
        ),
        ActionRoute(
            path="/sessions/{ref}/recordings/{recording}/file", summary="Get the URL of the room provider's own file",
            session=True, act=room_access.recording_file, view=file, answer=RecordingFile,
        ),
        DownloadRoute(
            path="/sessions/{ref}/recordings/{recording}/archive", public=True, query=recordings.SignedQuery,
            summary="Download a recording, as lines of JSON, by the URL that `/recordings/{recording}` gave",
            act=partial(archive.archive, lines=archive_lines), content_type=NDJSON,
        ),
        ReplayRoute(
            path="/sessions/{ref}/replay", public=True, query=replay.ReplayQuery, format=REPLAYED,
            summary="Play what has been, in its own rhythm (SSE); with a token, a ticket or a recording's signed URL",
            play=partial(replay.replay, frames=frames),
        ),
    )  # fmt: skip
