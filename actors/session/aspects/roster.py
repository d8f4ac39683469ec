"""Who is in the session: joining and leaving, invitations, the lobby, kicking.

**Law:** a participant is joined once, over however many streams and reconnects; the roster never forgets anyone.
"""

from actors.session import commands as c
from actors.session import events as e
from actors.session.aspects import media
from actors.session.aspects.lifecycle import occupied
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.permissions import RANKS, defaults, moderated, not_in, require, rights, target
from actors.session.state import Participant, Presence, Role, State

LEADING = ("host", "cohost")
ROSTER_LIMIT = 20_000
"""Everyone ever in a session, kicked and invited included: what bounds its state."""


def join(state: State, command: c.Join, by: c.Caller, now: Millis) -> list[e.Event]:
    session = state.session
    place = state.participants.get(by.user_id)
    owner = by.user_id == session.owner_id
    if place and place.status in ("joined", "waiting"):
        return []
    if place and place.banned:
        raise not_in(state, by.user_id)
    invited = place is not None and place.status in ("invited", "left")
    back = place is not None and place.status == "left" and place.gone
    if not (owner or by.has_invitation or invited):
        raise Rejected(Reason.NOT_INVITED, "Join with the session's code, or ask a host for an invitation.")
    if by.guest and not session.features.guests:
        raise Rejected(Reason.FEATURE_OFF, "Guests are switched off in this session.")
    if not owner:
        if session.locked and not back:
            raise Rejected(Reason.LOCKED, "The session is locked; a host can unlock it.")
        free_seat(state)
        room_in_roster(state, by.user_id)
    role: Role = "host" if owner else place.role if place else "member"
    if session.features.lobby and role == "member" and not (back or (place and place.status == "invited")):
        number = number_of(state, by.user_id)
        return [
            e.ParticipantWaiting(
                user_id=by.user_id,
                name=by.name,
                number=number,
                guest=by.guest,
                colour=by.colour,
                user_number=by.number,
                alias=by.alias,
                permissions=rights(session.kind, role, place),
            )
        ]
    events: list[e.Event] = [arrival(state, by, role)]
    if role == "host" and session.status == "scheduled":
        events.insert(0, e.SessionStarted())
    return events


def free_seat(state: State) -> None:
    session = state.session
    if session.joined >= session.capacity:
        raise Rejected(Reason.FULL, f"The session is full ({session.joined} of {session.capacity}).")


def room_in_roster(state: State, user_id: UserId) -> None:
    if user_id not in state.participants and len(state.participants) >= ROSTER_LIMIT:
        raise Rejected(Reason.TOO_MANY, f"A session's roster holds at most {ROSTER_LIMIT} people over its life.")


def number_of(state: State, user_id: UserId) -> int:
    place = state.participants.get(user_id)
    return place.number if place else len(state.participants) + 1


def arrival(state: State, by: c.Caller, role: Role) -> e.ParticipantJoined:
    place = state.participants.get(by.user_id)
    muted = (place is not None and place.muted) or (state.session.mute_on_join and role in ("member", "observer"))
    return e.ParticipantJoined(
        user_id=by.user_id,
        name=by.name,
        number=number_of(state, by.user_id),
        role=role,
        muted=muted,
        guest=by.guest,
        colour=by.colour,
        user_number=by.number,
        alias=by.alias,
        permissions=rights(state.session.kind, role, place),
        joined_at=None if place is None else place.joined_at,
        online=place is not None and place.online,
    )


def admitted(state: State, place: Participant) -> e.ParticipantJoined:
    by = c.Caller(
        place.user_id, place.name, number=place.user_number, alias=place.alias, guest=place.guest, colour=place.colour
    )
    return arrival(state, by, place.role)


def leave(state: State, command: c.Leave, by: c.Caller, now: Millis) -> list[e.Event]:
    place = state.participants.get(by.user_id)
    if place is None or place.status == "kicked":
        raise not_in(state, by.user_id)
    return [e.ParticipantLeft(user_id=by.user_id)] if place.status in ("joined", "waiting") else []


