"""Push messages, their results, and the interface of providers."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct


class PushMessage(Struct, frozen=True, kw_only=True):
    """A visible notification, and `data` for the app. The provider may drop it after `ttl_s`.

    A device shows only the last one with a `tag` (at most 64 bytes), so that a repetition is not visible."""

    title: str
    body: str
    data: Mapping[str, str]
    tag: str
    ttl_s: int


class PushSent(Struct, frozen=True):
    """The provider accepted the message."""


class DeviceGone(Struct, frozen=True):
    """The registration token is no longer valid, and never will be."""


class PushRefused(Struct, frozen=True):
    """The provider will never deliver this message to this device. The device itself may be valid."""

    why: str
    status: int | None = None


class PushLater(Struct, frozen=True):
    """The attempt failed, or its result is unknown. `retry_after_s` is what the provider asks for."""

    why: str
    status: int | None = None
    retry_after_s: float | None = None


PushResult = PushSent | DeviceGone | PushRefused | PushLater


class PushProvider(Protocol):
    """A provider of push messages."""

    @property
    def reaches(self) -> bool:
        """Whether it delivers messages at all."""

    async def send(self, token: str, message: PushMessage) -> PushResult:
        """Make one attempt to send a message to a device. Return failures instead of raising them."""
