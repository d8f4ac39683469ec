"""Requests to URLs that users have chosen, which must lead to public addresses only.

**Law:** without `allow_private`, connections are opened to public addresses only, whatever a URL or a name server says:
each socket is created for an address that was checked immediately before (`public_socket`), however it was resolved.
"""

import re
import socket
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import AsyncResolver
from yarl import URL

import server

IPAddress = IPv4Address | IPv6Address
URL_LENGTH = 2_000
KEEPALIVE_S = 15.0
NUMERIC = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$")
"""A host that ends like an IPv4 address: 127.1, 0x7f.1, 2130706433."""
NAT64 = ip_network("64:ff9b::/96")
GLOBAL_UNICAST = ip_network("2000::/3")
SPECIAL = tuple(
    ip_network(network)
    for network in (
        # IANA's special-purpose registries; not `is_global`, which changes with Python's patch releases.
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
        # Not in those registries: internal services of a large cloud, reachable from its hosts.
        "168.63.129.16/32",
    )
)  # fmt: skip


class NotPublic(OSError):
    """An address that is not reachable from the whole Internet."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} leads to an address that is not public")


def is_public(address: IPAddress) -> bool:
    """Return whether the whole Internet can reach an address, and no tunnel leads from it to one that is not public."""
    if isinstance(address, IPv6Address):
        if address in NAT64:
            return is_public(IPv4Address(address.packed[-4:]))
        # This excludes ::ffff:0:0/96 and all other spellings of IPv4 addresses.
        if address not in GLOBAL_UNICAST:
            return False
    return not any(address.version == network.version and address in network for network in SPECIAL)


def parse_url(text: str, *, allow_http: bool) -> URL:
    """Return a URL to send to. Raise ValueError, whose message says what it must be."""
    try:
        url = URL(text)
        host, port = url.host, url.port
    except ValueError as error:
        raise ValueError("must be a URL, such as https://example.org/hooks") from error
    schemes = ("https", "http") if allow_http else ("https",)
    if url.scheme not in schemes or not host or not text.isprintable() or " " in text:
        raise ValueError(f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if len(str(url)) > URL_LENGTH:
        raise ValueError(f"must have at most {URL_LENGTH} characters")
    if url.user is not None or url.password is not None or url.fragment:
        raise ValueError("must not contain a user, a password or a fragment")
    if not port:
        raise ValueError("must not have port 0")
    if NUMERIC.search(host.lower()) and address_literal(host) is None:
        raise ValueError("must not have a host that some programs read as an address and others as a name")
    return url


def address_literal(host: str) -> IPAddress | None:
    """Return the address that a host is in its usual form; None for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses a name if any of its addresses is not public.

    It uses no threads, which a name server that does not answer could block."""

    def __init__(self, nameservers: Sequence[str], timeout_s: float, *, allow_private: bool) -> None:
        given: dict[str, Any] = {"nameservers": list(nameservers)} if nameservers else {}
        self._inner = AsyncResolver(timeout=timeout_s, tries=1, **given)
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a host. Raise NotPublic; OSError if it cannot be resolved."""
        results = await self._inner.resolve(host, port, family)
        if not self._allow_private and not all(is_public(ip_address(result["host"])) for result in results):
            raise NotPublic(host)
        return results

    async def close(self) -> None:
        """Close the sockets to name servers."""
        await self._inner.close()


def public_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket for one address (family, type, protocol, name, (host, port, …)). Raise NotPublic."""
    family, kind, protocol, _, (host, *_) = address
    # Only link-local addresses have a scope, as in fe80::1%eth0.
    if not is_public(ip_address(host.partition("%")[0])):
        raise NotPublic(host)
    return socket.socket(family, kind, protocol)


class PublicHttpClient:
    """The HTTP client for users' URLs: without redirects, cookies, proxies and decompression."""

    def __init__(
        self, *, nameservers: Sequence[str], dns_timeout_s: float, allow_private: bool, allow_http: bool
    ) -> None:
        self._allow_http = allow_http
        self._allow_private = allow_private
        self._resolver = PublicResolver(nameservers, dns_timeout_s, allow_private=allow_private)
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            # The dispatcher bounds connections, in total and for each endpoint.
            limit=0,
            keepalive_timeout=KEEPALIVE_S,
            socket_factory=None if allow_private else public_socket,
        )
        self._http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": f"Homeroom/{server.VERSION}"},
            raise_for_status=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()
        await self._resolver.close()

    async def check(self, text: str) -> str:
        """Return a URL in normal form. Raise ValueError, whose message says what is wrong, if it must not be called."""
        url = parse_url(text, allow_http=self._allow_http)
        host = url.raw_host or ""
        address = address_literal(host)
        try:
            if address is None:
                await self._resolver.resolve(host, url.port or 0)
            elif not self._allow_private and not is_public(address):
                raise NotPublic(host)
        except NotPublic as error:
            raise ValueError(f"must be publicly reachable: {error}") from error
        except OSError as error:
            raise ValueError(f"must have a host that can be resolved; {host} cannot") from error
        return str(url)

    def post(
        self, url: str, body: bytes, headers: dict[str, str], *, timeout_s: float
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Return the context manager of a POST request and its response.

        Raise ValueError if the URL must not be called; on entering aiohttp.ClientError, NotPublic, TimeoutError."""
        checked = parse_url(url, allow_http=self._allow_http)
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        return self._http.post(checked, data=body, headers=headers, timeout=timeout, allow_redirects=False)
