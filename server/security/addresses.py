"""Clients' addresses, as limits count them.

**Law:** an address that a client can change at will counts no more than one: all of an IPv6 /64 belong to one client.
"""

from ipaddress import IPv6Address, ip_address, ip_network

LONGEST = 64
"""No address is longer, with brackets, zone and port."""


def limit_key(address: str) -> str:
    """Return what limits count for an address: itself, or its /64 for IPv6. Other texts stay as they are."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, 64), strict=False))


def forwarded_address(text: str) -> str | None:
    """Return the address that a proxy names in `X-Forwarded-For`, without brackets and port; None: it is none."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ip_address(text.partition("%")[0]))
    except ValueError:
        return None