def invite(state: State, command: c.Invite, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    place = state.participants.get(command.user_id)
    if command.user_id == state.session.owner_id or (place and place.status in ("invited", "joined")):
        return []
    room_in_roster(state, command.user_id)
    whom = by.people.get(command.user_id) or (c.Person(place.name, place.user_number) if place else None)
    if whom is None:
        raise Rejected(Reason.UNKNOWN_PARTICIPANT, f"There is no user {command.user_id!r}.", field="user_id")
    if place and place.status == "waiting":
        free_seat(state)
        return [admitted(state, place)]
    number = number_of(state, command.user_id)
    role: Role = place.role if place else "member"
    return [
        e.ParticipantInvited(
            user_id=command.user_id,
            name=whom.name,
            number=number,
            user_number=whom.number,
            permissions=rights(state.session.kind, role, place),
        )
    ]


def admit(state: State, command: c.Admit, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    place = target(state, command.user_id, "waiting", "joined")
    if place.status == "joined":
        return []
    free_seat(state)
    return [admitted(state, place)]


def deny(state: State, command: c.Deny, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    place = target(state, command.user_id, "waiting", "denied")
    return [] if place.status == "denied" else [e.ParticipantDenied(user_id=command.user_id)]


def set_present(state: State, command: c.SetPresent, by: c.Caller, now: Millis) -> list[e.Event]:
    if command.user_id == by.user_id:
        return join(state, c.Join(), by, now) if command.present else leave(state, c.Leave(), by, now)
    place = moderated(state, by, command.user_id, "joined", "left")
    if command.present == (place.status == "joined"):
        return []
    if not command.present:
        return [e.ParticipantLeft(user_id=place.user_id)]
    free_seat(state)
    return [admitted(state, place)]


def kick(state: State, command: c.Kick, by: c.Caller, now: Millis) -> list[e.Event]:
    place = moderated(state, by, command.user_id, "joined", "waiting", "invited", "left", "denied", "kicked")
    if place.user_id == by.user_id:
        raise Rejected(Reason.NOT_ALLOWED, "You cannot kick yourself: `leave` instead.", field="user_id")
    if place.status == "kicked" and place.banned >= command.ban:
        return []
    role: Role = "member" if place.role in LEADING else place.role
    may = sorted(defaults(state.session.kind, role) - place.revoked)
    return [
        e.ParticipantKicked(
            user_id=command.user_id, banned=command.ban, reason=command.reason, role=role, permissions=may
        )
    ]


# Appliers


def place_of(state: State, user_id: UserId, name: str, number: int) -> Participant:
    place = state.participants.get(user_id)
    if place is None:
        place = Participant(user_id=user_id, number=number, name=name, role="member", status="invited")
        state.participants[user_id] = place
    place.name = name
    return place


def identify(place: Participant, event: e.ParticipantWaiting | e.ParticipantJoined) -> None:
    place.guest, place.colour = event.guest, event.colour
    place.user_number, place.alias = event.user_number, event.alias


def move(state: State, place: Participant, status: Presence) -> None:
    """Change a status, and keep the counts in step."""
    leads = place.role in LEADING
    state.session.joined += (status == "joined") - (place.status == "joined")
    state.hosts += leads * ((status == "joined") - (place.status == "joined"))
    place.status = status


def depart(state: State, user_id: UserId, status: Presence, at: Millis) -> None:
    place = state.participants[user_id]
    set_online(state, place, False)
    state.away.pop(user_id, None)
    state.hands.pop(user_id, None)
    media.stop_media(state, place)
    move(state, place, status)
    place.left_at = at


def set_online(state: State, place: Participant, online: bool) -> None:
    state.session.online += online - place.online
    place.online = online


def on_invited(state: State, event: e.ParticipantInvited, recorded: e.Recorded) -> None:
    place = place_of(state, event.user_id, event.name, event.number)
    place.user_number = event.user_number
    place.invited_at = recorded.at
    place.banned = False
    place.kicked_at = None
    move(state, place, "invited")


def on_waiting(state: State, event: e.ParticipantWaiting, recorded: e.Recorded) -> None:
    place = place_of(state, event.user_id, event.name, event.number)
    place.gone = False
    identify(place, event)
    move(state, place, "waiting")


def on_joined(state: State, event: e.ParticipantJoined, recorded: e.Recorded) -> None:
    place = place_of(state, event.user_id, event.name, event.number)
    place.role = event.role
    place.muted = event.muted
    place.gone = False
    identify(place, event)
    place.joined_at = place.joined_at or recorded.at
    place.left_at = None
    move(state, place, "joined")
    occupied(state, recorded.at)


def on_denied(state: State, event: e.ParticipantDenied, recorded: e.Recorded) -> None:
    depart(state, event.user_id, "denied", recorded.at)
    occupied(state, recorded.at)


def on_left(state: State, event: e.ParticipantLeft, recorded: e.Recorded) -> None:
    place = state.participants[event.user_id]
    place.gone = event.reason == "gone" and place.status == "joined"
    depart(state, event.user_id, "left", event.last_seen or recorded.at)
    # From now, not from when they were last seen: until now others counted them as being here, and may have left since.
    occupied(state, recorded.at)


def on_kicked(state: State, event: e.ParticipantKicked, recorded: e.Recorded) -> None:
    depart(state, event.user_id, "kicked", recorded.at)
    occupied(state, recorded.at)
    place = state.participants[event.user_id]
    place.banned = event.banned
    place.kicked_at = recorded.at
    place.granted = frozenset()
    if RANKS[place.role] > RANKS["member"]:
        place.role = "member"


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
