"""Addresses: which of an event's `sourceIPs` can be believed; the rest is what the client claims."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network
# Claimed addresses are free to choose, and a header holds some 100,000 of them: the memory must be bounded.
_REMEMBERED = 100_000  # address lists kept; some 200 bytes each
_REMEMBERED_CHARACTERS = 200  # of one list; real ones have a few hops


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a request came from. Values that are no IP address (`gce-internal-ip`) leave both fields empty."""

    source_ip: str = ""
    """The trusted hop: the peer of the API server, or of the outermost trusted proxy before it."""
    client_ip: str = ""
    """The first entry, which the client itself may have written."""


class Locator:
    """Finds the trusted hop of a request, given which proxies may be believed."""

    def __init__(self, trusted_proxies: Sequence[Network]) -> None:
        self._proxies = tuple(trusted_proxies)
        self._known: dict[tuple[str, ...], Addresses] = {}

    def locate(self, source_ips: list[str]) -> Addresses:
        """Walk from the API server's peer outwards for as long as the hop is a trusted proxy."""
        key = tuple(source_ips)
        addresses = self._known.get(key)
        if addresses is None:
            addresses = self._find(source_ips)
            if len(",".join(source_ips)) <= _REMEMBERED_CHARACTERS:
                if len(self._known) >= _REMEMBERED:
                    self._known.clear()
                self._known[key] = addresses
        return addresses

    def _find(self, source_ips: list[str]) -> Addresses:
        if not source_ips:
            return Addresses()
        hop = len(source_ips) - 1
        while hop > 0 and self._is_proxy(source_ips[hop]):
            hop -= 1
        return Addresses(_clean(source_ips[hop]), _clean(source_ips[0]))

    def _is_proxy(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        return any(address in network for network in self._proxies)


def _clean(text: str) -> str:
    try:
        return str(ip_address(text)).partition("%")[0]  # a zone may hold any text, and means nothing to others
    except ValueError:
        return ""
