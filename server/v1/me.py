"""The caller's own devices and notifications in `/v1`: their rows, and the shapes of their answers."""

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
from server.usecases.call import Call
from server.v1.frames import FRAMES, sse
from server.v1.views import Owner, Page, encode
from storage.devices import Device, Platform
from storage.notifications import Invitation, NotificationState, StoredNotification


class DeviceView(Struct, frozen=True):
    """A device that receives the caller's push messages."""

    token: str
    platform: Platform
    registered_at: str


class DevicePage(Struct, frozen=True):
    """All of the caller's devices, 20 at most."""

    items: list[DeviceView]
    next: None


class InvitedTo(Struct, frozen=True):
    """The session that an invitation is for."""

    id: str
    number: int
    name: str
    kind: Kind
    title: str
    status: Status
    starts_at: str | None


class InvitationView(Struct, frozen=True):
    """An invitation. `by` and `at` are null if they are no longer known."""

    session: InvitedTo
    by: Owner | None
    at: str | None


class NotificationStateView(Struct, frozen=True):
    """The first frame: the cursor from which the stream continues, and the open invitations, newest session first."""

    cursor: str
    invitations: list[InvitationView]
    server_time: str


class TicketView(Struct, frozen=True):
    """A single-use credential for opening one stream or socket."""

    ticket: str
    expires_at: str


def notification_state(state: NotificationState) -> bytes:
    """Encode the first frame's data."""
    invitations = [invitation_view(invitation) for invitation in state.invitations]
    return encode(NotificationStateView(str(Cursor(state.at, state.seq)), invitations, rfc3339(now_millis())))


def invitation_view(invitation: Invitation) -> InvitationView:
    """Return the view of an open invitation."""
    by = None if invitation.said is None else inviter(invitation.said.by_id, invitation.said.by_name)
    return InvitationView(invited_to(invitation.session, invitation.session.id), by, when(invitation.at))


def invited_to(session: Session | SessionInvitation, session_id: str) -> InvitedTo:
    """Return the session of an invitation."""
    return InvitedTo(
        session_id, session.number, session.name, session.kind, session.title, session.status, when(session.starts_at)
    )


def inviter(user_id: UserId | None, name: str | None) -> Owner | None:
    """Return the user who sent an invitation; None if no longer known."""
    return None if user_id is None else Owner(user_id, name or "")


def notification_frame(stored: StoredNotification) -> bytes:
    """Return a notification as an SSE frame; its id is the cursor to resume from."""
    notification = stored.notification
    kind = str(notification.__struct_config__.tag)
    body: dict[str, Any] = {"seq": stored.seq, "at": rfc3339(stored.at), "type": kind}
    if isinstance(notification, SessionInvitation):
        body["session"] = invited_to(notification, notification.session_id)
        body["by"] = inviter(notification.by_id, notification.by_name)
    else:
        body |= msgspec.to_builtins(notification)
    return sse(kind, encode(body), Cursor(stored.at, stored.seq))


def ticket(issued: sessions.Ticket, call: Call) -> Reply:
    """Return a ticket. It is a credential, so that no cache may store the answer."""
    view = TicketView(issued.ticket, rfc3339(issued.expires_at))
    return Reply(201, encode(view), {"Cache-Control": "no-store"})


def device_view(device: Device) -> DeviceView:
    """Return the view of a device."""
    return DeviceView(device.token, device.platform, rfc3339(device.registered_at))


def one_device(device: Device, call: Call) -> DeviceView:
    """Return one device."""
    return device_view(device)


def all_devices(devices: list[Device], call: Call) -> Page:
    """Return all of the caller's devices, as a single page."""
    return Page([device_view(device) for device in devices], None)


ROWS: tuple[ActionRoute | UserStreamRoute, ...] = (
    UserStreamRoute(
        path="/me/events", summary="Stream your notifications, such as invitations to sessions (SSE)",
        format=FRAMES, standing=notification_state, told=notification_frame,
    ),
    ActionRoute(
        method="POST", path="/me/tickets", summary="Get a single-use ticket for your notification stream",
        act=sessions.own_ticket, view=ticket, status=201, answer=TicketView,
    ),
    ActionRoute(
        path="/me/devices", summary="List the devices that receive your push messages", act=devices.mine,
        view=all_devices, answer=DevicePage,
    ),
    ActionRoute(
        method="PUT", path="/me/devices/{token}", body=devices.NewDevice, act=devices.put, view=one_device,
        summary="Register a device for push messages by its push token; logging out removes it",
        answer=DeviceView,
    ),
    ActionRoute(
        method="DELETE", path="/me/devices/{token}", summary="Remove a device; removing an unknown device succeeds too",
        act=devices.remove, status=204,
    ),
)  # fmt: skip
