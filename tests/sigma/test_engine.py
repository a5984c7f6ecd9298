"""The index: who is asked, what is remembered, and what a match carries."""

from dataclasses import dataclass, field, replace
from typing import cast

import pytest

from detector.activity import Activity
from detector.match import Match
from detector.sigma.compile import And, Known, Node
from detector.sigma.engine import Engine
from detector.sigma.load import CompiledRule
from tests.sigma.build import Event, activity, compile_rules, compile_selection, document, event, rule_id, write


@dataclass
class _Counting:
    """Part of a rule that always holds and knows how often it was asked."""

    asked: list[Activity] = field(default_factory=list)

    def evaluate(self, acted: Activity) -> bool:
        self.asked.append(acted)
        return True

    def specialise(self, known: Known) -> "_Counting":
        del known
        return self


def _counted(selection: dict[str, object]) -> tuple[CompiledRule, _Counting]:
    """A rule that is asked, past what its selection says, whether it matches."""
    rule, counting = compile_selection(selection), _Counting()
    return replace(rule, node=And((rule.node, cast("Node", counting)))), counting


def _matched(matches: list[Match]) -> list[tuple[str, bool]]:
    return [(match.rule.id, match.degraded) for match in matches]


@pytest.mark.parametrize(
    ("selection", "other"),
    [
        ({"verb": "create"}, event(verb="get")),
        ({"verb": ["create", "patch*"]}, event(verb="get")),
        ({"objectRef.resource": "secrets"}, event(objectRef={"resource": "pods"})),
        ({"objectRef.resource": "secrets"}, event()),
        ({"objectRef.subresource": None}, event(objectRef={"subresource": "exec"})),
        ({"objectRef.subresource|exists": True}, event()),
        ({"apiGroup": "apps"}, event(objectRef={"apiGroup": "batch"})),
        ({"stage": "Panic"}, event()),
        ({"responseStatus.code|gte": 400}, event(responseStatus={"code": 200})),
        ({"responseStatus.code|neq": 200}, event(responseStatus={"code": 200})),
        ({"annotations.authorization.k8s.io/decision": "forbid"}, event()),
        ({"detector.identity.kind": "node"}, event()),
        ({"impersonatedUser.groups": "system:masters"}, event()),
        ({"user.username|startswith": "system:"}, event()),
        ({"user.groups|contains": "masters"}, event()),
    ],
)
def test_a_rule_that_an_event_cannot_match_is_not_asked(selection: dict[str, object], other: Event) -> None:
    """What the index knows of an event rules out most rules before any of them reads the rest of it."""
    rule, counting = _counted(selection)
    assert Engine([rule]).match([activity(other), activity(other)]) == []
    assert counting.asked == []


def test_a_rule_that_an_event_may_match_is_asked_once_an_event() -> None:
    """The index leaves in what it cannot decide."""
    rule, counting = _counted({"verb": "get", "user.username": "ana*", "impersonatedUser.username": "bob"})
    hit, miss = (activity(event(impersonatedUser={"username": name})) for name in ("bob", "eve"))
    matches = Engine([rule]).match([hit, miss, hit])
    assert [match.activity for match in matches] == [hit, hit]
    assert counting.asked == [hit, hit]


def test_a_rule_that_the_index_decides_alone_matches() -> None:
    """Nothing is left to ask of it, and it still fires on each event."""
    rule = compile_selection({"verb": "get", "user.username": "ana@example.test"})
    assert len(Engine([rule]).match([activity(event())] * 3)) == 3


def test_matches_come_in_the_order_of_events_and_rules() -> None:
    """The same input gives the same alerts in the same order."""
    documents = [document({"s": {"verb": "get"}, "condition": "s"}, id=rule_id(number)) for number in (3, 1, 2)]
    first, second = activity(event()), activity(event())
    matches = Engine(compile_rules(*documents)).match([first, second])
    assert [match.rule.id for match in matches] == [rule_id(3), rule_id(1), rule_id(2)] * 2
    assert [match.activity for match in matches] == [first] * 3 + [second] * 3


