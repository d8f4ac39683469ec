"""What clients of `seeds` send, and the commands that it makes. What they send besides is ignored."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from actors.session import commands as c
from actors.session.access import CLOSED
from actors.session.aspects.lifecycle import closed
from actors.session.errors import Reason, Rejected
from actors.session.ids import AnswerText, MessageText, Name, Position, QuestionText, Speed, Title, UserId
from actors.session.permissions import allowed, not_in, role_of
from actors.session.state import Kind, Participant, State, Status
from server.http.problems import Problem
from server.usecases import accounts, devices, sessions
from server.usecases.audio.by_number import Number
from server.usecases.call import Call

NAME = "seeds"
KIND: Kind = "classroom"
REMOVED = "Removed by teacher"
CAPACITY = 10_000
"""The product has no bound, and no word for a session that is full: Homeroom's own."""
Phone = Annotated[
    str,
    Meta(
        min_length=10,
        max_length=20,
        pattern=r"^\+?([ ()-]*[0-9]){5,}[ ()-]*$(?!\n)",
        description="a phone number such as `+49 30 123456`",
    ),
]
Password = Annotated[str, Meta(min_length=6, max_length=200)]


# Accounts and devices


class Register(Struct, frozen=True):
    """`role` is `teacher` or `student`."""

    name: Name
    phone_number: Phone
    password: Password
    role: Annotated[str, Meta(max_length=20)]


class Login(Struct, frozen=True, kw_only=True):
    """By `phone_number`, or by `username` as OAuth2's form says it."""

    password: Annotated[str, Meta(max_length=200)]
    phone_number: Annotated[str, Meta(max_length=20)] | None = None
    username: Annotated[str, Meta(max_length=20)] | None = None


class Device(Struct, frozen=True):
    token: devices.DeviceToken
    device_type: Literal["android", "ios", "web"]


class DeviceName(Struct, frozen=True):
    token: devices.DeviceToken


# Sessions


class NewSession(Struct, frozen=True):
    title: Title


class ActiveQuery(Struct, frozen=True):
    """`mine`: those one has made, or as a student, takes part in."""

    mine: bool = False
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 1_000


class Invitation(Struct, frozen=True):
    student_id: Number


class Muting(Struct, frozen=True):
    mute: bool = True


# Audio


class Selection(Struct, frozen=True):
    audio_id: Number


class Playing(Struct, frozen=True, kw_only=True):
    audio_id: Number | None = None
    speed: Speed = 1.0
    position: Position = 0.0


class Control(Struct, frozen=True, kw_only=True):
    """`seek` needs a `position`, `speed` a `speed`; `play` goes on from where it stands without one."""

    action: Literal["play", "pause", "seek", "speed"]
    audio_id: Number | None = None
    position: Position | None = None
    speed: Speed | None = None


# Chat and questions


class Message(Struct, frozen=True, kw_only=True):
    """`participant_id`, if it is sent, is the sender's own."""

    message: MessageText
    participant_id: int | None = None


class Question(Struct, frozen=True):
    question: QuestionText


class Answer(Struct, frozen=True):
    answer: AnswerText


class Action(Struct, frozen=True, kw_only=True):
    """`mute` is for `mute_self` and `mute_participant`, `text` for `chat`, `payload` for `webrtc_signal`."""

    type: Annotated[str, Meta(max_length=64)]
    target_participant_id: int | None = None
    mute: bool = True
    text: Annotated[str, Meta(max_length=2_000)] | None = None
    payload: Any = None


# Accounts


def register(call: Call) -> accounts.Register:
    body: Register = call.body
    if body.role not in ("teacher", "student"):
        raise Problem(400, "invalid_role", "Invalid role", field="role")
    role: Literal["teacher", "student"] = "teacher" if body.role == "teacher" else "student"
    return accounts.Register(name=body.name, password=body.password, role=role, phone=body.phone_number)


def login(call: Call) -> accounts.Login:
    body: Login = call.body
    phone = body.phone_number or body.username
    if phone is None:
        raise Problem(422, "invalid", "The field `phone_number` is required.", field="phone_number")
    return accounts.Login(password=body.password, phone=phone)


def device(call: Call) -> devices.NamedDevice:
    return devices.NamedDevice(call.body.token, call.body.device_type)


# Sessions


def new_session(call: Call) -> c.NewSession:
    return c.NewSession(title=call.body.title, kind=KIND, capacity=CAPACITY)


def active(call: Call) -> sessions.Slice:
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


def begun(state: State, call: Call) -> None:
    """Refuse what has not begun, but to those who may begin it."""
    if state.session.status == "scheduled" and call.principal.user_id != state.session.owner_id:
        raise Rejected(Reason.NOT_LIVE, "The session has not started yet.")


def watchable(state: State, call: Call) -> None:
    """The same, and refuse what is over: but who comes back gets what they have missed of it."""
    begun(state, call)
    if state.session.status in CLOSED and call.last_event_id in (None, f"{state.epoch}-{state.seq}"):
        raise closed(state.session)


