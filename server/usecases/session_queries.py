"""Reads of a session's state: the media that participants send, and the permissions that they have."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session.ids import UserId
from actors.session.permissions import Why, allowed, explain, waiting
from actors.session.state import Participant, Permission, Role, State
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases.accounts import UserRef
from server.usecases.call import Call
from server.usecases.session_access import SessionParts, read_state_as_participant


class PermissionsQuery(Struct, frozen=True, forbid_unknown_fields=True):
    """`user_id` selects another user, for moderators only. `explain=1` adds the reasons."""

    user_id: UserRef | None = None
    explain: Annotated[int, Meta(ge=0, le=1)] = 0


class Rights(Struct, frozen=True):
    """The permissions that a user has at present. `role` is null for a user who is no participant. `explain` lists all
    permissions."""

    user_id: UserId
    role: Role | None
    permissions: list[Permission]
    explain: list[Why] | UnsetType = UNSET


class Sends(Struct, frozen=True):
    """The media that one participant sends. A participant who is `muted` sends no audio until they unmute."""

    user_id: UserId
    video: bool
    audio: bool
    screen: bool
    muted: bool


class Sending(Struct, frozen=True):
    """The media that all participants send, and the one who shares their screen."""

    items: list[Sends]
    sharer: UserId | None


@refuses(not_joined=403, not_owner=403, not_permitted=403, unknown_participant=404)
async def permissions(parts: SessionParts, call: Call[object, PermissionsQuery]) -> Rights:
    """Return the caller's permissions, or to moderators those of another participant. Raise Problem 403, 404."""
    query = call.query
    viewer = call.principal.user_id
    user_id = viewer if query.user_id is None else UserId(query.user_id)

    def view(state: State) -> Rights:
        if user_id != viewer and not allowed(state, viewer, "moderate"):
            raise Problem(403, "not_permitted", "Only moderators may ask what others may do.", field="user_id")
        place = state.participants.get(user_id)
        owner = user_id == state.session.owner_id
        if user_id != viewer and place is None and not owner:
            raise unknown(user_id, "user_id")
        why = explain(state, user_id)
        role: Role | None = "host" if owner else place.role if place else None
        return Rights(user_id, role, [one.permission for one in why if one.allowed], why if query.explain else UNSET)

    rights: Rights = await read_state_as_participant(parts, call, view)
    return rights


@refuses(not_joined=403, not_owner=403, not_permitted=403)
async def media(parts: SessionParts, call: Call) -> Sending:
    """Return the media that all participants send. Raise Problem 403, 404."""
    viewer = call.principal.user_id
    sending: Sending = await read_state_as_participant(parts, call, lambda state: sending_now(state, viewer))
    return sending


@refuses(not_joined=403, not_owner=403, not_permitted=403, unknown_participant=404)
async def media_of(parts: SessionParts, call: Call) -> Sends:
    """Return the media that one participant sends. Raise Problem 403, 404 if the caller may not see the participant."""
    viewer, user_id = call.principal.user_id, UserId(call.params["user_id"])

    def view(state: State) -> Sends:
        place = state.participants.get(user_id)
        if place is None or not shown(state, place, viewer):
            raise unknown(user_id)
        return sends(place)

    found: Sends = await read_state_as_participant(parts, call, view)
    return found


def sending_now(state: State, viewer: UserId) -> Sending:
    """Return the media of all participants whom the viewer may see."""
    places = [place for place in state.participants.values() if shown(state, place, viewer)]
    return Sending(list(map(sends, places)), None if waiting(state, viewer) else state.sharer)


def shown(state: State, place: Participant, viewer: UserId) -> bool:
    """Return whether a viewer may see a participant's media. A viewer in the lobby sees only their own."""
    return place.user_id == viewer if waiting(state, viewer) else place.status == "joined"


def sends(place: Participant) -> Sends:
    """Return the media that a participant sends."""
    return Sends(place.user_id, place.video, place.audio, place.screen, place.muted)


def unknown(user_id: UserId, field: str | None = None) -> Problem:
    """Return a Problem 404 for a participant."""
    return Problem(404, "unknown_participant", f"There is no participant {user_id!r} in this session.", field=field)
