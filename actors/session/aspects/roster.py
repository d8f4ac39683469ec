"""The roster: joining and leaving, invitations, the lobby, kicking.

**Law:** a participant joins once, however many streams and reconnects they have. The roster keeps everyone forever.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects import media
from actors.session.aspects.lifecycle import update_occupancy
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.permissions import RANKS, defaults, moderated, not_in, require, rights, target
from actors.session.state import Participant, Presence, Role, State

LEADING = ("host", "cohost")
ROSTER_LIMIT = 20_000
"""Participants over the life of a session, those kicked and invited included. This bounds the state."""


def join(state: State, command: c.Join, by: c.Caller, now: Millis) -> list[e.Event]:
    session = state.session
    participant = state.participants.get(by.user_id)
    owner = by.user_id == session.owner_id
    if participant and participant.status in ("joined", "waiting"):
        return []
    if participant and participant.banned:
        raise not_in(state, by.user_id)
    invited = participant is not None and participant.status in ("invited", "left")
    back = participant is not None and participant.status == "left" and participant.gone
    if not (owner or by.has_invitation or invited):
        raise Rejected(Reason.NOT_INVITED, "Join with the session's code, or ask a host for an invitation.")
    if by.guest and not session.features.guests:
        raise Rejected(Reason.FEATURE_OFF, "Guests are switched off in this session.")
    if not owner:
        if session.locked and not back:
            raise Rejected(Reason.LOCKED, "The session is locked; ask a host to unlock it.")
        require_capacity(state)
        require_roster_capacity(state, by.user_id)
    role: Role = "host" if owner else participant.role if participant else "member"
    if session.features.lobby and role == "member" and not (back or (participant and participant.status == "invited")):
        number = participant_number(state, by.user_id)
        return [
            e.ParticipantWaiting(
                user_id=by.user_id,
                name=by.name,
                number=number,
                guest=by.guest,
                colour=by.colour,
                user_number=by.number,
                alias=by.alias,
                permissions=rights(session.kind, role, participant),
            )
        ]
    events: list[e.Event] = [joined_event(state, by, role)]
    if role == "host" and session.status == "scheduled":
        events.insert(0, e.SessionStarted())
    return events


def require_capacity(state: State) -> None:
    """Raise Rejected if the session is full."""
    session = state.session
    if session.joined >= session.capacity:
        raise Rejected(Reason.FULL, f"The session is full ({session.joined} of {session.capacity}).")


def require_roster_capacity(state: State, user_id: UserId) -> None:
    """Raise Rejected if the user is new and the roster cannot grow."""
    if user_id not in state.participants and len(state.participants) >= ROSTER_LIMIT:
        raise Rejected(Reason.TOO_MANY, f"A session has at most {ROSTER_LIMIT} participants over its life.")


def participant_number(state: State, user_id: UserId) -> int:
    """Return a participant's number, or the one that a new participant gets."""
    participant = state.participants.get(user_id)
    return participant.number if participant else len(state.participants) + 1


def joined_event(state: State, by: c.Caller, role: Role) -> e.ParticipantJoined:
    """Return the event of a caller who joins. With `mute_on_join`, a member or observer joins muted."""
    participant = state.participants.get(by.user_id)
    muted = (participant is not None and participant.muted) or (
        state.session.mute_on_join and role in ("member", "observer")
    )
    return e.ParticipantJoined(
        user_id=by.user_id,
        name=by.name,
        number=participant_number(state, by.user_id),
        role=role,
        muted=muted,
        guest=by.guest,
        colour=by.colour,
        user_number=by.number,
        alias=by.alias,
        permissions=rights(state.session.kind, role, participant),
        joined_at=None if participant is None else participant.joined_at,
        online=participant is not None and participant.online,
    )


def admission(state: State, participant: Participant) -> e.ParticipantJoined:
    """Return the event of a participant who joins because a moderator lets them in."""
    by = c.Caller(
        participant.user_id,
        participant.name,
        number=participant.user_number,
        alias=participant.alias,
        guest=participant.guest,
        colour=participant.colour,
    )
    return joined_event(state, by, participant.role)


