"""Fields: every name that a rule may use, and how to read its values from an activity.

Native names are those of `audit.k8s.io/v1`. A path leads through objects and into every element of a list, so
`requestObject.spec.containers.securityContext.privileged` looks at all containers. Keys that themselves hold dots
(`annotations.authorization.k8s.io/decision`) are found too. What no event has is derived under `detector.`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

from detector.activity import MISSING, UNREADABLE, Activity
from detector.csr import subject_values
from detector.event import AuditEvent, ObjectRef, ResponseStatus, User
from detector.families import client_program, image_registry, source_network, stable_name

DECISION: Final = "authorization.k8s.io/decision"
"""The annotation that tells whether a request was authorised: `allow` or `forbid`."""
HIDDEN: Final = (object(),)
"""Stands for the values of a field in a body that was kept from us: it may or may not match."""

Values: TypeAlias = tuple[Any, ...]


class Partial(tuple[Any, ...]):
    """Values beside which there are others that were kept from us: none of these may pass a test, and one still may."""

    __slots__ = ()


Reader: TypeAlias = Callable[[Activity], Values]

_CONTAINER_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")
POD: Final = "detector.pod."
"""Before a path into a pod's spec, wherever a workload keeps it."""
CONTAINERS: Final = "detector.containers."
"""Before a path into a container of any kind of such a pod."""
_BODIES: Final = ("requestObject.", "responseObject.", POD, CONTAINERS, "detector.configmap.", "detector.csr.")
ALIASES: Final = {
    "apiGroup": "objectRef.apiGroup",
    "hostPath": f"{POD}volumes.hostPath.path",
    "capabilities": f"{CONTAINERS}securityContext.capabilities.add",
}
"""Names that SigmaHQ's Kubernetes rules use, and what they stand for."""

_USER_TEXTS: Final = {"username": "username", "uid": "uid"}
_REF_TEXTS: Final = dict(zip(ObjectRef.__struct_encode_fields__, ObjectRef.__struct_fields__, strict=True))
_STATUS_TEXTS: Final = {name: name for name in ResponseStatus.__struct_fields__ if name != "code"}

# A write's body is missing because it was not logged, not because there was none, at these audit levels.
_WRITES: Final = frozenset({"create", "update", "patch"})
_REQUEST_HIDING: Final = frozenset({"Metadata"})
_RESPONSE_HIDING: Final = frozenset({"Metadata", "Request"})
# What the API server answers before it reads a body: not authenticated, not authorised, not now.
_UNREAD_CODES: Final = frozenset({401, 403, 429})


@dataclass(frozen=True, slots=True)
class Field:
    """One field, ready to be read."""

    path: str
    root: str
    """The first step of the path."""
    in_body: bool
    read: Reader
    """The values found: none for an absent field, several for a list, `HIDDEN` for a body that was kept from us,
    `Partial` for one of which a part was.

    Only a body can hold None, for a `null` or an empty list; only a body can hold an empty text.
    """


@lru_cache(maxsize=4096)  # so that two tests of one field read the same `Field`, and become one
def resolve(name: str) -> Field | None:
    """Find the field that a rule names; None if no audit event has it."""
    path = ALIASES.get(name, name)
    reader = _reader(path)
    return None if reader is None else Field(path, path.partition(".")[0], path.startswith(_BODIES), reader)


def catalogue() -> list[str]:
    """Every name without its free part, for error messages and documentation."""
    fixed = [*_SCALARS, *(f"objectRef.{name}" for name in _REF_TEXTS), *ALIASES]
    fixed += [f"{root}.{name}" for root in ("user", "impersonatedUser") for name in ("username", "uid", "groups")]
    open_ended = ["annotations.", "user.extra.", "impersonatedUser.extra.", "requestObject.", "responseObject."]
    return sorted([*fixed, *(f"{prefix}*" for prefix in (*open_ended, POD, CONTAINERS))])


def nearest(name: str) -> str:
    """The known field that is spelt most like a name, or an empty text; below an open end any path is a field."""
    steps = name.split(".")
    for entry in catalogue():
        root, open_end, _ = entry.partition(".*")
        count = root.count(".") + 1
        if open_end and len(steps) > count and _is_close(".".join(steps[:count]), root):
            return ".".join((root, *steps[count:]))
    return next(iter(get_close_matches(name, catalogue(), n=1, cutoff=0.75)), "")


def _is_close(one: str, other: str) -> bool:
    return bool(get_close_matches(one.casefold(), [other.casefold()], cutoff=0.85))


def _texts(value: str) -> Values:
    return (value,) if value else ()


def _ref_text(attribute: str) -> Reader:
    def read(activity: Activity) -> Values:
        ref = activity.event.object_ref
        return () if ref is None else _texts(getattr(ref, attribute))

    return read


def _status_text(attribute: str) -> Reader:
    def read(activity: Activity) -> Values:
        status = activity.event.response_status
        return () if status is None else _texts(getattr(status, attribute))

    return read


