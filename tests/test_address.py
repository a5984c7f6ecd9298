"""Which address of a request is believed."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector import address
from detector.address import Addresses, Locator

PROXIES = [ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("source_ips", "source", "client"),
    [
        ([], "", ""),
        (["203.0.113.9"], "203.0.113.9", "203.0.113.9"),
        (["203.0.113.9", "127.0.0.1"], "203.0.113.9", "203.0.113.9"),
        (["203.0.113.9", "10.1.2.3", "127.0.0.1"], "203.0.113.9", "203.0.113.9"),
        (["198.51.100.1", "203.0.113.9", "127.0.0.1"], "203.0.113.9", "198.51.100.1"),
        (["10.0.0.1", "203.0.113.9", "127.0.0.1"], "203.0.113.9", "10.0.0.1"),  # claims to be a proxy
        (["198.51.100.1", "203.0.113.9"], "203.0.113.9", "198.51.100.1"),  # came past the proxies
        (["127.0.0.1"], "127.0.0.1", "127.0.0.1"),  # a component on the node itself
        (["10.0.0.1", "127.0.0.1"], "10.0.0.1", "10.0.0.1"),
        (["2001:db8::1", "fd00::7"], "2001:db8::1", "2001:db8::1"),
        (["2001:DB8:0:0::1"], "2001:db8::1", "2001:db8::1"),
        (["fe80::1%eth0"], "fe80::1", "fe80::1"),
        (['fe80::1%"><script>', "10.0.0.1"], "fe80::1", "fe80::1"),
        (["gce-internal-ip"], "", ""),
        (["203.0.113.9", "gce-internal-ip"], "", "203.0.113.9"),
        (["private", "203.0.113.9", "10.0.0.1"], "203.0.113.9", ""),
        (["", " 203.0.113.9", "010.0.0.1", "203.0.113.9:443"], "", ""),
    ],
)
def test_the_trusted_hop_is_found_from_the_right(source_ips: list[str], source: str, client: str) -> None:
    """The walk leads outwards through trusted proxies; what is no IP address is left empty."""
    assert Locator(PROXIES).locate(source_ips) == Addresses(source, client)


def test_without_trusted_proxies_the_peer_counts() -> None:
    """The last entry is the only one that the API server itself has seen."""
    assert Locator(()).locate(["203.0.113.9", "127.0.0.1"]).source_ip == "127.0.0.1"


IPS = st.ip_addresses().map(str)


@settings(deadline=None)
@given(spoofed=st.lists(IPS | st.text()), peer=st.ip_addresses(v=4).filter(lambda ip: ip not in PROXIES[0]))
def test_what_a_client_claims_never_becomes_the_source(spoofed: list[str], peer: object) -> None:
    """However much it puts before its own address, the proxy has added that one."""
    seen = [*spoofed, str(peer), "10.0.0.1", "10.0.0.2"]
    assert peer == ip_address(Locator(PROXIES[:1]).locate(seen).source_ip)


def test_memory_for_claimed_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many lists nor a long one stay: a header of a megabyte holds 100,000 addresses."""
    monkeypatch.setattr(address, "_REMEMBERED", 10)
    locator = Locator(PROXIES)
    for number in range(100):
        assert locator.locate([f"203.0.113.{number}", "10.0.0.1"]).source_ip == f"203.0.113.{number}"
    locator.locate(["203.0.113.9"] * 10_000)
    known = locator._known
    assert len(known) <= 10
    assert sum(len(part) for key in known for part in key) < 10 * 300
