"""Cases: the events under a rule's `detector.tests`, run against the rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from detector.activity import Activity
from detector.address import Locator
from detector.errors import DecodeError
from detector.event import from_mapping
from detector.identity import from_event
from detector.sigma.load import Case, CompiledRule

BASE_EVENT: Final[dict[str, Any]] = {
    "kind": "Event",
    "apiVersion": "audit.k8s.io/v1",
    "level": "RequestResponse",
    "auditID": "5b0c3f0e-8a52-4bb1-9d56-000000000001",
    "stage": "ResponseComplete",
    "requestURI": "/api/v1/namespaces/shop/pods",
    "verb": "get",
    "user": {"username": "ana@example.test", "groups": ["developers", "system:authenticated"]},
    "sourceIPs": ["203.0.113.25"],
    "userAgent": "kubectl/v1.35.1 (linux/amd64) kubernetes/0000000",
    "responseStatus": {"metadata": {}, "code": 200},
    "requestReceivedTimestamp": "2026-11-23T09:15:02.100001Z",
    "stageTimestamp": "2026-11-23T09:15:02.104900Z",
    "annotations": {"authorization.k8s.io/decision": "allow"},
}
"""An ordinary, allowed request by a person; a case states what differs. `null` removes a field."""


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """A case that came out differently from what it says."""

    rule: CompiledRule
    case: Case
    actual: bool | str

    def __str__(self) -> str:
        """One line with the rule's file, the case, and both verdicts."""
        expected, actual = _word(self.case.match), _word(self.actual)
        return f"{self.rule.path}: {self.case.name!r} should be {expected}, is {actual}"


def run_cases(rules: Sequence[CompiledRule]) -> list[CaseFailure]:
    """Run every case of every rule; only the failures come back."""
    failures: list[CaseFailure] = []
    for rule in rules:
        for case in rule.cases:
            try:
                actual = evaluate(rule, case.event)
            except DecodeError as error:
                actual = str(error)
            if actual != case.match:
                failures.append(CaseFailure(rule, case, actual))
    return failures


def evaluate(rule: CompiledRule, difference: Mapping[str, Any]) -> bool | str:
    """True, False or `degraded`: what one rule says of the base event with a difference.

    Raises:
        DecodeError: when what results is no audit event.
    """
    event = from_mapping(merge(BASE_EVENT, difference))
    activity = Activity(event, from_event(event), Locator(()).locate(event.source_ips))
    verdict = rule.node.evaluate(activity)
    return "degraded" if verdict is None else verdict


def merge(base: Mapping[str, Any], difference: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a difference over a base, object by object; lists and scalars replace, `null` removes (RFC 7396)."""
    merged = dict(base)
    for key, value in difference.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping):
            below = merged.get(key)
            merged[key] = merge(below if isinstance(below, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _word(verdict: bool | str) -> str:
    if isinstance(verdict, str):
        return verdict
    return "a match" if verdict else "no match"
