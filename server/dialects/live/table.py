"""The route rows of `live`: live sessions of courses, with recordings."""

from collections.abc import Mapping
from typing import get_args

from actors.session import commands as c
from actors.session import events as e
from actors.session.access import Ask
from actors.session.errors import Reason
from actors.session.state import State
from actors.session.state import Status as Ours
from server.api.dialect import PLAIN, Dialect
from server.api.routes import OWN_RULE, ActionRoute, CommandRoute, CreateRoute, ReadRoute, under
from server.dialects.live.bodies import (
    Allowed,
    NewSession,
    SessionChange,
    allow,
    begun,
    by_instructor,
    change,
    end,
    new_session,
)
from server.dialects.live.views import (
    LiveSession,
    ParticipantView,
    RecordingView,
    Started,
    Stopped,
    Token,
    live_session,
    own_view,
    participant_list,
    path_participant,
    path_participant_view,
    recording_started,
    recording_stopped,
    recording_view,
    session_view,
)
from server.http.problems import Problem
from server.settings.sections import Settings
from server.usecases import room_access, sessions
from server.usecases.call import Call

ERRORS: Mapping[Reason, tuple[int, str]] = {
    **PLAIN,
    Reason.ENDED: (410, "Session has ended"),
    Reason.CANCELLED: (410, "Session has ended"),
    Reason.FULL: (409, "Session is full"),
    Reason.KICKED: (403, "You were removed from this session"),
    Reason.NOT_JOINED: (403, "Not a participant of this session"),
    Reason.NOT_PERMITTED: (403, "Not authorized"),
    Reason.FEATURE_OFF: (400, "Recording is not enabled for this session"),
    Reason.RECORDING: (409, "Recording already in progress"),
    Reason.NOT_RECORDING: (409, "No recording in progress"),
    Reason.UNKNOWN_PARTICIPANT: (404, "Participant not found"),
    Reason.NOT_ALLOWED: (400, ""),
}


PROBLEMS = {
    "invalid": (400, ""),
    "too_deep": (400, ""),
    "unknown_session": (404, "Session not found"),
    "room_failed": (500, "Failed to create session room"),
    "not_a_teacher": (403, "Only instructors may create sessions"),
    "not_recorded": (404, "This session has not been recorded"),
}


def error_body(status: int, text: str, problem: Problem) -> dict[str, str]:
    """Return the body of a refusal."""
    return {"error": "Unauthorized" if status == 401 else text, "message": text}


def denied(action: str) -> dict[str, tuple[int, str]]:
    """Return the refusals of callers who are not the session's creator, or not in it."""
    text = f"Not authorized to {action}:{{ref}}"
    return dict.fromkeys(("not_owner", "not_permitted", "not_joined"), (403, text))


def status(state: State, call: Call) -> Ours:
    """Return the session's status."""
    return state.session.status


ROWS = (
    CreateRoute(
        path="", summary="Create a session, and its room", body=NewSession, teachers=True, new=new_session,
        see=session_view, answer=LiveSession,
    ),
    ActionRoute(
        path="/instructor/{instructor_id}", summary="List an instructor's sessions, newest first", public=True,
        into=by_instructor, act=sessions.sliced, view=lambda found, call: [live_session(each) for each in found[0]],
        answer=list[LiveSession],
    ),
    ReadRoute(
        path="/{ref}", summary="Read a session", public=True, reads=OWN_RULE, see=session_view, answer=LiveSession,
        errors={"unknown_session": (500, "Session not found")}, error_body=lambda status, text: text,
    ),
    CommandRoute(
        method="PATCH", path="/{ref}", summary="Change a session", body=SessionChange, reads=Ask.OWNERSHIP,
        commands=(c.Update,), ask=change,
        see=session_view, answer=LiveSession, errors=denied("modify session"),
    ),
    CommandRoute(
        method="DELETE", path="/{ref}", summary="End a session", reads=Ask.OWNERSHIP, find=status,
        commands=(c.End, c.Start), ask=end,
        see=session_view, answer=LiveSession, errors=denied("delete session"),
    ),
    CommandRoute(
        path="/{ref}/start-recording", summary="Start recording, and a scheduled session with it", reads=Ask.OWNERSHIP,
        find=status, commands=(c.Start, c.StartRecording), ask=lambda call: begun(call, c.StartRecording()),
        see=recording_started, answer=Started,
        errors=denied("record session"),
    ),
    CommandRoute(
        path="/{ref}/stop-recording", summary="Stop recording, and end the session", reads=Ask.OWNERSHIP,
        commands=(c.End, c.StopRecording), ask=lambda call: c.Together([c.StopRecording(), c.End()]),
        see=recording_stopped, answer=Stopped,
        errors={
            **denied("stop recording session"),
            **dict.fromkeys(("ended", "cancelled", "not_live"), (409, "No recording in progress")),
        },
    ),
    ActionRoute(
        path="/{ref}/recording", summary="Read the latest recording", reads=Ask.CARD,
        act=room_access.latest_recording, view=recording_view, answer=RecordingView,
        errors=denied("access recording for session"),
    ),
    ActionRoute(
        method="POST", path="/{ref}/token", summary="Get a token for the session's room", reads=OWN_RULE,
        act=room_access.met,
        view=lambda met, call: Token(met.pass_.token), answer=Token,
        errors=dict.fromkeys(("unknown_session", "room_failed", "no_room"), (500, "Failed to get session token")),
    ),
    ReadRoute(
        path="/{ref}/participants", summary="List the participants", see=participant_list,
        answer=list[ParticipantView],
    ),
    CommandRoute(
        method="PATCH", path="/{ref}/participants/{user_id}", summary="Allow or forbid microphone and camera",
        body=Allowed, find=path_participant, commands=(c.SetPermissions,), ask=allow, see=path_participant_view,
        answer=ParticipantView,
    ),
    CommandRoute(
        method="DELETE", path="/{ref}/participants/{user_id}", summary="Remove a participant", find=path_participant,
        commands=(c.Kick,), ask=lambda call: c.Kick(call.found.user_id, ban=True), see=path_participant_view,
        answer=ParticipantView,
    ),
    CommandRoute(
        path="/{ref}/join", summary="Join", has_invitation=True, commands=(c.Join,), ask=lambda call: c.Join(),
        see=own_view,
        answer=ParticipantView,
    ),
    CommandRoute(
        path="/{ref}/leave", summary="Leave", commands=(c.Leave,), ask=lambda call: c.Leave(), see=own_view,
        answer=ParticipantView,
    ),
)  # fmt: skip


def table(settings: Settings) -> Dialect:
    """Return the dialect as the settings configure it."""
    return Dialect(
        name="live",
        title="Live",
        prefix=settings.dialects.live.prefix,
        rows=under("/sessions", *ROWS),
        kind="course",
        named="name",
        errors=ERRORS,
        problems=PROBLEMS,
        error_body=error_body,
        silent=frozenset(get_args(e.DurableEvent)),
    )
