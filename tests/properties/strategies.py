"""Events and rules over one small vocabulary, so that a rule drawn at random often matches an event drawn at random."""

from collections.abc import Callable
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.sigma.build import Document, Event, document, rule_id

_USERS: Final = [
    "ana@example.test",
    "Ana@example.test",
    "system:serviceaccount:shop:cart",
    "system:serviceaccount:kube-system:job-controller",
    "system:node:a",
    "system:anonymous",
    "system:kube-scheduler",
    "",
]
_GROUPS: Final = ["developers", "system:masters", "system:authenticated", ""]
_URIS: Final = [
    "/api/v1/namespaces/shop/pods",
    "/api/v1/namespaces/shop/pods/web/exec?command=sh&command=-c&command=id",
    "/api/v1/namespaces/shop/pods/web/exec?stdin=true",
    "/healthz",
]
_IMAGES: Final = ["nginx:1", "NGINX:1", "registry.example.test/a?b*c", "first\nsecond"]
_ODD: Final[list[Any]] = [
    None,
    True,
    False,
    0,
    1,
    -1.5,
    403,
    "",
    "1",
    "true",
    "a",
    "A",
    "a*b",
    "shop",
    "run -a /b",
    {},
    [],
]
_KEYS: Final = ["a", "b", "c", "a.b", "b.c", "spec", "template", "containers", "image", "kind", "volumes"]


def _maps(required: dict[str, SearchStrategy[Any]], optional: dict[str, SearchStrategy[Any]]) -> SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional)


