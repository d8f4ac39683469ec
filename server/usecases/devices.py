"""The devices that get push messages for a user: registering them, and taking them back."""

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
"""FCM's tokens have about 160 characters today, and no promised length; an index of PostgreSQL takes 2,700 bytes."""
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
    return await register(parts, call.principal, device_token(call), call.body.platform)


@refuses(invalid=422)
async def remove(parts: DeviceParts, call: Call) -> None:
    """Take a device back; one that is not there, or another user's, is no mistake."""
    await parts.devices.remove(call.principal.user_id, device_token(call))


@refuses(revoked=401)
async def put_named(parts: DeviceParts, call: Call[NamedDevice]) -> Device:
    body = call.body
    return await register(parts, call.principal, body.token, body.platform)


async def remove_named(parts: DeviceParts, call: Call) -> None:
    """As `remove`; of the body only the `token` counts."""
    await parts.devices.remove(call.principal.user_id, call.body.token)


async def mine(parts: DeviceParts, call: Call) -> list[Device]:
    return await parts.devices.of_user(call.principal.user_id)


async def register(parts: DeviceParts, principal: Principal, token: str, platform: Platform) -> Device:
    """Have push messages for a user go to a device, until the login ends that said so. Raises: Problem 401."""
    device = await parts.devices.put(principal.user_id, principal.login, token, platform)
    if device is None:
        raise unauthenticated("This login has ended. Log in again.", "revoked")
    return device


def device_token(call: Call) -> str:
    """Read the token in a path. Raises: Problem 422."""
    try:
        return msgspec.convert(call.params["token"], DeviceToken)
    except msgspec.ValidationError as error:
        raise Problem(
            422, "invalid", f"`token` must be 1 to {TOKEN_LENGTH} printable ASCII characters.", field="token"
        ) from error


async def reached(parts: DeviceParts, call: Call) -> int:
    """After an invitation: count the devices that it goes to. None, if they were invited already."""
    return await parts.invitations.count(call.known.user_id) if call.made else 0
