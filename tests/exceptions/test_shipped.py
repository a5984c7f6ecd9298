"""Shipped exceptions: each silences what a well-known controller does all day, and nothing else."""

from collections.abc import Mapping
from typing import Any

import pytest

from detector.exceptions import Exceptions
from detector.exceptions.entry import SHIPPED_OWNER, Entry
from detector.exceptions.load import SHIPPED, known_rules, load
from detector.match import SEVERITY, Level
from detector.sigma.engine import Engine
from tests.events import activity
from tests.pipelines import bundled_rules

WATCH = {"verb": "watch", "objectRef": {"resource": "secrets"}}
RENEWAL = {
    "verb": "patch",
    "objectRef": {
        "resource": "apiservices",
        "apiGroup": "apiregistration.k8s.io",
        "name": "v1beta1.external.metrics.k8s.io",
    },
}
DAILY: Mapping[str, Mapping[str, Any]] = {
    "eck-operator-watches-secrets": WATCH,
    "external-secrets-cert-controller-watches-secrets": WATCH,
    "contour-watches-secrets": WATCH,
    "kube-prometheus-stack-operator-watches-secrets": WATCH,
    "keda-renews-the-certificate-of-its-api": RENEWAL,
}
"""What each controller does, as differences from an ordinary event."""
ENTRIES = load(None, known_rules(bundled_rules()))


def alerted(entry: Entry, **differences: Any) -> set[str]:
    """The rules from severity 47 on that an event of the entry's identity fires in spite of the shipped exceptions."""
    event = {**DAILY[entry.id], "user": {"username": entry.identity[0]}, **differences}
    matches = Exceptions(ENTRIES).unexcepted(Engine(bundled_rules()).match([activity(**event)]))
    return {match.rule.id for match in matches if SEVERITY[match.rule.level] >= SEVERITY[Level.MEDIUM]}


def test_every_shipped_entry_is_loaded_with_the_bundled_rules() -> None:
    """A rule that is renamed or removed would leave one out in silence."""
    assert {entry.id for entry in ENTRIES} == {*DAILY}
    assert SHIPPED.read_text(encoding="utf-8").count("- id: ") == len(ENTRIES)
    assert {entry.owner for entry in ENTRIES} == {SHIPPED_OWNER}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)
def test_a_shipped_entry_silences_daily_work_alone(entry: Entry) -> None:
    """Without it the work would alert; another account of the namespace, another verb and another name still do."""
    (name,) = entry.identity
    assert "*" not in name
    assert alerted(entry) == set()
    assert alerted(entry, user={"username": f"{name}-2"}) == {*entry.rule}
    assert alerted(entry, user={"username": name.replace("serviceaccount:", "serviceaccount:x")}) == {*entry.rule}
    assert alerted(entry, impersonatedUser={"username": "root", "groups": ["system:masters"]})


def test_the_certificate_of_another_api_is_not_covered() -> None:
    """Nor the removal of the one that is."""
    entry = next(each for each in ENTRIES if each.id.startswith("keda"))
    other = {**RENEWAL["objectRef"], "name": "v1.metrics.k8s.io"}  # type: ignore[dict-item]  # it is a mapping
    assert alerted(entry, objectRef=other) == {*entry.rule}
    assert alerted(entry, verb="delete") == {*entry.rule}
