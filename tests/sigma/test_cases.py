"""Cases: events that a rule's author promises a verdict on, each stated as a difference from an ordinary request."""

from typing import Any

import pytest

from detector.sigma.cases import BASE_EVENT, differences_of, merge, run_cases
from detector.sigma.load import CompiledRule
from detector.sigma.sections import Case
from tests.sigma.build import activity, compile_selection


def _rule(match: bool | str, event: dict[str, Any]) -> CompiledRule:
    case = {"name": "a case", "match": match, "event": event}
    return compile_selection(
        {"verb": ["get", "create"], "requestObject.spec.hostPID|neq": True}, detector={"tests": [case]}
    )


@pytest.mark.parametrize(
    ("match", "event"),
    [
        (True, {}),
        (False, {"verb": "list"}),
        ("degraded", {"verb": "create", "level": "Metadata"}),
        (False, {"verb": "create", "requestObject": {"spec": {"hostPID": True}}}),
        (False, {"verb": "create", "requestObject": [{"op": "add", "path": "/spec/hostPID", "value": True}]}),
    ],
)
def test_a_case_that_comes_out_as_it_says_is_no_failure(match: bool | str, event: dict[str, Any]) -> None:
    """A match, none, and one that a hidden body would decide."""
    assert run_cases([_rule(match, event)]) == []


@pytest.mark.parametrize(
    ("match", "event", "told"),
    [
        (False, {}, "'a case' should be no match, is a match"),
        (True, {"verb": "list"}, "'a case' should be a match, is no match"),
        (True, {"verb": "create", "level": "Metadata"}, "'a case' should be a match, is degraded"),
        ("degraded", {}, "'a case' should be degraded, is a match"),
        (False, {"verb": None, "requestURI": None}, "'a case' should be no match, is not_audit"),
    ],
)
def test_a_case_that_comes_out_differently_tells_both_verdicts(
    match: bool | str, event: dict[str, Any], told: str
) -> None:
    """One line names the file and the case; an event that is none is a failure of the case, not of the run."""
    (failure,) = run_cases([_rule(match, event)])
    assert str(failure).startswith(f"{failure.rule.path}: {told}")


def test_the_events_of_a_case_come_one_after_the_other() -> None:
    """Each after the one before and so often as it says, counted, over what they have in common; `null` removes."""
    case = Case.model_validate(
        {
            "name": "a case",
            "match": True,
            "event": {"objectRef": {"resource": "pods", "namespace": "shop"}, "userAgent": None},
            "events": [
                {"verb": "list"},
                {"after": "1m", "repeat": 2, "objectRef": {"name": "web-{n}", "namespace": None}},
            ],
        }
    )

    documents = [merge(BASE_EVENT, difference) for difference in differences_of(case)]

    assert [document["verb"] for document in documents] == ["list", "get", "get"]
    assert [document["requestReceivedTimestamp"][14:19] for document in documents] == ["15:02", "16:02", "17:02"]
    assert [document["objectRef"] for document in documents[1:]] == [
        {"resource": "pods", "name": "web-1"},
        {"resource": "pods", "name": "web-2"},
    ]
    assert len({document["auditID"] for document in documents}) == 3
    assert all("userAgent" not in document for document in documents)


@pytest.mark.parametrize(
    ("base", "difference", "merged"),
    [
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": {"b": 1}}, {"a": {"b": None}}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": 1}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({}, {"a": None}, {}),
    ],
)
def test_a_difference_is_laid_over_a_base(base: Any, difference: Any, merged: Any) -> None:
    """Objects are merged, all else is replaced, `null` removes (RFC 7396); the base stays as it was."""
    before = repr(base)
    assert merge(base, difference) == merged
    assert repr(base) == before


def test_the_base_event_is_an_ordinary_request() -> None:
    """A rule that fires on it fires on everything."""
    rule = compile_selection({"verb": "get", "detector.identity.kind": "user", "responseStatus.code": 200})
    assert rule.node.evaluate(activity(BASE_EVENT)) is True
