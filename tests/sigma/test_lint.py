"""Lint: a rule that loads is told what it lacks."""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from detector.audit_policy import load_policy
from detector.errors import RuleError
from detector.sigma.lint import lint
from tests.sigma.build import compile_selection

_CASES: Final = [{"name": "a", "match": True, "event": {}}, {"name": "b", "match": False, "event": {"verb": "list"}}]
_GOOD: Final[dict[str, Any]] = {
    "description": "what it means, and what it misses",
    "tags": ["attack.credential-access", "attack.t1552.007"],
    "detector": {"tests": _CASES},
}


def test_a_rule_with_all_that_it_should_have_is_not_complained_of() -> None:
    """A description, a known technique and tactic, a case that must match and one that must not."""
    assert lint([compile_selection({"verb": "get"}, **_GOOD)]) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"detector": {"tests": _CASES[1:]}}, "no case that must match"),
        ({"detector": {"tests": _CASES[:1]}}, "no case that must not match"),
        ({"description": ""}, "no description"),
        ({"tags": ["attack.credential-access"]}, "no ATT&CK technique"),
        ({"tags": ["attack.t1552.007", "attack.magic"]}, "has no tactic 'magic'"),
        ({"tags": ["attack.t9999"]}, "T9999 is not among the techniques"),
        ({"tags": ["attack.t1562.008"]}, "has revoked T1562.008: write attack.t1685.002 (Disable or Modify Cloud Log)"),
        ({"tags": ["attack.t1609", "attack.defense-evasion"]}, "write attack.stealth (TA0005) or attack.defense-impa"),
    ],
)
def test_what_a_rule_lacks_is_told(changes: dict[str, Any], complaint: str) -> None:
    """Each lack is one problem with file and line."""
    rule = compile_selection({"verb": "get"}, **{**_GOOD, **changes})
    (problem,) = lint([rule])
    assert complaint in problem.message
    assert (problem.path, problem.line) == (rule.path, 1)


def test_a_degraded_match_counts_as_a_case_that_must_match() -> None:
    """It raises an alert, though a low one."""
    cases = [{**_CASES[0], "match": "degraded"}, _CASES[1]]
    assert lint([compile_selection({"verb": "get"}, **{**_GOOD, "detector": {"tests": cases}})]) == []


@pytest.mark.parametrize("field", ["userAgent", "auditID", "sourceIPs"])
def test_a_severe_rule_may_not_rest_on_what_the_client_chooses(field: str) -> None:
    """Anybody could avoid it, or lay it at another's door."""
    (problem,) = lint([compile_selection({field: "x"}, **_GOOD, level="medium")])
    assert f"level medium rests on what any client can choose: {field}" in problem.message
    assert lint([compile_selection({field: "x"}, **_GOOD, level="low")]) == []
    assert lint([compile_selection({field: "x", "verb": "get"}, **_GOOD, level="medium")]) == []


def test_a_policy_that_keeps_back_what_a_rule_reads_is_told(tmp_path: Path) -> None:
    """With the level that is needed, and for which requests."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Metadata}]}")
    reads = {"verb": "create", "objectRef.resource": "pods", "objectRef.subresource": None, "objectRef.apiGroup": None}
    rule = compile_selection({**reads, "detector.pod.hostPID": True}, **_GOOD)
    (problem,) = lint([rule], load_policy(policy))
    assert problem.message == "needs level Request, which the policy does not grant, of create pods"
    policy.write_text("{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{level: Request}]}")
    assert lint([rule], load_policy(policy)) == []


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("objectRef.resorce", "objectRef.resource"),
        ("requestobject.spec.x", "requestObject.spec.x"),
        ("detector.contaners.image", "detector.containers.image"),
        ("user.name", "user.username"),
    ],
)
def test_a_field_that_is_misspelt_is_told_with_the_one_that_was_meant(written: str, meant: str) -> None:
    """The loader refuses the rule, and says what to write."""
    with pytest.raises(RuleError, match=f"did you mean {re.escape(meant)}[?]"):
        compile_selection({written: "x"})


def test_a_field_like_none_is_refused_without_a_guess() -> None:
    """A wrong hint costs more than none."""
    with pytest.raises(RuleError, match=r"no audit event has a field 'colour'; .*README"):
        compile_selection({"colour": "blue"})
