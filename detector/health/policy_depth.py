"""Policy depth: rules that look into bodies which the audit policy never logs."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from detector.audit_policy import SECRET_BODIES
from detector.event import AuditEvent, event_time
from detector.health import CHANGES, WEEK_SECONDS, Arrival, Finding, about_stream, health_rule, is_change
from detector.match import Level

TOO_SHALLOW: Final = health_rule(
    "6d2f9c41-8b0e-4735-b1a9-3e7d5f0c8264",
    "Audit Policy Too Shallow for a Rule",
    Level.LOW,
    description=(
        "Rules look into the bodies of writes of a resource, and of the last 50 such writes none had its body logged: "
        "those rules can only give unproven alerts. One alert a week for each resource, which names the rules. Misses "
        "resources that are hardly written, custom resources, and secrets, whose bodies no log should hold."
    ),
    message="{name}; log those writes as deploy/audit-policy.yaml does",
    covers=("degraded-evidence",),
    fold_seconds=WEEK_SECONDS,
    group_by=("objectRef.apiGroup", "objectRef.resource"),
    techniques=(),
    tactics=(),
)
RULES: Final = (TOO_SHALLOW,)

_WRITES: Final = 50
_TRUNCATED: Final = "audit.k8s.io/truncated"
_RESOURCES_KEPT: Final = 1_000
_RULES_NAMED: Final = 12


class PolicyDepth(msgspec.Struct):
    """How many writes in a row came without a body."""

    without_body: dict[str, int] = {}
    """Per API group, resource and body."""

    def look(self, arrival: Arrival, events: Sequence[AuditEvent]) -> Iterator[Finding]:
        """Count the writes of resources that rules look into."""
        needs = arrival.needs
        if not needs:
            return
        for event in [event for event in events if event.verb in CHANGES]:
            if event.stage != "ResponseComplete" or not is_change(event):
                continue
            ref = event.object_ref
            if ref is None or ref.subresource or (ref.api_group, ref.resource) in SECRET_BODIES:
                continue
            for of_response, rules in needs.get((ref.api_group, ref.resource), {}).items():
                if self._is_due(event, of_response=of_response):
                    yield from _finding(event, rules, of_response=of_response)

    def _is_due(self, event: AuditEvent, *, of_response: bool) -> bool:
        """Count a write; each time so many in a row had no body, that is worth telling."""
        ref = event.object_ref
        if ref is None or _TRUNCATED in event.annotations:
            return False
        key = f"{ref.api_group}/{ref.resource}/{'response' if of_response else 'request'}"
        if bytes(event.response_object if of_response else event.request_object):
            self.without_body.pop(key, None)
            return False
        count = self.without_body.get(key, 0) + 1
        if count > 1 or len(self.without_body) < _RESOURCES_KEPT:
            self.without_body[key] = count % _WRITES
        return count == _WRITES


def _finding(event: AuditEvent, rules: Sequence[str], *, of_response: bool) -> Iterator[Finding]:
    ref, time = event.object_ref, event_time(event)
    if ref is None or time is None:
        return
    body = "answer" if of_response else "body"
    more = f" and {len(rules) - _RULES_NAMED} more" if len(rules) > _RULES_NAMED else ""
    text = f"no {body} of a write of {ref.resource} is logged, which blinds {', '.join(rules[:_RULES_NAMED])}{more}"
    about = about_stream("policy", text, time)
    yield Finding(TOO_SHALLOW, about, of_stream=True, group=(ref.api_group, ref.resource))
