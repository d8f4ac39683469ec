"""Nothing is sent to where only machines near the server could send it: by no URL, name or trick."""

import ipaddress
import socket
from pathlib import Path
from typing import Any

import pytest

from server.outbound.public_http import NotPublic, is_public, parse_url, public_socket
from tests.support.client import Person
from tests.support.receiver import naming, receiving
from tests.support.webhook_calls import Hook, Hooked, hooked

PRIVATE = [
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "100.100.100.200", "100.127.255.255", "192.0.0.192", "192.0.2.1", "198.18.0.1",
    "198.51.100.7", "203.0.113.7", "192.88.99.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "168.63.129.16",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::ffff:0:127.0.0.1",
    "fe80::1", "fe80::1%1", "febf::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2001::1",
    "2001:10::1",    "2002:7f00:1::", "2002:808:808::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1",
    "3fff::1", "5f00::1",
]  # fmt: skip
PUBLIC = ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.167.0.1", "11.0.0.1",
    "2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "64:ff9b::808:808"]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_and_reserved_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with pytest.raises(NotPublic):
        public_socket((family, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", PUBLIC)
def test_internet_addresses_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "example.org", "//example.org/x", "http://example.org", "ftp://example.org", "file:///etc/passwd",
        "https://", "https:///x", "https://user@example.org", "https://user:secret@example.org", "https://example.org/#x",
        "https://example.org:0/", "https://example.org:99999/", "https://exa mple.org", "https://example.org/a b",
        "https://example.org/\n", "https://[::1", "https://example.org/" + "x" * 2_000, "javascript:alert(1)",
    ],
)  # fmt: skip
def test_unsuitable_webhook_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"^must "):
        parse_url(url, allow_http=False)


@pytest.mark.parametrize(
    "url",
    ["https://example.org", "https://example.org:8443/x?y=%20z", "https://münchen.example.org/x", "https://8.8.8.8/x"],
)
def test_suitable_webhook_urls_are_accepted(url: str) -> None:
    assert parse_url(url, allow_http=False).scheme == "https"
    assert parse_url(url.replace("https", "http"), allow_http=True).scheme == "http"


ASTRAY = [
    "https://127.0.0.1/x", "https://2130706433/", "https://0x7f.1/", "https://127.1/", "https://0177.0.0.1/",
    "https://[::1]/", "https://[::ffff:7f00:1]/", "https://[fe80::1%25eth0]/", "https://10.1.2.3:8443/", "https://localhost/",
    "https://localhost.:443/", "https://LOCALHOST/", "https://inside.example.org/", "https://mixed.example.org/",
    "https://nowhere.example.org/", "https://169.254.169.254/latest/meta-data/", "http://outside.example.org/",
    "https://\uff11\uff12\uff17.0.0.1/", "https://\u2460\u2461\u2466.0.0.1/", "https://127\u30020\u30020\u30021/",
    "https://127.0.0.1.:443/",
]  # fmt: skip
NAMES = {
    "inside.example.org": ["10.0.0.1"],
    "outside.example.org": ["8.8.8.8"],
    "mixed.example.org": ["8.8.8.8 10.0.0.1"],
}


async def test_a_webhook_url_must_lead_to_a_public_address(dsn: str, data: Path) -> None:
    async with naming(NAMES) as (nameserver, _), hooked(dsn, data, webhooks=strict(nameserver)) as here:
        teacher = await here.town.teacher()
        made = (await teacher.post("/v1/webhooks", {"url": "https://outside.example.org/x"})).ok(201)
        for url in ASTRAY:
            (await teacher.post("/v1/webhooks", {"url": url})).refused(422, "invalid", "url")
            (await teacher.patch(f"/v1/webhooks/{made['id']}", {"url": url})).refused(422, "invalid", "url")
        (shown,) = (await teacher.get("/v1/webhooks")).ok()["items"]
        assert shown["url"] == "https://outside.example.org/x"


def strict(nameserver: str) -> dict[str, Any]:
    return {"allow_private": False, "allow_http": False, "nameservers": (nameserver,)}


async def test_a_host_is_resolved_again_before_each_attempt_and_private_addresses_get_nothing(
    dsn: str, data: Path
) -> None:
    names = {"rebinding.example.org": ["8.8.8.8", "127.0.0.1"]}
    async with receiving() as receiver, naming(names) as (nameserver, dns):
        settings = strict(nameserver) | {"allow_http": True}
        async with hooked(dsn, data, receiver, webhooks=settings) as here:
            teacher = await here.town.teacher()
            port = receiver.url.rpartition(":")[2]
            url = f"http://rebinding.example.org:{port}/x"
            hook = Hook(teacher, receiver, "x", (await teacher.post("/v1/webhooks", {"url": url})).ok(201))
            assert dns.asked == ["rebinding.example.org"]
            said = (await teacher.post(f"{hook.url}/test")).ok()
            assert said["error"] == "its host leads to an address that is not public"
            await teacher.create()
            while not (tried := (await hook.settled("pending"))[0]["history"]):
                pass
            assert tried[0]["error"] == "its host leads to an address that is not public"
            assert len(dns.asked) >= 3
            assert receiver.got == []


def again(here: Hooked, person: Person) -> Person:
    """The same person with the same token, at the next run of the server."""
    return Person(
        here.town.http, here.town.url, {"access_token": person.token, "refresh_token": "", "user": person.user}, "T"
    )


async def test_a_webhook_that_the_settings_no_longer_allow_is_not_sent(dsn: str, data: Path) -> None:
    """An address in the URL itself needs no resolver."""
    async with receiving() as receiver:
        async with hooked(dsn, data, receiver) as here:
            teacher = await here.town.teacher()
            hook = await here.hook(teacher, "x")
            assert (await teacher.post(f"{hook.url}/test")).ok()["delivered"]
        async with hooked(dsn, data, receiver, webhooks={"allow_private": False}) as here:
            teacher = again(here, teacher)
            said = (await teacher.post(f"{hook.url}/test")).ok()
            assert said["error"] == "its host leads to an address that is not public"
        async with hooked(dsn, data, receiver, webhooks={"allow_http": False}) as here:
            teacher = again(here, teacher)
            said = (await teacher.post(f"{hook.url}/test")).ok()
            assert said["error"] == "its URL must be a URL that begins with https://"
        assert len(receiver.got) == 1


async def test_a_silent_name_server_is_given_up_after_the_timeout(dsn: str, data: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        settings = {"nameservers": (f"127.0.0.1:{silent.getsockname()[1]}",), "dns_timeout_s": 0.1}
        async with hooked(dsn, data, webhooks=settings) as here:
            teacher = await here.town.teacher()
            refusal = await teacher.post("/v1/webhooks", {"url": "https://example.org/x"})
            refusal.refused(422, "invalid", "url")
