"""The answers of `seeds` about accounts and sessions: one Struct per shape, and one function that makes it.

`chat_views` has those about chat, questions and the log, and `audio_views` those about audio. Users, sessions and
participants have numbers instead of ids. Instants are in UTC without an offset, as the product prints them.
"""

from datetime import UTC, datetime
from typing import Literal

from msgspec import Struct

from actors.session.access import Ask, may, membership
from actors.session.ids import Millis, UserId
from actors.session.permissions import RANKS, not_in
from actors.session.state import Participant, Playback, Session, State
from server.http.refusals import refuses
from server.usecases import accounts
from server.usecases.call import Call
from server.usecases.devices import Registered


def naive(at: Millis) -> str:
    """Return an instant in UTC without an offset, with microseconds."""
    seconds, millis = divmod(at, 1000)
    whole = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return whole.replace(microsecond=millis * 1000).isoformat(timespec="microseconds")


def naive_or_none(at: Millis | None) -> str | None:
    """Return an instant as `naive` does, or None if there is none."""
    return None if at is None else naive(at)


class Done(Struct, frozen=True):
    """The answer to a request that has no other."""

    ok: bool = True


class Confirmation(Struct, frozen=True, kw_only=True):
    """A text that confirms what was done."""

    ok: bool = True
    message: str


# Accounts


class AccountView(Struct, frozen=True):
    """A new account."""

    user_id: int
    name: str
    phone_number: str | None
    role: str
    created_at: str


class Token(Struct, frozen=True, kw_only=True):
    """An access token, and the account that it belongs to."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a kind of token, not one
    user_id: int
    role: str
    name: str


class Student(Struct, frozen=True):
    """A student's account."""

    user_id: int
    name: str
    phone_number: str | None


class DeviceView(Struct, frozen=True):
    """A registered device."""

    ok: bool
    device_type: str


def account(user: accounts.Account, call: Call) -> AccountView:
    """Return the view of a new account."""
    return AccountView(user.number, user.name, user.phone, user.role, naive(user.created_at))


def token(login: accounts.LoggedIn, call: Call) -> Token:
    """Return the token of a login."""
    user = login.user
    return Token(access_token=login.access_token, user_id=user.number, role=user.role, name=user.name)


def students(users: list[accounts.Account], call: Call) -> list[Student]:
    """Return the views of students."""
    return [Student(user.number, user.name, user.phone) for user in users]


def device(registered: Registered, call: Call) -> DeviceView:
    """Return the view of a registered device."""
    return DeviceView(True, registered.platform)


# Sessions


class SessionView(Struct, frozen=True, kw_only=True):
    """A session, with the number of joined participants."""

    session_id: int
    title: str
    is_active: bool
    created_by: int
    created_at: str
    ended_at: str | None
    participant_count: int
    teacher_name: str


class ParticipantView(Struct, frozen=True):
    """A participant. `id` is their number within the session."""

    id: int
    user_id: int
    name: str
    muted: bool
    hand_raised: bool


class ActiveAudio(Struct, frozen=True):
    """The track that plays. `started_at` is computed: the time at which a track that plays at the present speed would
    have started to be at its present position."""

    audio_id: int
    started_at: str


class StateView(Struct, frozen=True):
    """The joined participants of a session, and the track that plays."""

    session_id: int
    is_active: bool
    participants: list[ParticipantView]
    active_audio: ActiveAudio | None


class Joined(Struct, frozen=True, kw_only=True):
    """The caller as a participant."""

    participant_id: int
    session_id: int
    user_id: int
    name: str
    is_muted: bool
    hand_raised: bool
    is_teacher: bool
    joined_at: str | None


class Invited(Struct, frozen=True, kw_only=True):
    """An invitation. `notifications_sent` is the number of devices that it goes to, 0 if the student had been invited
    before."""

    ok: bool = True
    message: str
    student_id: int
    session_id: int
    notifications_sent: int


class Muted(Struct, frozen=True, kw_only=True):
    """Whether the participant is muted now."""

    ok: bool = True
    muted: bool


class Acted(Struct, frozen=True, kw_only=True):
    """An action that was performed. `participant_id` is the caller's, null for a creator who has not joined."""

    ok: bool = True
    type: str
    participant_id: int | None


def session_view(session: Session) -> SessionView:
    """Return the view of a session."""
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
    """Return the new session."""
    return session_view(state.session)


def listed(section: tuple[list[Session], int], call: Call) -> list[SessionView]:
    """Return a section of a list of sessions, without its total."""
    return [session_view(session) for session in section[0]]


def require_membership(state: State, user_id: UserId) -> None:
    """Raise Rejected unless the user is in the session, or was in it when it ended."""
    if not may(Ask.HISTORY, membership(state, user_id)):
        raise not_in(state, user_id)


def joined(state: State) -> list[Participant]:
    """Return the participants who have joined."""
    return [participant for participant in state.participants.values() if participant.status == "joined"]


def number_of(state: State, user_id: UserId | None) -> int | None:
    """Return a participant's number within the session; None for a user who is no participant."""
    participant = None if user_id is None else state.participants.get(user_id)
    return None if participant is None else participant.number


def teaches(state: State, participant: Participant) -> bool:
    """Return whether a participant is a teacher in this session: its owner, a host or a cohost."""
    return participant.user_id == state.session.owner_id or RANKS[participant.role] >= RANKS["cohost"]


@refuses(kicked=403, not_joined=403, waiting=403)
def session_state(state: State, call: Call) -> StateView:
    """Return the participants and the track that plays. Raise Rejected if the caller is not in the session."""
    require_membership(state, call.principal.user_id)
    participants = [
        ParticipantView(one.number, one.user_number, one.name, one.muted, one.user_id in state.hands)
        for one in joined(state)
    ]
    session, playback = state.session, state.playback
    audio = active_audio(playback) if playback is not None and playback.status == "playing" else None
    return StateView(session.number, session.status == "live", participants, audio)


def active_audio(playback: Playback) -> ActiveAudio:
    """Return the track that plays."""
    started_at = Millis(playback.at - round(playback.position_s / playback.speed * 1000))
    return ActiveAudio(playback.track.number, naive(started_at))


def own_view(state: State, call: Call) -> Joined:
    """Return the caller as a participant."""
    participant = state.participants[call.principal.user_id]
    return Joined(
        participant_id=participant.number,
        session_id=state.session.number,
        user_id=participant.user_number,
        name=participant.name,
        is_muted=participant.muted,
        hand_raised=participant.user_id in state.hands,
        is_teacher=teaches(state, participant),
        joined_at=naive_or_none(participant.joined_at),
    )


def invited(reached: int, call: Call) -> Invited:
    """Return an invitation. `call.known` is the student's account, `reached` the number of their devices."""
    student: accounts.Account = call.known
    return Invited(
        message=f"{student.name} is invited",
        student_id=student.number,
        session_id=int(call.params["ref"]),
        notifications_sent=reached,
    )


def muted(state: State, call: Call) -> Muted:
    """Return whether the participant `call.found` is muted."""
    return Muted(muted=state.participants[call.found].muted)


def acted(state: State, call: Call) -> Acted:
    """Return an action that was performed."""
    return Acted(type=call.body.type, participant_id=number_of(state, call.principal.user_id))
