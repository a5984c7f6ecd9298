"""Health: what the stream of audit events says of itself, and what it keeps silent about.

A check looks at events as they were decoded, the `RequestReceived` ones among them. It is a struct that holds all it
must remember, so that it is saved with the snapshot as it stands, and it goes by the events in the order in which they
come, never by batches or the wall clock: so any cut gives the same findings. A check is one file here: `RULES`, what
its alerts say of themselves, and `look`. `monitor.py` lists the checks.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

from detector.event import AuditEvent, ObjectRef
from detector.match import Level, Rule

RULESET: Final = "health"
HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 24 * HOUR_SECONDS
WEEK_SECONDS: Final = 7 * DAY_SECONDS
CHANGES: Final = frozenset({"create", "update", "patch"})
"""The verbs of writes that carry a body."""
NAME_CHARACTERS: Final = 256
"""As much as is remembered of a name: a client may send any length."""

Needs: TypeAlias = Mapping[tuple[str, str], Mapping[bool, Sequence[str]]]
"""Per API group and resource the names of the rules that need bodies of its writes; of responses under True."""


class HealthRule(NamedTuple):
    """One kind of finding: what its alerts say of it, and the detection ideas that it covers."""

    metadata: Rule
    covers: tuple[str, ...]


class Finding(NamedTuple):
    """A health rule that fired on an event; nobody is accountable for a finding about the stream itself."""

    rule: HealthRule
    event: AuditEvent
    of_stream: bool = False
    group: tuple[str, ...] = ()


class Arrival(NamedTuple):
    """Where some events came from, and what else is known of the input at that moment."""

    stream: str
    behind: Collection[str] = ()
    """Streams that have more to read at once: their silence says nothing yet."""
    present: Collection[str] | None = None
    """The streams that are being read, where the source knows."""
    needs: Needs = MappingProxyType({})


class Check(Protocol):
    """One kind of look at the stream."""

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Take events in the order of their stream."""


def health_rule(
    rule_id: str,
    name: str,
    level: Level,
    *,
    description: str,
    message: str,
    covers: tuple[str, ...],
    fold_seconds: int = DAY_SECONDS,
    group_by: tuple[str, ...] = (),
    techniques: tuple[str, ...] = ("T1685.002",),
    tactics: tuple[str, ...] = ("defense-impairment",),
) -> HealthRule:
    """Describe a kind of finding; its version is a digest of the description."""
    unversioned = Rule(
        id=rule_id,
        name=name,
        version="",
        ruleset=RULESET,
        level=level,
        kind="health",
        description=description,
        techniques=techniques,
        tactics=tactics,
        group_by=group_by,
        fold_seconds=fold_seconds,
        message=message,
    )
    version = hashlib.sha256(unversioned.model_dump_json().encode()).hexdigest()[:12]
    return HealthRule(unversioned.model_copy(update={"version": version}), covers)


def about_stream(verb: str, name: str, time: datetime) -> AuditEvent:
    """An event of our own that stands for a finding about a stream; no request has its resource."""
    stamp = time.isoformat()
    return AuditEvent(
        verb=verb,
        object_ref=ObjectRef(resource="auditstreams", name=name),
        request_received_timestamp=stamp,
        stage_timestamp=stamp,
    )


_SENSITIVE_GROUPS: Final = frozenset(
    {"admissionregistration.k8s.io", "apps", "batch", "certificates.k8s.io", "rbac.authorization.k8s.io"}
)
_SENSITIVE_CORE: Final = frozenset({"pods", "podtemplates", "replicationcontrollers"})
_SENSITIVE_SUBRESOURCES: Final = frozenset({"", "approval", "ephemeralcontainers"})
_REFUSED_CODE: Final = 400


def is_change(event: AuditEvent) -> bool:
    """Tell a write that carries a body and was not refused."""
    if event.verb not in CHANGES:
        return False
    status = event.response_status
    return status is None or status.code is None or status.code < _REFUSED_CODE


def is_sensitive(ref: ObjectRef | None) -> bool:
    """Tell what gives rights or runs code: RBAC, admission, certificates, pods and what makes pods."""
    if ref is None or ref.subresource not in _SENSITIVE_SUBRESOURCES:
        return False
    return ref.api_group in _SENSITIVE_GROUPS or (not ref.api_group and ref.resource in _SENSITIVE_CORE)
