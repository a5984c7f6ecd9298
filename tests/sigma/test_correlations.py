"""Correlation documents and first-seen conditions: what is refused with its place, and what an alert then says."""

from pathlib import Path
from typing import Any

import pytest

from detector.errors import RuleError
from detector.fold import Folder
from detector.match import Level
from detector.sigma.cases import activity_of
from detector.sigma.engine import Engine
from detector.sigma.load import BUNDLED, CompiledRule, load
from tests.pipelines import NOON
from tests.sigma.build import compile_rules, document, rule_id

CHAIN = """\
title: a chain
id: 00000000-0000-4000-8000-000000000009
level: high
correlation:
  type: event_count
  rules: base
  group-by: [objectRef.namespace]
  timespan: 5m
  condition:
    gte: 2
---
title: a base
name: base
logsource:
  product: kubernetes
  service: audit
detection:
  selection:
    verb: delete
  condition: selection
"""


def _problems(tmp_path: Path, content: str) -> list[tuple[int, str]]:
    path = tmp_path / "rule.yml"
    path.write_text(content)
    with pytest.raises(RuleError) as refused:
        load(path)
    return [(problem.line, problem.message) for problem in refused.value.problems]


def _at(minute: float, **changes: Any) -> dict[str, Any]:
    time = f"2026-11-23T09:{int(minute):02}:{round(minute % 1 * 60):02}.000000Z"
    ref = {"resource": "pods", "namespace": "shop", "name": "web"}
    return {
        "verb": "delete",
        "auditID": f"id-{minute}",
        "requestReceivedTimestamp": time,
        "stageTimestamp": time,
        "objectRef": ref,
        **changes,
    }


def _alerts(rule: CompiledRule, *events: dict[str, Any]) -> list[Any]:
    folder = Folder("test", clock=lambda: NOON)
    folder.add(Engine([rule]).match([activity_of(event) for event in events]))
    return [alert.document for alert in folder.finish()]


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("event_count", "value_sum", 5, "correlations of type 'value_sum' are not supported"),
        ("event_count", "sequence", 5, "correlations of type 'sequence' are not supported"),
        ("rules: base", "rules: [base, other]", 6, "no rule has the id or name 'other'"),
        ("rules: base", "rules: []", 6, "a correlation needs 1 to 32 rules, not 0"),
        ("rules: base", "rules: [base, base]", 6, "a rule is named twice"),
        ("[objectRef.namespace]", "[objectRef.space]", 7, "no audit event has a field 'objectRef.space'"),
        ("5m", "5 minutes", 8, "'5 minutes' is no time span"),
        ("5m", "8d", 8, "a timespan may have seven days"),
        ("gte: 2", "lt: 2", 9, "a condition needs one of gte and gt, not lt"),
        ("gte: 2", "eq: 2", 9, "depends on what never comes"),
        ("gte: 2", "gte: many", 9, "gte needs a whole number"),
        ("gte: 2", "gte: 0", 9, "it can ask for 1 to 500"),
        ("gte: 2", "gte: 501", 9, "it can ask for 1 to 500"),
        ("gte: 2", "{gte: 2, field: verb}", 9, "value_count, and no other type, counts the values of a field"),
        ("event_count", "value_count", 9, "value_count, and no other type"),
        ("event_count", "temporal_ordered", 9, "it can ask for 1"),
        ("timespan: 5m", "timespan: 5m\n  every: 1m", 4, "correlation.every: Extra inputs are not permitted"),
        ("level: high", "level: high\ndetector: {group_by: [verb]}", 4, "correlation's group-by"),
        ("level: high", "level: high\nlogsource: {product: kubernetes}", 4, "a correlation has no logsource"),
        (
            "timespan: 5m",
            "timespan: 5m\n  aliases: {a: {other: verb}}",
            9,
            "the alias 'a' must name a field for each of the rules",
        ),
        ("name: base", "name: base\ndetector: {}", 14, "has no section detector"),
    ],
)
def test_what_a_correlation_cannot_mean_is_refused_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, message: str
) -> None:
    """Nothing is approximated: the line and what is the matter are told."""
    content = CHAIN.replace(f"    {old}", f"    {new}") if old == "gte: 2" else CHAIN.replace(old, new, 1)
    if new.startswith("{"):
        content = CHAIN.replace("condition:\n    gte: 2", f"condition: {new}")

    problems = _problems(tmp_path, content)

    assert any(found_line == line and message in found for found_line, found in problems), problems


