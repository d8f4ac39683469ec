"""Who is in the session, in which role, muted or not, and with a stream open or not.

**Law:** a participant is joined once, over however many streams and reconnects; the roster never forgets anyone.
"""

from itertools import takewhile

from actors.session import commands as c
from actors.session import events as e
from actors.session import media
from actors.session.errors import Reason, Rejected
from actors.session.ids import Millis, UserId
from actors.session.lifecycle import CLOSED, occupied, require_host
from actors.session.permissions import RANKS, allowed, effective, joined, moderated, not_in, require, role_of, target
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
    if not (owner or by.holds_code or invited):
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
                by.user_id, by.name, number, guest=by.guest, colour=by.colour, user_number=by.number, alias=by.alias
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
    return [e.ParticipantInvited(user_id=command.user_id, name=whom.name, number=number, user_number=whom.number)]


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
    return [e.ParticipantKicked(user_id=command.user_id, banned=command.ban, reason=command.reason)]


def set_role(state: State, command: c.SetRole, by: c.Caller, now: Millis) -> list[e.Event]:
    require_host(state, by)
    place = target(state, command.user_id, "joined", "waiting", "invited", "left")
    if place.role == command.role:
        return []
    if place.user_id == state.session.owner_id:
        raise Rejected(Reason.LAST_HOST, "The owner is always a host.", field="role")
    return [e.RoleChanged(user_id=command.user_id, role=command.role)]


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
    return [e.PermissionsChanged(user_id=command.user_id, granted=sorted(granted), revoked=sorted(revoked))]


def mute(state: State, command: c.Mute, by: c.Caller, now: Millis) -> list[e.Event]:
    place = self_or_moderated(state, by, command.user_id)
    return [] if place.muted else [e.ParticipantMuted(user_id=place.user_id)]


def unmute(state: State, command: c.Unmute, by: c.Caller, now: Millis) -> list[e.Event]:
    place = self_or_moderated(state, by, command.user_id)
    if place.user_id == by.user_id:
        require(state, by, "speak")
    return [e.ParticipantUnmuted(user_id=place.user_id)] if place.muted else []


def self_or_moderated(state: State, by: c.Caller, user_id: UserId | None) -> Participant:
    """Find whom a command means that is for oneself by default."""
    if user_id is None or user_id == by.user_id:
        return joined(state, by)
    return moderated(state, by, user_id)


def mute_all(state: State, command: c.MuteAll, by: c.Caller, now: Millis) -> list[e.Event]:
    require(state, by, "moderate")
    spared = {by.user_id, state.session.owner_id, *command.except_}
    rank = RANKS[role_of(state, by.user_id) or "observer"]
    loud = (p for p in state.participants.values() if p.status == "joined" and not p.muted)
    user_ids = [p.user_id for p in loud if p.user_id not in spared and RANKS[p.role] <= rank]
    return [e.AllMuted(user_ids=user_ids)] if user_ids else []


def request_unmute(state: State, command: c.RequestUnmute, by: c.Caller, now: Millis) -> list[e.Event]:
    place = moderated(state, by, command.user_id)
    return [e.UnmuteRequested(user_id=place.user_id)] if place.muted else []


def connect(state: State, command: c.Connect, by: c.Caller, now: Millis) -> list[e.Event]:
    """Note that a stream is open. Whoever only lost theirs is back in without asking; others have to join."""
    place = state.participants.get(by.user_id)
    if state.session.status in CLOSED:
        if by.user_id != state.session.owner_id and not took_part(place):
            raise not_in(state, by.user_id)
        return []
    if place and place.status in ("joined", "waiting"):
        return [] if place.online else [e.ParticipantOnline(user_id=by.user_id)]
    if command.join or (place and place.status == "left" and place.gone):
        return [*join(state, c.Join(), by, now), e.ParticipantOnline(user_id=by.user_id)]
    if by.user_id == state.session.owner_id:
        return []
    raise not_in(state, by.user_id)


