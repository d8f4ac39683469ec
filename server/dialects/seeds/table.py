"""The route rows of `seeds`: audio lessons over SSE."""

from collections.abc import Mapping

from actors.session import commands as c
from actors.session.access import Ask
from actors.session.errors import Reason
from server.api import dialect_frames as frames
from server.api.dialect import PLAIN, Dialect, detailed
from server.api.routes import (
    ActionRoute,
    CommandRoute,
    ContentRoute,
    CreateRoute,
    ReadRoute,
    StreamRoute,
    UploadRoute,
    under,
)
from server.dialects.seeds import actions, audio_views, bodies, chat_views, views
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
    ActionRoute(
        method="POST", path="/auth/register", summary="Create an account", public=True, body=bodies.Register,
        into=bodies.register, act=accounts.enrol, view=views.account, answer=views.AccountView,
        errors={"invalid_role": (400, "Invalid role")},
    ),
    ActionRoute(
        method="POST", path="/auth/login", summary="Log in", public=True, body=bodies.Login, into=bodies.login,
        act=accounts.login, view=views.token, answer=views.Token,
    ),
    ActionRoute(
        method="POST", path="/auth/logout", summary="Log out; the token is no longer valid", act=accounts.logout,
        view=lambda value, call: views.Done(), answer=views.Done,
    ),
    ActionRoute(
        path="/users/students", summary="List the students", teachers=True, query=accounts.StudentsQuery,
        act=accounts.students, view=views.students, answer=list[views.Student],
    ),
    ActionRoute(
        method="POST", path="/users/fcm-token", summary="Register a device for invitations", body=bodies.Device,
        into=bodies.device, act=devices.put_named, view=views.device, answer=views.DeviceView,
    ),
    ActionRoute(
        method="DELETE", path="/users/fcm-token", summary="Remove a device", body=bodies.DeviceToken,
        act=devices.remove_named, view=lambda value, call: views.Done(), answer=views.Done,
    ),
)  # fmt: skip
SESSIONS = (
    CreateRoute(
        path="/sessions", summary="Start a session", teachers=True, body=bodies.NewSession, status=200,
        new=bodies.new_session, options=lambda call: CreationOptions(live=True),
        see=views.created, answer=views.SessionView,
    ),
    ActionRoute(
        path="/sessions/active", summary="List active sessions, newest first", query=bodies.ActiveQuery,
        into=bodies.active, act=sessions.sliced, view=views.listed, answer=list[views.SessionView],
    ),
)  # fmt: skip
SESSION = (
    CommandRoute(
        method="DELETE", path="", summary="End a session", reads=Ask.OWNERSHIP, find=bodies.status,
        commands=(c.Cancel, c.End), ask=bodies.end,
        see=lambda state, call: views.Confirmation(message="Session ended"), errors=ENDING, answer=views.Confirmation,
    ),
    ReadRoute(path="/state", summary="Read the participants, and the track that plays", see=views.session_state,
        answer=views.StateView),
    CommandRoute(
        path="/invite", summary="Invite a student", reads=Ask.MODERATION, body=bodies.Invitation,
        lookup=accounts.numbered_student(lambda call: call.body.student_id), commands=(c.Invite,), ask=bodies.invite,
        then=devices.reached,
        view=views.invited, errors={"not_permitted": TEACHER, "not_joined": TEACHER}, answer=views.Invited,
    ),
    CommandRoute(
        path="/join", summary="Join", has_invitation=True, find=bodies.begun, commands=(c.Join,),
        ask=lambda call: c.Join(),
        see=views.own_view, answer=views.Joined,
    ),
    CommandRoute(
        method="DELETE", path="/participants/{participant_id}", summary="Remove a participant", reads=Ask.OWNERSHIP,
        find=bodies.path_participant, commands=(c.Kick,), ask=bodies.kick,
        see=lambda state, call: views.Confirmation(message="Participant removed"), answer=views.Confirmation,
    ),
    CommandRoute(
        path="/participants/{participant_id}/mute", summary="Mute a participant, or with `mute=false` unmute them",
        body=bodies.Muting, reads=Ask.CARD, find=bodies.path_participant, commands=(c.Mute, c.Unmute), ask=bodies.mute,
        see=views.muted, answer=views.Muted,
    ),
    CommandRoute(
        path="/action", summary="Perform one of several actions, by its `type`", body=actions.Action,
        reads=Ask.CARD, find=actions.target,
        commands=(c.End, c.Kick, c.LowerHand, c.Mute, c.RaiseHand, c.SendMessage, c.Signal, c.Unmute),
        ask=actions.act, see=views.acted, answer=views.Acted,
        errors=dict.fromkeys(("unknown_action", "no_target", "empty_message"), (400, "")),
    ),
)  # fmt: skip
LOGS = (
    ActionRoute(
        path="/logs", summary="Read the log of your session, newest first", teachers=True, reads=Ask.OWNERSHIP,
        query=log_pages.LinesQuery, act=log_pages.lines, view=chat_views.logs, answer=chat_views.LogsView,
    ),
    ActionRoute(
        path="/logs/summary", summary="Summarize the log", reads=Ask.OWNERSHIP, act=log_pages.lines_summary,
        view=chat_views.summary, answer=chat_views.SummaryView,
    ),
)  # fmt: skip
CHAT = (
    CommandRoute(
        path="/chat", summary="Send a message to everyone", reads=Ask.CARD, body=bodies.Message,
        find=bodies.is_sender, commands=(c.SendMessage,), ask=bodies.send_message, see=chat_views.sent,
        answer=chat_views.MessageView,
    ),
    ReadRoute(
        path="/chat", summary="Read the latest messages, oldest first", reads=Ask.HISTORY, query=chat_history.ChatQuery,
        see=chat_views.senders, then=chat_history.public_chat, view=chat_views.chat,
        answer=list[chat_views.MessageView],
    ),
    UploadRoute(
        path="/voice", summary="Send a voice note", reads=Ask.CARD, form=by_number.VoiceForm,
        act=by_number.saying(chat_views.sent), answer=chat_views.MessageView,
    ),
    CommandRoute(
        path="/questions", summary="Ask a question", reads=Ask.CARD, body=bodies.Question, commands=(c.AskQuestion,),
        ask=bodies.ask,
        see=chat_views.asked, answer=chat_views.QuestionView,
    ),
    ReadRoute(path="/questions", summary="List questions, in the order they were asked", see=chat_views.questions,
        answer=list[chat_views.QuestionView]),
    CommandRoute(
        path="/questions/{question_id}/answer", summary="Answer a question", reads=Ask.CARD, body=bodies.Answer,
        commands=(c.AnswerQuestion,), ask=bodies.answer, see=chat_views.answered, answer=chat_views.QuestionView,
    ),
)  # fmt: skip
AUDIO = (
    UploadRoute(
        path="/audio/upload", summary="Upload a track: mp3, wav, m4a, ogg or webm", teachers=True,
        form=by_number.UploadForm, act=by_number.filing(bodies.KIND, bodies.NAME), view=audio_views.audio_view,
        answer=audio_views.AudioView,
    ),
    ActionRoute(
        path="/audio/list", summary="List your own tracks, newest first", query=by_number.ListQuery,
        act=by_number.mine, view=audio_views.audio_list, answer=list[audio_views.AudioView],
    ),
    ContentRoute(
        path="/audio/{audio_id}/stream", summary="Read a track, all or a range", query_token=True,
        act=by_number.content,
    ),
    ContentRoute(
        path="/audio/{audio_id}/play", summary="Read a whole track", query_token=True, act=by_number.whole,
    ),
)  # fmt: skip
PLAYBACK = (
    CommandRoute(
        path="/audio/select", summary="Select a track", reads=Ask.CARD, body=bodies.Selection,
        lookup=by_number.numbered(lambda call: call.body.audio_id), commands=(c.SelectAudio,), ask=bodies.select,
        see=audio_views.selected,
        answer=audio_views.Selected,
    ),
    CommandRoute(
        path="/audio/play", summary="Play the selected track, or another", reads=Ask.CARD, body=bodies.Playing,
        lookup=by_number.numbered(lambda call: call.body.audio_id), find=bodies.selected_track,
        commands=(c.Play, c.SelectAudio), ask=bodies.play,
        see=audio_views.controlled, answer=audio_views.Controlled,
    ),
    CommandRoute(
        path="/audio/pause", summary="Pause", reads=Ask.CARD, commands=(c.Pause,), ask=lambda call: c.Pause(),
        see=audio_views.controlled, answer=audio_views.Controlled,
    ),
    CommandRoute(
        path="/audio/control", summary="Play, pause, seek, or change the speed", reads=Ask.CARD,
        body=bodies.Control, lookup=by_number.numbered(lambda call: call.body.audio_id), find=bodies.selected_track,
        commands=(c.Pause, c.Play, c.Seek, c.SelectAudio, c.SetSpeed), ask=bodies.control, see=audio_views.controlled,
        answer=audio_views.Controlled,
    ),
    ReadRoute(path="/audio/state", summary="Read the state of playback", see=audio_views.playback_view,
        answer=audio_views.PlaybackView),
    ActionRoute(
        path="/playback", summary="Read the playback history, newest first", reads=Ask.HISTORY,
        query=log_pages.PlaybackQuery, act=log_pages.played, view=chat_views.log_rows, answer=list[chat_views.LogView],
    ),
)  # fmt: skip
STREAM = StreamRoute(
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
