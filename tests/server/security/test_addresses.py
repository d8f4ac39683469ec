"""Limits count an IPv6 client by its /64, within which it may choose any address."""

import pytest

from server.security.addresses import forwarded_address, limit_key


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_client_counts_by_its_network(address: str, key: str) -> None:
    assert limit_key(address) == key


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("unknown", None),
        ("1.2.3.4.5", None),
        ("x" * 10_000, None),
    ],
)
def test_a_proxy_names_an_address_or_nothing(text: str, address: str | None) -> None:
    assert forwarded_address(text) == address
