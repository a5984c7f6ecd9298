"""Explanations: the tree says what the evaluator says, and the nearest misses are near."""

from typing import Any

import pytest
from hypothesis import given, settings

from detector.sigma.cases import BASE_EVENT, merge
from detector.sigma.explain import Step, as_lines, decisive, distance, explain, nearest_misses
from detector.sigma.load import BUNDLED, CompiledRule, load
from tests.properties.strategies import events, rules
from tests.sigma.build import Document, Event, activity, compile_rules, compile_selection, document, event, write

POD = {"verb": "create", "objectRef.resource": "pods", "detector.containers.securityContext.privileged": True}


def lines(rule: CompiledRule, on: dict[str, Any]) -> list[str]:
    """The tree of a rule on an event."""
    return list(as_lines(explain(rule, activity(on))))


@settings(max_examples=200, deadline=None)
@given(rules(), events)
def test_the_tree_says_what_the_evaluator_says(rule: Document, on: Event) -> None:
    """Its root has the rule's verdict, each node follows from those below, and some test decides."""
    (compiled,) = compile_rules(rule)
    judged = activity(on)
    step = explain(compiled, judged)
    assert step.verdict is compiled.node.evaluate(judged)
    assert (distance(compiled.node, judged) == 0) is (step.verdict is not False)
    assert list(decisive(step))
    check(step)


def check(step: Step) -> None:
    """A node's verdict is that of its parts, in three values."""
    verdicts = [part.verdict for part in step.parts]
    match step.kind:
        case "all of":
            assert step.verdict is (False if False in verdicts else None if None in verdicts else True)
        case "any of":
            assert step.verdict is (True if True in verdicts else None if None in verdicts else False)
        case "not":
            assert step.verdict is (None if verdicts[0] is None else not verdicts[0])
        case "test":
            assert step.field
            assert step.asks
    for part in step.parts:
        check(part)


def test_a_test_tells_its_field_what_it_asks_and_what_it_found() -> None:
    """So that a person sees why without reading the rule."""
    body = {"spec": {"containers": [{"securityContext": {"privileged": False}}]}}
    assert lines(compile_selection(POD), write(requestObject=body)) == [
        "- all of",
        "  + verb is create; found create",
        "  + objectRef.resource is pods; found pods",
        "  - detector.containers.securityContext.privileged is true; found false",
    ]


def test_a_body_that_was_not_logged_is_told_as_such() -> None:
    """The verdict is undecided, which is neither yes nor no."""
    (last,) = lines(compile_selection(POD), write(level="Metadata"))[-1:]
    assert last == "  ? detector.containers.securityContext.privileged is true; found a body that was not logged"


@pytest.mark.parametrize(
    ("selection", "told"),
    [
        ({"verb": ["get", "list"]}, "+ verb is get or is list; found get"),
        ({"verb|contains": "e"}, "+ verb is *e*; found get"),
        ({"verb|cased": "Get"}, "- verb is exactly Get; found get"),
        ({"verb|re|i": "^GET$"}, "+ verb fits /^GET$/i; found get"),
        ({"responseStatus.code|gte": 400}, "- responseStatus.code >= 400; found 200"),
        (
            {"detector.source.ip|cidr": "203.0.113.0/24"},
            "+ detector.source.ip lies in 203.0.113.0/24; found 203.0.113.25",
        ),
        ({"user.username|fieldref": "verb"}, "- user.username is {verb}; found ana@example.test"),
        ({"impersonatedUser.username|exists": True}, "- impersonatedUser.username is there; found (nothing)"),
    ],
)
def test_each_kind_of_test_has_its_words(selection: dict[str, Any], told: str) -> None:
    """As the rule means them."""
    assert lines(compile_selection(selection), event()) == [told]


@pytest.mark.parametrize("absent", [None, ""])
def test_an_absent_field_is_told_as_not_being_there(absent: object) -> None:
    """Outside of bodies an empty text is the same."""
    rule = compile_selection({"objectRef.subresource": absent})
    assert lines(rule, event()) == ["+ not", "  - objectRef.subresource is there; found (nothing)"]


def test_what_may_be_a_secret_is_not_shown() -> None:
    """Neither the data of a secret nor a token in a command."""
    secret = {"verb": "create", "requestObject.data.key|contains": "cGFzc3dvcmQ"}
    (*_, last) = lines(compile_selection(secret), write(requestObject={"data": {"key": "cGFzc3dvcmQ="}}))
    assert "cGFzc3dvcmQ=" not in last.partition("found")[2]
    uri = "/api/v1/namespaces/shop/pods/a/exec?command=login&command=--password%3Dhunter2"
    (told,) = lines(
        compile_selection({"detector.command|contains": "login"}),
        event(requestURI=uri, objectRef={"subresource": "exec", "resource": "pods"}),
    )
    assert "login" in told
    assert "hunter2" not in told


def test_text_that_acts_on_a_terminal_is_made_harmless() -> None:
    """A client chooses its user agent."""
    (told,) = lines(compile_selection({"userAgent|contains": "x"}), event(userAgent="x\x1b[2J\u202e"))
    assert "\x1b" not in told
    assert "\u202e" not in told


def test_the_nearest_miss_is_the_rule_that_one_test_keeps_back() -> None:
    """Before those on another identity; a rule on another resource is none at all."""
    loaded = load(BUNDLED)
    dry_run = next(
        c for rule in loaded if rule.path.stem.endswith("pod_privileged") for c in rule.cases if c.name == "a dry run"
    )
    (first, far), *_ = nearest_misses(loaded, activity(merge(BASE_EVENT, dry_run.event)), 5)
    assert (first.metadata.name, far) == ("Privileged Container", 1)
    elsewhere = compile_selection({"verb": "get", "objectRef.resource": "secrets"})
    assert nearest_misses([elsewhere], activity(event()), 5) == []


def test_rules_that_remember_come_after_the_nearest_misses() -> None:
    """They look at so many requests that they would crowd out the others."""
    near = {"verb": "get", "responseStatus.code": 403}
    remembering = compile_selection(near, detector={"first_seen": {"fields": ["verb"]}})
    far = compile_selection({"verb": "get", "responseStatus.code": 403, "userAgent": "curl"})
    judged = activity(event())
    assert [distance(rule.node, judged) for rule in (remembering, far)] == [1, 2]
    assert [rule for rule, _ in nearest_misses([remembering, far], judged, 5)] == [far, remembering]


def test_only_what_decides_is_given_as_the_reason() -> None:
    """Of a filter that struck, the part that struck; of a selection that failed, what failed."""
    rule = compile_rules(
        document(
            {
                "selection": {"verb": "get"},
                "filter_code": {"responseStatus.code|gte": 400},
                "filter_user": {"user.username": "ana@example.test"},
                "condition": "selection and not 1 of filter_*",
            }
        )
    )[0]
    assert [step.field for step in decisive(explain(rule, activity(event())))] == ["user.username"]
    assert [step.field for step in decisive(explain(rule, activity(event(verb="list", user={"username": "x"}))))] == [
        "verb"
    ]
