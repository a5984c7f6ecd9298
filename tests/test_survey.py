"""What given logs can support."""

from typing import Any

from detector.event import AuditEvent
from detector.survey import Survey
from tests.health.streams import POD, at
from tests.pipelines import bundled_rules


def _failures(events: list[AuditEvent]) -> list[str]:
    survey = Survey()
    survey.add(events[: len(events) // 2])
    survey.add(events[len(events) // 2 :])
    return [text for ok, text in survey.lines(bundled_rules()) if not ok]


def _writes(**differences: Any) -> list[AuditEvent]:
    given = {"verb": "create", "objectRef": POD, "responseStatus": {"code": 201}}
    return [at(n, **{**given, **differences}) for n in range(20)]


def _ordinary(count: int = 1_200) -> list[AuditEvent]:
    """Reads, a session, and a refused login."""
    reads = [at(n / 10, n, verb="list", objectRef={"resource": "secrets", "namespace": "shop"}) for n in range(count)]
    return [*reads, at(0, stage="ResponseStarted"), at(0, stage="ResponseStarted", responseStatus={"code": 401})]


def test_logs_without_bodies_of_pods_name_each_rule_that_is_blind() -> None:
    """With the resource, and how many of its writes were seen."""
    blind = _failures(_ordinary() + _writes(level="Metadata"))
    assert "Privileged Container is blind: no body logged of pods (20 writes)" in blind
    assert not any("Binding to cluster-admin" in text for text in blind)


def test_logs_with_bodies_are_content() -> None:
    """One body of a resource tells that the policy logs them."""
    assert _failures(_ordinary() + _writes() + _writes(requestObject={"kind": "Pod"})[:1]) == []


def test_what_was_not_written_says_nothing() -> None:
    """And so do refused writes, which need no body."""
    assert _failures(_ordinary() + _writes(responseStatus={"code": 403})) == []


def test_logs_without_reads_of_secrets_or_starts_of_sessions_say_so_once_they_are_many() -> None:
    """A few events prove no policy."""
    some = [at(n / 10, n) for n in range(100)]
    assert _failures(some) == []
    many = _failures([at(n / 10, n) for n in range(1_200)])
    assert [text.partition(":")[0] for text in many] == ["no ResponseStarted", "no read of a secret"]


def test_logs_that_lost_many_bodies_for_their_size_say_so() -> None:
    """More than one in twenty."""
    cut = [at(n, annotations={"audit.k8s.io/truncated": "true"}) for n in range(100)]
    assert [text.partition(" of ")[0] for text in _failures(_ordinary() + cut)] == ["7.7%"]


def test_logs_without_an_event_are_no_sample() -> None:
    """An empty file, or the wrong one."""
    assert _failures([]) == ["no audit event in it"]
