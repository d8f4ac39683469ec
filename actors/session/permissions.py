"""What each participant may do: the defaults of their role in a kind of session, plus grants, minus revocations.

The owner has every permission, whether or not they have joined.
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
"""A permission has no effect while all of its features are off."""
RANKS: dict[Role, int] = {"observer": 0, "member": 1, "cohost": 2, "host": 3}


def defaults(kind: Kind, role: Role) -> frozenset[Permission]:
    """Return the permissions of a role in a kind of session, before grants and revocations."""
    if role == "member":
        return MEMBERS[kind]
    return {"host": ALL, "cohost": COHOST, "observer": OBSERVER}[role]


def effective(state: State, participant: Participant) -> frozenset[Permission]:
    """Return the permissions of a participant: those of their role, plus grants, minus revocations."""
    return (defaults(state.session.kind, participant.role) | participant.granted) - participant.revoked


def rights(kind: Kind, role: Role, participant: Participant | None) -> list[Permission]:
    """Return the permissions that a participant has in a role, sorted. None: a user who is not in the roster yet."""
    if participant is None:
        return sorted(defaults(kind, role))
    return sorted((defaults(kind, role) | participant.granted) - participant.revoked)


def role_of(state: State, user_id: UserId) -> Role | None:
    """Return the role in which a user acts now; None for a user who has not joined."""
    if user_id == state.session.owner_id:
        return "host"
    participant = state.participants.get(user_id)
    return participant.role if participant and participant.status == "joined" else None


def allowed(state: State, user_id: UserId, permission: Permission) -> bool:
    """Return whether a user has a permission now. Features that are off and ended sessions are not considered."""
    if user_id == state.session.owner_id:
        return True
    participant = state.participants.get(user_id)
    if participant is None or participant.status != "joined" or permission in participant.revoked:
        return False
    return permission in participant.granted or permission in defaults(state.session.kind, participant.role)


class Why(Struct, frozen=True):
    """Whether a user has a permission now, and what decided it."""

    permission: Permission
    allowed: bool
    because: Literal["role", "granted", "revoked", "owner", "feature_off", "not_joined", "ended"]
    detail: str


def explain(state: State, user_id: UserId) -> list[Why]:
    """Return for each permission whether a user has it now, and why, sorted by name."""
    return [why(state, user_id, permission) for permission in sorted(ALL)]


def why(state: State, user_id: UserId, permission: Permission) -> Why:
    """Return whether a user has a permission now, and why. Ended sessions and features that are off count."""
    session = state.session
    features = NEEDS_FEATURE.get(permission, ())
    participant = state.participants.get(user_id)
    role = role_of(state, user_id)
    if session.status in ("ended", "cancelled"):
        return Why(permission, False, "ended", f"The session is {session.status}.")
    if role is None:
        status = participant.status if participant else "not in the roster"
        return Why(
            permission,
            False,
            "not_joined",
            f"Only participants who have joined have permissions; this user is {status}.",
        )
    if features and not any(getattr(session.features, feature) for feature in features):
        off = " and ".join(f"`{feature}`" for feature in features)
        return Why(permission, False, "feature_off", f"Off in this session: {off}.")
    if user_id == session.owner_id or participant is None:
        return Why(permission, True, "owner", "The owner has every permission.")
    if permission in participant.revoked:
        return Why(permission, False, "revoked", "Revoked for this participant.")
    if permission in defaults(session.kind, role):
        return Why(permission, True, "role", f"Every {role} of a {session.kind} session has it.")
    if permission in participant.granted:
        return Why(permission, True, "granted", "Granted to this participant.")
    return Why(permission, False, "role", f"A {role} of a {session.kind} session has it only if it is granted.")


def require(state: State, by: Caller, permission: Permission) -> None:
    """Raise Rejected if the caller has not joined, or lacks the permission."""
    if not allowed(state, by.user_id, permission):
        if role_of(state, by.user_id) is None:
            raise not_in(state, by.user_id)
        raise Rejected(Reason.NOT_PERMITTED, f"This needs the permission {permission!r}; ask a host for it.")


def not_in(state: State, user_id: UserId) -> Rejected:
    """Return the refusal for a user who is not in the session: never joined, waiting, or removed."""
    participant = state.participants.get(user_id)
    match participant.status if participant else None:
        case "kicked":
            return Rejected(Reason.KICKED, "You were removed from this session.")
        case "waiting":
            return Rejected(Reason.WAITING, "You are in the lobby; a host has to admit you first.")
        case _:
            return Rejected(Reason.NOT_JOINED, "Join the session first.")


def require_current(state: State, by: Caller) -> None:
    """Raise Rejected if a token for this session alone is older than the removal of its holder."""
    if by.issued_at is None:
        return
    participant = state.participants.get(by.user_id)
    if participant and participant.kicked_at is not None and by.issued_at <= participant.kicked_at:
        raise Rejected(Reason.KICKED, "You were removed from this session, which ended this token. Get a new one.")


def joined(state: State, by: Caller) -> Participant:
    """Return the caller's own participant. Raise Rejected if they have not joined, are waiting, or were removed."""
    participant = state.participants.get(by.user_id)
    if participant is None or participant.status != "joined":
        raise not_in(state, by.user_id)
    return participant


def waiting(state: State, user_id: UserId) -> bool:
    """Return whether a user is in the lobby."""
    participant = state.participants.get(user_id)
    return participant is not None and participant.status == "waiting"


def known_to_all(state: State, user_id: UserId) -> bool:
    """Return whether members know of a user: one who has joined before and is neither waiting nor invited now."""
    one = state.participants.get(user_id)
    return one is not None and one.joined_at is not None and one.status not in ("waiting", "invited")


def target(state: State, user_id: UserId, *statuses: Presence, field: str = "user_id") -> Participant:
    """Return the participant whom a command names. Raise Rejected unless they have joined, or one of `statuses`."""
    participant = state.participants.get(user_id)
    if participant is None or participant.status not in (statuses or ("joined",)):
        wanted = " or ".join(statuses or ("joined",))
        raise Rejected(
            Reason.UNKNOWN_PARTICIPANT, f"No participant {user_id!r} is {wanted} in this session.", field=field
        )
    return participant


def moderated(state: State, by: Caller, user_id: UserId, *statuses: Presence) -> Participant:
    """Return a participant whom the caller may moderate.

    Raise Rejected if the caller lacks `moderate` or has a lower role than the participant, or if they are the owner."""
    require(state, by, "moderate")
    participant = target(state, user_id, *statuses)
    role = role_of(state, by.user_id)
    if user_id == state.session.owner_id and by.user_id != user_id:
        raise Rejected(Reason.NOT_PERMITTED, "The session's owner cannot be moderated.")
    if role is None or RANKS[role] < RANKS[participant.role]:
        raise Rejected(Reason.NOT_PERMITTED, f"A {role} cannot moderate a {participant.role}.")
    return participant


def self_or_moderated(state: State, by: Caller, user_id: UserId | None) -> Participant:
    """Return the participant whom a command is about: the caller, unless it names another, whom they may moderate."""
    if user_id is None or user_id == by.user_id:
        return joined(state, by)
    return moderated(state, by, user_id)