def test_a_condition_in_words_is_refused(tmp_path: Path) -> None:
    """Sigma allows one for temporal types."""
    content = CHAIN.replace("event_count", "temporal").replace("condition:\n    gte: 2", "condition: base and base")

    assert _problems(tmp_path, content) == [(9, "the condition must be a mapping such as `gte: 10`")]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"first_seen": {"fields": []}}, "detector.first_seen.fields"),
        ({"first_seen": {"fields": ["objectRef.space"]}}, "no audit event has a field 'objectRef.space'"),
        ({"first_seen": {"fields": ["verb"], "memory": "long"}}, "'long' is no time span"),
        ({"first_seen": {"fields": ["verb"]}, "dormant": {"after": "30d"}}, "either first_seen or dormant"),
        ({"across_identities": True}, "across_identities is for rules that remember"),
        ({"tests": [{"name": "a", "match": True, "events": [{"after": "soon"}]}]}, "'soon' is no time span"),
    ],
)
def test_what_a_first_seen_condition_cannot_mean_is_refused(section: dict[str, Any], message: str) -> None:
    """As any other part of a rule is."""
    rule = document({"selection": {"verb": "get"}, "condition": "selection"}, detector=section)
    with pytest.raises(RuleError, match=message):
        compile_rules(rule)


def test_a_base_rule_gives_alerts_of_its_own_only_if_it_is_asked_to(tmp_path: Path) -> None:
    """Sigma's `generate`; such a rule needs an id and a level."""
    path = tmp_path / "rule.yml"
    path.write_text(CHAIN)
    assert [rule.metadata.name for rule in load(path)] == ["a chain"]

    more = "name: base\nid: 00000000-0000-4000-8000-000000000001\nlevel: low"
    path.write_text(CHAIN.replace("rules: base", "rules: base\n  generate: true").replace("name: base", more))
    assert [rule.metadata.name for rule in load(path)] == ["a chain", "a base"]


def test_two_files_may_call_their_base_rules_alike(tmp_path: Path) -> None:
    """A name means the rule of the same file."""
    (tmp_path / "a.yml").write_text(CHAIN)
    other = CHAIN.replace("000000000009", "000000000008").replace("verb: delete", "verb: create")
    (tmp_path / "b.yml").write_text(other)

    first, second = load(tmp_path)

    events = [activity_of(_at(1)), activity_of(_at(2))]
    assert len(Engine([first]).match(events)) == 2
    assert Engine([second]).match(events) == []


def test_a_correlation_can_name_a_bundled_rule(tmp_path: Path) -> None:
    """By its id, also where that rule is not loaded with it."""
    (exec_rule,) = load(BUNDLED / "kubernetes_audit_exec_pod.yml")
    path = tmp_path / "rule.yml"
    path.write_text(CHAIN.partition("---")[0].replace("rules: base", f"rules: {exec_rule.metadata.id}"))

    (rule,) = load(path)

    ref = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "cart"}
    session = {"verb": "get", "objectRef": ref, "responseStatus": {"code": 101}}
    assert len(_alerts(rule, _at(1, **session), _at(2, **session))) == 1


def _chain(**changes: Any) -> CompiledRule:
    section = {"type": "event_count", "rules": "base", "timespan": "5m", "condition": {"gte": 2}}
    base = document({"selection": {"verb": "delete"}, "condition": "selection"}, name="base")
    base = {key: value for key, value in base.items() if key not in ("id", "level")}
    head = {"title": "a chain", "id": rule_id(9), "level": "high", **changes.pop("head", {})}
    return compile_rules({**head, "correlation": {**section, **changes}}, base)[0]


def test_an_alert_of_a_chain_lists_every_request_of_it() -> None:
    """Also those that came before the one that completed it."""
    (alert,) = _alerts(_chain(), _at(1), _at(4))

    assert alert.detector.kind == "chain"
    assert alert.detector.audit_ids == ("id-1", "id-4")
    assert (alert.detector.event_count, alert.event.severity) == (2, 73)


def test_a_chain_over_the_edge_of_a_window_is_one_alert() -> None:
    """It belongs to the window in which it ends."""
    (alert,) = _alerts(_chain(head={"detector": {"fold_seconds": 300}}), _at(4), _at(6))

    assert alert.detector.audit_ids == ("id-4", "id-6")


