"""Live sessions of a course, with recordings: the `live` contract."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args
from uuid import UUID, uuid5

from msgspec import UNSET, Meta, Struct, UnsetType, field

from actors.session import commands as c
from actors.session import events as e
from actors.session.errors import Reason, Rejected
from actors.session.ids import Id, Millis, Title, UserId
from actors.session.permissions import effective
from actors.session.state import Features, FeaturesUpdate, Participant, Permission, Session, State
from actors.session.state import Status as Ours
from server.api.dialect import PLAIN, AskRoute, CreateRoute, Dialect, FetchRoute, LookRoute, under
from server.http.problems import Problem
from server.http.timestamps import rfc3339, when
from server.settings.sections import Settings
from server.usecases import room_access, sessions
from server.usecases.call import Call
from server.usecases.room_access import Taped

Status = Literal["scheduled", "live", "ended"]
STATUSES: Mapping[Ours, Status] = {"scheduled": "scheduled", "live": "live", "ended": "ended", "cancelled": "ended"}
Capacity = Annotated[int, Meta(ge=1, le=10_000)]
NEVER = Millis(0)
LISTED = 1_000
"""Sessions of one instructor at most."""


# Bodies. What clients send besides is ignored.


class NewSession(Struct, frozen=True, kw_only=True, rename="camel"):
    """`courseId` and `startsAt` are required."""

    course_id: Id | None = None
    starts_at: datetime | None = None
    recording_enabled: bool = False
    max_participants: Capacity | None = None


class SessionChange(Struct, frozen=True, kw_only=True, rename="camel"):
    """Only what is sent counts."""

    title: Title | UnsetType = UNSET
    description: Annotated[str, Meta(max_length=5_000)] | UnsetType = UNSET
    starts_at: datetime | UnsetType = UNSET
    recording_enabled: bool | UnsetType = UNSET
    max_participants: Capacity | UnsetType = UNSET


class Allowed(Struct, frozen=True, kw_only=True, rename="camel"):
    """Only what is sent counts."""

    mic_allowed: bool | UnsetType = UNSET
    camera_allowed: bool | UnsetType = UNSET


# Answers


class LiveSession(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str = field(name="_id")
    course_id: str | None
    room_name: str
    status: Status
    starts_at: str | None
    ends_at: str | None
    created_by: str
    recording_enabled: bool
    max_participants: int
    created_at: str
    updated_at: str


class Started(Struct, frozen=True, rename="camel"):
    recording_id: str
    started_at: str


class Stopped(Struct, frozen=True, rename="camel"):
    """`duration` in seconds."""

    recording_id: str
    stopped_at: str
    duration: float


class AccessLink(Struct, frozen=True, rename="camel"):
    url: str
    expires_at: str


class RecordingView(Struct, frozen=True, kw_only=True, rename="camel"):
    """`duration` in seconds, once it has been stopped; links once it is finished."""

    recording_id: str
    started_at: str
    stopped_at: str | None
    duration: float | None
    status: Literal["in-progress", "processing", "finished", "failed"]
    download_link: str | None
    access_link: AccessLink | None


class Token(Struct, frozen=True):
    token: str


class ParticipantView(Struct, frozen=True, kw_only=True, rename="camel"):
    id: str = field(name="_id")
    user_id: UserId
    session_id: str
    role: Literal["instructor", "student"]
    joined_at: str | None
    left_at: str | None
    was_kicked: bool
    mic_allowed: bool
    camera_allowed: bool
    created_at: str
    updated_at: str


def live_session(session: Session) -> LiveSession:
    return LiveSession(
        id=session.id,
        course_id=session.course_id,
        room_name=session.name,
        status=STATUSES[session.status],
        starts_at=when(session.starts_at),
        ends_at=when(session.ended_at or session.ends_at),
        created_by=session.owner_id,
        recording_enabled=session.features.recording,
        max_participants=session.capacity,
        created_at=rfc3339(session.created_at),
        updated_at=rfc3339(max(session.updated_at, session.started_at or NEVER, session.ended_at or NEVER)),
    )


def seen(state: State, call: Call) -> LiveSession:
    return live_session(state.session)


def named(session_id: str, what: object) -> str:
    """Give what is numbered within a session an id of its own, always the same."""
    return str(uuid5(UUID(session_id), str(what)))


def recording_started(state: State, call: Call) -> Started:
    recording = state.recordings[-1]
    return Started(named(state.session.id, recording.recording_id), rfc3339(recording.started_at))


def recording_stopped(state: State, call: Call) -> Stopped:
    for recorded in call.made:
        if isinstance(recorded.event, e.RecordingStopped):
            stopped = recorded.event
            name = named(state.session.id, stopped.recording_id)
            return Stopped(name, rfc3339(recorded.at), stopped.duration_ms / 1000)
    raise Rejected(Reason.NOT_RECORDING, "No recording is running.")


def recording(taped: Taped, call: Call) -> RecordingView:
    found = taped.recording
    links = taped.links
    return RecordingView(
        recording_id=named(taped.session_id, found.recording_id),
        started_at=rfc3339(found.started_at),
        stopped_at=when(found.stopped_at),
        duration=None if found.stopped_at is None else (found.stopped_at - found.started_at) / 1000,
        status=taped.status,
        download_link=None if links is None else links.download_url,
        access_link=None if links is None else AccessLink(links.access_url, rfc3339(links.expires_at)),
    )


def participants(state: State, call: Call) -> list[ParticipantView]:
    return [participant(state, place) for place in state.participants.values()]


def participant(state: State, place: Participant) -> ParticipantView:
    allowed = effective(state, place)
    moments = [at for at in (place.invited_at, place.joined_at, place.left_at, place.kicked_at) if at is not None]
    return ParticipantView(
        id=named(state.session.id, place.user_id),
        user_id=place.user_id,
        session_id=state.session.id,
        role="instructor" if place.user_id == state.session.owner_id or place.role != "member" else "student",
        joined_at=when(place.joined_at),
        left_at=when(place.left_at),
        was_kicked=place.status in ("kicked", "denied"),
        mic_allowed="speak" in allowed,
        camera_allowed="video" in allowed,
        created_at=rfc3339(min(moments, default=state.session.created_at)),
        updated_at=rfc3339(max(moments, default=state.session.updated_at)),
    )


def one(state: State, call: Call) -> ParticipantView:
    return participant(state, place_of(state, call))


def mine(state: State, call: Call) -> ParticipantView:
    return participant(state, state.participants[call.principal.user_id])


def place_of(state: State, call: Call) -> Participant:
    """Find whom the path names. Raises: unknown_participant."""
    place = state.participants.get(UserId(call.params.get("user_id", "")))
    if place is None:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, "There is no such participant in this session.")
    return place


# From bodies to commands


def utc(moment: datetime) -> datetime:
    """Read a time without an offset as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def new_session(call: Call) -> c.NewSession:
    body: NewSession = call.body
    if body.course_id is None or body.starts_at is None:
        raise Problem(400, "required", "courseId and startsAt are required")
    return c.NewSession(
        title=f"Course {body.course_id}",
        kind="course",
        course_id=body.course_id,
        starts_at=utc(body.starts_at),
        capacity=body.max_participants,
        features=Features(recording=body.recording_enabled),
        room=True,
    )


