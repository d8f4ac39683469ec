"""What lists, reports and a room's provider keep of a session, and which events change it."""

from actors.session import events as e
from actors.session.ids import UserId

_MEMBERSHIP = (
    e.ParticipantInvited, e.ParticipantWaiting, e.ParticipantJoined, e.ParticipantDenied, e.ParticipantLeft,
    e.ParticipantKicked, e.RoleChanged,
)  # fmt: skip
_COUNTS = (e.ParticipantOnline, e.ParticipantOffline, e.ConnectionsLost)
_FACTS = (
    e.SessionStarted, e.SessionUpdated, e.SessionLocked, e.SessionUnlocked,
)  # fmt: skip
_EVERYONE = (e.SessionEnded, e.SessionCancelled, e.SessionDeleted)

CHANGES_SESSION: frozenset[type] = frozenset(_MEMBERSHIP + _COUNTS + _FACTS + _EVERYONE)
CHANGES_PARTICIPANT: frozenset[type] = frozenset(_MEMBERSHIP)
CHANGES_EVERYONE: frozenset[type] = frozenset(_EVERYONE)

CONCERNS_ROOM: frozenset[type] = frozenset({e.ParticipantKicked, e.RecordingStarted, e.RecordingStopped, *_EVERYONE})
"""What has to be done where the session's audio and video are, too."""


def changed_participant(event: e.Event) -> UserId | None:
    """Name whose row an event changes."""
    return event.user_id if type(event) in CHANGES_PARTICIPANT else None  # type: ignore[attr-defined]
