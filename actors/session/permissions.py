"""Who may do what: defaults per kind and role, then what was granted and revoked to the participant.

The owner is a host whether or not they have joined.
"""

from typing import Literal

from msgspec import Struct

from actors.session.commands import Caller
from actors.session.errors import Reason, Rejected
from actors.session.ids import UserId
from actors.session.state import Kind, Participant, Permission, Presence, Role, State

ALL: frozenset[Permission] = frozenset({
    "speak", "video", "screen", "chat", "ask", "vote", "draw", "erase", "edit_code", "control_audio",
    "moderate", "record", "end",
})  # fmt: skip
COHOST = ALL - {"end"}
MEMBER: frozenset[Permission] = frozenset({"speak", "video", "chat", "ask", "vote"})
SHARING: frozenset[Permission] = MEMBER.union({"screen", "draw", "erase"})
EDITING: frozenset[Permission] = SHARING.union({"edit_code"})
OBSERVER: frozenset[Permission] = frozenset()

MEMBERS: dict[Kind, frozenset[Permission]] = {
    "classroom": MEMBER,
    "tutoring": SHARING,
    "lesson": SHARING,
    "course": MEMBER,
    "interview": EDITING,
}
NEEDS_FEATURE: dict[Permission, tuple[str, ...]] = {
    "chat": ("chat",),
    "ask": ("questions",),
    "vote": ("polls", "questions"),
    "draw": ("board",),
    "erase": ("board",),
    "edit_code": ("code",),
    "record": ("recording",),
}
"""Permissions that come to nothing when all these features are off."""
RANKS: dict[Role, int] = {"observer": 0, "member": 1, "cohost": 2, "host": 3}


def defaults(kind: Kind, role: Role) -> frozenset[Permission]:
    """Give what a role may do in a session of a kind, before anything is granted or revoked."""
    if role == "member":
        return MEMBERS[kind]
    return {"host": ALL, "cohost": COHOST, "observer": OBSERVER}[role]


def effective(state: State, participant: Participant) -> frozenset[Permission]:
    return (defaults(state.session.kind, participant.role) | participant.granted) - participant.revoked


def rights(kind: Kind, role: Role, participant: Participant | None) -> list[Permission]:
    """Return what a participant may do in a role, with what was granted to them and revoked, sorted.

    `participant` is None for a user who is not in the roster yet."""
    if participant is None:
        return sorted(defaults(kind, role))
    return sorted((defaults(kind, role) | participant.granted) - participant.revoked)


def role_of(state: State, user_id: UserId) -> Role | None:
    """Give the role a user acts in now; None for whoever is not in the session."""
    if user_id == state.session.owner_id:
        return "host"
    participant = state.participants.get(user_id)
    return participant.role if participant and participant.status == "joined" else None


def allowed(state: State, user_id: UserId, permission: Permission) -> bool:
    if user_id == state.session.owner_id:
        return True
    participant = state.participants.get(user_id)
    if participant is None or participant.status != "joined" or permission in participant.revoked:
        return False
    return permission in participant.granted or permission in defaults(state.session.kind, participant.role)


class Why(Struct, frozen=True):
    """Whether a user may do something now, and what decided it."""

    permission: Permission
    allowed: bool
    because: Literal["role", "granted", "revoked", "owner", "feature_off", "not_joined", "ended"]
    detail: str


def explain(state: State, user_id: UserId) -> list[Why]:
    """Say for each permission whether a user has it now, and why; sorted by name."""
    return [why(state, user_id, permission) for permission in sorted(ALL)]


