"""Fields that no event has, worked out of those that it has."""

from typing import Any

import pytest

from detector.sigma.cases import activity_of
from detector.sigma.fields import HIDDEN, resolve


def _read(name: str, **difference: Any) -> Any:
    field = resolve(name)
    assert field is not None
    return field.read(activity_of(difference))


_BINDING = {"verb": "create", "objectRef": {"resource": "rolebindings", "apiGroup": "rbac.authorization.k8s.io"}}


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ({"kind": "User", "name": "bob@example.test"}, ("bob@example.test",)),
        ({"kind": "Group", "name": "system:authenticated"}, ("system:authenticated",)),
        ({"kind": "ServiceAccount", "name": "a", "namespace": "shop"}, ("system:serviceaccount:shop:a",)),
        ({"kind": "ServiceAccount", "name": "a"}, ()),
        ({"kind": "User", "name": 5}, ()),
        ("bob", ()),
    ],
)
def test_the_subjects_of_a_binding_have_the_names_that_they_act_under(subject: Any, names: tuple[str, ...]) -> None:
    """So that a grant can be joined with its use."""
    assert _read("detector.binding.subjects", **_BINDING, requestObject={"subjects": [subject]}) == names


def test_hidden_subjects_and_images_are_hidden() -> None:
    """A body that was not logged may hold anything."""
    assert _read("detector.binding.subjects", **_BINDING, level="Metadata") is HIDDEN
    assert _read("detector.image.registry", verb="create", level="Metadata") is HIDDEN


def test_each_registry_of_a_workload_is_told_once() -> None:
    """Of all kinds of containers, in the template of any workload."""
    spec = {
        "containers": [{"image": "nginx:1"}, {"image": "redis:1"}, {"image": 5}],
        "initContainers": [{"image": "ghcr.io/a/b:1"}],
    }
    body = {"spec": {"template": {"spec": spec}}}

    assert _read("detector.image.registry", verb="create", requestObject=body) == ("docker.io", "ghcr.io")


@pytest.mark.parametrize(
    ("ref", "account"),
    [
        ({"resource": "serviceaccounts", "namespace": "shop", "name": "a"}, ("system:serviceaccount:shop:a",)),
        (
            {"resource": "serviceaccounts", "subresource": "token", "namespace": "shop", "name": "a"},
            ("system:serviceaccount:shop:a",),
        ),
        ({"resource": "serviceaccounts", "namespace": "shop"}, ()),
        ({"resource": "secrets", "namespace": "shop", "name": "a"}, ()),
    ],
)
def test_a_service_account_that_is_asked_for_has_its_user_name(ref: dict[str, str], account: tuple[str, ...]) -> None:
    """Also where its token is."""
    assert _read("detector.object.account", objectRef=ref) == account


def test_networks_and_programs_are_those_of_the_trusted_address_and_the_user_agent() -> None:
    """What is unknown has no value."""
    assert _read("detector.source.network", sourceIPs=["192.0.2.1", "10.42.3.17"]) == ("10.42.3.0/24",)
    assert _read("detector.client.program", userAgent="curl/8.9.1") == ("curl",)
    assert _read("detector.source.network", sourceIPs=["unknown"]) == ()
    assert _read("detector.client.program", userAgent=None) == ()
    assert _read("detector.object.family", objectRef={"name": "cart-7c9d6f5b8-x2x4z"}) == ("cart-*",)
