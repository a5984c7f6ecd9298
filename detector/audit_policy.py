"""Audit policy: what an API server logs of a request, read from the file that it is started with.

Source: kubernetes/apiserver pkg/apis/audit/v1/types.go (Policy), pkg/audit/policy/checker.go and
pkg/apis/audit/validation/validation.go, v1.35.
"""

from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from detector.errors import ConfigError
from detector.printable import printable


class AuditLevel(IntEnum):
    """How much is logged of a request; each level holds what the one below holds."""

    NONE = 0
    METADATA = 1
    REQUEST = 2
    REQUEST_RESPONSE = 3

    @property
    def label(self) -> str:
        """As the API server spells it."""
        return _LABELS[self]


_LABELS: Final = {
    AuditLevel.NONE: "None",
    AuditLevel.METADATA: "Metadata",
    AuditLevel.REQUEST: "Request",
    AuditLevel.REQUEST_RESPONSE: "RequestResponse",
}
_LEVELS: Final = {label: level for level, label in _LABELS.items()}

SECRET_BODIES: Final = frozenset({("", "secrets"), ("", "configmaps")})
"""API groups and resources whose bodies no log should hold, whatever a rule could learn from them."""

Stage = Literal["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"]


class Attributes(NamedTuple):
    """What a policy looks at in a request."""

    verb: str
    username: str = ""
    groups: tuple[str, ...] = ("system:authenticated",)
    api_group: str = ""
    resource: str = ""
    """Empty for a request on a non-resource URL."""
    subresource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""
    """Of a request on a non-resource URL."""


class Decision(NamedTuple):
    """What a policy says of a request."""

    level: AuditLevel
    omitted_stages: frozenset[str] = frozenset()


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)


class GroupResources(_Part):
    """Resources of one API group; an empty group is the core group, an empty list all of the group's resources."""

    group: str = ""
    resources: tuple[str, ...] = ()
    """`pods`, `pods/log`, `pods/*`, `*/scale` or `*`."""
    resource_names: tuple[str, ...] = ()

    def covers(self, request: Attributes) -> bool:
        """Tell whether a request is on one of these resources."""
        if self.group != request.api_group:
            return False
        if not self.resources:
            return True
        if self.resource_names and request.name not in self.resource_names:
            return False
        whole = f"{request.resource}/{request.subresource}" if request.subresource else request.resource
        spellings = {"*", whole, f"{request.resource}/*"}
        if request.subresource:
            spellings.add(f"*/{request.subresource}")
        return not spellings.isdisjoint(self.resources)

    @model_validator(mode="after")
    def _names_need_resources(self) -> "GroupResources":
        if self.resource_names and not self.resources:
            raise ValueError("resourceNames need resources beside them")
        return self


def _level(value: object) -> object:
    if isinstance(value, str) and value in _LEVELS:
        return _LEVELS[value]
    raise ValueError(f"must be one of {', '.join(_LEVELS)}, not {value!r}")


def _url(value: object) -> object:
    if isinstance(value, str) and (value == "*" or (value.startswith("/") and "*" not in value[:-1])):
        return value
    raise ValueError(f"must begin with / and may hold * at its end only, not {value!r}")


class PolicyRule(_Part):
    """One rule; every list that is not empty must hold what the request has."""

    level: Annotated[AuditLevel, BeforeValidator(_level)]
    users: tuple[str, ...] = ()
    user_groups: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    resources: tuple[GroupResources, ...] = ()
    namespaces: tuple[str, ...] = ()
    """An empty text stands for what lies in no namespace."""
    non_resource_urls: tuple[Annotated[str, BeforeValidator(_url)], ...] = Field(default=(), alias="nonResourceURLs")
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool | None = None

    def matches(self, request: Attributes) -> bool:
        """Tell whether the rule speaks of a request."""
        if self.users and request.username not in self.users:
            return False
        if self.user_groups and not set(self.user_groups).intersection(request.groups):
            return False
        if self.verbs and request.verb not in self.verbs:
            return False
        if self.namespaces or self.resources:
            return bool(request.resource) and self._covers(request)
        if self.non_resource_urls:
            return not request.resource and any(_path_matches(url, request.path) for url in self.non_resource_urls)
        return True

    def _covers(self, request: Attributes) -> bool:
        if self.namespaces and request.namespace not in self.namespaces:
            return False
        return not self.resources or any(part.covers(request) for part in self.resources)

    @model_validator(mode="after")
    def _speaks_of_one_kind(self) -> "PolicyRule":
        if self.non_resource_urls and (self.resources or self.namespaces):
            raise ValueError("a rule has either nonResourceURLs, or resources and namespaces")
        return self


def _path_matches(url: str, path: str) -> bool:
    return path.startswith(url[:-1]) if url.endswith("*") else path == url


class Policy(_Part):
    """An `audit.k8s.io/v1` Policy."""

    api_version: Literal["audit.k8s.io/v1"]
    kind: Literal["Policy"]
    metadata: dict[str, Any] = {}
    omit_stages: tuple[Stage, ...] = ()
    omit_managed_fields: bool = False
    rules: tuple[PolicyRule, ...]

    @field_validator("rules")
    @classmethod
    def _are_some(cls, rules: tuple[PolicyRule, ...]) -> tuple[PolicyRule, ...]:
        if not rules:
            raise ValueError("a policy without rules logs nothing")
        return rules

    def decide(self, request: Attributes) -> Decision:
        """Find what is logged of a request: the first rule that matches says so, and without one nothing is."""
        for rule in self.rules:
            if rule.matches(request):
                return Decision(rule.level, frozenset((*self.omit_stages, *rule.omit_stages)))
        return Decision(AuditLevel.NONE)


def load_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        ConfigError: it cannot be read or is none that an API server would take; every fault is told.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or type(error).__name__
        raise ConfigError(f"{path}:{mark.line + 1 if mark else 1}: not valid YAML: {reason}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path}:1: an audit policy is a YAML mapping with apiVersion audit.k8s.io/v1, kind Policy")
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_explained(fault)}" for fault in error.errors())) from error


def _explained(fault: Any) -> str:
    where = _where(fault["loc"])
    text = "no such field in audit.k8s.io/v1" if fault["type"] == "extra_forbidden" else fault["msg"]
    return printable(f"{where}: {text.removeprefix('Value error, ')}" if where else text)


def _where(steps: Sequence[int | str]) -> str:
    """`rules[2].resources[0].group`, as a person looks for it."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")
