"""What is about the caller themselves in `/v1`: devices and notifications, and their rows."""

from typing import Any

import msgspec
from msgspec import Struct

from actors.session.ids import UserId
from actors.session.notifications import SessionInvitation
from actors.session.state import Kind, Session, Status
from server.api.routes import ActionRoute, UserStreamRoute
from server.http.reply import Reply
from server.http.timestamps import now_millis, rfc3339, when
from server.streams.format import Cursor
from server.usecases import devices, sessions
from server.v1.frames import FRAMES, sse
from server.v1.views import Owner, Page, encode, nothing
from storage.devices import Device, Platform
from storage.notifications import Invitation, NotificationState, StoredNotification


class DeviceView(Struct, frozen=True):
    token: str
    platform: Platform
    registered_at: str


class DevicePage(Struct, frozen=True):
    """All of them: there are 20 at most."""

    items: list[DeviceView]
    next: None


class InvitedTo(Struct, frozen=True):
    id: str
    number: int
    name: str
    kind: Kind
    title: str
    status: Status
    starts_at: str | None


class InvitationView(Struct, frozen=True):
    """`by` and `at` are null when nobody knows any more."""

    session: InvitedTo
    by: Owner | None
    at: str | None


class StandingView(Struct, frozen=True):
    """The first frame: where the stream goes on from, and the invitations that are open, newest session first."""

    cursor: str
    invitations: list[InvitationView]
    server_time: str


class TicketView(Struct, frozen=True):
    ticket: str
    expires_at: str


def standing(found: NotificationState) -> bytes:
    invitations = [invitation(one) for one in found.invitations]
    return encode(StandingView(str(Cursor(found.at, found.seq)), invitations, rfc3339(now_millis())))


def invitation(found: Invitation) -> InvitationView:
    by = None if found.said is None else inviter(found.said.by_id, found.said.by_name)
    return InvitationView(invited_to(found.session, found.session.id), by, when(found.at))


def invited_to(session: Session | SessionInvitation, session_id: str) -> InvitedTo:
    return InvitedTo(
        session_id, session.number, session.name, session.kind, session.title, session.status, when(session.starts_at)
    )


def inviter(user_id: UserId | None, name: str | None) -> Owner | None:
    return None if user_id is None else Owner(user_id, name or "")


def told(told: StoredNotification) -> bytes:
    """Print a notification as a frame."""
    notification = told.notification
    kind = str(notification.__struct_config__.tag)
    body: dict[str, Any] = {"seq": told.seq, "at": rfc3339(told.at), "type": kind}
    if isinstance(notification, SessionInvitation):
        body["session"] = invited_to(notification, notification.session_id)
        body["by"] = inviter(notification.by_id, notification.by_name)
    else:
        body |= msgspec.to_builtins(notification)
    return sse(kind, encode(body), Cursor(told.at, told.seq))


def ticket(made: sessions.Ticket) -> Reply:
    shown = TicketView(made.ticket, rfc3339(made.expires_at))
    return Reply(201, encode(shown), {"Cache-Control": "no-store"})


def shown(device: Device) -> DeviceView:
    return DeviceView(device.token, device.platform, rfc3339(device.registered_at))


def one_device(device: Device) -> Reply:
    return Reply(200, encode(shown(device)))


def all_devices(found: list[Device]) -> Reply:
    return Reply(200, encode(Page([shown(device) for device in found], None)))


ROWS: tuple[Any, ...] = (
    UserStreamRoute(
        path="/me/events", summary="Stream what concerns oneself outside of sessions: invitations (SSE)",
        format=FRAMES, standing=standing, told=told,
    ),
    ActionRoute(
        method="POST", path="/me/tickets", summary="Get a single-use ticket for one's own stream",
        act=sessions.own_ticket, view=ticket, status=201, answer=TicketView,
    ),
    ActionRoute(
        path="/me/devices", summary="List the devices that get one's push messages", act=devices.mine,
        view=all_devices, answer=DevicePage,
    ),
    ActionRoute(
        method="PUT", path="/me/devices/{token}", body=devices.NewDevice, act=devices.put, view=one_device,
        summary="Register a device for push messages, by the token that its provider gave it; it ends with the login",
        answer=DeviceView,
    ),
    ActionRoute(
        method="DELETE", path="/me/devices/{token}", summary="Take a device back; one that is not there is no mistake",
        act=devices.remove, view=nothing, status=204,
    ),
)  # fmt: skip