_odd_bodies = st.recursive(
    st.sampled_from(_ODD),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=8,
)
_booleans = st.sampled_from([True, False, "true", None, 1])
_containers = st.lists(
    _maps(
        {},
        {
            "image": st.sampled_from(_IMAGES),
            "securityContext": _maps(
                {},
                {
                    "privileged": _booleans,
                    "capabilities": _maps({}, {"add": st.lists(st.sampled_from(["NET_RAW", "SYS_ADMIN"]), max_size=2)}),
                },
            ),
        },
    ),
    max_size=3,
)
_volumes = st.lists(_maps({}, {"hostPath": _maps({}, {"path": st.sampled_from(["/etc", "/var/run"])})}), max_size=2)
_pod_specs = _maps(
    {},
    {"hostPID": _booleans, "containers": _containers, "initContainers": _containers, "volumes": _volumes},
)
_workloads = st.one_of(
    _pod_specs.map(lambda spec: {"kind": "Pod", "spec": spec}),
    _pod_specs.map(lambda spec: {"kind": "Deployment", "spec": {"template": {"spec": spec}}}),
    _pod_specs.map(lambda spec: {"spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}),
    _pod_specs.map(lambda spec: {"template": {"spec": spec}}),
)
# Of these paths none leads through another, for the order of two such operations matters.
_patches = st.dictionaries(
    st.sampled_from(
        [
            "/spec/hostPID",
            "/spec/containers/0/image",
            "/spec/containers/1/securityContext/privileged",
            "/spec/containers/-1/securityContext/capabilities/add/-",
            "/spec/template/spec/hostPID",
            "/metadata/annotations/a.b~1c",
            "/a/b",
            "/a.b/c",
            "/kind",
        ]
    ),
    st.tuples(st.sampled_from(["add", "replace", "remove", "test"]), st.sampled_from([*_ODD, *_IMAGES])),
    min_size=1,
    max_size=4,
).map(lambda patch: [{"op": op, "path": path, "value": value} for path, (op, value) in patch.items()])
_bodies = st.one_of(_workloads, _workloads, _patches, _odd_bodies)
_users = _maps(
    {},
    {
        "username": st.sampled_from(_USERS),
        "uid": st.sampled_from(["", "1"]),
        "groups": st.lists(st.sampled_from(_GROUPS), max_size=3),
        "extra": _maps({}, {"team": st.lists(st.sampled_from(["a", "b", ""]), max_size=2)}),
    },
)

events: SearchStrategy[Event] = _maps(
    {
        "kind": st.just("Event"),
        "auditID": st.just("5b0c3f0e-8a52-4bb1-9d56-000000000001"),
        "verb": st.sampled_from(["get", "list", "create", "create", "update", "patch", "delete"]),
        "level": st.sampled_from(["Metadata", "Request", "RequestResponse", "RequestResponse"]),
    },
    {
        "stage": st.sampled_from(["ResponseComplete", "ResponseStarted"]),
        "requestURI": st.sampled_from(_URIS),
        "user": _users,
        "impersonatedUser": _users,
        "sourceIPs": st.lists(st.sampled_from(["203.0.113.25", "10.0.0.1", "2001:DB8::1", "unknown"]), max_size=2),
        "userAgent": st.sampled_from(["kubectl/v1.35.1", "curl/8.1.2", ""]),
        "objectRef": _maps(
            {},
            {
                "resource": st.sampled_from(["pods", "secrets", "deployments"]),
                "subresource": st.sampled_from(["", "exec", "status"]),
                "apiGroup": st.sampled_from(["", "apps", "batch"]),
                "namespace": st.sampled_from(["", "shop", "kube-system"]),
                "name": st.sampled_from(["", "web", "shop", "SHOP-2"]),
            },
        ),
        "responseStatus": _maps(
            {},
            {"code": st.sampled_from([200, 201, 401, 403, 409, 500]), "reason": st.sampled_from(["", "Forbidden"])},
        ),
        "annotations": _maps(
            {},
            {
                "authorization.k8s.io/decision": st.sampled_from(["allow", "forbid"]),
                "audit.k8s.io/truncated": st.sampled_from(["true", "false"]),
                "a.b/c": st.sampled_from(["", "shop", "run -a /b", "YW5h"]),
            },
        ),
        "requestObject": _bodies,
        "responseObject": _bodies,
    },
)


@st.composite
def families(draw: st.DrawFn, max_size: int = 5) -> list[Event]:
    """Events that differ from one another in a few fields: whoever remembers too little of one takes it for another."""
    first = draw(events)
    family = [first]
    for _ in range(draw(st.integers(0, max_size - 1))):
        other = draw(events)
        changed = draw(st.sets(st.sampled_from(sorted({*first, *other})), max_size=2))
        kept = {key: value for key, value in first.items() if key not in changed}
        family.append({**kept, **{key: other[key] for key in changed if key in other}})
    ref, other_ref = first.get("objectRef", {}), family[-1].get("objectRef", {})
    return [*family, {**first, "objectRef": {**ref, "subresource": other_ref.get("subresource", "exec")}}]


_BODY_VALUES: Final[list[Any]] = [True, False, 0, 1, -1.5, "", "1", "true", "a", r"a\*b", "a*b", "shop", "run -a /b"]
_VOCABULARY: Final[dict[str, list[Any]]] = {
    "verb": ["get", "list", "create", "update", "patch", "delete"],
    "level": ["Metadata", "Request", "RequestResponse"],
    "stage": ["ResponseComplete"],
    "requestURI": _URIS,
    "user.username": _USERS,
    "user.groups": _GROUPS,
    "user.extra.team": ["a", "b"],
    "impersonatedUser.username": _USERS,
    "impersonatedUser.groups": _GROUPS,
    "userAgent": ["kubectl/v1.35.1", "curl/8.1.2"],
    "sourceIPs": ["203.0.113.25", "10.0.0.1", "unknown"],
    "objectRef.resource": ["pods", "secrets", "deployments"],
    "objectRef.subresource": ["exec", "status"],
    "objectRef.apiGroup": ["apps", "batch"],
    "apiGroup": ["apps"],
    "objectRef.namespace": ["shop", "kube-system"],
    "objectRef.name": ["web", "shop", "shop-2"],
    "responseStatus.code": [200, 201, 403, 409, "403", "4*", "ALLOW"],
    "responseStatus.reason": ["Forbidden"],
    "annotations.authorization.k8s.io/decision": ["allow", "forbid"],
    "annotations.a.b/c": ["shop", "run -a /b", "YW5h"],
    "detector.identity.kind": ["user", "service_account", "node", "anonymous", "unauthenticated", "control_plane"],
    "detector.identity.namespace": ["shop", "kube-system"],
    "detector.source.ip": ["203.0.113.25", "10.0.0.1", "2001:db8::1"],
    "detector.command": ["sh -c id", "sh*"],
    "requestObject.kind": ["Pod", "Deployment"],
    "requestObject.a": _BODY_VALUES,
    "requestObject.a.b": _BODY_VALUES,
    "requestObject.a.b.c": _BODY_VALUES,
    "requestObject.metadata.annotations.a.b/c": _BODY_VALUES,
    "requestObject.spec.hostPID": [True, False, "true", 1],
    "requestObject.spec.containers": _BODY_VALUES,
    "requestObject.spec.containers.image": ["nginx:1", r"*a\?b\*c", "first*second"],
    "requestObject.spec.containers.securityContext.privileged": [True, False, "true"],
    "responseObject.kind": ["Pod", "Deployment"],
    "responseObject.a": _BODY_VALUES,
    "responseObject.spec.containers.image": ["nginx:1"],
    "hostPath": ["/etc", "/var/*"],
    "capabilities": ["NET_RAW", "SYS_ADMIN"],
    "detector.pod.hostPID": [True, False],
    "detector.containers.image": ["nginx:1", "first?second"],
    "detector.containers.securityContext.privileged": [True, False],
}
_FIELDS: Final = sorted(_VOCABULARY)
INDEXED: Final = [
    "verb",
    "stage",
    "objectRef.resource",
    "objectRef.subresource",
    "objectRef.apiGroup",
    "responseStatus.code",
    "annotations.authorization.k8s.io/decision",
    "detector.identity.kind",
    "impersonatedUser.username",
    "user.username",
    "user.groups",
]
"""What the engine's index knows of an event."""
_EXPRESSIONS: Final = ["a", "^s", "p$", "^(get|list)$", "[0-9]+", "s.c", "^second", "t.s", "NGINX", ".", ""]


def _mangled(text: str) -> SearchStrategy[str]:
    """A text that still matches as a rule: in other case, or with a part left open."""
    ways: list[Callable[[str], str]] = [
        lambda text: text,
        lambda text: text,
        str.upper,
        lambda text: f"{text[:2]}*",
        lambda text: f"*{text[-2:]}",
        lambda text: f"*{text[1:3]}*",
        lambda text: f"?{text[1:]}",
        lambda text: f"{text[:1]}*{text[2:]}",
        lambda _: "*",
    ]
    return st.sampled_from(ways).map(lambda way: way(text))


@st.composite
def _values(draw: st.DrawFn, field: str) -> Any:
    value = draw(st.sampled_from(_VOCABULARY[field]))
    return draw(_mangled(value)) if isinstance(value, str) else value


@st.composite
def _texts(draw: st.DrawFn, field: str) -> str:
    """Part of a text out of the field's vocabulary, or out of any."""
    known = [value for value in _VOCABULARY[field] if isinstance(value, str)]
    text: str = draw(st.sampled_from([*known, "shop", "a", "1", r"\*", "e?", "-"]))
    start = draw(st.integers(0, max(len(text) - 1, 0)))
    return text[start : start + draw(st.integers(1, 12))]


def _several(values: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(values, st.lists(values, min_size=1, max_size=3))


@st.composite
def _field_tests(draw: st.DrawFn, fields: list[str]) -> tuple[str, Any]:  # noqa: PLR0911 one return a kind of test
    field = draw(st.sampled_from(fields))
    kind = draw(
        st.sampled_from(["plain"] * 6 + ["part"] * 3 + ["null", "exists", "number", "re", "cidr", "ref", "code"])
    )
    neq = draw(st.sampled_from(["", "", "", "|neq"]))
    if kind == "null":
        return field, draw(st.sampled_from([None, "", [], [None, draw(_values(field))]]))
    if kind == "exists":
        return f"{field}|exists", draw(st.booleans())
    if kind == "number":
        bounded = draw(st.sampled_from(["responseStatus.code", "requestObject.a", "requestObject.a.b"]))
        return f"{bounded}|{draw(st.sampled_from(['gt', 'gte', 'lt', 'lte']))}{neq}", draw(st.sampled_from([0, 1, 403]))
    if kind == "re":
        flags = draw(st.sampled_from(["", "|i", "|m", "|s", "|i|s"]))
        return f"{field}|re{flags}{neq}", draw(_several(st.sampled_from(_EXPRESSIONS)))
    if kind == "cidr":
        network = st.sampled_from(["203.0.113.0/24", "10.0.0.0/8", "2001:db8::/32"])
        return f"{draw(st.sampled_from(['sourceIPs', 'detector.source.ip']))}|cidr{neq}", draw(_several(network))
    if kind == "ref":
        how = draw(st.sampled_from(["", "|contains", "|startswith", "|endswith"]))
        return f"{field}|fieldref{how}{neq}", draw(st.sampled_from(_FIELDS))
    if kind == "code":
        how, text = draw(st.sampled_from([("base64", "ana"), ("windash", "run -a /b"), ("windash", "RUN /a -b")]))
        part = draw(st.sampled_from(["", "|contains", "|cased"]))
        return f"{draw(st.sampled_from(['annotations.a.b/c', 'requestObject.a']))}|{how}{part}{neq}", text
    if kind == "part":
        part = draw(st.sampled_from(["contains", "startswith", "endswith", "contains|all", "contains|cased"]))
        texts = _texts(field)
        return f"{field}|{part}{neq}", draw(
            st.lists(texts, min_size=2, max_size=2) if "all" in part else _several(texts)
        )
    cased = draw(st.sampled_from(["", "", "", "|cased"]))
    if cased:
        return f"{field}|cased{neq}", draw(_several(_values(field).filter(lambda value: isinstance(value, str))))
    return f"{field}{neq}", draw(_several(_values(field)))


_NAMES: Final = ["sel_a", "sel_b", "filter_a", "_apart"]


@st.composite
def _conditions(draw: st.DrawFn, names: list[str], depth: int = 0) -> str:
    shape = draw(st.sampled_from(["name", "name", "some", "not", "and", "or", "brackets"][: 3 if depth > 2 else None]))
    if shape == "not":
        return f"not {draw(_conditions(names, depth + 1))}"
    if shape == "brackets":
        return f"({draw(_conditions(names, depth + 1))})"
    if shape in ("and", "or"):
        return f"{draw(_conditions(names, depth + 1))} {shape} {draw(_conditions(names, depth + 1))}"
    open_names = [name for name in names if not name.startswith("_")]
    if shape == "name" or not open_names:
        return draw(st.sampled_from(names))
    start = draw(st.sampled_from(open_names))[:3]
    return (
        f"{draw(st.sampled_from(['1', 'any', 'all']))} of {draw(st.sampled_from(['them', f'{start}*', f'*{start}*']))}"
    )


@st.composite
def rules(draw: st.DrawFn, number: int = 1) -> Document:
    """A rule with a few detections, each of which its condition may or may not use."""
    fields = draw(st.sampled_from([_FIELDS, _FIELDS, INDEXED]))
    selections = st.lists(_field_tests(fields), min_size=1, max_size=2).map(dict)
    names = draw(st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True))
    part = st.one_of(selections, selections, st.lists(selections, min_size=1, max_size=3))
    detection: dict[str, Any] = {name: draw(part) for name in names}
    return document({**detection, "condition": draw(_conditions(names))}, id=rule_id(number))


@st.composite
def rule_sets(draw: st.DrawFn, max_size: int) -> list[Document]:
    """Several rules, each with an id of its own."""
    return [draw(rules(number)) for number in range(1, draw(st.integers(1, max_size)) + 1)]
