"""The route rows of `seeds`: audio lessons over SSE."""

from collections.abc import Mapping

from actors.session import commands as c
from actors.session.errors import Reason
from server.api import dialect_frames as frames
from server.api.dialect import (
    PLAIN,
    AskRoute,
    CreateRoute,
    Dialect,
    FetchRoute,
    LookRoute,
    PlayRoute,
    TakeRoute,
    WatchRoute,
    detailed,
    under,
)
from server.dialects.seeds import audio_views, bodies, chat_views, views
from server.dialects.seeds.stream import EVENTS, RELAYS, SILENT, first, last
from server.settings.sections import Settings
from server.usecases import accounts, devices, sessions
from server.usecases.audio import by_number
from server.usecases.records import chat_history, log_pages
from server.usecases.session_creation import CreationOptions

INACTIVE = (400, "Session is not active")
TEACHER = (403, "Teacher permission required")
ERRORS: Mapping[Reason, tuple[int, str]] = {
    **PLAIN,
    Reason.NOT_LIVE: INACTIVE,
    Reason.ENDED: INACTIVE,
    Reason.CANCELLED: INACTIVE,
    Reason.NOT_OWNER: (403, "Only the session's creator may do this"),
    Reason.NOT_PERMITTED: TEACHER,
    Reason.KICKED: (403, "You were removed from this session"),
    Reason.NOT_INVITED: (403, "You are not invited to this session"),
    Reason.NOT_JOINED: (403, "Not a participant of this session"),
    Reason.UNKNOWN_PARTICIPANT: (404, "Participant not found"),
    Reason.UNKNOWN_MESSAGE: (404, "Message not found"),
    Reason.UNKNOWN_QUESTION: (404, "Question not found"),
    Reason.UNKNOWN_AUDIO: (404, "Audio not found"),
    Reason.NO_AUDIO: (400, "No audio selected for this session"),
    Reason.NOT_ALLOWED: (400, ""),
}
PROBLEMS = {
    "unauthenticated": (401, "Not authenticated"),
    "bad_credentials": (401, "Invalid credentials"),
    "taken": (400, "Phone already registered"),
    "not_a_teacher": TEACHER,
    "unknown_session": (404, "Session not found"),
    "unknown_user": (404, "Student not found"),
    "malformed": (422, ""),
    "not_found": (404, "Not Found"),
    "method_not_allowed": (405, "Method Not Allowed"),
}
ENDING = {
    Reason.ENDED.value: (400, "Session already ended"),
    Reason.CANCELLED.value: (400, "Session already ended"),
    **dict.fromkeys(("not_owner", "not_joined"), (403, "Only creator can end session")),
}


