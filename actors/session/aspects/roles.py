"""Changes of roles and permissions. `permissions` says what they allow.

**Law:** a participant who loses a right stops at once what it allowed. No caller grants a permission that they lack.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects.lifecycle import require_host, update_occupancy
from actors.session.aspects.roster import LEADING
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import allowed, defaults, effective, moderated, rights, target
from actors.session.state import Participant, State


def set_role(state: State, command: c.SetRole, by: c.Caller, now: Millis) -> list[e.Event]:
    require_host(state, by)
    participant = target(state, command.user_id, "joined", "waiting", "invited", "left")
    if participant.role == command.role:
        return []
    if participant.user_id == state.session.owner_id:
        raise Rejected(Reason.LAST_HOST, "The owner is always a host.", field="role")
    may = rights(state.session.kind, command.role, participant)
    return [e.RoleChanged(user_id=command.user_id, role=command.role, permissions=may)]


def set_permissions(state: State, command: c.SetPermissions, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = moderated(state, by, command.user_id, "joined", "waiting", "invited", "left")
    if participant.user_id == state.session.owner_id:
        raise Rejected(Reason.NOT_ALLOWED, "The owner always has every permission.", field="user_id")
    grant, revoke = frozenset(command.grant), frozenset(command.revoke)
    if both := sorted(grant & revoke):
        raise Rejected(Reason.NOT_ALLOWED, f"Either grant or revoke {both[0]!r}, not both.", field="revoke")
    if lacking := sorted(p for p in grant if not allowed(state, by.user_id, p)):
        raise Rejected(Reason.NOT_PERMITTED, f"You cannot grant {lacking[0]!r}, which you do not have.", field="grant")
    granted, revoked = (participant.granted - revoke) | grant, (participant.revoked - grant) | revoke
    if (granted, revoked) == (participant.granted, participant.revoked):
        return []
    return [
        e.PermissionsChanged(
            user_id=command.user_id,
            granted=sorted(granted),
            revoked=sorted(revoked),
            permissions=sorted((defaults(state.session.kind, participant.role) | granted) - revoked),
        )
    ]


# Appliers


def on_role_changed(state: State, event: e.RoleChanged, recorded: e.Recorded) -> None:
    participant = state.participants[event.user_id]
    if participant.status == "joined":
        state.hosts += (event.role in LEADING) - (participant.role in LEADING)
    participant.role = event.role
    drop_rights(state, participant)
    update_occupancy(state, recorded.at)


def drop_rights(state: State, participant: Participant) -> None:
    """Stop the media that a participant may no longer send: the hard mute."""
    may = effective(state, participant)
    participant.muted = participant.muted or "speak" not in may
    participant.video, participant.screen = participant.video and "video" in may, participant.screen and "screen" in may
    participant.audio = participant.audio and not participant.muted
    if state.sharer == participant.user_id and not participant.screen:
        state.sharer = None


def on_permissions_changed(state: State, event: e.PermissionsChanged, recorded: e.Recorded) -> None:
    participant = state.participants[event.user_id]
    participant.granted, participant.revoked = frozenset(event.granted), frozenset(event.revoked)
    drop_rights(state, participant)


HANDLERS = {
    c.SetRole: set_role,
    c.SetPermissions: set_permissions,
}
APPLIERS = {
    e.RoleChanged: on_role_changed,
    e.PermissionsChanged: on_permissions_changed,
}
