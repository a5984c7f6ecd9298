"""Families: what a name, a client or an address belongs to once the part that changes by itself is removed.

Rules and habits compare families: a new version of kubectl, the next pod of a deployment and another address of the
same office are nothing new.
"""

import re
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Final

_HASHED: Final = re.compile(
    r"(?:-[0-9a-f]{6,10})?-[bcdfghjklmnpqrstvwxz2456789]{5}$"
)  # the suffixes of ReplicaSets and pods
_EVENT: Final = re.compile(r"\.[0-9a-f]{12,20}$")  # the suffix of an Event, a time in hexadecimal digits
_DIGITS: Final = re.compile(r"\d+")
_DEFAULT_REGISTRY: Final = "docker.io"  # what a runtime asks for an image that names no registry


@lru_cache(maxsize=65_536)
def stable_name(name: str) -> str:
    """The part of an object's name that its next copy shares: `cart-*` of `cart-7c9d6f5b8-x2x4z`."""
    return _DIGITS.sub("#", _HASHED.sub("-*", _EVENT.sub("", name[:253])))


@lru_cache(maxsize=4096)
def client_program(user_agent: str) -> str:
    """The program of a user agent, without its version; `-` if it tells none."""
    return re.split(r"[/ ]", user_agent, maxsplit=1)[0].lower()[:64] or "-"


@lru_cache(maxsize=65_536)
def source_network(address: str) -> str:
    """The /24 or /48 of an IP address; `-` if there is none."""
    if not address:
        return "-"
    length = 24 if ip_address(address).version == 4 else 48
    return str(ip_network((address, length), strict=False))


def image_registry(image: str) -> str:
    """The host that an image is pulled from: `ghcr.io` of `ghcr.io/team/app:1`.

    Source: distribution/reference, a first part without a dot, a colon or `localhost` is a path on the default host.
    """
    host, slash, _ = image.partition("/")
    return host.lower() if slash and ("." in host or ":" in host or host == "localhost") else _DEFAULT_REGISTRY
