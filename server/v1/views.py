"""What `/v1` says: one Struct per shape, made from the core's state by one function each."""

from collections.abc import Hashable
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.session import state as s
from actors.session.ids import MessageId, Millis, UserId
from actors.session.permissions import allowed, effective
from server.v1.times import rfc3339, when
from storage.event_log import Summary
from storage.users import AccountRole, User

CHAT_SHOWN = 50


class Owner(Struct, frozen=True):
    id: UserId
    name: str


class Counts(Struct, frozen=True):
    joined: int
    online: int


class SessionView(Struct, frozen=True, kw_only=True):
    id: str
    number: int
    name: str
    code: str
    kind: s.Kind
    title: str
    description: str
    status: s.Status
    end_reason: s.EndReason | None
    owner: Owner
    capacity: int
    features: s.Features
    mute_on_join: bool
    locked: bool
    course_id: str | None
    language: str | None
    starts_at: str | None
    ends_at: str | None
    expires_at: str | None
    started_at: str | None
    ended_at: str | None
    created_at: str
    updated_at: str
    counts: Counts


class ParticipantView(Struct, frozen=True, kw_only=True):
    user_id: UserId
    number: int
    name: str
    role: s.Role
    status: s.Presence
    online: bool
    muted: bool
    hand_raised_at: str | None
    joined_at: str | None
    left_at: str | None
    permissions: list[str]


class HandView(Struct, frozen=True):
    """A raised hand; the list is the queue."""

    user_id: UserId
    raised_at: str
    waiting_s: float


class MessageView(Struct, frozen=True, kw_only=True):
    message_id: MessageId
    seq: int
    user_id: UserId
    name: str | None
    text: str
    at: str
    to: UserId | None
    reply_to: MessageId | None
    deleted: bool
    reactions: dict[str, list[UserId]]


class StateView(Struct, frozen=True, kw_only=True):
    """A session as one viewer may see it. `cursor` is where a stream goes on; null in the lobby."""

    cursor: str | None
    session: SessionView
    participants: list[ParticipantView]
    hands: list[HandView]
    chat: list[MessageView]
    server_time: str
    you: ParticipantView | UnsetType | None = UNSET
    """The viewer's own place; added by `snapshot`, so that all else can be shared."""


class UserView(Struct, frozen=True):
    id: UserId
    number: int
    name: str
    email: str | None
    phone: str | None
    role: AccountRole


class SummaryView(Struct, frozen=True):
    total: int
    by_type: dict[str, int]
    joined: int
    left: int
    first_at: str | None
    last_at: str | None


class Page(Struct, frozen=True):
    items: list[Any]
    next: str | None


def user_view(user: User) -> UserView:
    return UserView(user.user_id, user.number, user.name, user.email, user.phone, user.role)


def summary_view(summary: Summary) -> SummaryView:
    return SummaryView(
        summary.total,
        summary.by_type,
        summary.joined,
        summary.left,
        when(summary.first_at),
        when(summary.last_at),
    )


def session_view(session: s.Session) -> SessionView:
    return SessionView(
        id=session.id,
        number=session.number,
        name=session.name,
        code=session.code,
        kind=session.kind,
        title=session.title,
        description=session.description,
        status=session.status,
        end_reason=session.end_reason,
        owner=Owner(session.owner_id, session.owner_name),
        capacity=session.capacity,
        features=session.features,
        mute_on_join=session.mute_on_join,
        locked=session.locked,
        course_id=session.course_id,
        language=session.language,
        starts_at=when(session.starts_at),
        ends_at=when(session.ends_at),
        expires_at=when(session.expires_at),
        started_at=when(session.started_at),
        ended_at=when(session.ended_at),
        created_at=rfc3339(session.created_at),
        updated_at=rfc3339(session.updated_at),
        counts=Counts(session.joined, session.online),
    )


def participant_view(state: s.State, place: s.Participant) -> ParticipantView:
    return ParticipantView(
        user_id=place.user_id,
        number=place.number,
        name=place.name,
        role=place.role,
        status=place.status,
        online=place.online,
        muted=place.muted,
        hand_raised_at=when(state.hands.get(place.user_id)),
        joined_at=when(place.joined_at),
        left_at=when(place.left_at),
        permissions=sorted(effective(state, place)),
    )


def message_view(state: s.State, message: s.Message) -> MessageView:
    author = state.participants.get(message.user_id)
    session = state.session
    return MessageView(
        message_id=message.message_id,
        seq=message.seq,
        user_id=message.user_id,
        name=author.name if author else session.owner_name if message.user_id == session.owner_id else None,
        text=message.text,
        at=rfc3339(message.at),
        to=message.to,
        reply_to=message.reply_to,
        deleted=message.deleted,
        reactions=message.reactions,
    )


def concerns(message: s.Message, viewer: UserId) -> bool:
    return message.to is None or viewer in (message.to, message.user_id)


def state_view(state: s.State, viewer: UserId, now: Millis) -> StateView:
    """Show a state to someone: others' direct messages never, the lobby and the departed to moderators only."""
    session, server_time = session_view(state.session), rfc3339(now)
    if waiting(state, viewer):
        return StateView(cursor=None, session=session, participants=[], hands=[], chat=[], server_time=server_time)
    moderator = allowed(state, viewer, "moderate")
    shown = [m for m in state.messages.values() if concerns(m, viewer)][-CHAT_SHOWN:]
    return StateView(
        cursor=f"{state.epoch}-{state.seq}",
        session=session,
        participants=[
            participant_view(state, place)
            for place in state.participants.values()
            if moderator or place.status == "joined"
        ],
        hands=[
            HandView(user_id, rfc3339(raised_at), max(0, now - raised_at) / 1000)
            for user_id, raised_at in state.hands.items()
        ],
        chat=[message_view(state, message) for message in shown],
        server_time=server_time,
    )


def waiting(state: s.State, viewer: UserId) -> bool:
    place = state.participants.get(viewer)
    return place is not None and place.status == "waiting"


def snapshot(state: s.State, viewer: UserId, now: Millis, shared: dict[Hashable, bytes]) -> bytes:
    """Encode `state_view` with the viewer's own place. `shared` keeps, for one state, what is the same for many."""
    alone = waiting(state, viewer) or any(m.to is not None and concerns(m, viewer) for m in state.messages.values())
    key = viewer if alone else allowed(state, viewer, "moderate")
    body = shared.get(key)
    if body is None:
        body = shared[key] = encode(state_view(state, viewer, now))
    you = state.participants.get(viewer)
    return b'%b,"you":%b}' % (body[:-1], b"null" if you is None else encode(participant_view(state, you)))


def encode(value: Any) -> bytes:
    return msgspec.json.encode(value)
