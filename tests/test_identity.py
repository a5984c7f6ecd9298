"""Who acted: one parser of user names, and one table of cases."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.event import AuditEvent, User
from detector.identity import UNAUTHENTICATED_NAME, Identity, IdentityKind, classify, from_event

KINDS = [
    ("", IdentityKind.UNAUTHENTICATED),
    ("system:anonymous", IdentityKind.ANONYMOUS),
    ("System:anonymous", IdentityKind.USER),
    ("system:anonymous ", IdentityKind.USER),
    ("system:unauthenticated", IdentityKind.USER),  # is a group
    (UNAUTHENTICATED_NAME, IdentityKind.USER),
    ("system:serviceaccount:shop:cart", IdentityKind.SERVICE_ACCOUNT),
    ("system:serviceaccount:kube-system:horizontal-pod-autoscaler", IdentityKind.SERVICE_ACCOUNT),
    ("system:serviceaccount:shop:cart.v2.example", IdentityKind.SERVICE_ACCOUNT),
    ("system:serviceaccount:0:1", IdentityKind.SERVICE_ACCOUNT),
    ("system:serviceaccount:a:b:c", IdentityKind.USER),
    ("system:serviceaccount::x", IdentityKind.USER),
    ("system:serviceaccount:x:", IdentityKind.USER),
    ("system:serviceaccount:x", IdentityKind.USER),
    ("system:serviceaccount:", IdentityKind.USER),
    ("system:serviceaccounts:shop", IdentityKind.USER),  # is a group
    ("system:serviceaccount:Shop:cart", IdentityKind.USER),
    ("system:serviceaccount:shop:Cart", IdentityKind.USER),
    ("system:serviceaccount:shop:cart\n", IdentityKind.USER),
    ("system:serviceaccount:shop.x:cart", IdentityKind.USER),  # a namespace has no dot
    ("system:serviceaccount:shop:-cart", IdentityKind.USER),
    ("system:serviceaccount:shop:cart..v2", IdentityKind.USER),
    ("system:serviceaccount:sh\u043ep:cart", IdentityKind.USER),  # a Cyrillic o
    ("system:serviceaccount:shop:cart\u0663", IdentityKind.USER),  # an Arabic digit
    ("system:serviceaccount:shop:\uff43art", IdentityKind.USER),  # full width
    (" system:serviceaccount:shop:cart", IdentityKind.USER),
    ("system:node:node-3", IdentityKind.NODE),
    ("system:node:ip-10-0-0-1.eu-west-1.compute.internal", IdentityKind.NODE),
    ("system:node:", IdentityKind.USER),
    ("system:node: ", IdentityKind.USER),
    ("system:node:node 3", IdentityKind.USER),
    ("system:node:node-3\n", IdentityKind.USER),
    ("system:node:Node-3", IdentityKind.USER),
    ("system:node:n\u043ede-3", IdentityKind.USER),  # a Cyrillic o
    ("system:node:\u00a0", IdentityKind.USER),
    ("system:node:a:b", IdentityKind.USER),
    ("system:nodes", IdentityKind.USER),  # is a group
    ("system:node-problem-detector", IdentityKind.USER),
    ("system:apiserver", IdentityKind.CONTROL_PLANE),
    ("system:kube-controller-manager", IdentityKind.CONTROL_PLANE),
    ("system:kube-scheduler", IdentityKind.CONTROL_PLANE),
    ("system:kube-proxy", IdentityKind.CONTROL_PLANE),
    ("system:kube-scheduler:x", IdentityKind.USER),
    ("system:kube-schedul\u0435r", IdentityKind.USER),  # a Cyrillic e
    ("system:admin", IdentityKind.USER),
    ("system:masters", IdentityKind.USER),  # is a group
    ("system:", IdentityKind.USER),
    ("eks:node-manager", IdentityKind.USER),  # reserved on EKS only
    ("eks:attacker", IdentityKind.USER),
    ("kubernetes-admin", IdentityKind.USER),
    ("kubernetes-attacker@evil.example", IdentityKind.USER),
    ("attacker system:apiserver", IdentityKind.USER),
    ("ana@example.test", IdentityKind.USER),
    ("arn:aws:sts::123456789012:assumed-role/dev/ana", IdentityKind.USER),
    ("oidc:system:serviceaccount:shop:cart", IdentityKind.USER),
]


@pytest.mark.parametrize(("username", "kind"), KINDS)
def test_a_user_name_is_of_exactly_this_kind(username: str, kind: IdentityKind) -> None:
    """No part of a name, no other case and no look-alike makes it one of the system's."""
    assert classify(username) is kind


@settings(deadline=None)
@given(st.text() | st.sampled_from([name for name, _ in KINDS]).flatmap(lambda name: st.text().map(name.__add__)))
def test_every_user_name_has_one_kind(username: str) -> None:
    """Whatever the name is, it is kept as it is."""
    identity = from_event(AuditEvent(user=User(username)))
    assert identity.kind is classify(username)
    assert identity.name == (username or UNAUTHENTICATED_NAME)
    assert bool(identity.namespace) == (identity.kind is IdentityKind.SERVICE_ACCOUNT)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("admin@example.test", "\u0430dmin@example.test"),  # a Cyrillic a
        ("zoe\u0301@example.test", "zo\u00e9@example.test"),  # two normal forms
        ("ana@example.test", "Ana@example.test"),
        ("ana@example.test", "ana@example.test\u200b"),
    ],
)
def test_look_alikes_are_different_identities(one: str, other: str) -> None:
    """Names are never folded nor normalised."""
    assert from_event(AuditEvent(user=User(one))) != from_event(AuditEvent(user=User(other)))


def test_a_service_account_tells_its_namespace() -> None:
    """Rules compare it with the namespace of the object."""
    identity = from_event(AuditEvent(user=User("system:serviceaccount:shop:cart.v2")))
    assert identity == Identity(IdentityKind.SERVICE_ACCOUNT, "system:serviceaccount:shop:cart.v2", "shop")


@pytest.mark.parametrize(
    ("impersonated", "effective_name"),
    [
        (None, ""),
        (User("system:admin"), "system:admin"),
        (User("system:serviceaccount:kube-system:x", groups=["system:masters"]), "system:serviceaccount:kube-system:x"),
        (User(groups=["system:masters"]), "(groups only)"),
        (User(), "(groups only)"),
    ],
)
def test_impersonation_leaves_the_user_accountable(impersonated: User | None, effective_name: str) -> None:
    """The impersonated identity stands beside it, also in a refused request, and never takes its place."""
    identity = from_event(AuditEvent(user=User("ana@example.test"), impersonated_user=impersonated))
    assert identity == Identity(IdentityKind.USER, "ana@example.test", "", effective_name)


def test_names_too_long_to_be_remembered_are_read_all_the_same() -> None:
    """A client chooses whom it wants to impersonate: a megabyte of name must not stay in memory."""
    long = "x" * 1_000_000
    first = from_event(AuditEvent(user=User("ana"), impersonated_user=User(long)))
    second = from_event(AuditEvent(user=User("ana"), impersonated_user=User(long)))
    assert first == second == Identity(IdentityKind.USER, "ana", "", long)
    assert first is not second


def test_names_of_real_length_are_remembered() -> None:
    """An identity is made once, not once an event."""
    acting = AuditEvent(user=User("ana@example.test"), impersonated_user=User("root"))
    assert from_event(acting) is from_event(acting)