def change(call: Call) -> c.Command:
    body: SessionChange = call.body
    recording = body.recording_enabled
    return c.Update(
        title=body.title,
        description=body.description,
        starts_at=utc(body.starts_at) if isinstance(body.starts_at, datetime) else UNSET,
        capacity=body.max_participants,
        features=UNSET if recording is UNSET else FeaturesUpdate(recording=recording),
    )


def begun(call: Call, *commands: c.Command) -> c.Command:
    """Do it in a session that is live, or begins by this. `call.found`: the status as it is."""
    return c.Together([*([c.Start()] if call.found == "scheduled" else []), *commands])


def end(call: Call) -> c.Command:
    return c.Together([]) if STATUSES[call.found] == "ended" else begun(call, c.End())


def allow(call: Call) -> c.Command:
    body: Allowed = call.body
    sent: dict[Permission, bool | UnsetType] = {"speak": body.mic_allowed, "video": body.camera_allowed}
    return c.SetPermissions(
        call.found.user_id,
        grant=[permission for permission, allowed in sent.items() if allowed is True],
        revoke=[permission for permission, allowed in sent.items() if allowed is False],
    )


def by_instructor(call: Call) -> sessions.Slice:
    return sessions.Slice(kind="course", dialect="live", limit=LISTED, owner=UserId(call.params["instructor_id"]))


