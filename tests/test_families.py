"""What changes by itself is removed, and nothing else."""

import pytest

from detector.families import client_program, image_registry, source_network, stable_name


@pytest.mark.parametrize(
    ("image", "registry"),
    [
        ("nginx", "docker.io"),
        ("library/nginx:1", "docker.io"),
        ("ghcr.io/team/app:1", "ghcr.io"),
        ("GHCR.io/team/app@sha256:00", "ghcr.io"),
        ("localhost/app", "localhost"),
        ("registry:5000/app", "registry:5000"),
        ("nginx:1.27", "docker.io"),
        ("", "docker.io"),
    ],
)
def test_an_image_names_its_registry_as_a_runtime_reads_it(image: str, registry: str) -> None:
    """A first part without a dot, a colon or the name localhost is a path on the default host."""
    assert image_registry(image) == registry


@pytest.mark.parametrize(
    ("user_agent", "program"),
    [
        ("kubectl/v1.35.1 (linux/amd64) kubernetes/0000000", "kubectl"),
        ("Mozilla/5.0 (X11)", "mozilla"),
        ("curl", "curl"),
        ("", "-"),
    ],
)
def test_a_client_is_its_program(user_agent: str, program: str) -> None:
    """An upgrade is no other client."""
    assert client_program(user_agent) == program


@pytest.mark.parametrize(
    ("address", "network"),
    [("203.0.113.25", "203.0.113.0/24"), ("2001:db8:1:2::3", "2001:db8:1::/48"), ("", "-")],
)
def test_an_address_belongs_to_its_network(address: str, network: str) -> None:
    """A /24 of IPv4, a /48 of IPv6."""
    assert source_network(address) == network


@pytest.mark.parametrize(
    ("name", "stable"),
    [("cart-7c9d6f5b8-x2x4z", "cart-*"), ("cart.17a2b3c4d5e6f708", "cart"), ("job-2026", "job-#"), ("db", "db")],
)
def test_a_name_keeps_what_its_next_copy_shares(name: str, stable: str) -> None:
    """Suffixes of pods, ReplicaSets and Events, and numbers."""
    assert stable_name(name) == stable
