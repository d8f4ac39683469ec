"""What is about the caller themselves in `/v1`: devices and notices, and their rows."""

from typing import Any

from msgspec import Struct

from server import devices
from server.routes import ActionRoute, Reply
from server.v1.times import rfc3339
from server.v1.views import Page, encode
from storage.devices import Device, Platform


class DeviceView(Struct, frozen=True):
    token: str
    platform: Platform
    registered_at: str


class DevicePage(Struct, frozen=True):
    """All of them: there are 20 at most."""

    items: list[DeviceView]
    next: None


def shown(device: Device) -> DeviceView:
    return DeviceView(device.token, device.platform, rfc3339(device.registered_at))


def one_device(device: Device) -> Reply:
    return Reply(200, encode(shown(device)))


def all_devices(found: list[Device]) -> Reply:
    return Reply(200, encode(Page([shown(device) for device in found], None)))


def nothing(_: object) -> Reply:
    return Reply(204)


ROWS: tuple[Any, ...] = (
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
