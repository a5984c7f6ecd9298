"""Cases: the events under a rule's `detector.tests`, run against the rule.

A rule that remembers gets a memory of its own for each case, and what it makes of all the events is its verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from detector.activity import Activity
from detector.address import Locator
from detector.errors import DecodeError
from detector.event import from_mapping, parse_time
from detector.identity import from_event
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule
from detector.sigma.sections import Case

Difference: TypeAlias = Mapping[str, Any]

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
                actual = evaluate(rule, *differences_of(case))
            except DecodeError as error:
                actual = str(error)
            if actual != case.match:
                failures.append(CaseFailure(rule, case, actual))
    return failures


def differences_of(case: Case) -> list[Difference]:
    """The events of a case, each with what it differs in from the base event; `after` and `repeat` are worked out."""
    if not case.events:
        return [case.event]
    differences: list[Difference] = []
    time = parse_time(BASE_EVENT["requestReceivedTimestamp"]) or datetime.now(UTC)
    for step in case.events:
        for count in range(1, step.repeat + 1):
            time += timedelta(seconds=step.seconds)
            text = time.isoformat()
            told = {
                "auditID": f"event-{len(differences)}",
                "requestReceivedTimestamp": text,
                "stageTimestamp": text,
            }
            difference = _both(_both(told, case.event), step.model_extra or {})
            differences.append(_counted(difference, str(count)))
    return differences


def evaluate(rule: CompiledRule, *differences: Difference) -> bool | str:
    """True, False or `degraded`: what one rule says of the base event with each of the differences, in order.

    Raises:
        DecodeError: when what results is no audit event.
    """
    matches = Engine([rule]).match([activity_of(difference) for difference in differences])
    if not matches:
        return False
    return "degraded" if all(match.degraded for match in matches) else True


def activity_of(difference: Difference) -> Activity:
    """The base event with a difference, as rules see it."""
    event = from_mapping(merge(BASE_EVENT, difference))
    return Activity(event, from_event(event), Locator(()).locate(event.source_ips))


def _both(first: Difference, second: Difference) -> dict[str, Any]:
    """One difference that does what two do, one after the other: unlike in `merge`, a `null` is still to be done."""
    both = dict(first)
    for key, value in second.items():
        below = both.get(key)
        both[key] = _both(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def _counted(value: Any, count: str) -> Any:
    """Put the count in the place of every `{n}`."""
    if isinstance(value, dict):
        return {key: _counted(below, count) for key, below in value.items()}
    if isinstance(value, list):
        return [_counted(below, count) for below in value]
    return value.replace("{n}", count) if isinstance(value, str) else value


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
