"""Sessions, users and pages in `/v1`: one Struct per shape, and one function that makes it."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from actors.session import state as s
from actors.session.ids import UserId
from server.http.timestamps import rfc3339, when
from storage.log.event_log import Summary
from storage.users import AccountRole, User


class Owner(Struct, frozen=True):
    """A user, with their name."""

    id: UserId
    name: str


class Counts(Struct, frozen=True):
    """The number of participants who have joined, and of those who are connected now."""

    joined: int
    online: int


class RoomView(Struct, frozen=True):
    """The room for audio and video. `POST …/tokens` returns a token for it. The `url` of a built-in room is a path on
    this server if its public address is not configured."""

    provider: str
    name: str
    url: str


class SessionView(Struct, frozen=True, kw_only=True):
    """A session. `code` is its join code; `early`, `empty_after` and `host_gone_after` are in seconds."""

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
    auto_start: bool
    early: float | None
    empty_after: float | None
    host_gone_after: float | None
    started_at: str | None
    ended_at: str | None
    created_at: str
    updated_at: str
    counts: Counts
    room: RoomView | None


class UserView(Struct, frozen=True):
    """An account."""

    id: UserId
    number: int
    name: str
    email: str | None
    phone: str | None
    role: AccountRole


class SummaryView(Struct, frozen=True):
    """The number of events in a session's log, by type, and of participants who have joined and left."""

    total: int
    by_type: dict[str, int]
    joined: int
    left: int
    first_at: str | None
    last_at: str | None


class Page(Struct, frozen=True):
    """Any page, as it is encoded. OpenAPI describes each by a Struct with the type of its items."""

    items: Sequence[object]
    next: str | None


def user_view(user: User) -> UserView:
    """Return the view of an account."""
    return UserView(user.user_id, user.number, user.name, user.email, user.phone, user.role)


def summary_view(summary: Summary) -> SummaryView:
    """Return the view of a log's summary."""
    return SummaryView(
        summary.total,
        summary.by_type,
        summary.joined,
        summary.left,
        when(summary.first_at),
        when(summary.last_at),
    )


def session_view(session: s.Session) -> SessionView:
    """Return the view of a session."""
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
        auto_start=session.auto_start,
        early=seconds(session.early_ms or None),
        empty_after=seconds(session.empty_after_ms),
        host_gone_after=seconds(session.host_gone_after_ms),
        started_at=when(session.started_at),
        ended_at=when(session.ended_at),
        created_at=rfc3339(session.created_at),
        updated_at=rfc3339(session.updated_at),
        counts=Counts(session.joined, session.online),
        room=None if session.room is None else RoomView(session.room.provider, session.room.name, session.room.url),
    )


def seconds(ms: int | None) -> float | None:
    """Return milliseconds as seconds."""
    return None if ms is None else ms / 1000


def encode(value: object) -> bytes:
    """Encode a view as JSON."""
    return msgspec.json.encode(value)
