"""The request bodies of `seeds`, and the commands that they become. Unknown fields are ignored."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.aspects.lifecycle import closed_rejection
from actors.session.errors import Reason, Rejected
from actors.session.ids import AnswerText, MessageText, Name, Position, QuestionText, Speed, Title, UserId
from actors.session.state import Kind, Participant, State, Status
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases import accounts, devices, sessions
from server.usecases.audio.by_number import Number
from server.usecases.call import Call

NAME = "seeds"
KIND: Kind = "classroom"
REMOVED = "Removed by teacher"
CAPACITY = 10_000
"""The product has no limit and no error for a full session; this is Homeroom's own limit."""
PHONE = r"^\+?([ ()-]*[0-9]){5,}[ ()-]*$(?!\n)"
Phone = Annotated[
    str, Meta(min_length=10, max_length=20, pattern=PHONE, description="a phone number such as `+49 30 123456`")
]
Password = Annotated[str, Meta(min_length=6, max_length=200)]


# Accounts and devices


class Register(Struct, frozen=True):
    """An account to create. `role` is `teacher` or `student`."""

    name: Name
    phone_number: Phone
    password: Password
    role: Annotated[str, Meta(max_length=20)]


class Login(Struct, frozen=True, kw_only=True):
    """Credentials. OAuth2 forms send the phone number as `username`."""

    password: Annotated[str, Meta(max_length=200)]
    phone_number: Annotated[str, Meta(max_length=20)] | None = None
    username: Annotated[str, Meta(max_length=20)] | None = None


class Device(Struct, frozen=True):
    """A device for push messages."""

    token: devices.DeviceToken
    device_type: Literal["android", "ios", "web"]


class DeviceToken(Struct, frozen=True):
    """The token of the device to remove."""

    token: devices.DeviceToken


# Sessions


class NewSession(Struct, frozen=True):
    """A session to start."""

    title: Title


class ActiveQuery(Struct, frozen=True):
    """`mine` selects the sessions that a teacher created, or in which a student takes part."""

    mine: bool = False
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000


class Invitation(Struct, frozen=True):
    """The student to invite."""

    student_id: Number


class Muting(Struct, frozen=True):
    """Whether to mute or to unmute."""

    mute: bool = True


# Audio


class Selection(Struct, frozen=True):
    """The track to select."""

    audio_id: Number


class Playing(Struct, frozen=True, kw_only=True):
    """The track to play, by default the selected one; `position` is in seconds."""

    audio_id: Number | None = None
    speed: Speed = 1.0
    position: Position = 0.0


class Control(Struct, frozen=True, kw_only=True):
    """`seek` requires `position`, and `speed` requires `speed`. `play` without `position` continues from the present
    one."""

    action: Literal["play", "pause", "seek", "speed"]
    audio_id: Number | None = None
    position: Position | None = None
    speed: Speed | None = None


# Chat and questions


class Message(Struct, frozen=True, kw_only=True):
    """A chat message. `participant_id`, if present, must be the sender's own."""

    message: MessageText
    participant_id: int | None = None


class Question(Struct, frozen=True):
    """A question to ask."""

    question: QuestionText


class Answer(Struct, frozen=True):
    """The answer to a question."""

    answer: AnswerText


# Accounts


@refuses(invalid_role=400)
def register(call: Call) -> accounts.Register:
    """Return the account to create. Raise Problem 400 for an unknown role."""
    body: Register = call.body
    if body.role not in ("teacher", "student"):
        raise Problem(400, "invalid_role", "Invalid role", field="role")
    role: Literal["teacher", "student"] = "teacher" if body.role == "teacher" else "student"
    return accounts.Register(name=body.name, password=body.password, role=role, phone=body.phone_number)


@refuses(invalid=422)
def login(call: Call) -> accounts.Login:
    """Return the credentials. Raise Problem 422 without a phone number."""
    body: Login = call.body
    phone = body.phone_number or body.username
    if phone is None:
        raise Problem(422, "invalid", "The field `phone_number` is required.", field="phone_number")
    return accounts.Login(password=body.password, phone=phone)


def device(call: Call) -> devices.NamedDevice:
    """Return the device to register."""
    return devices.NamedDevice(call.body.token, call.body.device_type)


# Sessions


def new_session(call: Call) -> c.NewSession:
    """Return the session to create."""
    return c.NewSession(title=call.body.title, kind=KIND, capacity=CAPACITY)


def active(call: Call) -> sessions.Slice:
    """Return the query for live sessions: all, or the caller's own."""
    caller = call.principal
    teaches, mine = caller.role == "teacher", call.query.mine
    return sessions.Slice(
        kind=KIND,
        dialect=NAME,
        limit=call.query.limit,
        status="live",
        owner=caller.user_id if mine and teaches else None,
        participant=caller.user_id if mine and not teaches else None,
    )


