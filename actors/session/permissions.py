"""Who may do what: defaults per kind and role, then what was granted and revoked to the participant.

The owner is a host whether or not they have joined.
"""

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
RANKS: dict[Role, int] = {"observer": 0, "member": 1, "cohost": 2, "host": 3}


def defaults(kind: Kind, role: Role) -> frozenset[Permission]:
    """Give what a role may do in a session of a kind, before anything is granted or revoked."""
    if role == "member":
        return MEMBERS[kind]
    return {"host": ALL, "cohost": COHOST, "observer": OBSERVER}[role]


def effective(state: State, participant: Participant) -> frozenset[Permission]:
    return (defaults(state.session.kind, participant.role) | participant.granted) - participant.revoked


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
    return bool(participant and participant.status == "joined" and permission in effective(state, participant))


def require(state: State, by: Caller, permission: Permission) -> None:
    """Refuse a caller who is not in the session, or may not do this in it."""
    if role_of(state, by.user_id) is None:
        raise not_in(state, by.user_id)
    if not allowed(state, by.user_id, permission):
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


def joined(state: State, by: Caller) -> Participant:
    """Find the caller's own place in the roster. Raises: not_joined, waiting, kicked."""
    participant = state.participants.get(by.user_id)
    if participant is None or participant.status != "joined":
        raise not_in(state, by.user_id)
    return participant


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
