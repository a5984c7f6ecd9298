"""Identity: who acted, and as whom when impersonating; the one parser of Kubernetes user names.

Every test here is exact or anchored at a separator that the API server itself enforces. A substring test is how
`kubernetes-attacker@evil.example` comes to count as the system.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from detector.event import AuditEvent


class IdentityKind(StrEnum):
    """The closed set of kinds that an identity can be of."""

    USER = "user"
    SERVICE_ACCOUNT = "service_account"
    NODE = "node"
    CONTROL_PLANE = "control_plane"
    ANONYMOUS = "anonymous"
    UNAUTHENTICATED = "unauthenticated"


UNAUTHENTICATED_NAME: Final = "(unauthenticated)"
"""Stands for the missing name of a failed authentication; parentheses, so that no account can be meant."""

_ANONYMOUS: Final = "system:anonymous"
# Names that a control plane gives its own components; all are reserved by the `system:` prefix (Kubernetes docs,
# "Using RBAC authorization", Core component roles) or by the cloud that runs the control plane.
_CONTROL_PLANE: Final = frozenset(
    {
        "system:apiserver",
        "system:kube-controller-manager",
        "system:kube-scheduler",
        "system:kube-proxy",
        "system:cloud-controller-manager",
        "system:addon-manager",
        "system:konnectivity-server",
        "system:kube-aggregator",
        "system:aggregator",
        "system:volume-scheduler",
        "system:kube-dns",
        "eks:addon-manager",
        "eks:certificate-controller",
        "eks:cloud-controller-manager",
        "eks:cluster-bootstrap",
        "eks:fargate-manager",
        "eks:fargate-scheduler",
        "eks:kms-storage-migrator",
        "eks:node-manager",
        "eks:nodewatcher",
        "eks:pod-identity-mutating-webhook",
        "eks:vpc-resource-controller",
    }
)
_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
# A service account's namespace is a DNS label and its name a DNS subdomain (kubernetes/apiserver serviceaccount/util).
_SERVICE_ACCOUNT: Final = re.compile(rf"system:serviceaccount:({_DNS_LABEL}):({_DNS_LABEL}(?:\.{_DNS_LABEL})*)", re.A)
_NODE: Final = re.compile(r"system:node:(\S+)", re.A)


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity: the accountable one, whoever it impersonates."""

    kind: IdentityKind
    name: str
    """The user name as authenticated, never folded or normalised: look-alikes stay apart."""
    namespace: str = ""
    """Of a service account; empty for every other kind."""
    effective_name: str = ""
    """The impersonated identity, if any."""


def classify(username: str) -> IdentityKind:
    """Tell which kind of identity a user name is; an empty name is a failed authentication."""
    return _parse(username).kind


@lru_cache(maxsize=65_536)
def _parse(username: str, effective_name: str = "") -> Identity:
    namespace = ""
    if not username:
        kind, username = IdentityKind.UNAUTHENTICATED, UNAUTHENTICATED_NAME
    elif username == _ANONYMOUS:
        kind = IdentityKind.ANONYMOUS
    elif account := _SERVICE_ACCOUNT.fullmatch(username):
        kind, namespace = IdentityKind.SERVICE_ACCOUNT, account[1]
    elif _NODE.fullmatch(username):
        kind = IdentityKind.NODE
    elif username in _CONTROL_PLANE:
        kind = IdentityKind.CONTROL_PLANE
    else:
        kind = IdentityKind.USER
    return Identity(kind, username, namespace, effective_name)


def from_event(event: AuditEvent) -> Identity:
    """Name the accountable identity of an event: the authenticated user, with the impersonated one beside it."""
    impersonated = event.impersonated_user
    if impersonated is None:
        return _parse(event.user.username)
    return _parse(event.user.username, impersonated.username or "(groups only)")