def status(state: State, call: Call) -> Status:
    return state.session.status


def end(call: Call) -> c.Command:
    """End a session, or call it off. `call.found`: its status."""
    return c.Cancel() if call.found == "scheduled" else c.End()


def invite(call: Call) -> c.Command:
    return c.Invite(call.known.user_id)


# People


def numbered(state: State, number: int) -> Participant:
    """Find a participant by number. Raises: Rejected."""
    for place in state.participants.values():
        if place.number == number:
            return place
    raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no participant {number}.")


def number_in(call: Call, name: str) -> int:
    """Read a number in the path. Raises: Problem 422."""
    text = call.params[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Problem(422, "invalid", f"`{name}` must be a whole number.", field=name, location="path")
    return int(text)


def participant(state: State, call: Call) -> UserId:
    """Find whom the path names."""
    return numbered(state, number_in(call, "participant_id")).user_id


def kick(call: Call) -> c.Command:
    return removal(call.found)


def removal(user_id: UserId) -> c.Command:
    # For good: an EventSource comes back by itself, and coming back takes part.
    return c.Kick(user_id, ban=True, reason=REMOVED)


def mute(call: Call) -> c.Command:
    return muting(call.found, call.body.mute)


def muting(user_id: UserId, mute: bool) -> c.Command:
    return c.Mute(user_id) if mute else c.Unmute(user_id)


# Audio


def on(state: State, call: Call) -> str | None:
    """Name what is on; of no concern to those who are not to control it. Raises: Rejected."""
    return None if state.playback is None else state.playback.track.audio_id


def select(call: Call) -> c.Command:
    return c.SelectAudio(call.known)


def playing(call: Call) -> c.Command:
    body: Playing = call.body
    return changing(call, c.Play(position=body.position, speed=body.speed))


def control(call: Call) -> c.Command:
    body: Control = call.body
    return changing(call, controlling(body))


def controlling(body: Control) -> c.Command:
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


def changing(call: Call, command: c.Command) -> c.Command:
    """Put another piece on before, if the call names one."""
    if call.known in (None, call.found):
        return command
    return c.Together([c.SelectAudio(call.known), command])


# Chat and questions


def is_sender(state: State, call: Call) -> None:
    """Refuse a message in somebody else's name. Raises: Problem 403."""
    place = state.participants.get(call.principal.user_id)
    said = call.body.participant_id
    if said is not None and (place is None or place.number != said):
        raise Problem(403, "somebody_else", "`participant_id` is not yours.", field="participant_id")


def say(call: Call) -> c.Command:
    return c.SendMessage(text=call.body.message)


def ask(call: Call) -> c.Command:
    return c.AskQuestion(text=call.body.question)


def answer(call: Call) -> c.Command:
    return c.AnswerQuestion(number_in(call, "question_id"), text=call.body.answer)


# Actions


def chatting(call: Call) -> c.Command:
    if not (call.body.text or "").strip():
        raise Problem(400, "empty_message", "Empty message", field="text")
    return c.SendMessage(text=call.body.text)


ACTIONS: Mapping[str, Callable[[Call], c.Command]] = {
    "mute_self": lambda call: c.Mute() if call.body.mute else c.Unmute(),
    "raise_hand": lambda call: c.RaiseHand(),
    "lower_hand": lambda call: c.LowerHand(),
    "chat": chatting,
    "mute_participant": lambda call: muting(call.found, call.body.mute),
    "unmute_participant": lambda call: c.Unmute(call.found),
    "kick_participant": lambda call: removal(call.found),
    "end_session": lambda call: c.End(),
    "webrtc_signal": lambda call: c.Signal(to=call.found, payload=call.body.payload),
}
TEACHERS = frozenset({"mute_participant", "unmute_participant", "kick_participant", "end_session"})
TARGETED = frozenset({"mute_participant", "unmute_participant", "kick_participant", "webrtc_signal"})


def target(state: State, call: Call) -> UserId | None:
    """Find whom an action is about, if it is about anybody. Raises: Problem, Rejected."""
    body: Action = call.body
    if body.type not in ACTIONS:
        raise Problem(400, "unknown_action", f"Unknown action type: {body.type}", field="type")
    caller = call.principal.user_id
    if state.session.status in CLOSED:
        raise closed(state.session)
    if role_of(state, caller) is None:
        raise not_in(state, caller)
    if body.type in TEACHERS and not allowed(state, caller, "moderate"):
        raise Rejected(Reason.NOT_PERMITTED, "This is for the session's teacher.")
    if body.type not in TARGETED:
        return None
    if body.target_participant_id is None:
        raise Problem(400, "no_target", "target_participant_id required", field="target_participant_id")
    return numbered(state, body.target_participant_id).user_id


def act(call: Call) -> c.Command:
    return ACTIONS[call.body.type](call)