def _code(activity: Activity) -> Values:
    status = activity.event.response_status
    return () if status is None or status.code is None else (status.code,)


def _scope(address: str) -> Values:
    """`public` or `private`; nothing for what is no IP address."""
    return ("public" if ip_address(address).is_global else "private",) if address else ()


def _subject(activity: Activity, attribute: str) -> Values:
    """The values of a subject's attribute in the certificate request (PKCS#10) of a CertificateSigningRequest."""
    texts = _csr_request(activity)
    if texts is HIDDEN or not texts or not isinstance(texts[0], str):
        return HIDDEN if texts is HIDDEN else ()
    return subject_values(texts[0], attribute)


def _known(family: str) -> Values:
    """A family of `families.py`; nothing where it is told as unknown."""
    return () if family == "-" else (family,)


def _account(activity: Activity) -> Values:
    """The user name of the service account that is asked for."""
    ref = activity.event.object_ref
    if ref is None or ref.resource != "serviceaccounts" or not ref.namespace or not ref.name:
        return ()
    return (f"system:serviceaccount:{ref.namespace}:{ref.name}",)


def _registries(activity: Activity) -> Values:
    """The registries that the containers' images are pulled from."""
    images = _read_images(activity)
    if images is HIDDEN:
        return HIDDEN
    return tuple(dict.fromkeys(image_registry(image) for image in images if isinstance(image, str) and image))


def _subjects(activity: Activity) -> Values:
    """Whom a binding gives its rights to, by the names that they act under: user names and groups."""
    found = _body_values(activity, activity.request_object, _plan("subjects"), _REQUEST_HIDING)
    if found is HIDDEN:
        return HIDDEN
    return tuple(name for subject in found if isinstance(subject, dict) for name in _names_of(subject))


def _names_of(subject: dict[str, Any]) -> Values:
    name, namespace = subject.get("name"), subject.get("namespace")
    if not isinstance(name, str):
        return ()
    if subject.get("kind") != "ServiceAccount":
        return (name,)
    return (f"system:serviceaccount:{namespace}:{name}",) if isinstance(namespace, str) else ()


def _csr_request(activity: Activity) -> Values:
    return _body_values(activity, activity.request_object, _plan("spec.request"), _REQUEST_HIDING)


def _configmap_entries(activity: Activity) -> Values:
    """Each entry of a ConfigMap's `data` as `key=value`: what is in it has no names that a rule could spell out."""
    found = _body_values(activity, activity.request_object, _plan("data"), _REQUEST_HIDING)
    if found is HIDDEN:
        return HIDDEN
    items = [item for data in found if isinstance(data, dict) for item in data.items()]
    entries = tuple(f"{key}={value}" for key, value in items if isinstance(value, str))
    unknown = isinstance(found, Partial) or any(value is UNREADABLE for _, value in items)
    return Partial(entries) if unknown else entries


_SCALARS: Final[dict[str, Reader]] = {
    "kind": lambda activity: _texts(activity.event.kind),
    "level": lambda activity: _texts(activity.event.level),
    "auditID": lambda activity: _texts(activity.event.audit_id),
    "stage": lambda activity: _texts(activity.event.stage),
    "requestURI": lambda activity: _texts(activity.event.request_uri),
    "verb": lambda activity: _texts(activity.event.verb),
    "sourceIPs": lambda activity: tuple(filter(None, activity.event.source_ips)),
    "userAgent": lambda activity: _texts(activity.event.user_agent),
    "requestReceivedTimestamp": lambda activity: _texts(activity.event.request_received_timestamp),
    "stageTimestamp": lambda activity: _texts(activity.event.stage_timestamp),
    "responseStatus.code": _code,
    "responseStatus.status": _status_text("status"),
    "responseStatus.reason": _status_text("reason"),
    "responseStatus.message": _status_text("message"),
    "detector.identity.kind": lambda activity: (activity.identity.kind.value,),
    "detector.identity.namespace": lambda activity: _texts(activity.identity.namespace),
    "detector.source.ip": lambda activity: _texts(activity.addresses.source_ip),
    "detector.source.scope": lambda activity: _scope(activity.addresses.source_ip),
    "detector.client.scope": lambda activity: _scope(activity.addresses.client_ip),
    "detector.source.network": lambda activity: _known(source_network(activity.addresses.source_ip)),
    "detector.client.program": lambda activity: _known(client_program(activity.event.user_agent)),
    "detector.object.family": lambda activity: (
        _texts(stable_name(activity.event.object_ref.name)) if activity.event.object_ref else ()
    ),
    "detector.object.account": _account,
    "detector.image.registry": _registries,
    "detector.binding.subjects": _subjects,
    "detector.command": lambda activity: _texts(activity.command),
    "detector.path": lambda activity: _texts(activity.path),
    "detector.dry_run": lambda activity: ("true" if activity.dry_run else "false",),
    "detector.configmap.entry": _configmap_entries,
    "detector.csr.common_name": lambda activity: _subject(activity, "commonName"),
    "detector.csr.organization": lambda activity: _subject(activity, "organizationName"),
}


