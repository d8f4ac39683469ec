"""The types of settings, with their bounds, and descriptions where a pattern would not explain itself to people."""

import base64
from ipaddress import ip_network
from typing import Annotated, Literal

from msgspec import Meta

DAY_S = 86_400
GIB = 1 << 30


class Secret:
    """A text that is never printed: only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text."""
        return self._value

    def lines(self) -> list[str]:
        """Return the lines of the text, without empty ones."""
        return [line.strip() for line in self._value.splitlines() if line.strip()]

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "Secret(hidden)" if self else "Secret()"


def within(least: float, most: float) -> Meta:
    """Return the constraint of a number, both bounds included."""
    return Meta(ge=least, le=most)


def at_least_32_bytes(key: Secret) -> None:
    """Raise ValueError for a key that is set and too short."""
    if key and len(key.reveal().encode()) < 32:
        raise ValueError(key)


def lines_of_32_bytes(keys: Secret) -> None:
    """Raise ValueError if a line is too short for a key."""
    if any(len(key.encode()) < 32 for key in keys.lines()):
        raise ValueError(keys)


def base64_of_something(secret: Secret) -> None:
    """Raise ValueError if the secret is not base64."""
    base64.b64decode(secret.reveal(), validate=True)


# The bounds catch mistakes (kilobytes for bytes, milliseconds for seconds), and still let a load test raise any limit.
Count = Annotated[int, within(1, 1_000_000)]
Bytes = Annotated[int, within(1_024, GIB)]
Size = Annotated[int, within(1_024, 1 << 50)]
Lifetime = Annotated[int, within(1, 3_660 * DAY_S)]
Wait = Annotated[float, within(0.01, DAY_S)]
WaitOrNone = Annotated[float, within(0, DAY_S)]
File = Annotated[str, Meta(description="the path of a file, or empty")]
Origin = Annotated[
    str,
    Meta(pattern=r"^(\*|https?://[^/\s]+)$", description='an origin such as "https://app.example.org", or "*"'),
]
Network = Annotated[
    str,
    Meta(description='an address or a network such as "10.0.0.0/8"', extra={"check": ip_network}),
]
Prefix = Annotated[
    str,
    Meta(
        # Browsers remove "." and ".." from a path before they send it.
        pattern=r"^(/(?!\.\.?(/|\Z))[A-Za-z0-9._~-]+)*\Z",
        max_length=128,
        description='empty, or a path without a slash at its end such as "/tutoring"',
    ),
]
Issued = Annotated[str, Meta(max_length=512, description="a text of at most 512 characters")]
Claim = Annotated[str, Meta(max_length=256, description='the name of a claim such as "sub" or "profile.id", or empty')]
Algorithm = Literal["HS256", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
# Plain HTTP can be read and changed on the way, unless it stays on this machine.
SAFE_URL = r"(https://[^\s/?#@]+[^\s#]*|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/[^\s#]*)?)"
SafeUrl = Annotated[
    str,
    Meta(pattern=rf"^{SAFE_URL}\Z", max_length=2_048, description="an https:// URL, or an http:// one of this machine"),
]
KeysUrl = Annotated[
    str,
    Meta(
        pattern=rf"^{SAFE_URL}?\Z",
        max_length=2_048,
        description="an https:// URL, an http:// one of this machine, or empty",
    ),
]
Nameserver = Annotated[
    str,
    Meta(
        pattern=r"^([0-9.]+(:[0-9]{1,5})?|\[[0-9a-fA-F:]+\](:[0-9]{1,5})?)$",
        description='an address such as "192.0.2.1", "192.0.2.1:5353" or "[2001:db8::1]"',
    ),
]
