"""Levels: of which requests a rule needs the body, and so how much the audit policy must log of them.

The rule's condition is specialised to each kind of write on each built-in resource; where a test of a body is left,
that body is needed. Custom resources are left out: no list knows them.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from detector.audit_policy import SECRET_BODIES, Attributes, AuditLevel, Policy
from detector.sigma.compile import Known, Node, fields_of
from detector.sigma.fields import Field
from detector.sigma.load import CompiledRule


class Need(NamedTuple):
    """A kind of request, and how much of it a rule must see."""

    api_group: str
    resource: str
    subresource: str
    verb: str
    level: AuditLevel

    @property
    def target(self) -> str:
        """The resource as kubectl spells it: `daemonsets.apps`, `pods/ephemeralcontainers`."""
        whole = f"{self.resource}.{self.api_group}" if self.api_group else self.resource
        return f"{whole}/{self.subresource}" if self.subresource else whole


_VERBS: Final = ("create", "update", "patch")
_CREATED_ONLY: Final = frozenset({"token", "eviction", "binding"})
_CLUSTER_WIDE: Final = frozenset(
    {
        "apiservices",
        "certificatesigningrequests",
        "clusterrolebindings",
        "clusterroles",
        "customresourcedefinitions",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "namespaces",
        "nodes",
        "persistentvolumes",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    }
)
_RESPONSE_ROOT: Final = "responseObject"
RESOURCES: Final[dict[str, tuple[str, ...]]] = {
    "": (
        "configmaps",
        "endpoints",
        "events",
        "limitranges",
        "namespaces",
        "nodes",
        "nodes/status",
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "pods/binding",
        "pods/ephemeralcontainers",
        "pods/eviction",
        "pods/status",
        "podtemplates",
        "replicationcontrollers",
        "replicationcontrollers/scale",
        "resourcequotas",
        "secrets",
        "serviceaccounts",
        "serviceaccounts/token",
        "services",
        "services/status",
    ),
    "admissionregistration.k8s.io": (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    ),
    "apiextensions.k8s.io": ("customresourcedefinitions",),
    "apiregistration.k8s.io": ("apiservices",),
    "apps": (
        "controllerrevisions",
        "daemonsets",
        "deployments",
        "deployments/scale",
        "replicasets",
        "replicasets/scale",
        "statefulsets",
        "statefulsets/scale",
    ),
    "authorization.k8s.io": ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "subjectaccessreviews"),
    "batch": ("cronjobs", "jobs"),
    "certificates.k8s.io": (
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
    ),
    "discovery.k8s.io": ("endpointslices",),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
    "policy": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io": ("clusterrolebindings", "clusterroles", "rolebindings", "roles"),
}
"""Built-in resources and subresources that are written, by API group."""


def needs(rule: CompiledRule) -> tuple[Need, ...]:
    """Every kind of write whose body the rule looks into."""
    return _needs(rule.node)


def lacking(rule: CompiledRule, policy: Policy) -> tuple[Need, ...]:
    """What the rule needs and a policy does not grant to an ordinary person, secrets' bodies aside."""
    return tuple(
        need
        for need in needs(rule)
        if (need.api_group, need.resource) not in SECRET_BODIES and policy.decide(_request(need)).level < need.level
    )


def _request(need: Need) -> Attributes:
    return Attributes(
        need.verb,
        "(somebody)",
        api_group=need.api_group,
        resource=need.resource,
        subresource=need.subresource,
        name="" if need.verb == "create" and not need.subresource else "(any)",
        namespace="" if need.resource in _CLUSTER_WIDE else "(any)",
    )


@lru_cache(maxsize=1024)  # rules of one detection share its tree, and nearly a hundred kinds of write are put to it
def _needs(node: Node) -> tuple[Need, ...]:
    return tuple(_find_needs(node))


def _find_needs(node: Node) -> Iterator[Need]:
    for api_group, resources in RESOURCES.items():
        for text in resources:
            resource, _, subresource = text.partition("/")
            for verb in ("create",) if subresource in _CREATED_ONLY else _VERBS:
                left = node.specialise(_known(api_group, resource, subresource, verb))
                level = AuditLevel.METADATA if isinstance(left, bool) else _level(left)
                if level > AuditLevel.METADATA:
                    yield Need(api_group, resource, subresource, verb, level)


def _known(api_group: str, resource: str, subresource: str, verb: str) -> Known:
    return {
        "verb": (verb,),
        "objectRef.apiGroup": (api_group,) if api_group else (),
        "objectRef.resource": (resource,),
        "objectRef.subresource": (subresource,) if subresource else (),
    }


def _level(node: Node) -> AuditLevel:
    """The level that the bodies in a condition need."""
    levels = [_level_of(field) for field in fields_of(node)]
    return max(levels, default=AuditLevel.METADATA)


def _level_of(field: Field) -> AuditLevel:
    if not field.in_body and not field.path.startswith("detector.csr."):
        return AuditLevel.METADATA
    return AuditLevel.REQUEST_RESPONSE if field.root == _RESPONSE_ROOT else AuditLevel.REQUEST