def took_part(place: Participant | None) -> bool:
    """Say whether someone may look back at a closed session: who had joined or was invited, and not removed."""
    return place is not None and place.status in ("left", "invited") and bool(place.joined_at or place.invited_at)


def disconnect(state: State, command: c.Disconnect, by: c.Caller, now: Millis) -> list[e.Event]:
    place = state.participants.get(by.user_id)
    return [e.ParticipantOffline(user_id=by.user_id)] if place and place.online else []


def lose_connections(state: State, command: c.LoseConnections, by: c.Caller, now: Millis) -> list[e.Event]:
    lost = [u for u in command.user_ids if (place := state.participants.get(u)) and place.online]
    return [e.ConnectionsLost(user_ids=lost)] if lost else []


def gone(state: State, now: Millis) -> list[e.Event]:
    """Give the departures of those whose grace time is over."""
    latest = now - state.session.grace_ms
    due = takewhile(lambda item: item[1] <= latest, state.away.items())
    return [e.ParticipantLeft(user_id=user_id, reason="gone", last_seen=since) for user_id, since in due]


def grace_end(state: State) -> Millis | None:
    for since in state.away.values():
        return Millis(since + state.session.grace_ms)
    return None


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
    media.silence(state, place)
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


def on_online(state: State, event: e.ParticipantOnline, recorded: e.Recorded) -> None:
    set_online(state, state.participants[event.user_id], True)
    state.away.pop(event.user_id, None)


def on_offline(state: State, event: e.ParticipantOffline, recorded: e.Recorded) -> None:
    go_away(state, event.user_id, recorded.at)


def on_connections_lost(state: State, event: e.ConnectionsLost, recorded: e.Recorded) -> None:
    for user_id in event.user_ids:
        go_away(state, user_id, recorded.at)


def go_away(state: State, user_id: UserId, at: Millis) -> None:
    set_online(state, state.participants[user_id], False)
    state.away[user_id] = at


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


def on_muted(state: State, event: e.ParticipantMuted, recorded: e.Recorded) -> None:
    hush(state.participants[event.user_id])


def hush(place: Participant) -> None:
    place.muted = True
    place.audio = False


def on_unmuted(state: State, event: e.ParticipantUnmuted, recorded: e.Recorded) -> None:
    state.participants[event.user_id].muted = False


def on_all_muted(state: State, event: e.AllMuted, recorded: e.Recorded) -> None:
    for user_id in event.user_ids:
        hush(state.participants[user_id])


def on_unmute_requested(state: State, event: e.UnmuteRequested, recorded: e.Recorded) -> None:
    """A question to one person: nothing changes until they answer by unmuting."""


HANDLERS = {
    c.Join: join,
    c.Leave: leave,
    c.Invite: invite,
    c.Admit: admit,
    c.Deny: deny,
    c.Kick: kick,
    c.SetPresent: set_present,
    c.SetRole: set_role,
    c.SetPermissions: set_permissions,
    c.Mute: mute,
    c.Unmute: unmute,
    c.MuteAll: mute_all,
    c.RequestUnmute: request_unmute,
    c.Connect: connect,
    c.Disconnect: disconnect,
    c.LoseConnections: lose_connections,
}
APPLIERS = {
    e.ParticipantInvited: on_invited,
    e.ParticipantWaiting: on_waiting,
    e.ParticipantJoined: on_joined,
    e.ParticipantDenied: on_denied,
    e.ParticipantLeft: on_left,
    e.ParticipantKicked: on_kicked,
    e.ParticipantOnline: on_online,
    e.ParticipantOffline: on_offline,
    e.ConnectionsLost: on_connections_lost,
    e.RoleChanged: on_role_changed,
    e.PermissionsChanged: on_permissions_changed,
    e.ParticipantMuted: on_muted,
    e.ParticipantUnmuted: on_unmuted,
    e.AllMuted: on_all_muted,
    e.UnmuteRequested: on_unmute_requested,
}