# Refusals

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


def error_body(status: int, text: str, problem: Problem) -> Any:
    return {"error": "Unauthorized" if status == 401 else text, "message": text}


def denied(what: str) -> dict[str, tuple[int, str]]:
    """Word the refusal of one who is not the session's creator, or takes no part in it."""
    text = f"Not authorized to {what}:{{ref}}"
    return dict.fromkeys(("not_owner", "not_permitted", "not_joined"), (403, text))


def status(state: State, call: Call) -> Ours:
    return state.session.status


ROWS = (
    CreateRoute(
        path="", summary="Create a session, and its room", body=NewSession, teachers=True, new=new_session,
        see=seen, answer=LiveSession,
    ),
    FetchRoute(
        path="/instructor/{instructor_id}", summary="List an instructor's sessions, newest first", public=True,
        into=by_instructor, act=sessions.sliced, out=lambda found, call: [live_session(each) for each in found[0]],
        answer=list[LiveSession],
    ),
    LookRoute(
        path="/{ref}", summary="Read a session", public=True, whose="anyone", see=seen, answer=LiveSession,
        errors={"unknown_session": (500, "Session not found")}, error_body=lambda status, text: text,
    ),
    AskRoute(
        method="PATCH", path="/{ref}", summary="Change a session", body=SessionChange, whose="owner", ask=change,
        see=seen, answer=LiveSession, errors=denied("modify session"),
    ),
    AskRoute(
        method="DELETE", path="/{ref}", summary="End a session", whose="owner", find=status, ask=end, see=seen,
        answer=LiveSession, errors=denied("delete session"),
    ),
    AskRoute(
        path="/{ref}/start-recording", summary="Start recording, and the session if it has not begun", whose="owner",
        find=status, ask=lambda call: begun(call, c.StartRecording()), see=recording_started, answer=Started,
        errors=denied("record session"),
    ),
    AskRoute(
        path="/{ref}/stop-recording", summary="Stop recording, and end the session", whose="owner",
        ask=lambda call: c.Together([c.StopRecording(), c.End()]), see=recording_stopped, answer=Stopped,
        errors={
            **denied("stop recording session"),
            **dict.fromkeys(("ended", "cancelled", "not_live"), (409, "No recording in progress")),
        },
    ),
    FetchRoute(
        path="/{ref}/recording", summary="Read the latest recording", whose="participant",
        act=room_access.latest_recording, out=recording, answer=RecordingView,
        errors=denied("access recording for session"),
    ),
    FetchRoute(
        method="POST", path="/{ref}/token", summary="Get a token for the session's room", act=room_access.met,
        out=lambda met, call: Token(met.pass_.token), answer=Token,
        errors=dict.fromkeys(("unknown_session", "room_failed", "no_room"), (500, "Failed to get session token")),
    ),
    LookRoute(
        path="/{ref}/participants", summary="List who takes part", see=participants, answer=list[ParticipantView],
    ),
    AskRoute(
        method="PATCH", path="/{ref}/participants/{user_id}", summary="Say what someone may send", body=Allowed,
        find=place_of, ask=allow, see=one, answer=ParticipantView,
    ),
    AskRoute(
        method="DELETE", path="/{ref}/participants/{user_id}", summary="Remove someone", find=place_of,
        ask=lambda call: c.Kick(call.found.user_id, ban=True), see=one, answer=ParticipantView,
    ),
    AskRoute(
        path="/{ref}/join", summary="Join", has_invitation=True, ask=lambda call: c.Join(), see=mine,
        answer=ParticipantView,
    ),
    AskRoute(
        path="/{ref}/leave", summary="Leave", ask=lambda call: c.Leave(), see=mine, answer=ParticipantView,
    ),
)  # fmt: skip


def table(settings: Settings) -> Dialect:
    """Give the dialect as the settings have it."""
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
