"""What `seeds` answers about accounts and sessions. What is said is in `talk.py`, what is heard in `audio.py`."""

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from actors.session.access import Ask, may, membership
from actors.session.ids import Millis, UserId
from actors.session.permissions import RANKS, not_in
from actors.session.state import Participant, Playback, Session, State
from server.usecases import accounts
from server.usecases.call import Call
from server.usecases.devices import Registered


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


def account(user: accounts.Account, call: Call) -> AccountView:
    return AccountView(user.number, user.name, user.phone, user.role, naive(user.created_at))


def token(made: accounts.LoggedIn, call: Call) -> Token:
    user = made.user
    return Token(access_token=made.access_token, user_id=user.number, role=user.role, name=user.name)


def students(found: list[accounts.Account], call: Call) -> list[Student]:
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
    if not may(Ask.HISTORY, membership(state, user_id)):
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
    student: accounts.Account = call.known
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
