"""Which ideas are covered, and by what."""

import json
import re

import pytest

from detector.attack import REVOKED, TECHNIQUES
from detector.features import load as load_features
from detector.health.monitor import RULES as CHECKS
from detector.sigma.coverage import Idea, Status, coverage, ideas, navigator_layer, summary
from detector.sigma.load import BUNDLED, load
from tests.sigma.build import compile_selection

BY_CHECKS = {check.metadata.name: check.covers for check in CHECKS}
CASES = [{"name": "a", "match": True, "event": {}}, {"name": "b", "match": False, "event": {"verb": "list"}}]


def test_the_list_holds_every_idea_once() -> None:
    """Ninety-eight that peers have, twenty-four that none had."""
    ids = [idea.id for idea in ideas()]
    assert len(ids) == len(set(ids))
    assert sum(bool(idea.peers) for idea in ideas()) == 98
    assert sum(not idea.peers for idea in ideas()) == 24


def test_a_behaviour_that_covers_an_idea_is_a_feature_of_the_model() -> None:
    """Else nothing would measure it."""
    features = {feature.name for feature in load_features()}
    named = {name for idea in ideas() for name in idea.behaviour}
    assert named
    assert named <= features


def test_every_idea_is_covered_or_declined() -> None:
    """What a rule covers has an event that it must match and one that it must not."""
    covered = coverage(load(BUNDLED), BY_CHECKS)
    new = [each for each in covered if not each.idea.peers]
    assert [each.idea.id for each in covered if each.status is Status.OPEN] == []
    assert sum(each.status is not Status.DECLINED for each in new) >= 20
    for each in covered:
        if each.status is Status.RULE:
            matches = {case.match is not False for rule in each.rules for case in rule.cases}
            assert matches == {True, False}, each.idea.id


def test_a_health_check_covers_the_ideas_that_it_names() -> None:
    """They find what no single request shows."""
    rows = {each.idea.id: each.as_row() for each in coverage([], BY_CHECKS)}
    assert rows["audit-gap"]["status"] == "health"
    assert rows["audit-gap"]["by"] == [name for name, covers in BY_CHECKS.items() if "audit-gap" in covers]
    assert {idea for covers in BY_CHECKS.values() for idea in covers} <= set(rows)
    assert rows["exec-pod"]["status"] == "open"


def test_no_idea_is_both_covered_and_declined() -> None:
    """One of the two would be untrue."""
    covered = coverage(load(BUNDLED))
    assert [each.idea.id for each in covered if each.rules and each.idea.declined] == []
    assert sum(each.status is Status.DECLINED for each in covered) <= 8
    with pytest.raises(ValueError, match="either declined or measured"):
        Idea(id="x", techniques=(), peers=(), fires_on="x", behaviour=("rate",), declined="no")


def test_what_covers_an_idea_is_told() -> None:
    """A rule with its cases, a feature, a reason, or nothing."""
    rule = compile_selection({"verb": "get"}, detector={"covers": ["exec-pod"], "tests": CASES})
    rows = {each.idea.id: each.as_row() for each in coverage([rule])}
    assert (rows["exec-pod"]["status"], rows["exec-pod"]["by"], rows["exec-pod"]["cases"]) == (
        "rule",
        ["a rule"],
        "1+1",
    )
    assert rows["ml-anomaly"]["status"] == "behaviour"
    assert rows["bad-ip"]["status"] == "declined"
    assert "detector.source.ip|cidr" in rows["bad-ip"]["why not"]
    assert (rows["secret-get"]["status"], rows["secret-get"]["by"]) == ("open", [])


def test_the_summary_counts_peers_ideas_apart_from_new_ones() -> None:
    """Both add up, and a rule moves its idea from open to covered."""
    form = r"[a-z ]+: (\d+); (\d+) covered \((\d+) by rules, (\d+) by behaviour, (\d+) by health checks\), "
    form += r"(\d+) declined, (\d+) open"
    before, after = (
        [[int(number) for number in groups] for groups in re.findall(form, summary(coverage(rules)))]
        for rules in ([], [compile_selection({"verb": "get"}, detector={"covers": ["exec-pod"], "tests": CASES})])
    )
    for total, done, by_rules, by_behaviour, by_checks, declined, left in (*before, *after):
        assert (done, total) == (by_rules + by_behaviour + by_checks, done + declined + left)
    assert [row[0] for row in before] == [98, 24]
    assert after[0] == [98, before[0][1] + 1, 1, *before[0][3:6], before[0][6] - 1]
    assert after[1] == before[1]


def test_the_layer_scores_each_technique_by_its_rules() -> None:
    """In the form that the Navigator reads, with ids of the pinned version only."""
    rules = [rule.metadata for rule in load(BUNDLED)]
    layer = json.loads(navigator_layer(rules))
    assert layer["versions"] == {"attack": "19", "navigator": "5.1.0", "layer": "4.5"}
    assert layer["domain"] == "enterprise-attack"
    scores = {technique["techniqueID"]: technique["score"] for technique in layer["techniques"]}
    assert scores["T1609"] == sum("T1609" in rule.techniques for rule in rules)
    assert set(scores) <= set(TECHNIQUES) - set(REVOKED)
    assert layer["gradient"]["maxValue"] == max(scores.values())
    assert json.loads(navigator_layer([]))["techniques"] == []
