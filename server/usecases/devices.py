"""The devices that receive a user's push messages. A device is registered until its login ends."""

from dataclasses import dataclass
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from server.http.problems import Problem, unauthenticated
from server.http.refusals import refuses
from server.outbound.push.invitations import Invitations
from server.security.principal import Principal
from server.usecases.call import Call
from storage.devices import Device, Devices, Platform

Registered = Device
TOKEN_LENGTH = 2_048
"""FCM's tokens have about 160 characters today, but no documented limit. A PostgreSQL index takes 2,700 bytes."""
DeviceToken = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=TOKEN_LENGTH,
        pattern=r"^[\x21-\x7e]+$(?!\n)",
        description="printable ASCII characters without spaces",
    ),
]


@dataclass(frozen=True, kw_only=True)
class DeviceParts:
    """Devices for push messages."""

    devices: Devices
    invitations: Invitations


class NewDevice(Struct, frozen=True, forbid_unknown_fields=True):
    platform: Platform


class NamedDevice(Struct, frozen=True):
    """The same, for APIs whose bodies name the token."""

    token: DeviceToken
    platform: Platform


@refuses(invalid=422, revoked=401)
async def put(parts: DeviceParts, call: Call) -> Device:
    """Register the device that the path names. Raise Problem 401 if the login has ended, 422 for an invalid token."""
    return await register(parts, call.principal, device_token(call), call.body.platform)


@refuses(invalid=422)
async def remove(parts: DeviceParts, call: Call) -> None:
    """Remove the caller's device. Do nothing if the token is unknown or another user's. Raise Problem 422."""
    await parts.devices.remove(call.principal.user_id, device_token(call))


@refuses(revoked=401)
async def put_named(parts: DeviceParts, call: Call[NamedDevice]) -> Device:
    """Register the device that the body names. Raise Problem 401 if the login has ended."""
    body = call.body
    return await register(parts, call.principal, body.token, body.platform)


async def remove_named(parts: DeviceParts, call: Call) -> None:
    """Remove the device that the body names by `token`, as `remove` does."""
    await parts.devices.remove(call.principal.user_id, call.body.token)


async def mine(parts: DeviceParts, call: Call) -> list[Device]:
    """Return the caller's devices."""
    return await parts.devices.of_user(call.principal.user_id)


async def register(parts: DeviceParts, principal: Principal, token: str, platform: Platform) -> Device:
    """Register a device for a user's push messages until the login ends. Raise Problem 401 if it has already ended."""
    device = await parts.devices.put(principal.user_id, principal.login, token, platform)
    if device is None:
        raise unauthenticated("This login has ended. Log in again.", "revoked")
    return device


def device_token(call: Call) -> str:
    """Return the token in the path. Raise Problem 422 if it is not valid."""
    try:
        return msgspec.convert(call.params["token"], DeviceToken)
    except msgspec.ValidationError as error:
        raise Problem(
            422, "invalid", f"`token` must be 1 to {TOKEN_LENGTH} printable ASCII characters.", field="token"
        ) from error


async def reached(parts: DeviceParts, call: Call) -> int:
    """Return the number of devices that a new invitation is sent to. It is 0 if the user was already invited."""
    return await parts.invitations.count(call.known.user_id) if call.made else 0
