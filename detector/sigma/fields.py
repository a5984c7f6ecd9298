"""Fields: every name that a rule may use, and how to read its values from an activity.

Native names are those of `audit.k8s.io/v1`. A path leads through objects and into every element of a list, so
`requestObject.spec.containers.securityContext.privileged` looks at all containers. Keys that themselves hold dots
(`annotations.authorization.k8s.io/decision`) are found too. What no event has is derived under `detector.`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from detector.activity import MISSING, Activity
from detector.event import ObjectRef, ResponseStatus, User

HIDDEN: Final = (object(),)
"""Stands for the values of a field that the audit level or a truncation kept from us: it may or may not match."""

Values: TypeAlias = tuple[Any, ...]
Reader: TypeAlias = Callable[[Activity], Values]

_CONTAINER_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")
_POD_SPECS: Final = (
    "requestObject.spec",  # pods
    "requestObject.spec.template.spec",  # deployments, daemonsets, statefulsets, replicasets, jobs, RCs
    "requestObject.spec.jobTemplate.spec.template.spec",  # cronjobs
    "requestObject.template.spec",  # podtemplates
)

PREFIX_ALIASES: Final = {
    "detector.pod.": tuple(f"{spec}." for spec in _POD_SPECS),
    "detector.containers.": tuple(f"{spec}.{kind}." for spec in _POD_SPECS for kind in _CONTAINER_LISTS),
}
"""A pod's spec wherever a workload keeps it, and its containers of every kind."""
ALIASES: Final = {
    "apiGroup": ("objectRef.apiGroup",),
    "hostPath": tuple(f"{spec}.volumes.hostPath.path" for spec in _POD_SPECS),
    "capabilities": tuple(
        f"{spec}.{kind}.securityContext.capabilities.add" for spec in _POD_SPECS for kind in _CONTAINER_LISTS
    ),
}
"""Names that SigmaHQ's Kubernetes rules use for raw fields."""

_USER_TEXTS: Final = {"username": "username", "uid": "uid"}
_REF_TEXTS: Final = dict(zip(ObjectRef.__struct_encode_fields__, ObjectRef.__struct_fields__, strict=True))
_STATUS_TEXTS: Final = {name: name for name in ResponseStatus.__struct_fields__ if name != "code"}

# A write's body is missing because it was not logged, not because there was none, at these audit levels.
_WRITES: Final = frozenset({"create", "update", "patch"})
_REQUEST_HIDING: Final = frozenset({"Metadata"})
_RESPONSE_HIDING: Final = frozenset({"Metadata", "Request"})


@dataclass(frozen=True, slots=True)
class Field:
    """One raw field, ready to be read."""

    path: str
    root: str
    """The first step of the path."""
    read: Reader
    """The values found: none for an absent field, several for a list, `HIDDEN` for a body that was not logged."""


def resolve(name: str) -> list[Field] | None:
    """Find the raw fields that a rule's name stands for; None for a name that no audit event has."""
    for prefix, replacements in PREFIX_ALIASES.items():
        if name.startswith(prefix):
            return [_raw(replacement + name.removeprefix(prefix)) for replacement in replacements]
    if name in ALIASES:
        return [_raw(path) for path in ALIASES[name]]
    reader = _reader(name)
    return None if reader is None else [Field(name, name.partition(".")[0], reader)]


def catalogue() -> list[str]:
    """Every name without its free part, for error messages and documentation."""
    fixed = [*_SCALARS, *(f"objectRef.{name}" for name in _REF_TEXTS), *ALIASES]
    fixed += [f"{root}.{name}" for root in ("user", "impersonatedUser") for name in ("username", "uid", "groups")]
    open_ended = ["annotations.", "user.extra.", "impersonatedUser.extra.", "requestObject.", "responseObject."]
    return sorted([*fixed, *(f"{prefix}*" for prefix in (*open_ended, *PREFIX_ALIASES))])


def _raw(path: str) -> Field:
    reader = _reader(path)
    if reader is None:  # pragma: no cover - the tables above name raw fields only
        raise AssertionError(path)
    return Field(path, path.partition(".")[0], reader)


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


_SCALARS: Final[dict[str, Reader]] = {
    "kind": lambda activity: _texts(activity.event.kind),
    "level": lambda activity: _texts(activity.event.level),
    "auditID": lambda activity: _texts(activity.event.audit_id),
    "stage": lambda activity: _texts(activity.event.stage),
    "requestURI": lambda activity: _texts(activity.event.request_uri),
    "verb": lambda activity: _texts(activity.event.verb),
    "sourceIPs": lambda activity: tuple(activity.event.source_ips),
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
    "detector.command": lambda activity: _texts(activity.command),
}


def _reader(path: str) -> Reader | None:  # noqa: PLR0911 one return a root
    if path in _SCALARS:
        return _SCALARS[path]
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
    steps = tuple(rest.split("."))
    if root == "requestObject":
        return lambda activity: _body_values(activity, activity.request_object, steps, _REQUEST_HIDING)
    if root == "responseObject":
        return lambda activity: _body_values(activity, activity.response_object, steps, _RESPONSE_HIDING)
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
            return () if user is None else tuple(user.groups)

        return read_groups
    name, _, key = rest.partition(".")
    if name != "extra" or not key:
        return None

    def read_extra(activity: Activity) -> Values:
        user = user_of(activity)
        return () if user is None else tuple(user.extra.get(key, ()))

    return read_extra


def _body_values(activity: Activity, body: Any, steps: tuple[str, ...], hiding_levels: frozenset[str]) -> Values:
    if body is not MISSING:
        return tuple(walk(body, steps))
    event = activity.event
    hidden = event.verb in _WRITES and (event.level in hiding_levels or activity.truncated)
    return HIDDEN if hidden else ()


def walk(value: Any, steps: tuple[str, ...]) -> Iterator[Any]:
    """Yield every value that a path leads to, through each element of a list and through keys that hold dots."""
    if isinstance(value, list):
        for element in value:
            yield from walk(element, steps)
    elif not steps:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        for count in range(1, len(steps) + 1):
            key = ".".join(steps[:count])
            if key in value:
                yield from walk(value[key], steps[count:])
