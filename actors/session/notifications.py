"""Notifications of users, whether or not they are in the session: an invitation, and its end.

**Law:** each `session_invitation` is followed by at most one `invitation_closed` before the next to the same user.
"""

from typing import Literal

from msgspec import Struct

from actors.session import events as e
from actors.session.commands import Caller
from actors.session.ids import Millis, SessionId, UserId
from actors.session.state import Kind, State, Status

Closing = Literal["joined", "withdrawn", "over"]
"""The user came in; a moderator withdrew the invitation; the session has ended or was cancelled."""


class SessionInvitation(Struct, frozen=True, tag_field="type", tag="session_invitation"):
    """The session as it was at the invitation. `by_id` is None if the server invites."""

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
    """The end of an invitation."""

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
NOTIFYING: frozenset[type] = frozenset({e.ParticipantInvited, *CLOSINGS})
"""The events that can cause notifications. Check it first, since it is cheaper than `notifications`."""


def notifications(state: State, event: e.Event, by: Caller) -> list[tuple[UserId, Notification]]:
    """Return the notifications that an event causes, with their users, by the state just before it."""
    if isinstance(event, e.ParticipantInvited):
        # A user who adds themselves to their own session knows.
        return [] if event.user_id == by.user_id else [(event.user_id, invitation(state, by))]
    reason = CLOSINGS.get(type(event))
    if reason is None:
        return []
    if reason == "over":
        invited = [one.user_id for one in state.participants.values() if one.status == "invited"]
    else:
        user_id: UserId = event.user_id  # type: ignore[attr-defined]
        participant = state.participants.get(user_id)
        invited = [user_id] if participant is not None and participant.status == "invited" else []
    closed = InvitationClosed(state.session.id, reason)
    return [(user_id, closed) for user_id in invited if user_id != state.session.owner_id]


def invitation(state: State, by: Caller) -> SessionInvitation:
    """Return the invitation to a session, sent by a caller."""
    session = state.session
    return SessionInvitation(
        session.id, session.number, session.name, session.kind, session.title, session.status,
        session.starts_at, by.user_id or None, by.name or None,
    )  # fmt: skip