def _reader(path: str) -> Reader | None:  # noqa: PLR0911 one return a root
    if path in _SCALARS:
        return _SCALARS[path]
    for prefix, lists in ((POD, ("",)), (CONTAINERS, _CONTAINER_LISTS)):
        if path.startswith(prefix):
            return _pod_reader([_plan(f"{kind}.{path.removeprefix(prefix)}".lstrip(".")) for kind in lists])
    root, _, rest = path.partition(".")
    if not rest:
        return None
    if root == "objectRef" and rest in _REF_TEXTS:
        return _ref_text(_REF_TEXTS[rest])
    if root == "annotations":
        return lambda activity: _texts(activity.event.annotations.get(rest, ""))
    if root == "user":
        return _user_reader(rest, lambda activity: activity.event.user)
    if root == "impersonatedUser":
        return _user_reader(rest, lambda activity: activity.event.impersonated_user)
    if root == "requestObject":
        plan = _plan(rest)
        return lambda activity: _body_values(activity, activity.request_object, plan, _REQUEST_HIDING)
    if root == "responseObject":
        plan = _plan(rest)
        return lambda activity: _body_values(activity, activity.response_object, plan, _RESPONSE_HIDING)
    return None


def _user_reader(rest: str, user_of: Callable[[Activity], User | None]) -> Reader | None:
    if rest in _USER_TEXTS:
        attribute = _USER_TEXTS[rest]

        def read_text(activity: Activity) -> Values:
            user = user_of(activity)
            return () if user is None else _texts(getattr(user, attribute))

        return read_text
    if rest == "groups":

        def read_groups(activity: Activity) -> Values:
            user = user_of(activity)
            return () if user is None else tuple(filter(None, user.groups))

        return read_groups
    name, _, key = rest.partition(".")
    if name != "extra" or not key:
        return None

    def read_extra(activity: Activity) -> Values:
        user = user_of(activity)
        return () if user is None else tuple(filter(None, user.extra.get(key, ())))

    return read_extra


def _pod_reader(plans: list["_Plan"]) -> Reader:
    def read(activity: Activity) -> Values:
        body = activity.request_object
        if body is MISSING or body is UNREADABLE:
            return _no_body(activity, body, _REQUEST_HIDING)
        return _find(activity.pod_specs, plans)

    return read


def _body_values(activity: Activity, body: Any, plan: "_Plan", hiding_levels: frozenset[str]) -> Values:
    if body is MISSING or body is UNREADABLE:
        return _no_body(activity, body, hiding_levels)
    return _find((body,), (plan,))


def _no_body(activity: Activity, body: Any, hiding_levels: frozenset[str]) -> Values:
    event = activity.event
    kept_back = event.verb in _WRITES and (event.level in hiding_levels or activity.truncated)
    return HIDDEN if body is UNREADABLE or (kept_back and not _refused_unread(event)) else ()


def _refused_unread(event: AuditEvent) -> bool:
    """Tell a request refused at the door from one that admission refused, whose body was read."""
    code = None if event.response_status is None else event.response_status.code
    return code in _UNREAD_CODES and event.annotations.get(DECISION) != "allow"


_Plan: TypeAlias = tuple[tuple[tuple[str, int], ...], ...]
"""For each step of a path the keys to try, and the step that follows each: a key may itself hold dots."""


def _plan(path: str) -> _Plan:
    steps = path.split(".")
    return tuple(
        tuple((".".join(steps[start:end]), end) for end in range(start + 1, len(steps) + 1))
        for start in range(len(steps))
    )


def _find(values: Sequence[Any], plans: Sequence[_Plan]) -> Values:
    found: list[Any] = []
    try:
        for value in values:
            for plan in plans:
                _walk(value, plan, 0, found)
    except RecursionError:  # lists in lists, nearly as deep as the decoder goes
        return HIDDEN
    if UNREADABLE in found:
        return Partial(value for value in found if value is not UNREADABLE)
    return tuple(found)


def _walk(value: Any, plan: _Plan, step: int, found: list[Any]) -> None:
    """Collect every value that a path leads to, through each element of a list; None for `null` and an empty list."""
    if isinstance(value, list):
        for element in value:
            _walk(element, plan, step, found)
        if not value and step == len(plan):
            found.append(None)
    elif step == len(plan) or value is UNREADABLE:
        found.append(value)
    elif isinstance(value, dict):
        for key, following in plan[step]:
            if key in value:
                _walk(value[key], plan, following, found)


_read_images: Final = _pod_reader([_plan(f"{kind}.image") for kind in _CONTAINER_LISTS])