@refuses(not_live=409)
def begun(state: State, call: Call) -> None:
    """Raise Rejected if the session has not started, unless the caller is its owner."""
    if state.session.status == "scheduled" and call.principal.user_id != state.session.owner_id:
        raise Rejected(Reason.NOT_LIVE, "The session has not started yet.")


@refuses(cancelled=410, ended=410, not_live=409)
def watchable(state: State, call: Call) -> None:
    """Raise Rejected as `begun` does, and if the session is over. A client that resumes still gets the events that it
    missed."""
    begun(state, call)
    if state.session.status in CLOSED and call.last_event_id in (None, f"{state.epoch}-{state.seq}"):
        raise closed_rejection(state.session)


def status(state: State, call: Call) -> Status:
    """Return the session's status."""
    return state.session.status


def end(call: Call) -> c.Command:
    """Return the command to end the session, or to cancel it before its start. `call.found` is its status."""
    return c.Cancel() if call.found == "scheduled" else c.End()


def invite(call: Call) -> c.Command:
    """Return the command to invite a student. `call.known` is their account."""
    return c.Invite(call.known.user_id)


# Participants


def numbered(state: State, number: int) -> Participant:
    """Return the participant with this number. Raise Rejected if there is none."""
    for participant in state.participants.values():
        if participant.number == number:
            return participant
    raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {number}.")


def path_number(call: Call, name: str) -> int:
    """Return a number from the path. Raise Problem 422 if it is no number."""
    text = call.params[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(422, "invalid", f"`{name}` must be a whole number.", field=name, location="path")
    return int(text)


@refuses(invalid=422, unknown_participant=404)
def path_participant(state: State, call: Call) -> UserId:
    """Return the participant whom the path names. Raise Problem 422 or Rejected if there is none."""
    return numbered(state, path_number(call, "participant_id")).user_id


def kick(call: Call) -> c.Command:
    """Return the command to remove the participant `call.found`."""
    return removal(call.found)


def removal(user_id: UserId) -> c.Command:
    """Return the command to remove a participant for good."""
    # A ban, since an EventSource reconnects by itself and opening the stream joins the session.
    return c.Kick(user_id, ban=True, reason=REMOVED)


def mute(call: Call) -> c.Command:
    """Return the command to mute or unmute the participant `call.found`."""
    return muting(call.found, call.body.mute)


def muting(user_id: UserId, mute: bool) -> c.Command:
    """Return the command to mute or unmute a participant."""
    return c.Mute(user_id) if mute else c.Unmute(user_id)


# Audio


def selected_track(state: State, call: Call) -> str | None:
    """Return the id of the selected track, None if there is none."""
    return None if state.playback is None else state.playback.track.audio_id


def select(call: Call) -> c.Command:
    """Return the command to select the track `call.known`."""
    return c.SelectAudio(call.known)


def play(call: Call) -> c.Command:
    """Return the command to play a track."""
    body: Playing = call.body
    return with_selection(call, c.Play(position=body.position, speed=body.speed))


@refuses(invalid=422)
def control(call: Call) -> c.Command:
    """Return the command to control playback. Raise Problem 422 if a field is missing."""
    body: Control = call.body
    return with_selection(call, control_command(body))


def control_command(body: Control) -> c.Command:
    """Return the command for an action on the selected track. Raise Problem 422 if a field is missing."""
    match body:
        case Control(action="play"):
            return c.Play(position=body.position, speed=body.speed)
        case Control(action="pause"):
            return c.Pause()
        case Control(action="seek", position=float(position)):
            return c.Seek(position)
        case Control(action="speed", speed=float(speed)):
            return c.SetSpeed(speed)
    needed = "position" if body.action == "seek" else "speed"
    raise Problem(422, "invalid", f"The field `{needed}` is required.", field=needed)


def with_selection(call: Call, command: c.Command) -> c.Command:
    """Return the command, after the selection of `call.known` unless that track is selected already (`call.found`)."""
    if call.known in (None, call.found):
        return command
    return c.Together([c.SelectAudio(call.known), command])


# Chat and questions


@refuses(somebody_else=403)
def is_sender(state: State, call: Call) -> None:
    """Raise Problem 403 if the message names another participant as its sender."""
    participant = state.participants.get(call.principal.user_id)
    claimed = call.body.participant_id
    if claimed is not None and (participant is None or participant.number != claimed):
        raise Problem(403, "somebody_else", "`participant_id` is not yours.", field="participant_id")


def send_message(call: Call) -> c.Command:
    """Return the command to send a chat message."""
    return c.SendMessage(text=call.body.message)


def ask(call: Call) -> c.Command:
    """Return the command to ask a question."""
    return c.AskQuestion(text=call.body.question)


@refuses(invalid=422)
def answer(call: Call) -> c.Command:
    """Return the command to answer the question that the path names. Raise Problem 422 if that is no number."""
    return c.AnswerQuestion(path_number(call, "question_id"), text=call.body.answer)