def why(state: State, user_id: UserId, permission: Permission) -> Why:
    session = state.session
    features = NEEDS_FEATURE.get(permission, ())
    place = state.participants.get(user_id)
    role = role_of(state, user_id)
    if session.status in ("ended", "cancelled"):
        return Why(permission, False, "ended", f"The session is {session.status}.")
    if role is None:
        status = place.status if place else "not in the roster"
        return Why(permission, False, "not_joined", f"Only who has joined may do anything; this user is {status}.")
    if features and not any(getattr(session.features, feature) for feature in features):
        off = " and ".join(f"`{feature}`" for feature in features)
        return Why(permission, False, "feature_off", f"Switched off in this session: {off}.")
    if user_id == session.owner_id or place is None:
        return Why(permission, True, "owner", "The owner may do everything.")
    if permission in place.revoked:
        return Why(permission, False, "revoked", "Taken from this participant.")
    if permission in defaults(session.kind, role):
        return Why(permission, True, "role", f"Every {role} of a {session.kind} session may.")
    if permission in place.granted:
        return Why(permission, True, "granted", "Given to this participant.")
    return Why(permission, False, "role", f"A {role} of a {session.kind} session may not, unless it is granted.")


def require(state: State, by: Caller, permission: Permission) -> None:
    """Refuse a caller who is not in the session, or may not do this in it."""
    if not allowed(state, by.user_id, permission):
        if role_of(state, by.user_id) is None:
            raise not_in(state, by.user_id)
        raise Rejected(Reason.NOT_PERMITTED, f"This needs the permission {permission!r}; ask a host for it.")


def not_in(state: State, user_id: UserId) -> Rejected:
    """Say why a user has no part in the session: never joined, waiting, or removed."""
    participant = state.participants.get(user_id)
    match participant.status if participant else None:
        case "kicked":
            return Rejected(Reason.KICKED, "You were removed from this session.")
        case "waiting":
            return Rejected(Reason.WAITING, "You are in the lobby; a host has to admit you first.")
        case _:
            return Rejected(Reason.NOT_JOINED, "Join the session first.")


def require_current(state: State, by: Caller) -> None:
    """Refuse a credential for this session alone that is older than its holder's removal, which it does not survive."""
    if by.issued_at is None:
        return
    place = state.participants.get(by.user_id)
    if place and place.kicked_at is not None and by.issued_at <= place.kicked_at:
        raise Rejected(Reason.KICKED, "You were removed from this session, and what let you in is good no more.")


def joined(state: State, by: Caller) -> Participant:
    """Find the caller's own place in the roster. Raises: not_joined, waiting, kicked."""
    participant = state.participants.get(by.user_id)
    if participant is None or participant.status != "joined":
        raise not_in(state, by.user_id)
    return participant


def waiting(state: State, user_id: UserId) -> bool:
    """Say whether somebody is in the lobby."""
    place = state.participants.get(user_id)
    return place is not None and place.status == "waiting"


def known_to_all(state: State, user_id: UserId) -> bool:
    """Say whether everyone may hear of a participant, or only moderators: not of the lobby and the invited."""
    place = state.participants.get(user_id)
    return place is not None and place.joined_at is not None and place.status not in ("waiting", "invited")


def target(state: State, user_id: UserId, *statuses: Presence, field: str = "user_id") -> Participant:
    """Find the participant whom a command names. Raises: unknown_participant."""
    participant = state.participants.get(user_id)
    if participant is None or participant.status not in (statuses or ("joined",)):
        wanted = " or ".join(statuses or ("joined",))
        raise Rejected(
            Reason.UNKNOWN_PARTICIPANT, f"No participant {user_id!r} is {wanted} in this session.", field=field
        )
    return participant


def moderated(state: State, by: Caller, user_id: UserId, *statuses: Presence) -> Participant:
    """Find a participant over whom the caller has a say: `moderate`, and no lower a role than theirs."""
    require(state, by, "moderate")
    participant = target(state, user_id, *statuses)
    role = role_of(state, by.user_id)
    if user_id == state.session.owner_id and by.user_id != user_id:
        raise Rejected(Reason.NOT_PERMITTED, "Nobody has a say over the session's owner.")
    if role is None or RANKS[role] < RANKS[participant.role]:
        raise Rejected(Reason.NOT_PERMITTED, f"A {role} has no say over a {participant.role}.")
    return participant


def self_or_moderated(state: State, by: Caller, user_id: UserId | None) -> Participant:
    """Find whom a command means that is for oneself by default."""
    if user_id is None or user_id == by.user_id:
        return joined(state, by)
    return moderated(state, by, user_id)