def test_a_chain_stays_one_whomever_its_requests_impersonate() -> None:
    """The accountable identity is what holds it together."""
    (alert,) = _alerts(_chain(), _at(1), _at(2, impersonatedUser={"username": "root"}))

    assert alert.detector.event_count == 2


def test_a_chain_across_identities_names_who_came_first() -> None:
    """Whatever the order of arrival, and one alert for each group."""
    rule = _chain(**{"group-by": ["objectRef.namespace"]}, head={"detector": {"across_identities": True}})
    events = [_at(minute, user={"username": f"user-{minute}"}) for minute in (3, 1, 2)]

    (alert,) = _alerts(rule, *events)

    assert alert.user.name == "user-1"
    assert alert.detector.group == ("shop",)
    assert alert.detector.audit_ids == ("id-1", "id-2", "id-3")


def test_groups_keep_alerts_apart_only_where_the_rule_says_so() -> None:
    """Else what one identity does in two groups is one alert, and nothing is joined that does not belong together."""
    events = [
        _at(minute, objectRef={"resource": "pods", "namespace": namespace, "name": "a"})
        for namespace, minute in (("a", 1), ("b", 2), ("a", 3), ("b", 4), ("c", 5))
    ]
    grouped = {"group-by": ["objectRef.namespace"]}
    apart = {"detector": {"group_by": ["objectRef.namespace"]}}

    assert [alert.detector.event_count for alert in _alerts(_chain(**grouped), *events)] == [4]
    assert [alert.detector.group for alert in _alerts(_chain(**grouped, head=apart), *events)] == [("a",), ("b",)]


def test_a_request_without_a_group_belongs_to_none() -> None:
    """What lacks a field has nothing in common by that."""
    events = [_at(minute, objectRef={"resource": "namespaces", "name": "a"}) for minute in (1, 2, 3)]

    assert _alerts(_chain(**{"group-by": ["objectRef.namespace"]}), *events) == []


def test_both_stages_of_a_long_request_are_one_sighting() -> None:
    """They share what the client sent and the time of receipt."""
    started = _at(1, stage="ResponseStarted")
    complete = {**started, "stage": "ResponseComplete", "stageTimestamp": "2026-11-23T09:04:00Z"}

    assert _alerts(_chain(), started, complete) == []


def test_a_remembered_command_shows_no_secret() -> None:
    """What is kept of a request is what an alert may show."""
    engine = Engine([_chain()])
    uri = "/api/v1/namespaces/shop/pods/web/exec?command=mysql&command=--password%3Dhunter2"
    ref = {"resource": "pods", "subresource": "exec", "namespace": "shop", "name": "web"}
    engine.match([activity_of(_at(1, requestURI=uri, objectRef=ref))])

    assert "hunter2" not in repr(engine.memory)
    assert "mysql" in repr(engine.memory)


def test_rules_that_are_gone_are_forgotten_and_others_are_not() -> None:
    """A new set of rules goes on with the memory of the old one."""
    rule = _chain()
    engine = Engine([rule])
    engine.match([activity_of(_at(1))])

    assert len(Engine([rule], engine.memory).match([activity_of(_at(2))])) == 2
    Engine([], engine.memory)
    assert Engine([rule], engine.memory).match([activity_of(_at(3))]) == []


def test_a_rule_that_correlates_something_else_now_begins_anew() -> None:
    """Sightings that were made by other fields would mean something else."""
    memory = Engine([_chain()]).memory
    Engine([_chain()], memory).match([activity_of(_at(1))])
    changed = _chain(**{"group-by": ["objectRef.name"]})

    assert Engine([changed], memory).match([activity_of(_at(2))]) == []


def test_a_first_sight_keeps_the_level_and_kind_of_its_rule() -> None:
    """It rests on one request."""
    section = {"first_seen": {"fields": ["objectRef.name"], "warm_up": "1m"}}
    (rule,) = compile_rules(
        document({"selection": {"verb": "delete"}, "condition": "selection"}, detector=section, level="medium")
    )

    (alert,) = _alerts(rule, _at(1), _at(3, objectRef={"resource": "pods", "namespace": "shop", "name": "other"}))

    assert rule.metadata.level is Level.MEDIUM
    assert (alert.detector.kind, alert.detector.audit_ids, alert.event.severity) == ("rule", ("id-3",), 47)
