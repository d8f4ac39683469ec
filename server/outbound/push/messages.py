"""What is pushed, what may come of it, and what a provider is that does it."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct


class Message(Struct, frozen=True, kw_only=True):
    """A notification to see, and `data` for the app. Of several with one `tag` (64 bytes at most) a device shows the
    last, so that one which comes twice is seen once. After `ttl_s` it is of no use any more."""

    title: str
    body: str
    data: Mapping[str, str]
    tag: str
    ttl_s: int


class Sent(Struct, frozen=True):
    """The provider has taken it."""


class Gone(Struct, frozen=True):
    """The token leads to no device, and never will again."""


class Refused(Struct, frozen=True):
    """This message gets to this device neither now nor later; the device may be in order."""

    why: str
    status: int | None = None


class Later(Struct, frozen=True):
    """Not now, or nobody knows; `retry_after_s` is what the provider asks for."""

    why: str
    status: int | None = None
    retry_after_s: float | None = None


Reception = Sent | Gone | Refused | Later


class Push(Protocol):
    """A provider."""

    @property
    def reaches(self) -> bool:
        """Whether it brings anything to anybody."""

    async def send(self, token: str, message: Message) -> Reception:
        """Bring a message to one device, in one attempt. Whatever goes wrong is an answer, not an error."""