def leave(state: State, command: c.Leave, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = state.participants.get(by.user_id)
    if participant is None or participant.status == "kicked":
        raise not_in(state, by.user_id)
    return [e.ParticipantLeft(user_id=by.user_id)] if participant.status in ("joined", "waiting") else []


def invite(state: State, command: c.Invite, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    participant = state.participants.get(command.user_id)
    if command.user_id == state.session.owner_id or (participant and participant.status in ("invited", "joined")):
        return []
    require_roster_capacity(state, command.user_id)
    whom = by.people.get(command.user_id) or (
        c.Person(participant.name, participant.user_number) if participant else None
    )
    if whom is None:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no user {command.user_id!r}.", field="user_id")
    if participant and participant.status == "waiting":
        require_capacity(state)
        return [admission(state, participant)]
    number = participant_number(state, command.user_id)
    role: Role = participant.role if participant else "member"
    return [
        e.ParticipantInvited(
            user_id=command.user_id,
            name=whom.name,
            number=number,
            user_number=whom.number,
            permissions=rights(state.session.kind, role, participant),
        )
    ]


def admit(state: State, command: c.Admit, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    participant = target(state, command.user_id, "waiting", "joined")
    if participant.status == "joined":
        return []
    require_capacity(state)
    return [admission(state, participant)]


def deny(state: State, command: c.Deny, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    participant = target(state, command.user_id, "waiting", "denied")
    return [] if participant.status == "denied" else [e.ParticipantDenied(user_id=command.user_id)]


def set_present(state: State, command: c.SetPresent, by: c.Caller, now: Millis) -> list[e.Event]:
    if command.user_id == by.user_id:
        return join(state, c.Join(), by, now) if command.present else leave(state, c.Leave(), by, now)
    participant = moderated(state, by, command.user_id, "joined", "left")
    if command.present == (participant.status == "joined"):
        return []
    if not command.present:
        return [e.ParticipantLeft(user_id=participant.user_id)]
    require_capacity(state)
    return [admission(state, participant)]


def kick(state: State, command: c.Kick, by: c.Caller, now: Millis) -> list[e.Event]:
    participant = moderated(state, by, command.user_id, "joined", "waiting", "invited", "left", "denied", "kicked")
    if participant.user_id == by.user_id:
        raise Rejected(Reason.NOT_ALLOWED, "You cannot kick yourself; `leave` instead.", field="user_id")
    if participant.status == "kicked" and participant.banned >= command.ban:
        return []
    role: Role = "member" if participant.role in LEADING else participant.role
    may = sorted(defaults(state.session.kind, role) - participant.revoked)
    return [
        e.ParticipantKicked(
            user_id=command.user_id, banned=command.ban, reason=command.reason, role=role, permissions=may
        )
    ]


# Appliers


def add_or_rename(state: State, user_id: UserId, name: str, number: int) -> Participant:
    """Return a user's participant under their present name, added to the roster if new."""
    participant = state.participants.get(user_id)
    if participant is None:
        participant = Participant(user_id=user_id, number=number, name=name, role="member", status="invited")
        state.participants[user_id] = participant
    participant.name = name
    return participant


def set_identity(participant: Participant, event: e.ParticipantWaiting | e.ParticipantJoined) -> None:
    """Take over the facts of the account or guest that an event brings."""
    participant.guest, participant.colour = event.guest, event.colour
    participant.user_number, participant.alias = event.user_number, event.alias


def set_status(state: State, participant: Participant, status: Presence) -> None:
    """Change a status, and the counts that depend on it."""
    leads = participant.role in LEADING
    state.session.joined += (status == "joined") - (participant.status == "joined")
    state.hosts += leads * ((status == "joined") - (participant.status == "joined"))
    participant.status = status


def depart(state: State, user_id: UserId, status: Presence, at: Millis) -> None:
    """Take a participant out of everything that needs presence."""
    participant = state.participants[user_id]
    set_online(state, participant, False)
    state.away.pop(user_id, None)
    state.hands.pop(user_id, None)
    media.stop_media(state, participant)
    set_status(state, participant, status)
    participant.left_at = at


def set_online(state: State, participant: Participant, online: bool) -> None:
    """Change whether a participant has a stream open, and the count of those who have."""
    state.session.online += online - participant.online
    participant.online = online


def on_invited(state: State, event: e.ParticipantInvited, recorded: e.Recorded) -> None:
    participant = add_or_rename(state, event.user_id, event.name, event.number)
    participant.user_number = event.user_number
    participant.invited_at = recorded.at
    participant.banned = False
    participant.kicked_at = None
    set_status(state, participant, "invited")


def on_waiting(state: State, event: e.ParticipantWaiting, recorded: e.Recorded) -> None:
    participant = add_or_rename(state, event.user_id, event.name, event.number)
    participant.gone = False
    set_identity(participant, event)
    set_status(state, participant, "waiting")


def on_joined(state: State, event: e.ParticipantJoined, recorded: e.Recorded) -> None:
    participant = add_or_rename(state, event.user_id, event.name, event.number)
    participant.role = event.role
    participant.muted = event.muted
    participant.gone = False
    set_identity(participant, event)
    participant.joined_at = participant.joined_at or recorded.at
    participant.left_at = None
    set_status(state, participant, "joined")
    update_occupancy(state, recorded.at)


def on_denied(state: State, event: e.ParticipantDenied, recorded: e.Recorded) -> None:
    depart(state, event.user_id, "denied", recorded.at)
    update_occupancy(state, recorded.at)


def on_left(state: State, event: e.ParticipantLeft, recorded: e.Recorded) -> None:
    participant = state.participants[event.user_id]
    participant.gone = event.reason == "gone" and participant.status == "joined"
    depart(state, event.user_id, "left", event.last_seen or recorded.at)
    # From now, not from `last_seen`: until now the participant counted as present, and others may have left since.
    update_occupancy(state, recorded.at)


def on_kicked(state: State, event: e.ParticipantKicked, recorded: e.Recorded) -> None:
    depart(state, event.user_id, "kicked", recorded.at)
    update_occupancy(state, recorded.at)
    participant = state.participants[event.user_id]
    participant.banned = event.banned
    participant.kicked_at = recorded.at
    participant.granted = frozenset()
    if RANKS[participant.role] > RANKS["member"]:
        participant.role = "member"


HANDLERS = {
    c.Join: join,
    c.Leave: leave,
    c.Invite: invite,
    c.Admit: admit,
    c.Deny: deny,
    c.Kick: kick,
    c.SetPresent: set_present,
}
APPLIERS = {
    e.ParticipantInvited: on_invited,
    e.ParticipantWaiting: on_waiting,
    e.ParticipantJoined: on_joined,
    e.ParticipantDenied: on_denied,
    e.ParticipantLeft: on_left,
    e.ParticipantKicked: on_kicked,
}