ACCOUNTS = (
    FetchRoute(
        method="POST", path="/auth/register", summary="Create an account", public=True, body=bodies.Register,
        into=bodies.register, act=accounts.enrol, out=views.account, answer=views.AccountView,
        errors={"invalid_role": (400, "Invalid role")},
    ),
    FetchRoute(
        method="POST", path="/auth/login", summary="Log in", public=True, body=bodies.Login, into=bodies.login,
        act=accounts.login, out=views.token, answer=views.Token,
    ),
    FetchRoute(
        method="POST", path="/auth/logout", summary="Log out; the token is no longer valid", act=accounts.logout,
        out=lambda value, call: views.Done(), answer=views.Done,
    ),
    FetchRoute(
        path="/users/students", summary="List the students", teachers=True, query=accounts.StudentsQuery,
        act=accounts.students, out=views.students, answer=list[views.Student],
    ),
    FetchRoute(
        method="POST", path="/users/fcm-token", summary="Register a device for invitations", body=bodies.Device,
        into=bodies.device, act=devices.put_named, out=views.device, answer=views.DeviceView,
    ),
    FetchRoute(
        method="DELETE", path="/users/fcm-token", summary="Remove a device", body=bodies.DeviceToken,
        act=devices.remove_named, out=lambda value, call: views.Done(), answer=views.Done,
    ),
)  # fmt: skip
SESSIONS = (
    CreateRoute(
        path="/sessions", summary="Start a session", teachers=True, body=bodies.NewSession, status=200,
        new=bodies.new_session, opening=lambda call: CreationOptions(live=True),
        see=views.created, answer=views.SessionView,
    ),
    FetchRoute(
        path="/sessions/active", summary="List active sessions, newest first", query=bodies.ActiveQuery,
        into=bodies.active, act=sessions.sliced, out=views.listed, answer=list[views.SessionView],
    ),
)  # fmt: skip
SESSION = (
    AskRoute(
        method="DELETE", path="", summary="End a session", whose="owner", find=bodies.status, ask=bodies.end,
        see=lambda state, call: views.Confirmation(message="Session ended"), errors=ENDING, answer=views.Confirmation,
    ),
    LookRoute(path="/state", summary="Read the participants, and the track that plays", see=views.session_state,
        answer=views.StateView),
    AskRoute(
        path="/invite", summary="Invite a student", whose="moderator", body=bodies.Invitation,
        lookup=accounts.numbered_student(lambda call: call.body.student_id), ask=bodies.invite, then=devices.reached,
        out=views.invited, errors={"not_permitted": TEACHER, "not_joined": TEACHER}, answer=views.Invited,
    ),
    AskRoute(
        path="/join", summary="Join", has_invitation=True, find=bodies.begun, ask=lambda call: c.Join(),
        see=views.own_view, answer=views.Joined,
    ),
    AskRoute(
        method="DELETE", path="/participants/{participant_id}", summary="Remove a participant", whose="owner",
        find=bodies.path_participant, ask=bodies.kick,
        see=lambda state, call: views.Confirmation(message="Participant removed"), answer=views.Confirmation,
    ),
    AskRoute(
        path="/participants/{participant_id}/mute", summary="Mute a participant, or with `mute=false` unmute them",
        body=bodies.Muting, whose="participant", find=bodies.path_participant, ask=bodies.mute,
        see=views.muted, answer=views.Muted,
    ),
    AskRoute(
        path="/action", summary="Perform one of several actions, by its `type`", body=bodies.Action,
        whose="participant", find=bodies.target, ask=bodies.act, see=views.acted, answer=views.Acted,
        errors=dict.fromkeys(("unknown_action", "no_target", "empty_message"), (400, "")),
    ),
)  # fmt: skip
LOGS = (
    FetchRoute(
        path="/logs", summary="Read the log of your session, newest first", teachers=True, whose="owner",
        query=log_pages.LinesQuery, act=log_pages.lines, out=chat_views.logs, answer=chat_views.LogsView,
    ),
    FetchRoute(
        path="/logs/summary", summary="Summarize the log", whose="owner", act=log_pages.lines_summary,
        out=chat_views.summary, answer=chat_views.SummaryView,
    ),
)  # fmt: skip
CHAT = (
    AskRoute(
        path="/chat", summary="Send a message to everyone", whose="participant", body=bodies.Message,
        find=bodies.is_sender, ask=bodies.send_message, see=chat_views.sent, answer=chat_views.MessageView,
    ),
    LookRoute(
        path="/chat", summary="Read the latest messages, oldest first", query=chat_history.ChatQuery,
        see=chat_views.senders, then=chat_history.public_chat, out=chat_views.chat, answer=list[chat_views.MessageView],
    ),
    TakeRoute(
        path="/voice", summary="Send a voice note", whose="participant", form=by_number.VoiceForm,
        act=by_number.saying(chat_views.sent), answer=chat_views.MessageView,
    ),
    AskRoute(
        path="/questions", summary="Ask a question", whose="participant", body=bodies.Question, ask=bodies.ask,
        see=chat_views.asked, answer=chat_views.QuestionView,
    ),
    LookRoute(path="/questions", summary="List questions, in the order they were asked", see=chat_views.questions,
        answer=list[chat_views.QuestionView]),
    AskRoute(
        path="/questions/{question_id}/answer", summary="Answer a question", whose="participant", body=bodies.Answer,
        ask=bodies.answer, see=chat_views.answered, answer=chat_views.QuestionView,
    ),
)  # fmt: skip
AUDIO = (
    TakeRoute(
        path="/audio/upload", summary="Upload a track: mp3, wav, m4a, ogg or webm", teachers=True,
        form=by_number.UploadForm, act=by_number.filing(bodies.KIND, bodies.NAME), out=audio_views.audio_view,
        answer=audio_views.AudioView,
    ),
    FetchRoute(
        path="/audio/list", summary="List your own tracks, newest first", query=by_number.ListQuery,
        act=by_number.mine, out=audio_views.audio_list, answer=list[audio_views.AudioView],
    ),
    PlayRoute(
        path="/audio/{audio_id}/stream", summary="Read a track, all or a range", query_token=True,
        act=by_number.content,
    ),
    PlayRoute(
        path="/audio/{audio_id}/play", summary="Read a whole track", query_token=True, act=by_number.whole,
    ),
)  # fmt: skip
PLAYBACK = (
    AskRoute(
        path="/audio/select", summary="Select a track", whose="participant", body=bodies.Selection,
        lookup=by_number.numbered(lambda call: call.body.audio_id), ask=bodies.select, see=audio_views.selected,
        answer=audio_views.Selected,
    ),
    AskRoute(
        path="/audio/play", summary="Play the selected track, or another", whose="participant", body=bodies.Playing,
        lookup=by_number.numbered(lambda call: call.body.audio_id), find=bodies.selected_track, ask=bodies.play,
        see=audio_views.controlled, answer=audio_views.Controlled,
    ),
    AskRoute(
        path="/audio/pause", summary="Pause", whose="participant", ask=lambda call: c.Pause(),
        see=audio_views.controlled, answer=audio_views.Controlled,
    ),
    AskRoute(
        path="/audio/control", summary="Play, pause, seek, or change the speed", whose="participant",
        body=bodies.Control, lookup=by_number.numbered(lambda call: call.body.audio_id), find=bodies.selected_track,
        ask=bodies.control, see=audio_views.controlled, answer=audio_views.Controlled,
    ),
    LookRoute(path="/audio/state", summary="Read the state of playback", see=audio_views.playback_view,
        answer=audio_views.PlaybackView),
    FetchRoute(
        path="/playback", summary="Read the playback history, newest first", whose="participant",
        query=log_pages.PlaybackQuery, act=log_pages.played, out=chat_views.log_rows, answer=list[chat_views.LogView],
    ),
)  # fmt: skip
STREAM = WatchRoute(
    path="/sse/sessions/{ref}", summary="Join a session and stream its events (SSE)", query_token=True, join=True,
    has_invitation=True, find=bodies.watchable, format=frames.stream(EVENTS, first, last, RELAYS),
)  # fmt: skip


def table(settings: Settings) -> Dialect:
    """Return the dialect as the settings configure it."""
    mine = settings.dialects.seeds
    return Dialect(
        name=bodies.NAME,
        title="SEEDS",
        prefix=mine.prefix,
        rows=(
            *ACCOUNTS, *SESSIONS, *AUDIO, STREAM, *under("/sessions/{ref}", *SESSION, *LOGS, *CHAT, *PLAYBACK),
        ),
        open=("dialects.seeds.trust_user_id",) if mine.trust_user_id else (),
        kind=bodies.KIND,
        named="number",
        errors=ERRORS,
        problems=PROBLEMS,
        error_body=detailed,
        forms=True,
        user_field="user_id",
        trusting=mine.trust_user_id,
        events=EVENTS,
        silent=SILENT,
    )  # fmt: skip
