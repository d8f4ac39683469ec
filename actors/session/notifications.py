"""What a session has people told who need not be in it: that they are invited, and that the invitation is over.

**Law:** each `session_invitation` is followed by at most one `invitation_closed` before the next to the same person.
"""

from typing import Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.commands import Caller
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Kind, State, Status

Closing = Literal["joined", "withdrawn", "over"]
"""They came in; a moderator took it back; the session has ended or was cancelled."""


class SessionInvitation(Struct, frozen=True, tag_field="type", tag="session_invitation"):
    """The session as it was then. `by_id` is None where nobody in particular invites."""

    session_id: SessionId
    number: int
    name: str
    kind: Kind
    title: str
    status: Status
    starts_at: Millis | None
    by_id: UserId | None
    by_name: str | None


class InvitationClosed(Struct, frozen=True, tag_field="type", tag="invitation_closed"):
    session_id: SessionId
    reason: Closing


Notification = SessionInvitation | InvitationClosed

CLOSINGS: dict[type, Closing] = {
    e.ParticipantJoined: "joined",
    e.ParticipantWaiting: "joined",
    e.ParticipantKicked: "withdrawn",
    e.ParticipantDenied: "withdrawn",
    e.SessionEnded: "over",
    e.SessionCancelled: "over",
}
TELLING: frozenset[type] = frozenset({e.ParticipantInvited, *CLOSINGS})
"""Events that anybody may have to be told of; to all others `notifications` says nothing."""


def notifications(state: State, event: e.Event, by: Caller) -> list[tuple[UserId, Notification]]:
    """Say who is told what of an event, in the state just before it."""
    if isinstance(event, e.ParticipantInvited):
        # Whoever takes a place in a session of their own knows.
        return [] if event.user_id == by.user_id else [(event.user_id, invitation(state, by))]
    reason = CLOSINGS.get(type(event))
    if reason is None:
        return []
    if reason == "over":
        invited = [place.user_id for place in state.participants.values() if place.status == "invited"]
    else:
        user_id: UserId = event.user_id  # type: ignore[attr-defined]
        place = state.participants.get(user_id)
        invited = [user_id] if place is not None and place.status == "invited" else []
    closed = InvitationClosed(state.session.id, reason)
    return [(user_id, closed) for user_id in invited if user_id != state.session.owner_id]


def invitation(state: State, by: Caller) -> SessionInvitation:
    session = state.session
    return SessionInvitation(
        session.id, session.number, session.name, session.kind, session.title, session.status,
        session.starts_at, by.user_id or None, by.name or None,
    )  # fmt: skip
