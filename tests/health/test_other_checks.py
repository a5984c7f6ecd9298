"""Order of stages, depth of the policy, and what all checks have in common."""

from string import Formatter
from typing import Any
from uuid import UUID

import pytest
import yaml

from detector.attack import TACTICS, TECHNIQUES
from detector.health import HealthRule
from detector.health.monitor import RULES
from detector.match import MESSAGE_PLACEHOLDERS
from detector.sigma.load import BUNDLED
from tests.health.streams import POD, at, look, names, stamp

_BEFORE = "Request Answered before It Came"
_SHALLOW = "Audit Policy Too Shallow for a Rule"
_NEEDS = {("", "pods"): {False: ["Privileged Container"]}, ("", "secrets"): {False: ["Long-lived Token"]}}


@pytest.mark.parametrize(("seconds", "told"), [(0, []), (0.9, []), (2, [_BEFORE]), (-300, [])])
def test_a_request_that_was_answered_before_it_came_is_told(seconds: float, told: list[str]) -> None:
    """A second is allowed for rounding; a request may take as long as it likes."""
    assert names(look([at(10, requestReceivedTimestamp=stamp(10 + seconds / 60))])) == told


def test_a_policy_that_logs_no_bodies_of_what_rules_read_is_told() -> None:
    """After fifty writes of the resource; the alert names the rules."""
    writes = [at(n, verb="create", objectRef=POD, responseStatus={"code": 201}, level="Metadata") for n in range(60)]
    (match,) = look(writes, needs=_NEEDS)
    assert match.rule.name == _SHALLOW
    assert match.group == ("", "pods")
    assert match.activity.event.object_ref is not None
    assert "Privileged Container" in match.activity.event.object_ref.name


def test_one_body_is_enough_to_know_that_the_policy_is_deep() -> None:
    """Other writes lack theirs for other reasons."""
    given: dict[str, Any] = {"verb": "create", "objectRef": POD, "responseStatus": {"code": 201}}
    writes = [at(n, **given, requestObject={"kind": "Pod"} if n % 40 == 0 else None) for n in range(200)]
    assert look(writes, needs=_NEEDS) == []


def test_what_has_no_body_to_log_says_nothing_of_the_policy() -> None:
    """Refused and truncated writes, deletions, statuses; and a secret's body ought not to be logged."""
    given: dict[str, Any] = {"verb": "create", "objectRef": POD, "responseStatus": {"code": 201}}
    differing: tuple[dict[str, Any], ...] = (
        {"responseStatus": {"code": 403}},
        {"annotations": {"audit.k8s.io/truncated": "false"}},
        {"verb": "delete"},
        {"objectRef": {**POD, "subresource": "status"}},
        {"objectRef": {"resource": "secrets", "namespace": "shop"}},
        {"objectRef": {"resource": "pods", "apiGroup": "metrics.k8s.io"}},
    )
    for differences in differing:
        assert look([at(n, **{**given, **differences}) for n in range(60)], needs=_NEEDS) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.metadata.name)
def test_every_health_rule_is_fit_to_be_shown(rule: HealthRule) -> None:
    """A UUID, known techniques and placeholders, the ideas it covers, what it misses."""
    metadata = rule.metadata
    assert UUID(metadata.id).version == 4
    assert metadata.kind == "health"
    assert set(metadata.techniques) <= set(TECHNIQUES)
    assert set(metadata.tactics) <= set(TACTICS)
    assert {name for _, name, _, _ in Formatter().parse(metadata.message) if name} <= MESSAGE_PLACEHOLDERS
    assert rule.covers
    ideas = yaml.safe_load((BUNDLED.parent / "sigma" / "ideas.yml").read_text())
    assert set(rule.covers) <= {idea["id"] for idea in ideas}
    assert "Misses" in metadata.description or metadata.name.startswith(("Much", "Audit Stream Silent for"))


def test_no_two_health_rules_share_an_id() -> None:
    """Alerts are known by it."""
    assert len({rule.metadata.id for rule in RULES}) == len(RULES)


def test_the_readme_lists_every_health_rule_with_its_level_and_ideas() -> None:
    """A row each, in the order of the checks."""
    readme = (BUNDLED / "README.md").read_text(encoding="utf-8")
    table = readme.partition("## Health of the stream")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    assert [(name, level, covers) for name, level, _, covers, _ in rows[2:]] == [
        (rule.metadata.name, rule.metadata.level.value, ", ".join(rule.covers)) for rule in RULES
    ]
