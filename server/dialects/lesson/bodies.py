"""What clients of `lesson` send, and the commands that it makes. What they send besides is ignored."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from actors.session import commands as c
from actors.session.ids import UserId
from actors.session.state import Permission, State, Status
from server.http.problems import Problem
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


class Media(Struct, frozen=True, kw_only=True):
    video_enabled: bool
    audio_enabled: bool
    screen_sharing: bool


class NewEvent(Struct, frozen=True, kw_only=True):
    event_type: EventType
    data: dict[str, Any] = {}


class Whom(Struct, frozen=True):
    user_id: UserId


class Permissions(Struct, frozen=True, kw_only=True):
    """Of a change only what is sent counts; an answer has them all."""

    can_draw: bool | UnsetType = UNSET
    can_erase: bool | UnsetType = UNSET
    can_kick: bool | UnsetType = UNSET
    can_terminate: bool | UnsetType = UNSET
    can_speak: bool | UnsetType = UNSET
    can_show_video: bool | UnsetType = UNSET
    can_share_screen: bool | UnsetType = UNSET
    can_chat: bool | UnsetType = UNSET


class PermissionChange(Permissions, frozen=True, kw_only=True):
    """As they are printed, or by themselves."""

    permissions: Permissions = Permissions()


class PermissionMessage(PermissionChange, frozen=True, kw_only=True):
    user_id: UserId


class MediaQuery(Struct, frozen=True):
    user_id: Annotated[str, Meta(max_length=64)] | None = None


class EventsQuery(Struct, frozen=True, kw_only=True):
    event_type: EventType | None = None
    limit: Annotated[int, Meta(ge=1, le=LIMIT)] = 100


class ErrorsQuery(Struct, frozen=True):
    limit: Annotated[int, Meta(ge=1, le=LIMIT)] = 20


class NewBooking(bookings.NewBooking, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Made by its tutor or its student."""


def is_muted(state: State, call: Call) -> bool:
    place = state.participants.get(call.principal.user_id)
    return place is not None and place.muted


def set_media(call: Call) -> c.Command:
    """Make the command of a media state. `call.found`: whether the caller is muted, which audio lifts here."""
    body: Media = call.body
    media = c.SetMedia(video=body.video_enabled, audio=body.audio_enabled, screen=body.screen_sharing)
    return c.Together([c.Unmute(), media]) if call.found and body.audio_enabled else media


def terminate(call: Call) -> c.Command:
    """End the session, or call it off. `call.found`: its status."""
    return c.Cancel() if call.found == "scheduled" else c.End()


def set_permissions(call: Call) -> c.Command:
    """Make the command of a change of permissions; whose, the path says, or the message."""
    body: PermissionChange = call.body
    sent = {
        permission: value
        for name, permission in PERMISSIONS.items()
        for value in (getattr(body, name), getattr(body.permissions, name))
        if value is not UNSET
    }
    if not sent:
        raise Problem(400, "invalid", f"Name at least one of {', '.join(PERMISSIONS)}.")
    return c.SetPermissions(
        whose(call),
        grant=[permission for permission, value in sent.items() if value],
        revoke=[permission for permission, value in sent.items() if not value],
    )


def whose(call: Call) -> UserId:
    return UserId(call.params["user_id"]) if "user_id" in call.params else call.body.user_id


def status(state: State, call: Call) -> Status:
    return state.session.status


def log_event(call: Call) -> c.Command:
    return c.LogEvent(event_type=call.body.event_type, data=call.body.data)


def kick(call: Call) -> c.Command:
    return c.Kick(call.body.user_id)
