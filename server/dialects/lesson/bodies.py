"""The request bodies and messages of `lesson`, and the commands that they become. Unknown fields are ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.ids import UserId
from actors.session.state import Permission, State, Status
from server.http.problems import Problem
from server.http.refusals import refuses
from server.usecases import bookings
from server.usecases.call import Call

EventType = Literal[
    "layout_change", "tool_select", "export_board", "manual_save", "reconnect_attempt", "error", "board_clear",
    "snapshot_restore",
]  # fmt: skip
PERMISSIONS: Mapping[str, Permission] = {
    "can_draw": "draw",
    "can_erase": "erase",
    "can_kick": "moderate",
    "can_terminate": "end",
    "can_speak": "speak",
    "can_show_video": "video",
    "can_share_screen": "screen",
    "can_chat": "chat",
}
LIMIT = 1_000
"""The maximum number of events in an answer."""


class Media(Struct, frozen=True, kw_only=True):
    """The media that a participant sends."""

    video_enabled: bool
    audio_enabled: bool
    screen_sharing: bool


class NewEvent(Struct, frozen=True, kw_only=True):
    """An event that the client adds to the session's log. `data` is any JSON object."""

    event_type: EventType
    # Any: JSON of any shape, from clients.
    data: dict[str, Any] = {}


class Target(Struct, frozen=True):
    """The participant to remove."""

    user_id: UserId


class Permissions(Struct, frozen=True, kw_only=True):
    """In a change, omitted permissions stay as they are. An answer has all of them."""

    can_draw: bool | UnsetType = UNSET
    can_erase: bool | UnsetType = UNSET
    can_kick: bool | UnsetType = UNSET
    can_terminate: bool | UnsetType = UNSET
    can_speak: bool | UnsetType = UNSET
    can_show_video: bool | UnsetType = UNSET
    can_share_screen: bool | UnsetType = UNSET
    can_chat: bool | UnsetType = UNSET


class PermissionChange(Permissions, frozen=True, kw_only=True):
    """Permissions to change: at the top level, or in `permissions` as answers print them."""

    permissions: Permissions = Permissions()


class PermissionMessage(PermissionChange, frozen=True, kw_only=True):
    """Permissions to change, and the participant whose they are."""

    user_id: UserId


class MediaQuery(Struct, frozen=True):
    """Limits the answer to one participant."""

    user_id: Annotated[str, Meta(max_length=64)] | None = None


class EventsQuery(Struct, frozen=True, kw_only=True):
    """Selects the latest events, of one type or of all."""

    event_type: EventType | None = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT)] = 100


class ErrorsQuery(Struct, frozen=True):
    """Selects the latest errors."""

    limit: Annotated[int, Meta(ge=1, le=LIMIT)] = 20


class NewBooking(bookings.NewBooking, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A booking to create, by its tutor or its student."""


def is_muted(state: State, call: Call) -> bool:
    """Return whether the caller is muted."""
    participant = state.participants.get(call.principal.user_id)
    return participant is not None and participant.muted


def set_media(call: Call) -> c.Command:
    """Return the command for a media state. `call.found` is whether the caller is muted; turning audio on unmutes."""
    body: Media = call.body
    media = c.SetMedia(video=body.video_enabled, audio=body.audio_enabled, screen=body.screen_sharing)
    return c.Together([c.Unmute(), media]) if call.found and body.audio_enabled else media


def terminate(call: Call) -> c.Command:
    """Return the command to end the session, or to cancel it before its start. `call.found` is its status."""
    return c.Cancel() if call.found == "scheduled" else c.End()


@refuses(invalid=400)
def set_permissions(call: Call) -> c.Command:
    """Return the command for a change of permissions. Raise Problem 400 if the body changes none."""
    body: PermissionChange = call.body
    sent = {
        permission: value
        for name, permission in PERMISSIONS.items()
        for value in (getattr(body, name), getattr(body.permissions, name))
        if value is not UNSET
    }
    if not sent:
        raise Problem(400, "invalid", f"Send at least one of {', '.join(PERMISSIONS)}.")
    return c.SetPermissions(
        target(call),
        grant=[permission for permission, value in sent.items() if value],
        revoke=[permission for permission, value in sent.items() if not value],
    )


def target(call: Call) -> UserId:
    """Return the participant whom the path names, or else the message."""
    return UserId(call.params["user_id"]) if "user_id" in call.params else call.body.user_id


def status(state: State, call: Call) -> Status:
    """Return the session's status."""
    return state.session.status


def log_event(call: Call) -> c.Command:
    """Return the command that adds the client's event to the log."""
    return c.LogEvent(event_type=call.body.event_type, data=call.body.data)


def kick(call: Call) -> c.Command:
    """Return the command that removes a participant."""
    return c.Kick(call.body.user_id)
