"""Roles and permissions given and taken. What they allow is in `permissions`.

**Law:** who loses a right stops at once what it allowed; nobody grants what they do not have.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects.lifecycle import occupied, require_host
from actors.session.aspects.roster import LEADING
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis
from actors.session.permissions import allowed, defaults, effective, moderated, rights, target
from actors.session.state import Participant, State


def set_role(state: State, command: c.SetRole, by: c.Caller, now: Millis) -> list[e.Event]:
    require_host(state, by)
    place = target(state, command.user_id, "joined", "waiting", "invited", "left")
    if place.role == command.role:
        return []
    if place.user_id == state.session.owner_id:
        raise Rejected(Reason.LAST_HOST, "The owner is always a host.", field="role")
    may = rights(state.session.kind, command.role, place)
    return [e.RoleChanged(user_id=command.user_id, role=command.role, permissions=may)]


def set_permissions(state: State, command: c.SetPermissions, by: c.Caller, now: Millis) -> list[e.Event]:
    place = moderated(state, by, command.user_id, "joined", "waiting", "invited", "left")
    if place.user_id == state.session.owner_id:
        raise Rejected(Reason.NOT_ALLOWED, "The owner has every permission, always.", field="user_id")
    grant, revoke = frozenset(command.grant), frozenset(command.revoke)
    if both := sorted(grant & revoke):
        raise Rejected(Reason.NOT_ALLOWED, f"{both[0]!r} is both granted and revoked.", field="revoke")
    if lacking := sorted(p for p in grant if not allowed(state, by.user_id, p)):
        raise Rejected(Reason.NOT_PERMITTED, f"You cannot grant {lacking[0]!r}: you do not have it.", field="grant")
    granted, revoked = (place.granted - revoke) | grant, (place.revoked - grant) | revoke
    if (granted, revoked) == (place.granted, place.revoked):
        return []
    return [
        e.PermissionsChanged(
            user_id=command.user_id,
            granted=sorted(granted),
            revoked=sorted(revoked),
            permissions=sorted((defaults(state.session.kind, place.role) | granted) - revoked),
        )
    ]


# Appliers


def on_role_changed(state: State, event: e.RoleChanged, recorded: e.Recorded) -> None:
    place = state.participants[event.user_id]
    if place.status == "joined":
        state.hosts += (event.role in LEADING) - (place.role in LEADING)
    place.role = event.role
    drop_rights(state, place)
    occupied(state, recorded.at)


def drop_rights(state: State, place: Participant) -> None:
    """Stop sending what one may not send any more: the hard mute."""
    may = effective(state, place)
    place.muted = place.muted or "speak" not in may
    place.video, place.screen = place.video and "video" in may, place.screen and "screen" in may
    place.audio = place.audio and not place.muted
    if state.sharer == place.user_id and not place.screen:
        state.sharer = None


def on_permissions_changed(state: State, event: e.PermissionsChanged, recorded: e.Recorded) -> None:
    place = state.participants[event.user_id]
    place.granted, place.revoked = frozenset(event.granted), frozenset(event.revoked)
    drop_rights(state, place)


HANDLERS = {
    c.SetRole: set_role,
    c.SetPermissions: set_permissions,
}
APPLIERS = {
    e.RoleChanged: on_role_changed,
    e.PermissionsChanged: on_permissions_changed,
}
