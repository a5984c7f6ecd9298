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
# Names that a control plane gives its own components, all reserved by the `system:` prefix (Kubernetes docs, "Using
# RBAC authorization", Core component roles). Prefixes of clouds (`eks:`) are reserved only there: elsewhere a person
# may have such a name, so those accounts are users, and what is usual for them is for exceptions to say.
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
    }
)
_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
# A service account's namespace is a DNS label, its name a DNS subdomain (kubernetes/apiserver serviceaccount/util), and
# so is a node's (kubernetes/apimachinery validation).
_DNS_SUBDOMAIN: Final = rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*"
_SERVICE_ACCOUNT: Final = re.compile(rf"system:serviceaccount:({_DNS_LABEL}):{_DNS_SUBDOMAIN}")
_NODE: Final = re.compile(rf"system:node:{_DNS_SUBDOMAIN}")
_REMEMBERED_CHARACTERS: Final = 512  # whom to impersonate is free to choose, so the memory must be bounded


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


AUDIT_STREAM: Final = Identity(IdentityKind.CONTROL_PLANE, "(audit stream)")
"""Stands for nobody where the stream of events itself is the finding: it is what the control plane writes."""


def classify(username: str) -> IdentityKind:
    """Tell which kind of identity a user name is; an empty name is a failed authentication."""
    return _identity(username).kind


def _identity(username: str, effective_name: str = "") -> Identity:
    short = len(username) + len(effective_name) <= _REMEMBERED_CHARACTERS
    return _remembered(username, effective_name) if short else _parse(username, effective_name)


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


_remembered: Final = lru_cache(maxsize=65_536)(_parse)


def from_event(event: AuditEvent) -> Identity:
    """Name the accountable identity of an event: the authenticated user, with the impersonated one beside it."""
    impersonated = event.impersonated_user
    if impersonated is None:
        return _identity(event.user.username)
    return _identity(event.user.username, impersonated.username or "(groups only)")