def test_no_event_or_no_rule_gives_no_match() -> None:
    """Both happen: an empty batch, and an engine of which every rule was removed."""
    assert Engine([]).match([activity(event())]) == []
    assert Engine([compile_selection({"verb": "get"})]).match([]) == []


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (event(user={"username": "a", "groups": ["b"]}), event(user={"username": "b", "groups": ["a"]})),
        (event(user={"username": "", "groups": ["a"]}), event(user={"username": "a"})),
        (event(responseStatus={}), event(responseStatus={"code": 0})),
        (event(objectRef={"resource": "pods"}), event(objectRef={"subresource": "pods"})),
        (event(), event(impersonatedUser={})),
        (event(user={"groups": ["", "a"]}), event(user={"groups": ["a"]})),
        (event(user={"groups": [""]}), event(user={"groups": []})),
        (event(responseStatus=None), event(responseStatus={"code": 0})),
        (event(objectRef={"resource": "pods"}), event(objectRef={"resource": "pods", "subresource": "pods"})),
        (event(objectRef={"resource": "pods"}), event(verb="list", objectRef={"resource": "pods"})),
    ],
)
def test_what_is_remembered_of_one_event_is_not_taken_for_another(earlier: Event, later: Event) -> None:
    """Keys that look alike are told apart."""
    selections = [
        {"user.username": "a"},
        {"user.groups": "a"},
        {"user.username": None},
        {"user.groups": None},
        {"verb": "list"},
        {"responseStatus.code": None},
        {"responseStatus.code": 0},
        {"objectRef.resource": "pods"},
        {"objectRef.subresource": "pods"},
        {"impersonatedUser.username": None},
    ]
    rules = compile_rules(
        *(
            document({"s": selection, "condition": "s"}, id=rule_id(number))
            for number, selection in enumerate(selections)
        )
    )
    engine = Engine(rules)
    for each in (earlier, later, earlier):
        acted = activity(each)
        expected = [rule.metadata.id for rule in rules if rule.node.evaluate(acted) is not False]
        assert [match.rule.id for match in engine.match([acted])] == expected


@pytest.mark.parametrize(
    "changes",
    [
        lambda number: {"objectRef": {"resource": f"widgets{number}"}},
        lambda number: {"user": {"username": f"user{number}"}},
        lambda number: {"user": {"username": "a", "groups": [f"group{number}"]}},
        lambda number: {"verb": f"verb{number}", "user": {"username": f"user{number}"}},
    ],
    ids=["resources", "users", "groups", "both"],
)
def test_the_memory_of_the_index_is_bounded(monkeypatch: pytest.MonkeyPatch, changes: object) -> None:
    """A client may invent resources, and an identity provider users, without end; matches stay right all the while."""
    monkeypatch.setattr("detector.sigma.engine._KEYS_KEPT", 10)
    engine = Engine([compile_selection({"userAgent": "kubectl*"})])
    assert callable(changes)
    for number in range(100):
        assert len(engine.match([activity(event(**changes(number)))])) == 1
        actors = sum(len(entry.by_actor) for entry in engine._by_key.values())
        assert len(engine._by_key) + actors <= 11
        assert len(engine._by_resource) <= 11


def test_a_match_on_a_hidden_body_is_degraded() -> None:
    """The rule might have matched, had the body been logged; a rule that needs no body is certain."""
    rules = compile_rules(
        document({"s": {"requestObject.spec.hostPID": True, "verb": "create"}, "condition": "s"}, id=rule_id(1)),
        document({"s": {"verb": "create"}, "condition": "s"}, id=rule_id(2)),
        document({"s": {"requestObject.spec.hostPID": True, "verb": "patch"}, "condition": "s"}, id=rule_id(3)),
    )
    engine = Engine(rules)
    seen, hidden = write(requestObject={"spec": {"hostPID": True}}), write(level="Metadata")
    assert _matched(engine.match([activity(seen)])) == [(rule_id(1), False), (rule_id(2), False)]
    assert _matched(engine.match([activity(hidden)])) == [(rule_id(1), True), (rule_id(2), False)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("shop", "web", "")),
        ({"objectRef": {"name": "web"}}, ("", "web", "")),
        ({"requestObject": {"spec": {"containers": [{}, {"image": "a"}, {"image": "b"}]}}}, ("shop", "web", "a")),
        ({"requestObject": {"spec": {"containers": [{"image": None}, {"image": True}]}}}, ("shop", "web", "true")),
        ({"requestObject": {"spec": {"containers": [{"image": {}}]}}}, ("shop", "web", "")),
        ({"level": "Metadata"}, ("shop", "web", "")),
    ],
)
def test_a_match_carries_the_values_that_keep_alerts_apart(changes: Event, expected: tuple[str, ...]) -> None:
    """The first value of each field of `group_by`, as text; empty where there is none or the body is hidden."""
    fields = ["objectRef.namespace", "objectRef.name", "requestObject.spec.containers.image"]
    rule = compile_selection({"verb": "create"}, detector={"group_by": fields})
    (match,) = Engine([rule]).match([activity(write(**changes))])
    assert match.group == expected
