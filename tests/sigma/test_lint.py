"""Lint: a rule that loads is told what it lacks."""

from typing import Any, Final

import pytest

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
