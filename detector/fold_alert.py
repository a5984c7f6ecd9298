"""Fold to alert: what is remembered of an alert while its window is open, and its document."""

from bisect import insort
from datetime import datetime
from typing import Final, Literal

import msgspec

from detector.alert import (
    ADDRESSES_KEPT,
    ATTACK_FRAMEWORK,
    AUDIT_IDS_KEPT,
    COMPLETE_VERSION,
    EVIDENCE_KEPT,
    Alert,
    DetectorPart,
    Document,
    EventPart,
    IdentityPart,
    Named,
    RulePart,
    ThreatPart,
)
from detector.attack import TACTICS, TECHNIQUES
from detector.identity import IdentityKind
from detector.match import SEVERITY, Level, Match, Rule
from detector.portrait import portray, resource_of
from detector.printable import printable
from detector.request import TEXT_MAX, Request, from_activity, masked, shown, to_evidence

_REQUESTS_KEPT: Final = 20_000  # digests of 16 bytes an alert; a request beyond them is counted without looking twice
_EVENT_TYPES: Final = {
    "create": "creation",
    "update": "change",
    "patch": "change",
    "delete": "deletion",
    "deletecollection": "deletion",
}


class Fold(msgspec.Struct):
    """An alert while its window is open."""

    id: str
    rule: Rule
    identity_kind: IdentityKind
    user_name: str
    service_namespace: str
    effective_name: str
    group: tuple[str, ...]
    window_start: datetime
    window_end: datetime
    last_seen: datetime
    audit_ids: list[tuple[datetime, str]] = []
    seen: set[bytes] = set()
    requests: list[Request] = []
    addresses: set[str] = set()
    event_count: int = 0
    succeeded: bool = False
    failed: bool = False
    degraded: bool = True
    changes: int = 0
    changes_written: int = 0

    @property
    def severity(self) -> int:
        """21 to 99; an alert that rests on hidden bodies alone is low."""
        return SEVERITY[Level.LOW] if self.degraded else SEVERITY[self.rule.level]

    def add(self, match: Match) -> None:
        """Count a match; a later stage or a second delivery of a known request adds only its time."""
        activity = match.activity
        self.changes += 1
        self.last_seen = max(self.last_seen, activity.time)
        if not match.degraded:
            self.degraded = False
        key = activity.request_key
        if key in self.seen:
            return
        if len(self.seen) < _REQUESTS_KEPT:
            self.seen.add(key)
        self.event_count += 1
        status = activity.event.response_status
        if status is not None and status.code is not None:
            self.succeeded = self.succeeded or status.code < 400
            self.failed = self.failed or status.code >= 400
        time = activity.received_time  # every stage of a request has it: which of them comes first must not matter
        if len(self.requests) < EVIDENCE_KEPT or time < self.requests[-1].time:
            insort(self.requests, from_activity(activity))
            del self.requests[EVIDENCE_KEPT:]
        audit_id = activity.event.audit_id[:256]
        if audit_id and (len(self.audit_ids) < AUDIT_IDS_KEPT or (time, audit_id) < self.audit_ids[-1]):
            insort(self.audit_ids, (time, audit_id))
            del self.audit_ids[AUDIT_IDS_KEPT:]
        if len(self.addresses) < ADDRESSES_KEPT:
            self.addresses.update(filter(None, (activity.addresses.source_ip, activity.addresses.client_ip)))


def from_fold(fold: Fold, cluster: str, created: datetime, *, complete: bool) -> Alert:
    """Make the alert of a fold as it now is."""
    fold.changes_written = fold.changes
    version = COMPLETE_VERSION + fold.event_count if complete else (fold.severity << 40) + fold.changes
    return Alert(_document(fold, cluster, created), fold.window_start, version, complete)


def _document(fold: Fold, cluster: str, created: datetime) -> Document:
    requests = [masked(request) for request in fold.requests]
    first = requests[0]
    resource = resource_of(first)
    return Document(
        timestamp=fold.last_seen,
        message=_message(fold, first, resource),
        event=EventPart(
            type=(_EVENT_TYPES.get(first.verb, "access"),) if fold.succeeded or not fold.failed else ("denied",),
            action=f"{first.verb or 'request'}-{resource}"[:TEXT_MAX],
            outcome=_outcome(fold),
            severity=fold.severity,
            risk_score=float(fold.severity),
            id=fold.id,
            reference=fold.rule.reference or None,
            created=created,
            ingested=created,
        ),
        rule=RulePart(
            id=fold.rule.id,
            name=fold.rule.name,
            version=fold.rule.version,
            ruleset=fold.rule.ruleset,
            description=fold.rule.description or None,
            reference=fold.rule.reference or None,
        ),
        threat=_threat(fold.rule),
        **portray(first, fold.user_name, fold.effective_name, cluster, fold.addresses),
        detector=DetectorPart(
            kind=fold.rule.kind,
            audit_ids=tuple(dict.fromkeys(audit_id for _, audit_id in fold.audit_ids)),
            event_count=fold.event_count,
            first_seen=first.time,
            last_seen=fold.last_seen,
            identity=IdentityPart(kind=fold.identity_kind, namespace=fold.service_namespace or None),
            group=tuple(shown(value) for value in fold.group),
            evidence=tuple(to_evidence(request) for request in requests),
            degraded=fold.degraded,
        ),
    )


def _outcome(fold: Fold) -> Literal["success", "failure", "unknown"]:
    if fold.succeeded:
        return "success"
    return "failure" if fold.failed else "unknown"


def _threat(rule: Rule) -> ThreatPart | None:
    if not rule.tactics and not rule.techniques:
        return None
    tactics = [TACTICS[tactic] for tactic in rule.tactics if tactic in TACTICS]
    return ThreatPart(
        framework=ATTACK_FRAMEWORK,
        tactic=Named(id=tuple(tactic for tactic, _ in tactics), name=tuple(name for _, name in tactics)),
        technique=Named(
            id=rule.techniques, name=tuple(TECHNIQUES[item] for item in rule.techniques if item in TECHNIQUES)
        ),
    )


def _message(fold: Fold, first: Request, resource: str) -> str:
    values = {
        "user": fold.user_name,
        "effective": fold.effective_name or "nobody",
        "verb": first.verb,
        "resource": first.resource,
        "subresource": first.subresource,
        "namespace": first.namespace or "the cluster",
        "name": first.name or "(unnamed)",
        "source": first.source_ip or "an unknown address",
        "client": first.client_ip or "an unknown address",
        "count": str(fold.event_count),
        "command": first.command,
    }
    if fold.rule.message:
        text = fold.rule.message.format_map({key: value[:200] for key, value in values.items()})
    else:
        text = (
            f"{fold.user_name[:200]}: {fold.rule.name} ({first.verb} {resource} {first.name}, from {values['source']})"
        )
    if fold.degraded:
        text += " (unproven: the audit level or a truncation hid the request's body)"
    return printable(text)
